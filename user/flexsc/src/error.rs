// SPDX-License-Identifier: MIT OR Apache-2.0
//! Errors of the device's calls: what is wrong, and what to do about it.
//!
//! The errno of a posted call is not among them: that is
//! [`Completion::result`](crate::Completion).

use std::path::PathBuf;
use std::{error, fmt, io};

use nix::errno::Errno;

use crate::sys::abi::{FLEXSC_ABI_VERSION, FLEXSC_MAX_PAGES, FLEXSC_POOLS};

/// Why a call of the device failed.
///
/// Its `Debug` is the sentence of its `Display`: that is what a program shows
/// whose `main` returns it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// There is no device (ENOENT, ENXIO, ENODEV).
    NotLoaded(PathBuf),
    /// The device's mode or group keep this user out (EACCES).
    NoPermission(PathBuf),
    /// The administrator has switched the module off, for this user or for all (EPERM).
    SwitchedOff,
    /// A call of the device was refused to the process that owns it: by a seccomp
    /// filter or a security module (EPERM, EACCES, ENOSYS).
    Filtered {
        /// What was tried.
        doing: &'static str,
        /// How it failed.
        errno: i32,
    },
    /// The file is not the FlexSC device (ENOTTY).
    NotTheDevice,
    /// Module and program speak different versions of the ABI (EPROTO).
    Version,
    /// So many pages cannot be in one registration (EINVAL).
    PageCount(u32),
    /// The limit on locked memory is exceeded (ENOMEM).
    LockedMemory {
        /// Bytes that the pages need, with their control blocks.
        needed: u64,
        /// The soft limit, RLIMIT_MEMLOCK, in bytes.
        limit: u64,
    },
    /// The engine has all the pages that the administrator allows (ENOSPC).
    TooManyPages,
    /// Not even one syscall thread could be made (EAGAIN).
    NoThreads,
    /// The caller does not own the registration or the engine (EPERM).
    NotTheOwner,
    /// The kernel has no such registration (ENOENT).
    Unknown,
    /// Calls are in flight (EBUSY).
    Busy,
    /// The timeout has passed (ETIME).
    TimedOut,
    /// A signal came (EINTR).
    Interrupted,
    /// Nothing is posted that the wait could wait for (EDEADLK).
    NothingToWaitFor,
    /// The kernel refused a parameter's value (EINVAL).
    BadValue {
        /// The parameter.
        param: crate::Param,
        /// The value.
        value: u64,
    },
    /// The kernel refused the value of a pool's parameter, or the pool's number
    /// (EINVAL).
    BadPool {
        /// The pool.
        pool: u8,
        /// The parameter.
        param: crate::PoolParam,
        /// The value.
        value: u64,
    },
    /// The caller may not have threads of that nice value (EACCES).
    NotSoNice {
        /// The pool.
        pool: u8,
        /// The nice value.
        nice: i64,
    },
    /// The engine has no such pool (ENOENT).
    NoPool(u8),
    /// The descriptor is not an eventfd (EBADF, EINVAL).
    BadEventFd,
    /// The chain cannot be posted (EINVAL).
    BadChain(&'static str),
    /// No page has so many free entries side by side (EAGAIN).
    NoRoom(usize),
    /// The kernel does not know what was asked of it (ENOTTY).
    TooOld(&'static str),
    /// Anything else.
    Other {
        /// What was tried.
        doing: &'static str,
        /// How it failed.
        errno: i32,
    },
}

impl Error {
    pub(crate) fn other(doing: &'static str, errno: Errno) -> Error {
        Error::Other {
            doing,
            errno: errno as i32,
        }
    }

    /// The same where the caller has every right to do it: a filter's refusal is
    /// told from other failures.
    pub(crate) fn refused(doing: &'static str, errno: Errno) -> Error {
        match errno {
            Errno::EPERM | Errno::EACCES | Errno::ENOSYS => Error::Filtered {
                doing,
                errno: errno as i32,
            },
            errno => Error::other(doing, errno),
        }
    }

    /// The errno behind it.
    #[must_use]
    pub const fn errno(&self) -> i32 {
        match self {
            Error::NotLoaded(_) | Error::Unknown | Error::NoPool(_) => libc::ENOENT,
            Error::NoPermission(_) | Error::NotSoNice { .. } => libc::EACCES,
            Error::SwitchedOff | Error::NotTheOwner => libc::EPERM,
            Error::NotTheDevice | Error::TooOld(_) => libc::ENOTTY,
            Error::Version => libc::EPROTO,
            Error::PageCount(_)
            | Error::BadValue { .. }
            | Error::BadPool { .. }
            | Error::BadEventFd
            | Error::BadChain(_) => libc::EINVAL,
            Error::LockedMemory { .. } => libc::ENOMEM,
            Error::TooManyPages => libc::ENOSPC,
            Error::NoThreads | Error::NoRoom(_) => libc::EAGAIN,
            Error::Busy => libc::EBUSY,
            Error::TimedOut => libc::ETIME,
            Error::Interrupted => libc::EINTR,
            Error::NothingToWaitFor => libc::EDEADLK,
            Error::Other { errno, .. } | Error::Filtered { errno, .. } => *errno,
        }
    }

    /// Which kind of [`io::Error`] it is: never one without a name, but for
    /// [`Error::Other`], whose kind is that of its errno.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Error::NotLoaded(_) | Error::Unknown | Error::NoPool(_) => io::ErrorKind::NotFound,
            Error::NoPermission(_)
            | Error::NotSoNice { .. }
            | Error::SwitchedOff
            | Error::Filtered { .. }
            | Error::NotTheOwner => io::ErrorKind::PermissionDenied,
            Error::NotTheDevice | Error::TooOld(_) | Error::Version => io::ErrorKind::Unsupported,
            Error::PageCount(_)
            | Error::BadValue { .. }
            | Error::BadPool { .. }
            | Error::BadEventFd
            | Error::BadChain(_) => io::ErrorKind::InvalidInput,
            Error::LockedMemory { .. } => io::ErrorKind::OutOfMemory,
            Error::TooManyPages => io::ErrorKind::QuotaExceeded,
            Error::NoThreads | Error::NoRoom(_) => io::ErrorKind::WouldBlock,
            Error::Busy => io::ErrorKind::ResourceBusy,
            Error::TimedOut => io::ErrorKind::TimedOut,
            Error::Interrupted => io::ErrorKind::Interrupted,
            Error::NothingToWaitFor => io::ErrorKind::Deadlock,
            Error::Other { errno, .. } => io::Error::from_raw_os_error(*errno).kind(),
        }
    }

    /// Whether a program can do without: there is no engine here for it, but
    /// plain calls work as ever.
    #[must_use]
    pub const fn is_absent(&self) -> bool {
        matches!(
            self,
            Error::NotLoaded(_)
                | Error::NoPermission(_)
                | Error::SwitchedOff
                | Error::Filtered { .. }
                | Error::NotTheDevice
                | Error::Version
                | Error::LockedMemory { .. }
                | Error::TooManyPages
                | Error::NoThreads
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotLoaded(path) => write!(
                f,
                "{} is not there: load the module with `insmod flexsc.ko` \
                 (a kernel with the FlexSC patches is needed)",
                path.display()
            ),
            Error::NoPermission(path) => write!(
                f,
                "no permission to open {path}: its mode keeps this user out; \
                 ask the administrator for `chmod` or `chgrp` of {path}",
                path = path.display()
            ),
            Error::SwitchedOff => f.write_str(
                "FlexSC is switched off for this user: root can allow it with \
                 `echo 0 > /sys/module/flexsc/parameters/enable` (0 everyone, \
                 1 only CAP_SYS_ADMIN, 2 nobody)",
            ),
            Error::Filtered { doing, errno } => write!(
                f,
                "cannot {doing}: {}: a seccomp filter or security module keeps this program \
                 from the device's calls; allow ioctl and mmap of /dev/flexsc, or make plain calls",
                Errno::from_raw(*errno).desc()
            ),
            Error::NotTheDevice => {
                f.write_str("the file is not the FlexSC device: open /dev/flexsc")
            }
            Error::Version => write!(
                f,
                "the module has another ABI than version {FLEXSC_ABI_VERSION}, for which this \
                 program was built: build module and program from the same source"
            ),
            Error::PageCount(pages) => write!(
                f,
                "{pages} syscall pages in one registration: ask for 1 to {FLEXSC_MAX_PAGES}, \
                 and register again for more"
            ),
            Error::LockedMemory { needed, limit } => write!(
                f,
                "{needed} bytes of syscall pages and control blocks exceed what this user may lock in memory \
                 ({limit} bytes): ask for fewer pages, or raise the limit with `ulimit -l`"
            ),
            Error::TooManyPages => f.write_str(
                "the engine has all the syscall pages it may have: unregister some, or load the \
                 module with a larger max_pages",
            ),
            Error::NoThreads => f.write_str(
                "not even one syscall thread could be made: raise the limit on processes \
                 (`ulimit -u`, pids.max of the cgroup) or try again later",
            ),
            Error::NotTheOwner => f.write_str(
                "this thread or process did not register these pages: every thread registers \
                 its own, and a child after fork opens its own engine",
            ),
            Error::Unknown => f.write_str("the kernel has no such registration: register again"),
            Error::Busy => f.write_str("calls are in flight: wait for them first"),
            Error::TimedOut => f.write_str("the timeout has passed before enough calls finished"),
            Error::Interrupted => f.write_str("a signal came during the wait: wait again"),
            Error::NothingToWaitFor => {
                f.write_str("nothing is posted that the wait could wait for: post calls first")
            }
            Error::BadValue { param, value } => write!(
                f,
                "the kernel refuses {value} for {param:?}: see the limits in flexsc(4)"
            ),
            Error::BadPool { pool, param, value } => write!(
                f,
                "the kernel refuses {value} for {param:?} of pool {pool}: pools have numbers \
                 0 to {}; see the limits in flexsc(4)",
                FLEXSC_POOLS - 1
            ),
            Error::NotSoNice { pool, nice } => write!(
                f,
                "this user may not lower the nice value of pool {pool} to {nice}: ask for a \
                 higher one, raise the limit with `ulimit -e`, or have CAP_SYS_NICE"
            ),
            Error::NoPool(pool) => write!(
                f,
                "the engine has no pool {pool}: make it by setting one of its parameters"
            ),
            Error::BadEventFd => {
                f.write_str("the descriptor is no eventfd: make one with eventfd(2)")
            }
            Error::BadChain(why) => write!(f, "the chain cannot be posted: {why}"),
            Error::NoRoom(len) => write!(
                f,
                "no page has {len} free entries side by side: take results first, or register \
                 more pages"
            ),
            Error::TooOld(what) => write!(
                f,
                "the module does not know {what}: build module and program from the same source"
            ),
            Error::Other { doing, errno } => {
                write!(f, "cannot {doing}: {}", Errno::from_raw(*errno).desc())
            }
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl error::Error for Error {}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        io::Error::new(error.kind(), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_what_to_do() {
        let absent = Error::NotLoaded("/dev/flexsc".into());
        assert!(absent.to_string().contains("insmod flexsc.ko"));
        assert!(absent.is_absent());
        assert!(Error::SwitchedOff.to_string().contains("enable"));
        assert!(!Error::Busy.is_absent());
        let other = Error::other("map the pages", Errno::EPERM);
        assert_eq!(
            other.to_string(),
            "cannot map the pages: Operation not permitted"
        );
    }

    #[test]
    fn debug_is_the_sentence_that_a_main_shows() {
        let absent = Error::NotLoaded("/dev/flexsc".into());
        assert_eq!(format!("{absent:?}"), absent.to_string());
    }

    #[test]
    fn they_become_io_errors_that_have_a_kind() {
        let error: io::Error = Error::TimedOut.into();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let all = [
            Error::NotLoaded("x".into()),
            Error::NoPermission("x".into()),
            Error::SwitchedOff,
            Error::NotTheDevice,
            Error::Version,
            Error::PageCount(0),
            Error::TooManyPages,
            Error::NoThreads,
            Error::NotTheOwner,
            Error::Unknown,
            Error::Busy,
            Error::Interrupted,
            Error::NothingToWaitFor,
            Error::NoPool(1),
            Error::BadEventFd,
            Error::BadChain("x"),
            Error::NoRoom(1),
            Error::TooOld("x"),
        ];
        // What the standard library says of an errno that it has no kind for.
        let nameless = io::Error::from_raw_os_error(libc::ETIME).kind();
        for error in all {
            assert_ne!(error.kind(), nameless, "{error}");
            assert_ne!(error.kind(), io::ErrorKind::Other, "{error}");
        }
    }
}
