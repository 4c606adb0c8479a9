// SPDX-License-Identifier: MIT OR Apache-2.0
//! Syscall pages of /dev/flexsc: one registration, whose owner is the core's thread of the kernel. The
//! ABI is in docs/abi.md.

use core::ptr;
use core::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Release},
};

use crate::sys::helpers;
use crate::sys::raw::{self, Errno, call};

mod nr {
    pub(super) const MMAP: usize = 9;
    pub(super) const MUNMAP: usize = 11;
    pub(super) const IOCTL: usize = 16;
    pub(super) const FCNTL: usize = 72;
    pub(super) const OPENAT: usize = 257;
}

/// Pages of a registration; 64 entries each.
pub(crate) const PAGES: usize = 16;
pub(crate) const ENTRIES: usize = 64;
pub(crate) const ABI: u32 = 3;

/// `struct flexsc_entry`
#[repr(C, align(64))]
pub(crate) struct Entry {
    pub(crate) nr: u16,
    pub(crate) flags: u8,
    pub(crate) pool: u8,
    pub(crate) take: [u8; 2],
    pub(crate) reason: u8,
    pub(crate) status: u8,
    pub(crate) args: [u64; 6],
    pub(crate) result: i64,
}

/// `struct flexsc_ctrl`
#[repr(C, align(64))]
pub(crate) struct Control {
    pub(crate) posted: AtomicU64,
    pub(crate) reaped: AtomicU64,
    reserved: [u64; 6],
    pub(crate) taken: AtomicU64,
    pub(crate) done: AtomicU64,
    pub(crate) flags: AtomicU32,
    kernel_reserved: [u32; 11],
}

/// `struct flexsc_register`
#[repr(C)]
#[derive(Default)]
pub(crate) struct Register {
    pub(crate) size: u32,
    pub(crate) abi: u32,
    flags: u32,
    pub(crate) pages: u32,
    pub(crate) id: u32,
    pub(crate) ctrl_len: u32,
    pub(crate) mmap_offset: u64,
    pub(crate) mmap_len: u64,
    reserved: [u64; 2],
}

/// `struct flexsc_wait`
#[repr(C)]
#[derive(Default)]
pub(crate) struct Wait {
    size: u32,
    pub(crate) id: u32,
    pub(crate) policy: u32,
    min: u32,
    pub(crate) timeout_ns: u64,
    linger_ns: u64,
    flags: u32,
    reserved: u32,
}

/// `struct flexsc_cancel`
#[repr(C)]
#[derive(Default)]
pub(crate) struct Cancel {
    size: u32,
    pub(crate) id: u32,
    pub(crate) index: u32,
    flags: u32,
}

pub(crate) const WAIT_NONE: u32 = 0;
pub(crate) const WAIT_ANY: u32 = 1;
/// `FLEXSC_REASON_CANCELLED`: the call was not made.
pub(crate) const CANCELLED: u8 = 8;

/// The number of an ioctl: direction (write 1, read 2), size, number.
const fn request(direction: usize, size: usize, number: usize) -> usize {
    (direction << 30) | (size << 16) | (0xda << 8) | number
}

const REGISTER: usize = request(3, size_of::<Register>(), 0);
const WAIT: usize = request(1, size_of::<Wait>(), 2);
const CANCEL: usize = request(1, size_of::<Cancel>(), 8);

/// A registration and its pages.
pub(crate) struct Engine {
    fd: i32,
    id: u32,
    control: *const Control,
    entries: *mut Entry,
    mapped: (usize, usize),
}

// SAFETY: The memory is shared with the kernel only, by atomics and by the rules of the doorbells.
unsafe impl Send for Engine {}

impl Engine {
    /// Opens the device and registers the calling thread of the kernel.
    pub(crate) fn new() -> Result<Self, Errno> {
        const AT_FDCWD: usize = -100_isize as usize;
        const O_RDWR_CLOEXEC: usize = 0o2_000_002;
        const F_DUPFD_CLOEXEC: usize = 1030;
        /// Programs count their descriptors from below.
        const HIGH: usize = 900;
        const MAP_SHARED: usize = 1;
        let path = c"/dev/flexsc".as_ptr() as usize;
        // SAFETY: The path ends with a zero.
        let low = unsafe { call(nr::OPENAT, [AT_FDCWD, path, O_RDWR_CLOEXEC, 0, 0, 0]) }? as i32;
        let args = [low as usize, F_DUPFD_CLOEXEC, HIGH, 0, 0, 0];
        // SAFETY: The call does not touch memory.
        let fd = match unsafe { call(nr::FCNTL, args) } {
            Ok(high) => {
                raw::close(low);
                high as i32
            }
            Err(_) => low,
        };
        let mut register = Register {
            size: size_of::<Register>() as u32,
            abi: ABI,
            pages: PAGES as u32,
            ..Register::default()
        };
        let at = &raw mut register as usize;
        // SAFETY: The kernel reads and writes the structure.
        let registered = unsafe { call(nr::IOCTL, [fd as usize, REGISTER, at, 0, 0, 0]) };
        let mapped = registered.and_then(|_| {
            let len = register.mmap_len as usize;
            let prot = raw::PROT_READ | raw::PROT_WRITE;
            let offset = register.mmap_offset as usize;
            // SAFETY: The kernel chooses a free place.
            unsafe { call(nr::MMAP, [0, len, prot, MAP_SHARED, fd as usize, offset]) }
        });
        let mapped = mapped.inspect_err(|_| raw::close(fd))?;
        let entries = mapped + register.ctrl_len as usize;
        Ok(Engine {
            fd,
            id: register.id,
            control: ptr::with_exposed_provenance(mapped),
            entries: ptr::with_exposed_provenance_mut(entries),
            mapped: (mapped, register.mmap_len as usize),
        })
    }

    /// Returns true for the descriptor of the device.
    pub(crate) fn has_fd(&self, fd: u64) -> bool {
        self.fd as u64 == fd
    }

    fn control(&self, page: usize) -> &Control {
        assert!(page < PAGES, "no such page");
        // SAFETY: The mapping begins with a block for each page.
        let control = unsafe { self.control.add(page) };
        // SAFETY: The mapping stays, and both sides use atomics only.
        unsafe { &*control }
    }

    fn entry(&self, index: usize) -> *mut Entry {
        assert!(index < PAGES * ENTRIES, "no such entry");
        // SAFETY: The mapping has so many entries.
        unsafe { self.entries.add(index) }
    }

    /// Writes a free entry.
    pub(crate) fn write(&mut self, index: usize, number: u16, args: [u64; 6]) {
        const SUBMITTED: u8 = 1;
        let entry = Entry {
            nr: number,
            flags: 0,
            pool: 0,
            take: [0; 2],
            reason: 0,
            status: SUBMITTED,
            args,
            result: 0,
        };
        // SAFETY: The entry is free, so that the kernel leaves it alone.
        unsafe { self.entry(index).write(entry) };
    }

    /// Result and reason of a finished entry.
    pub(crate) fn result(&self, index: usize) -> (i64, u8) {
        // SAFETY: The entry is finished, so that the kernel leaves it alone.
        let entry = unsafe { self.entry(index).read() };
        (entry.result, entry.reason)
    }

    /// The doorbell of a page, with what has been reaped.
    pub(crate) fn ring(&self, page: usize, posted: u64, reaped: u64) {
        let control = self.control(page);
        // ORDERING: Entries first. The kernel loads `posted` with acquire.
        control.reaped.store(reaped, Release);
        control.posted.store(posted, Release);
    }

    /// The word that the kernel toggles for finished entries.
    pub(crate) fn done(&self, page: usize) -> u64 {
        // ORDERING: Results are read afterwards.
        self.control(page).done.load(Acquire)
    }

    /// Has posted entries executed and, with WAIT_ANY, sleeps until there is a result. Ends at once if
    /// something was noted since `helpers::events`.
    pub(crate) fn wait(&self, policy: u32, deadline: Option<u64>, tid: u32) -> i64 {
        let wait = Wait {
            size: size_of::<Wait>() as u32,
            id: self.id,
            policy,
            timeout_ns: deadline.unwrap_or(0),
            ..Wait::default()
        };
        let at = ptr::from_ref(&wait) as u64;
        let call = [nr::IOCTL as u64, self.fd as u64, WAIT as u64, at, 0, 0, 0];
        helpers::call_unless_noted(call, tid)
    }

    /// Ends a posted call as a signal would.
    pub(crate) fn cancel(&self, index: u32) {
        let cancel = Cancel {
            size: size_of::<Cancel>() as u32,
            id: self.id,
            index,
            flags: 0,
        };
        let at = ptr::from_ref(&cancel) as usize;
        // SAFETY: The kernel reads the structure.
        let _ = unsafe { call(nr::IOCTL, [self.fd as usize, CANCEL, at, 0, 0, 0]) };
    }

    /// In a child process, which has inherited the descriptor only.
    pub(crate) fn forget(self) {
        raw::close(self.fd);
        let (at, len) = self.mapped;
        // SAFETY: The pages are not mapped here, and nothing else is at their place yet.
        let _ = unsafe { call(nr::MUNMAP, [at, len, 0, 0, 0, 0]) };
    }
}
