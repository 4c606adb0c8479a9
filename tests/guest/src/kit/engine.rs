// SPDX-License-Identifier: MIT OR Apache-2.0
//! One open `/dev/flexsc`.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::abi::{self, Param, ParamArg, Register, Stats};
use super::ring::Ring;
use super::{sys, until};
use crate::check::Check;

/// The device's name.
pub const DEVICE: &CStr = c"/dev/flexsc";

/// An engine.
pub struct Engine {
    fd: OwnedFd,
}

/// Opens the device, whatever comes of it.
pub fn try_open() -> Result<Engine, Errno> {
    sys::open(DEVICE, libc::O_RDWR, 0).map(|fd| Engine { fd })
}

/// QUERY through any descriptor.
pub fn query(fd: RawFd) -> Result<Stats, Errno> {
    let mut stats = Stats {
        size: size_of::<Stats>() as u32,
        ..Stats::default()
    };
    sys::ioctl_with(fd, abi::IOC_QUERY, &mut stats)?;
    Ok(stats)
}

/// REGISTER through any descriptor.
pub fn register(fd: RawFd, pages: u32) -> Result<Register, Errno> {
    let mut arg = Register::new(pages);
    sys::ioctl_with(fd, abi::IOC_REGISTER, &mut arg)?;
    Ok(arg)
}

impl Engine {
    /// Opens the device; it has to be there.
    pub fn open() -> Check<Engine> {
        match try_open() {
            Ok(engine) => Ok(engine),
            Err(error) => fail!("open {DEVICE:?}: {error:?}; is the module loaded?"),
        }
    }

    /// Takes over a descriptor of the device.
    pub fn from_fd(fd: OwnedFd) -> Engine {
        Engine { fd }
    }

    /// The descriptor.
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// REGISTER only.
    pub fn register(&self, pages: u32) -> Result<Register, Errno> {
        register(self.fd(), pages)
    }

    /// REGISTER and mmap.
    pub fn ring(&self, pages: u32) -> Check<Ring> {
        let registered = ok!("REGISTER", self.register(pages));
        Ring::map(self.fd(), &registered)
    }

    /// UNREGISTER by number.
    pub fn unregister(&self, id: u32) -> Result<u64, Errno> {
        sys::ioctl(self.fd(), abi::IOC_UNREGISTER, u64::from(id))
    }

    /// QUERY.
    pub fn stats(&self) -> Check<Stats> {
        Ok(ok!("QUERY", query(self.fd())))
    }

    /// SET.
    pub fn try_set(&self, param: Param, value: u64) -> Result<u64, Errno> {
        sys::ioctl_with(self.fd(), abi::IOC_SET, &mut ParamArg::new(param, value))
    }

    /// SET that has to succeed.
    pub fn set(&self, param: Param, value: u64) -> Check {
        if let Err(error) = self.try_set(param, value) {
            fail!("SET {param:?} to {value:#x}: {error:?}");
        }
        Ok(())
    }

    /// GET.
    pub fn get(&self, param: Param) -> Check<u64> {
        let mut arg = ParamArg::new(param, u64::MAX);
        match sys::ioctl_with(self.fd(), abi::IOC_GET, &mut arg) {
            Ok(_) => Ok(arg.value),
            Err(error) => fail!("GET {param:?}: {error:?}"),
        }
    }

    /// Waits until the statistics are as they should be.
    pub fn until_stats(&self, what: &str, mut good: impl FnMut(&Stats) -> bool) -> Check<Stats> {
        let mut last = self.stats()?;
        until(what, || match query(self.fd()) {
            Ok(stats) => {
                last = stats;
                good(&stats)
            }
            Err(_) => false,
        })
        .map_err(|failure| failure.within(format_args!("{last:?}")))?;
        Ok(last)
    }
}
