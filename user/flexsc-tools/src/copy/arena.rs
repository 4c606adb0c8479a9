// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory that calls point to. Each job has a `statx`, arguments, two names, a path and
//! a buffer, allocated once.

#![expect(unsafe_code, reason = "memory shared with calls in flight")]

use std::alloc::{self, Layout};
use std::ffi::{c_char, c_void};
use std::ptr::NonNull;
use std::slice;

/// Room for a name including its final zero. Names have up to 255 characters, which some
/// file systems store in 16 bits each.
pub const NAME_MAX: usize = 1024;

/// Room for [`Arena::set_path`]: the path of a descriptor in /proc, a name and a zero.
const PATH_LEN: usize = NAME_MAX + 64;

/// The directory of this process's open files.
pub const OPEN_FILES: &str = "/proc/self/fd";

/// Offsets in the memory of one job.
const STATX: usize = 0;
const ARGS: usize = 256;
const NAME: usize = 320;
const OTHER: usize = NAME + NAME_MAX;
const PATH: usize = OTHER + NAME_MAX;
const DATA: usize = PATH + PATH_LEN;
const ALIGN: usize = 64;
const _: () = assert!(size_of::<libc::statx>() <= ARGS);
const _: () = assert!(size_of::<Args>() <= NAME - ARGS);

/// Arguments that are passed by pointer.
#[repr(C)]
#[derive(Clone, Copy)]
union Args {
    /// For utimensat: access and modification time.
    times: [libc::timespec; 2],
    /// For openat2: flags, mode, resolve.
    how: [u64; HOW_WORDS],
}

const HOW_WORDS: usize = 3;
/// Size of openat2's argument.
pub const HOW_LEN: usize = size_of::<[u64; HOW_WORDS]>();

/// The two names that a job can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// The name of the file in its directory.
    Own,
    /// A temporary name.
    Other,
}

impl Name {
    fn offset(self) -> usize {
        match self {
            Name::Own => NAME,
            Name::Other => OTHER,
        }
    }
}

/// The memory of all jobs.
///
/// # Invariants
///
/// The allocation holds `lent.len()` jobs of `stride` bytes. The kernel writes to the
/// memory of a job only while it is lent. Safe code accesses it only while it is not.
pub struct Arena {
    base: NonNull<u8>,
    layout: Layout,
    stride: usize,
    data: usize,
    lent: Vec<bool>,
}

impl Arena {
    /// Makes an arena for `jobs` jobs with buffers of `data` bytes each.
    pub fn new(jobs: usize, data: usize) -> Self {
        let stride = (DATA + data).next_multiple_of(ALIGN);
        let size = stride.checked_mul(jobs).filter(|&size| size > 0);
        let layout = size
            .and_then(|size| Layout::from_size_align(size, ALIGN).ok())
            .expect("jobs and buffers are bounded by the command line");
        // SAFETY: the layout is not empty.
        let base = unsafe { alloc::alloc_zeroed(layout) };
        let Some(base) = NonNull::new(base) else {
            alloc::handle_alloc_error(layout)
        };
        Arena {
            base,
            layout,
            stride,
            data,
            lent: vec![false; jobs],
        }
    }

    /// Returns the length of a job's buffer.
    pub fn data_len(&self) -> usize {
        self.data
    }

    /// Marks the memory of a job as the kernel's until [`Arena::take_back`].
    pub fn lend(&mut self, job: usize) {
        assert!(!self.lent[job], "one call for each job");
        self.lent[job] = true;
    }

    /// Undoes [`Arena::lend`] after the call has finished.
    pub fn take_back(&mut self, job: usize) {
        assert!(self.lent[job], "a result for a job without a call");
        self.lent[job] = false;
    }

    fn at(&self, job: usize, offset: usize) -> *mut u8 {
        assert!(job < self.lent.len() && offset <= self.stride);
        // SAFETY: by the invariant this is inside the allocation.
        unsafe { self.base.add(job * self.stride + offset) }.as_ptr()
    }

    /// Returns a pointer to the memory that statx writes.
    pub fn statx_ptr(&self, job: usize) -> *mut libc::statx {
        self.at(job, STATX).cast()
    }

    /// Returns a pointer to a name.
    pub fn name_ptr(&self, job: usize, which: Name) -> *const c_char {
        self.at(job, which.offset()).cast()
    }

    /// Returns a pointer to the path that [`Arena::set_path`] has set.
    pub fn path_ptr(&self, job: usize) -> *const c_char {
        self.at(job, PATH).cast()
    }

    /// Sets the path of a name in an open directory, for calls that take neither a
    /// directory nor an open file. Only the last component can be a symbolic link.
    pub fn set_path(&mut self, job: usize, dir: i32, which: Name) {
        assert!(!self.lent[job]);
        let mut path = format!("{OPEN_FILES}/{dir}/").into_bytes();
        path.extend_from_slice(self.name(job, which));
        path.push(0);
        // SAFETY: not lent, inside the allocation, and `self` is borrowed mutably.
        let room = unsafe { slice::from_raw_parts_mut(self.at(job, PATH), PATH_LEN) };
        room[..path.len()].copy_from_slice(&path);
    }

    /// Returns a pointer to the times for utimensat.
    pub fn times_ptr(&self, job: usize) -> *const libc::timespec {
        self.at(job, ARGS).cast()
    }

    /// Sets the times for utimensat.
    pub fn set_times(&mut self, job: usize, times: [libc::timespec; 2]) {
        assert!(!self.lent[job]);
        // SAFETY: not lent, aligned, and `self` is borrowed mutably.
        unsafe { self.at(job, ARGS).cast::<Args>().write(Args { times }) };
    }

    /// Returns a pointer to the argument of openat2.
    pub fn how_ptr(&self, job: usize) -> *const libc::open_how {
        self.at(job, ARGS).cast()
    }

    /// Sets the argument of openat2.
    pub fn set_how(&mut self, job: usize, flags: i32, resolve: u64) {
        assert!(!self.lent[job]);
        let how = [flags as u64, 0, resolve];
        // SAFETY: not lent, aligned, and `self` is borrowed mutably.
        unsafe { self.at(job, ARGS).cast::<Args>().write(Args { how }) };
    }

    /// Returns a pointer into the buffer, at `offset`.
    pub fn data_ptr(&self, job: usize, offset: usize) -> *mut c_void {
        assert!(offset <= self.data);
        self.at(job, DATA + offset).cast()
    }

    /// Returns the result of statx.
    pub fn statx(&self, job: usize) -> libc::statx {
        assert!(!self.lent[job]);
        // SAFETY: not lent; aligned; any bytes are a statx.
        unsafe { self.statx_ptr(job).read() }
    }

    /// Returns a name without its final zero.
    pub fn name(&self, job: usize, which: Name) -> &[u8] {
        // SAFETY: inside the allocation. The kernel only reads names, and safe code writes
        // them only with `&mut self`.
        let room = unsafe { slice::from_raw_parts(self.at(job, which.offset()), NAME_MAX) };
        room.split(|&byte| byte == 0).next().unwrap_or(&[])
    }

    /// Sets a name. Returns false if it is too long.
    pub fn set_name(&mut self, job: usize, which: Name, name: &[u8]) -> bool {
        assert!(!self.lent[job]);
        if name.len() >= NAME_MAX {
            return false;
        }
        // SAFETY: not lent, inside the allocation, and `self` is borrowed mutably.
        let room = unsafe { slice::from_raw_parts_mut(self.at(job, which.offset()), NAME_MAX) };
        room[..name.len()].copy_from_slice(name);
        room[name.len()] = 0;
        true
    }

    /// Returns the buffer.
    pub fn data(&self, job: usize) -> &[u8] {
        assert!(!self.lent[job]);
        // SAFETY: not lent, inside the allocation.
        unsafe { slice::from_raw_parts(self.at(job, DATA), self.data) }
    }

    /// Returns the buffer for writing.
    pub fn data_mut(&mut self, job: usize) -> &mut [u8] {
        assert!(!self.lent[job]);
        // SAFETY: not lent, inside the allocation, and `self` is borrowed mutably.
        unsafe { slice::from_raw_parts_mut(self.at(job, DATA), self.data) }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        if self.lent.contains(&true) {
            return; // The kernel may still write to this memory: leak it.
        }
        // SAFETY: allocated with this layout, and no longer used.
        unsafe { alloc::dealloc(self.base.as_ptr(), self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    const TIME: libc::timespec = libc::timespec {
        tv_sec: i64::MAX,
        tv_nsec: i64::MAX,
    };

    #[test]
    fn jobs_have_memory_of_their_own() {
        let mut arena = Arena::new(3, 100);
        for job in 0..3 {
            assert!(arena.set_name(job, Name::Own, &[b'a' + job as u8; 10]));
            assert!(arena.set_name(job, Name::Other, b"other"));
            arena.set_times(job, [TIME; 2]);
            arena.data_mut(job).fill(job as u8);
        }
        for job in 0..3 {
            assert_eq!(arena.name(job, Name::Own), [b'a' + job as u8; 10]);
            assert_eq!(arena.name(job, Name::Other), b"other");
            assert!(arena.data(job).iter().all(|&byte| byte == job as u8));
            assert_eq!(arena.statx_ptr(job) as usize % ALIGN, 0);
        }
        assert!(!arena.set_name(0, Name::Own, &[b'x'; NAME_MAX]));
        assert!(arena.set_name(0, Name::Own, &[b'x'; NAME_MAX - 1]));
        arena.set_path(0, i32::MAX, Name::Own);
        arena.set_path(1, 7, Name::Other);
        assert_eq!(arena.data(0), [0; 100]);
        // SAFETY: `set_path` ends the path with a zero.
        let path = unsafe { CStr::from_ptr(arena.path_ptr(1)) };
        assert_eq!(path, c"/proc/self/fd/7/other");
    }

    #[test]
    #[should_panic(expected = "one call for each job")]
    fn a_job_is_lent_once() {
        let mut arena = Arena::new(1, 1);
        arena.lend(0);
        arena.lend(0);
    }
}
