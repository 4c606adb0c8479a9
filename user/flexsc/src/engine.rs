// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engine: FlexSC for one process.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::Mode;

use crate::sys::abi;
use crate::sys::device;
use crate::sys::region::Region;
use crate::{Error, Pages, Stats};

/// The device.
pub const DEVICE: &str = "/dev/flexsc";

/// An open engine. All threads of the process may share it; each registers
/// syscall pages of its own.
///
/// The engine ends when this value and all [`Pages`] are gone. A child made by
/// fork cannot use it.
#[derive(Debug)]
pub struct Engine {
    fd: Arc<OwnedFd>,
}

/// A parameter of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Param {
    /// Mask of the CPUs on which syscall threads poll the doorbells; 0, the
    /// default: none, calls are executed when their owner waits.
    SpinCpus = abi::FLEXSC_PARAM_SPIN_CPUS,
    /// Nanoseconds for which such a CPU polls in vain before it sleeps.
    IdleNs = abi::FLEXSC_PARAM_IDLE_NS,
    /// Most syscall threads that the engine may have.
    MaxThreads = abi::FLEXSC_PARAM_MAX_THREADS,
    /// Milliseconds for which an idle syscall thread stays.
    RetireMs = abi::FLEXSC_PARAM_RETIRE_MS,
}

impl Engine {
    /// Opens `/dev/flexsc`.
    ///
    /// # Errors
    ///
    /// [`Error::NotLoaded`], [`Error::NoPermission`], [`Error::SwitchedOff`].
    pub fn open() -> Result<Engine, Error> {
        Engine::open_path(Path::new(DEVICE))
    }

    /// Opens the device under another name.
    ///
    /// # Errors
    ///
    /// As [`Engine::open`].
    pub fn open_path(path: &Path) -> Result<Engine, Error> {
        let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
        match open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(Engine { fd: Arc::new(fd) }),
            Err(Errno::ENOENT | Errno::ENXIO | Errno::ENODEV) => {
                Err(Error::NotLoaded(path.to_owned()))
            }
            Err(Errno::EACCES) => Err(Error::NoPermission(path.to_owned())),
            Err(Errno::EPERM) => Err(Error::SwitchedOff),
            Err(errno) => Err(Error::other("open the device", errno)),
        }
    }

    /// Makes `pages` syscall pages (1 to 64) of 64 entries each, which belong
    /// to the calling thread.
    ///
    /// # Errors
    ///
    /// [`Error::PageCount`], [`Error::LockedMemory`], [`Error::TooManyPages`],
    /// [`Error::NoThreads`], [`Error::Version`], [`Error::NotTheOwner`] in a
    /// child after fork.
    pub fn register(&self, pages: u32) -> Result<Pages, Error> {
        if !(1..=abi::FLEXSC_MAX_PAGES).contains(&pages) {
            return Err(Error::PageCount(pages));
        }
        let made = device::register(self.as_fd(), pages)
            .map_err(|errno| Self::register_error(errno, pages))?;
        match Region::map(self.as_fd(), &made) {
            Ok(region) => Ok(Pages::new(Arc::clone(&self.fd), made.id, region)),
            Err(errno) => {
                // Nothing was posted, so it goes; the error that counts is the other.
                let _ = device::unregister(self.as_fd(), made.id);
                Err(Error::other("map the syscall pages", errno))
            }
        }
    }

    fn register_error(errno: Errno, pages: u32) -> Error {
        match errno {
            Errno::ENOTTY => Error::NotTheDevice,
            Errno::EPROTO => Error::Version,
            Errno::EINVAL => Error::PageCount(pages),
            Errno::EPERM => Error::NotTheOwner,
            Errno::ENOSPC => Error::TooManyPages,
            Errno::EAGAIN => Error::NoThreads,
            Errno::ENOMEM => Error::LockedMemory {
                needed: u64::from(pages) * u64::from(abi::FLEXSC_PAGE_SIZE),
                limit: getrlimit(Resource::RLIMIT_MEMLOCK).map_or(0, |(soft, _)| soft),
            },
            errno => Error::other("register syscall pages", errno),
        }
    }

    /// Sets a parameter.
    ///
    /// # Errors
    ///
    /// [`Error::BadValue`], [`Error::NotTheOwner`].
    pub fn set(&self, param: Param, value: u64) -> Result<(), Error> {
        device::set(self.as_fd(), param as u32, value).map_err(|errno| match errno {
            Errno::EINVAL => Error::BadValue { param, value },
            errno => Self::any_error("set a parameter", errno),
        })
    }

    /// Reads a parameter.
    ///
    /// # Errors
    ///
    /// [`Error::NotTheOwner`].
    pub fn get(&self, param: Param) -> Result<u64, Error> {
        device::get(self.as_fd(), param as u32)
            .map_err(|errno| Self::any_error("read a parameter", errno))
    }

    /// Reads the counters.
    ///
    /// # Errors
    ///
    /// [`Error::NotTheOwner`].
    pub fn stats(&self) -> Result<Stats, Error> {
        let raw = device::query(self.as_fd())
            .map_err(|errno| Self::any_error("read the counters", errno))?;
        Ok(Stats::from_raw(&raw))
    }

    fn any_error(doing: &'static str, errno: Errno) -> Error {
        match errno {
            Errno::EPERM => Error::NotTheOwner,
            Errno::ENOTTY => Error::NotTheDevice,
            errno => Error::other(doing, errno),
        }
    }
}

impl AsFd for Engine {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Engine {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_device_is_named() {
        let path = Path::new("/dev/no-such-flexsc");
        let error = Engine::open_path(path).unwrap_err();
        assert_eq!(error, Error::NotLoaded(path.to_owned()));
    }

    #[test]
    fn another_device_is_not_taken_for_it() {
        let engine = Engine::open_path(Path::new("/dev/null")).unwrap();
        assert_eq!(engine.register(1).unwrap_err(), Error::NotTheDevice);
        assert_eq!(engine.stats().unwrap_err(), Error::NotTheDevice);
    }

    #[test]
    fn page_counts_are_checked_before_the_kernel_is_asked() {
        let engine = Engine::open_path(Path::new("/dev/null")).unwrap();
        assert_eq!(engine.register(0).unwrap_err(), Error::PageCount(0));
        assert_eq!(engine.register(65).unwrap_err(), Error::PageCount(65));
    }

    #[test]
    fn engines_can_be_shared() {
        fn shared<T: Send + Sync>() {}
        shared::<Engine>();
    }
}
