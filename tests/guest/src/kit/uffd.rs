// SPDX-License-Identifier: MIT OR Apache-2.0
//! Slow memory: another thread resolves its faults at any time (userfaultfd). When it is dropped,
//! the memory becomes plain, and threads that wait for it continue.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use super::files::readable;
use super::{Random, sys};
use crate::check::Check;

// From linux/userfaultfd.h.
const NEW: u32 = 0xaa00;
const API: u32 = 0xc018_aa3f;
const REGISTER: u32 = 0xc020_aa00;
const WAKE: u32 = 0x8010_aa02;
const ZEROPAGE: u32 = 0xc020_aa04;
const API_VERSION: u64 = 0xaa;
const MODE_MISSING: u64 = 1;
const EVENT_PAGEFAULT: u8 = 0x12;
const PAGE: u64 = 4096;

/// Memory whose missing pages are provided late.
pub struct Slow {
    fd: OwnedFd,
    /// The memory's address, for system calls only: a thread that accesses the memory waits.
    pub at: usize,
    pub len: usize,
}

impl Slow {
    /// Makes fresh memory of `pages` pages. `None` if this process may not use userfaultfd.
    pub fn new(pages: usize) -> Option<Slow> {
        let len = pages * PAGE as usize;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let at = sys::mmap(len, prot, flags, -1, 0).ok()? as usize;
        Slow::over(at, len)
    }

    /// Makes one page that is missing until a thread provides it.
    pub fn page() -> Check<Slow> {
        match Slow::new(1) {
            Some(page) => Ok(page),
            None => fail!("no userfaultfd(2)"),
        }
    }

    /// Makes existing anonymous pages slow, which are present at first.
    pub fn over(at: usize, len: usize) -> Option<Slow> {
        let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
        let fd = match sys::open(c"/dev/userfaultfd", libc::O_RDWR, 0) {
            Ok(device) => plain!(SYS_ioctl, &device, NEW, flags),
            Err(_) => plain!(SYS_userfaultfd, flags),
        };
        let fd = sys::own(i32::try_from(fd).ok().filter(|&fd| fd >= 0)?);
        let mut api = [API_VERSION, 0, 0];
        let mut register = [at as u64, len as u64, MODE_MISSING, 0];
        let good = plain!(SYS_ioctl, &fd, API, api.as_mut_ptr()) == 0
            && plain!(SYS_ioctl, &fd, REGISTER, register.as_mut_ptr()) == 0;
        good.then_some(Slow { fd, at, len })
    }

    /// A random address in the memory.
    pub fn address(&self, random: &mut Random) -> u64 {
        self.at as u64 + random.below(self.len as u64)
    }

    /// Takes the pages away again: the next access waits.
    pub fn forget(&self) {
        plain!(SYS_madvise, self.at, self.len, libc::MADV_DONTNEED);
    }

    /// Returns true if a thread waits for a page, within the time limit.
    pub fn is_wanted(&self, limit: Duration) -> bool {
        readable(&self.fd, limit)
    }

    fn put_zeroes(&self, page: u64) -> i64 {
        let mut zero = [page, PAGE, 0, 0];
        plain!(SYS_ioctl, &self.fd, ZEROPAGE, zero.as_mut_ptr())
    }

    /// Provides the first page, zeroed.
    pub fn provide(&self) -> Check {
        check_ret!("UFFDIO_ZEROPAGE", self.put_zeroes(self.at as u64), 0);
        Ok(())
    }

    fn resolve(&self, address: u64) {
        let page = address & !(PAGE - 1);
        if self.put_zeroes(page) != 0 {
            let mut range = [page, PAGE];
            plain!(SYS_ioctl, &self.fd, WAKE, range.as_mut_ptr());
        }
    }

    /// Resolves faults until `over`, each after a random time of up to `most`.
    pub fn serve(&self, random: &mut Random, most: Duration, over: impl Fn() -> bool) {
        let mut due: Vec<(Instant, u64)> = Vec::new();
        while !over() {
            let mut poll = libc::pollfd {
                fd: self.fd.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            plain!(SYS_poll, std::ptr::from_mut(&mut poll), 1, 1);
            let mut message = [0u64; 4];
            while plain!(
                SYS_read,
                &self.fd,
                message.as_mut_ptr(),
                size_of_val(&message)
            ) > 0
            {
                if message[0] as u8 == EVENT_PAGEFAULT {
                    let late = most.mul_f64(random.below(1000) as f64 / 1000.0);
                    due.push((Instant::now() + late, message[2]));
                }
            }
            let now = Instant::now();
            due.retain(|&(when, address)| {
                let wait = when > now;
                if !wait {
                    self.resolve(address);
                }
                wait
            });
        }
    }
}
