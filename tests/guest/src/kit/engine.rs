// SPDX-License-Identifier: MIT OR Apache-2.0
//! One open `/dev/flexsc`.

use std::ffi::CStr;
use std::ops::Deref;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::abi::{self, Cancel, Eventfd, Param, ParamArg, PoolStats, Register};
use super::ring::Ring;
use super::{sys, until};
use crate::check::Check;

/// The device's name.
pub const DEVICE: &CStr = c"/dev/flexsc";

/// An engine.
pub struct Engine {
    fd: OwnedFd,
}

/// Opens the device; it may fail.
pub fn try_open() -> Result<Engine, Errno> {
    sys::open(DEVICE, libc::O_RDWR, 0).map(|fd| Engine { fd })
}

/// QUERY through any descriptor.
pub fn query(fd: RawFd) -> Result<Stats, Errno> {
    let mut counts = abi::Stats {
        size: size_of::<abi::Stats>() as u32,
        ..abi::Stats::default()
    };
    sys::ioctl_with(fd, abi::IOC_QUERY, &mut counts)?;
    let polled_cpus = get(fd, 0, Param::PolledCpus)?;
    Ok(Stats {
        counts,
        polled_cpus,
    })
}

/// The counters of QUERY, and the CPUs that are polled.
#[derive(Clone, Copy, Debug)]
pub struct Stats {
    counts: abi::Stats,
    pub polled_cpus: u64,
}

impl Deref for Stats {
    type Target = abi::Stats;

    fn deref(&self) -> &abi::Stats {
        &self.counts
    }
}

/// SET through any descriptor. Sets of CPUs are passed as a mask of 64.
pub fn set(fd: RawFd, pool: u32, param: Param, mut value: u64) -> Result<u64, Errno> {
    let mut arg = ParamArg::new(param, value);
    arg.pool = pool;
    if param.is_cpu_set() {
        arg.len = size_of::<u64>() as u32;
        arg.value = std::ptr::from_mut(&mut value) as u64;
    }
    sys::ioctl_with(fd, abi::IOC_SET, &mut arg)
}

/// GET through any descriptor; sets of CPUs are as in [`set`].
pub fn get(fd: RawFd, pool: u32, param: Param) -> Result<u64, Errno> {
    let mut mask = u64::MAX;
    let mut arg = ParamArg::new(param, u64::MAX);
    arg.pool = pool;
    if param.is_cpu_set() {
        arg.len = size_of::<u64>() as u32;
        arg.value = std::ptr::from_mut(&mut mask) as u64;
        sys::ioctl_with(fd, abi::IOC_GET, &mut arg)?;
        return Ok(mask);
    }
    sys::ioctl_with(fd, abi::IOC_GET, &mut arg)?;
    Ok(arg.value)
}

/// REGISTER through any descriptor.
pub fn register(fd: RawFd, pages: u32) -> Result<Register, Errno> {
    let mut arg = Register::new(pages);
    sys::ioctl_with(fd, abi::IOC_REGISTER, &mut arg)?;
    Ok(arg)
}

/// CANCEL through any descriptor.
pub fn cancel(fd: RawFd, id: u32, slot: usize) -> Result<u64, Errno> {
    let mut arg = Cancel {
        size: size_of::<Cancel>() as u32,
        id,
        index: slot as u32,
        flags: 0,
    };
    sys::ioctl_with(fd, abi::IOC_CANCEL, &mut arg)
}

impl Engine {
    /// Opens the device, which must be there.
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

    /// Gives the descriptor up to the caller.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// The descriptor.
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// REGISTER without mmap.
    pub fn register(&self, pages: u32) -> Result<Register, Errno> {
        register(self.fd(), pages)
    }

    /// REGISTER and mmap.
    pub fn ring(&self, pages: u32) -> Check<Ring> {
        let registered = ok!("REGISTER", self.register(pages));
        Ring::map(self.fd(), &registered)
    }

    /// Registers and maps pages, and ends the registration: only the mapping is left.
    pub fn leave_mapped(&self, pages: u32) -> Result<(*mut u8, usize), Errno> {
        let given = self.register(pages)?;
        let (len, prot) = (given.mmap_len as usize, libc::PROT_READ | libc::PROT_WRITE);
        let at = sys::mmap(len, prot, libc::MAP_SHARED, self.fd(), given.mmap_offset)?;
        self.unregister(given.id)?;
        Ok((at, len))
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
        set(self.fd(), 0, param, value)
    }

    /// EVENTFD for all registrations; -1 takes the eventfd off.
    pub fn try_set_eventfd(&self, fd: RawFd) -> Result<u64, Errno> {
        let mut arg = Eventfd {
            size: size_of::<Eventfd>() as u32,
            id: abi::ALL,
            fd,
            flags: 0,
        };
        sys::ioctl_with(self.fd(), abi::IOC_EVENTFD, &mut arg)
    }

    /// EVENTFD for all registrations, which must succeed.
    pub fn set_eventfd(&self, eventfd: &OwnedFd) -> Check {
        let ret = self.try_set_eventfd(eventfd.as_raw_fd());
        check_eq!("EVENTFD", ret, Ok(0));
        Ok(())
    }

    /// SET of a parameter of a pool.
    pub fn try_set_pool(&self, pool: u32, param: Param, value: i64) -> Result<u64, Errno> {
        set(self.fd(), pool, param, value as u64)
    }

    /// SET of a parameter of a pool, which must succeed.
    pub fn set_pool(&self, pool: u32, param: Param, value: i64) -> Check {
        if let Err(error) = self.try_set_pool(pool, param, value) {
            fail!("SET {param:?} of pool {pool} to {value}: {error:?}");
        }
        Ok(())
    }

    /// GET of a parameter of a pool.
    pub fn try_get_pool(&self, pool: u32, param: Param) -> Result<i64, Errno> {
        get(self.fd(), pool, param).map(|value| value as i64)
    }

    /// QUERY_POOL.
    pub fn try_pool(&self, pool: u32) -> Result<PoolStats, Errno> {
        let mut stats = PoolStats {
            size: size_of::<PoolStats>() as u32,
            pool,
            ..PoolStats::default()
        };
        sys::ioctl_with(self.fd(), abi::IOC_QUERY_POOL, &mut stats)?;
        Ok(stats)
    }

    /// QUERY_POOL of a pool that must exist.
    pub fn pool(&self, pool: u32) -> Check<PoolStats> {
        Ok(ok!(format!("QUERY_POOL {pool}"), self.try_pool(pool)))
    }

    /// Waits until the statistics of a pool are as they should be.
    pub fn until_pool(
        &self,
        pool: u32,
        what: &str,
        mut good: impl FnMut(&PoolStats) -> bool,
    ) -> Check<PoolStats> {
        let mut last = self.pool(pool)?;
        until(what, || match self.try_pool(pool) {
            Ok(stats) => {
                last = stats;
                good(&stats)
            }
            Err(_) => false,
        })
        .map_err(|failure| failure.within(format_args!("{last:?}")))?;
        Ok(last)
    }

    /// SET, which must succeed.
    pub fn set(&self, param: Param, value: u64) -> Check {
        if let Err(error) = self.try_set(param, value) {
            fail!("SET {param:?} to {value:#x}: {error:?}");
        }
        Ok(())
    }

    /// Keeps idle threads for as long as the engine exists. For tests that look at a thread after
    /// its work: on a slow machine, or in a throttled process, RETIRE_MS may pass before that.
    pub fn keep_threads(&self) -> Check {
        self.set(Param::RetireMs, 1 << 30)
    }

    /// GET.
    pub fn get(&self, param: Param) -> Check<u64> {
        match get(self.fd(), 0, param) {
            Ok(value) => Ok(value),
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
