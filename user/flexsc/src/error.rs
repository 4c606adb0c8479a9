// SPDX-License-Identifier: MIT OR Apache-2.0
//! Errors of the device's calls: the cause, and what to do about it.
//!
//! They do not include the errno of a posted call, which is in
//! [`Completion::result`](crate::Completion).

use std::path::PathBuf;
use std::{error, fmt, io};

use nix::errno::Errno;

use crate::sys::abi::{FLEXSC_ABI_VERSION, FLEXSC_MAX_PAGES, FLEXSC_POOLS};

/// Why a call of the device failed.
///
/// `Debug` prints the same sentence as `Display`, because a program whose `main` returns
/// the error shows its `Debug`.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// There is no device (ENOENT, ENXIO, ENODEV).
    NotLoaded(PathBuf),
    /// The device's mode or group excludes this user (EACCES).
    NoPermission(PathBuf),
    /// The administrator has disabled the module, for this user or for all, or the device control
    /// group does not let this program open the device (EPERM).
    SwitchedOff,
    /// A seccomp filter or a security module refused a call of the device to the process
    /// that owns it (EPERM, EACCES, ENOSYS).
    Filtered {
        /// What was attempted.
        doing: &'static str,
        /// The errno of the attempt.
        errno: i32,
    },
    /// The file is not the FlexSC device (ENOTTY).
    NotTheDevice,
    /// Module and program use different versions of the ABI (EPROTO).
    Version,
    /// One registration cannot have this many pages (EINVAL).
    PageCount(u32),
    /// The limit on locked memory is exceeded (ENOMEM).
    LockedMemory {
        /// Bytes that the pages and their control blocks need.
        needed: u64,
        /// The soft limit, RLIMIT_MEMLOCK, in bytes.
        limit: u64,
    },
    /// The engine has as many pages as the administrator allows (ENOSPC).
    TooManyPages,
    /// Not even one syscall thread could be created (EAGAIN).
    NoThreads,
    /// The caller does not own the registration or the engine (EPERM).
    NotTheOwner,
    /// The kernel has no such registration (ENOENT).
    Unknown,
    /// Calls are in flight (EBUSY).
    Busy,
    /// The timeout expired (ETIME).
    TimedOut,
    /// A signal interrupted the wait (EINTR).
    Interrupted,
    /// No posted call can satisfy the wait (EDEADLK).
    NothingToWaitFor,
    /// The kernel refused a set of CPUs (EINVAL).
    BadCpus(crate::CpuSet),
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
    /// The caller may not create threads with this nice value (EACCES).
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
    /// No page has this many adjacent free entries (EAGAIN).
    NoRoom(usize),
    /// The module does not know the request (ENOTTY).
    TooOld(&'static str),
    /// Any other failure.
    Other {
        /// What was attempted.
        doing: &'static str,
        /// The errno of the attempt.
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

    /// Like [`Error::other`], for calls that the caller is entitled to make: distinguishes
    /// a filter's refusal from other failures.
    pub(crate) fn refused(doing: &'static str, errno: Errno) -> Error {
        match errno {
            Errno::EPERM | Errno::EACCES | Errno::ENOSYS => Error::Filtered {
                doing,
                errno: errno as i32,
            },
            errno => Error::other(doing, errno),
        }
    }

    /// The errno of this error.
    #[must_use]
    pub const fn errno(&self) -> i32 {
        match self {
            Error::NotLoaded(_) | Error::Unknown | Error::NoPool(_) => libc::ENOENT,
            Error::NoPermission(_) | Error::NotSoNice { .. } => libc::EACCES,
            Error::SwitchedOff | Error::NotTheOwner => libc::EPERM,
            Error::NotTheDevice | Error::TooOld(_) => libc::ENOTTY,
            Error::Version => libc::EPROTO,
            Error::PageCount(_)
            | Error::BadCpus(_)
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

    /// The kind of the [`io::Error`] that this error becomes. It is never `Uncategorized`,
    /// except for [`Error::Other`], whose kind is that of its errno.
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
            | Error::BadCpus(_)
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

    /// Returns true if no engine is available to this program, but plain calls work as
    /// always.
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
                "{} does not exist: load the module with `insmod flexsc.ko` \
                 (it needs a kernel with the FlexSC patches), or pass the device to this \
                 container or service",
                path.display()
            ),
            Error::NoPermission(path) => write!(
                f,
                "no permission to open {path}: its mode excludes this user; \
                 ask the administrator to `chmod` or `chgrp` {path}",
                path = path.display()
            ),
            Error::SwitchedOff => f.write_str(
                "FlexSC is disabled for this user: root can enable it with \
                 `echo 0 > /sys/module/flexsc/parameters/enable` (0: everyone, \
                 1: only CAP_SYS_ADMIN, 2: nobody); or this container or service may not open the \
                 device: pass it with `--device /dev/flexsc` or `DeviceAllow=/dev/flexsc rw`",
            ),
            Error::Filtered { doing, errno } => write!(
                f,
                "cannot {doing}: {}: a seccomp filter or security module forbids \
                 the device's calls; allow ioctl and mmap of /dev/flexsc, or make plain calls",
                Errno::from_raw(*errno).desc()
            ),
            Error::NotTheDevice => {
                f.write_str("the file is not the FlexSC device: open /dev/flexsc")
            }
            Error::Version => write!(
                f,
                "the module does not have ABI version {FLEXSC_ABI_VERSION}, for which this \
                 program was built: build module and program from the same source"
            ),
            Error::PageCount(pages) => write!(
                f,
                "one registration cannot have {pages} syscall pages: ask for 1 to \
                 {FLEXSC_MAX_PAGES}, and register again for more"
            ),
            Error::LockedMemory { needed, limit } => write!(
                f,
                "{needed} bytes of syscall pages and control blocks exceed this user's limit on locked \
                 memory ({limit} bytes): ask for fewer pages, or raise the limit with `ulimit -l`"
            ),
            Error::TooManyPages => f.write_str(
                "the engine has reached its limit on syscall pages: unregister some, or load the \
                 module with a larger max_pages",
            ),
            Error::NoThreads => f.write_str(
                "not even one syscall thread could be created: raise the limit on processes \
                 (`ulimit -u`, pids.max of the cgroup) or try again later",
            ),
            Error::NotTheOwner => f.write_str(
                "this thread or process did not register these pages: each thread must register \
                 its own, and a forked child must open its own engine",
            ),
            Error::Unknown => f.write_str("the registration no longer exists: register again"),
            Error::Busy => f.write_str("calls are in flight: wait for them first"),
            Error::TimedOut => f.write_str("the timeout expired before enough calls had finished"),
            Error::Interrupted => f.write_str("a signal interrupted the wait: wait again"),
            Error::NothingToWaitFor => {
                f.write_str("no posted call can satisfy this wait: post calls first")
            }
            Error::BadCpus(cpus) => write!(
                f,
                "the kernel rejects the CPUs {cpus}: each has to be online, in the cpuset of this \
                 process, and below 64"
            ),
            Error::BadValue { param, value } => write!(
                f,
                "the kernel rejects {value} for {param:?}: see the limits in flexsc(4)"
            ),
            Error::BadPool { pool, param, value } => write!(
                f,
                "the kernel rejects {value} for {param:?} of pool {pool}: pools are numbered \
                 0 to {}; see the limits in flexsc(4)",
                FLEXSC_POOLS - 1
            ),
            Error::NotSoNice { pool, nice } => write!(
                f,
                "this user may not lower the nice value of pool {pool} to {nice}: ask for a \
                 higher value, raise the limit with `ulimit -e`, or run with CAP_SYS_NICE"
            ),
            Error::NoPool(pool) => write!(
                f,
                "the engine has no pool {pool}: create it by setting one of its parameters"
            ),
            Error::BadEventFd => {
                f.write_str("the descriptor is not an eventfd: make one with eventfd(2)")
            }
            Error::BadChain(why) => write!(f, "the chain cannot be posted: {why}"),
            Error::NoRoom(len) => write!(
                f,
                "no page has {len} adjacent free entries: take results first, or register \
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
        assert!(
            absent
                .to_string()
                .contains("pass the device to this container")
        );
        assert!(absent.is_absent());
        let off = Error::SwitchedOff.to_string();
        assert!(off.contains("parameters/enable") && off.contains("--device /dev/flexsc"));
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
        // The kind that the standard library gives to an errno it does not know.
        let nameless = io::Error::from_raw_os_error(libc::ETIME).kind();
        for error in all {
            assert_ne!(error.kind(), nameless, "{error}");
            assert_ne!(error.kind(), io::ErrorKind::Other, "{error}");
        }
    }
}
