// SPDX-License-Identifier: MIT OR Apache-2.0
//! Distinguishes a process from the children that fork and clone make of it.
//!
//! A PID is not enough. The first process of a PID namespace has the same PID as the first
//! one of a nested namespace, and asking for it is a system call. Instead, this uses a page
//! that the kernel clears in every child.

#![expect(unsafe_code, reason = "mmap")]

use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::sys::mman::{self, MapFlags, MmapAdvise, ProtFlags};

use crate::memory::Cursors;

/// A word that is set in the process that made it and cleared in its children, and with it
/// another value that becomes zero there.
///
/// # Invariants
///
/// `page` is at the base of a private mapping of [`LEN`] bytes that exists until the value
/// is dropped, in this process and in children. The kernel clears it in a child
/// (MADV_WIPEONFORK). In this process its word is not zero.
#[derive(Debug)]
pub(crate) struct ForkGuard<T = ()> {
    page: NonNull<Cleared<T>>,
}

/// The content of the page.
#[derive(Debug)]
#[repr(C)]
struct Cleared<T> {
    word: AtomicU32,
    value: T,
}

/// A type of which a child finds zeros.
///
/// # Safety
///
/// Zeros are a valid value. The type needs no drop.
pub(crate) unsafe trait Clearable {}

// SAFETY: it has no bytes.
unsafe impl Clearable for () {}

// SAFETY: by its invariant, zeros are valid.
unsafe impl Clearable for Cursors {}

const LEN: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

// SAFETY: the word is atomic, and the mapping belongs to no thread.
unsafe impl<T: Send> Send for ForkGuard<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for ForkGuard<T> {}

impl<T: Clearable> ForkGuard<T> {
    /// Makes a guard for this process.
    ///
    /// # Errors
    ///
    /// The errors of mmap(2) and madvise(2): ENOMEM, or that of a seccomp filter.
    pub(crate) fn new() -> Result<Self, Errno> {
        const { assert!(size_of::<Cleared<T>>() <= LEN.get()) };
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses replaces
        // no other mapping.
        let base = unsafe { mman::mmap_anonymous(None, LEN, prot, MapFlags::MAP_PRIVATE) }?;
        // The value unmaps it if one of the next steps fails.
        let guard = ForkGuard { page: base.cast() };
        // SAFETY: the mapping is ours, and children must not see its content.
        unsafe { mman::madvise(base, LEN.get(), MmapAdvise::MADV_WIPEONFORK) }?;
        guard.cleared().word.store(1, Ordering::Relaxed);
        Ok(guard)
    }

    /// Returns true in the process that made the guard. Costs one load.
    #[inline(always)]
    pub(crate) fn in_same_process(&self) -> bool {
        // ORDERING: relaxed, fork copies one thread and everything it did before.
        self.cleared().word.load(Ordering::Relaxed) != 0
    }

    /// The other value. It starts as zeros.
    #[inline(always)]
    pub(crate) fn value(&self) -> &T {
        &self.cleared().value
    }

    #[inline(always)]
    fn cleared(&self) -> &Cleared<T> {
        // SAFETY: by the invariant it is mapped, readable and writable, and aligned. It
        // began as zeros, a valid value. No reference to it is mutable.
        unsafe { self.page.as_ref() }
    }
}

impl<T> Drop for ForkGuard<T> {
    fn drop(&mut self) {
        // SAFETY: by the invariant it is mapped, in a child as well, and no
        // longer borrowed.
        let unmapped = unsafe { mman::munmap(self.page.cast(), LEN.get()) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::process;

    /// Runs `check` in a child made by fork(3) or, with `flags`, by a bare clone(2), which
    /// runs no handler of the C library. Returns its answer, or `None` if the child cannot
    /// be made.
    pub(crate) fn in_child_of(flags: libc::c_int, check: impl FnOnce() -> bool) -> Option<bool> {
        let child = if flags == 0 {
            // SAFETY: the child has its own memory, waits for no other thread and ends
            // without returning.
            libc::c_long::from(unsafe { libc::fork() })
        } else {
            let flags = flags | libc::SIGCHLD;
            // SAFETY: as above, and it needs no lock of the C library.
            unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) }
        };
        if child == 0 {
            let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check));
            let code = match answer {
                Ok(true) => 0,
                Ok(false) => 1,
                Err(_) => 2,
            };
            // SAFETY: ends the child.
            unsafe { libc::_exit(code) };
        }
        let child = libc::pid_t::try_from(child).ok().filter(|&pid| pid > 0)?;
        let mut status = 0;
        // SAFETY: `status` is valid.
        let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(waited, child);
        assert!(libc::WIFEXITED(status), "the child died: {status:#x}");
        Some(libc::WEXITSTATUS(status) == 0)
    }

    #[test]
    fn a_child_is_somebody_else() {
        let guard = ForkGuard::<()>::new().unwrap();
        assert!(guard.in_same_process());
        assert_eq!(in_child_of(0, || !guard.in_same_process()), Some(true));
        assert!(guard.in_same_process());
    }

    #[test]
    fn the_same_process_number_in_another_namespace_is_somebody_else() {
        // PID 1 makes the guard, and its child has PID 1, too.
        let space = libc::CLONE_NEWPID;
        let nested = in_child_of(space, || {
            let guard = ForkGuard::<()>::new().unwrap();
            let number = process::id();
            in_child_of(space, || {
                number == process::id() && !guard.in_same_process()
            }) == Some(true)
        });
        match nested {
            Some(right) => assert!(right),
            None => eprintln!("skipped: no PID namespaces for this user"),
        }
    }

    #[test]
    fn a_child_has_guards_of_its_own() {
        let guard = ForkGuard::<()>::new().unwrap();
        let right = in_child_of(0, || {
            let own = ForkGuard::<()>::new().unwrap();
            own.in_same_process() && !guard.in_same_process()
        });
        assert_eq!(right, Some(true));
    }
}
