// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engine: FlexSC for one process.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::Mode;

use crate::sys::abi;
use crate::sys::device;
use crate::sys::guard::ForkGuard;
use crate::sys::plain;
use crate::sys::region::Region;
use crate::{CpuSet, EngineBuilder, Error, Pages, PoolStats, Stats};

/// The device.
pub const DEVICE: &str = "/dev/flexsc";

/// An open engine. All threads of the process can share it; each registers its own syscall
/// pages.
///
/// The engine ends when this value and all its [`Pages`] are dropped. A forked child cannot
/// use it.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
}

/// State shared by an engine and its pages.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) fd: OwnedFd,
    /// flexsc_wait(2) does not work here, so waits use the ioctl WAIT_FAST.
    pub(crate) by_ioctl: AtomicBool,
    guard: ForkGuard,
}

impl Shared {
    /// Returns false in a forked child, which does not own the engine.
    pub(crate) fn in_same_process(&self) -> bool {
        self.guard.in_same_process()
    }

    /// Translates an errno that any call of the device can return. The module refuses every
    /// caller except the owner; a filter refuses even the owner.
    pub(crate) fn error(&self, doing: &'static str, errno: Errno) -> Error {
        match errno {
            Errno::EPERM | Errno::EACCES | Errno::ENOSYS if self.in_same_process() => {
                Error::refused(doing, errno)
            }
            Errno::EPERM => Error::NotTheOwner,
            Errno::ENOENT => Error::Unknown,
            Errno::ENOTTY => Error::NotTheDevice,
            errno => Error::other(doing, errno),
        }
    }
}

/// A parameter of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
#[non_exhaustive]
pub enum Param {
    /// Nanoseconds without work after which a poller sleeps.
    IdleNs = abi::FLEXSC_PARAM_IDLE_NS,
    /// Maximum number of syscall threads of the engine.
    MaxThreads = abi::FLEXSC_PARAM_MAX_THREADS,
    /// Milliseconds after which an idle syscall thread ends.
    RetireMs = abi::FLEXSC_PARAM_RETIRE_MS,
    /// Number of pollers that may be recruited for a backlog, in addition to those of
    /// [`Engine::set_poll_cpus`]. Default 0: none.
    ExtraPollers = abi::FLEXSC_PARAM_EXTRA_POLLERS,
    /// The order in which the calls of a batch start: an [`Order`].
    Order = abi::FLEXSC_PARAM_ORDER,
    /// Maximum number of rounds of a chain's loop, at least 1.
    LoopMax = abi::FLEXSC_PARAM_LOOP_MAX,
}

/// A parameter of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
#[non_exhaustive]
pub enum PoolParam {
    /// Concurrency limit: how many of the pool's threads may run calls at once. Default 0:
    /// one for each of its CPUs.
    Concurrency = abi::FLEXSC_PARAM_POOL_CONCURRENCY,
    /// Nice value of the pool's threads, -20 to 19, as an i64. Default: the nice value of
    /// the thread that created the pool.
    Nice = abi::FLEXSC_PARAM_POOL_NICE,
}

/// The order in which the calls of a batch start ([`Param::Order`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u64)]
#[non_exhaustive]
pub enum Order {
    /// The order of posting.
    Posted = abi::FLEXSC_ORDER_POSTED as u64,
    /// Grouped by the number of the call.
    Number = abi::FLEXSC_ORDER_NUMBER as u64,
    /// Calls for syscall threads first.
    IoFirst = abi::FLEXSC_ORDER_IO_FIRST as u64,
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

    /// Opens `/dev/flexsc` with settings.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use flexsc::{CpuSet, Engine};
    ///
    /// # fn main() -> Result<(), flexsc::Error> {
    /// let engine = Engine::builder()
    ///     .max_threads(16)
    ///     .poll_cpus(CpuSet::from_iter([1]))
    ///     .idle(Duration::from_micros(200))
    ///     .open()?;
    /// # drop(engine);
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder() -> EngineBuilder {
        EngineBuilder::new()
    }

    /// Opens the device at another path.
    ///
    /// # Errors
    ///
    /// As [`Engine::open`].
    pub fn open_path(path: &Path) -> Result<Engine, Error> {
        let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
        match open(path, flags, Mode::empty()) {
            Ok(fd) => {
                let guard = ForkGuard::new()
                    .map_err(|errno| Error::refused("guard the engine against fork", errno))?;
                let shared = Arc::new(Shared {
                    fd,
                    // A filter that does not know flexsc_wait(2) may kill the thread that
                    // calls it.
                    by_ioctl: AtomicBool::new(plain::is_filtered()),
                    guard,
                });
                Ok(Engine { shared })
            }
            Err(Errno::ENOENT | Errno::ENXIO | Errno::ENODEV) => {
                Err(Error::NotLoaded(path.to_owned()))
            }
            Err(Errno::EACCES) => Err(Error::NoPermission(path.to_owned())),
            Err(Errno::EPERM) => Err(Error::SwitchedOff),
            Err(errno) => Err(Error::other("open the device", errno)),
        }
    }

    /// Registers `pages` syscall pages (1 to 64) of 64 entries each, which belong to the
    /// calling thread.
    ///
    /// # Errors
    ///
    /// [`Error::PageCount`], [`Error::LockedMemory`], [`Error::TooManyPages`],
    /// [`Error::NoThreads`], [`Error::Version`], [`Error::Filtered`],
    /// [`Error::NotTheOwner`] in a forked child.
    pub fn register(&self, pages: u32) -> Result<Pages, Error> {
        if !(1..=abi::FLEXSC_MAX_PAGES).contains(&pages) {
            return Err(Error::PageCount(pages));
        }
        let made = device::register(self.as_fd(), pages)
            .map_err(|errno| self.register_error(errno, pages))?;
        match Region::map(self.as_fd(), &made) {
            Ok(region) => Ok(Pages::new(Arc::clone(&self.shared), made.id, region)),
            Err(errno) => {
                // No call was posted, so this succeeds. The error to report is that of
                // mmap(2).
                let _ = device::unregister(self.as_fd(), made.id);
                Err(match errno {
                    // mmap(2) reports an exceeded limit on locked memory this way.
                    Errno::EAGAIN => Self::locked_memory(pages),
                    errno => self.shared.error("map the syscall pages", errno),
                })
            }
        }
    }

    /// Pages without a kernel, for tests.
    #[cfg(test)]
    pub(crate) fn register_nowhere(&self, pages: usize) -> Pages {
        Pages::new(Arc::clone(&self.shared), 1, Region::anonymous(pages))
    }

    fn register_error(&self, errno: Errno, pages: u32) -> Error {
        match errno {
            Errno::EPROTO => Error::Version,
            Errno::EINVAL => Error::PageCount(pages),
            Errno::ENOSPC => Error::TooManyPages,
            Errno::EAGAIN => Error::NoThreads,
            Errno::ENOMEM => Self::locked_memory(pages),
            errno => self.shared.error("register syscall pages", errno),
        }
    }

    fn locked_memory(pages: u32) -> Error {
        Error::LockedMemory {
            needed: Self::locked_bytes(pages),
            limit: getrlimit(Resource::RLIMIT_MEMLOCK).map_or(0, |(soft, _)| soft),
        }
    }

    /// Returns the bytes of memory that a registration of this many pages locks: its
    /// syscall pages and its control blocks, rounded up to whole pages.
    #[must_use]
    pub const fn locked_bytes(pages: u32) -> u64 {
        let pages = pages as u64;
        let control = pages * size_of::<abi::flexsc_ctrl>() as u64;
        let page = abi::FLEXSC_PAGE_SIZE as u64;
        pages * page + control.next_multiple_of(page)
    }

    /// Sets a parameter.
    ///
    /// # Errors
    ///
    /// [`Error::BadValue`], [`Error::NotTheOwner`].
    pub fn set(&self, param: Param, value: u64) -> Result<(), Error> {
        device::set(self.as_fd(), 0, param as u32, value).map_err(|errno| match errno {
            Errno::EINVAL => Error::BadValue { param, value },
            errno => self.shared.error("set a parameter", errno),
        })
    }

    /// Reads a parameter.
    ///
    /// # Errors
    ///
    /// [`Error::NotTheOwner`].
    pub fn get(&self, param: Param) -> Result<u64, Error> {
        device::get(self.as_fd(), 0, param as u32)
            .map_err(|errno| self.shared.error("read a parameter", errno))
    }

    /// Sets the CPUs whose pollers watch the doorbells. Default: none; calls are executed when
    /// their owner waits.
    ///
    /// # Errors
    ///
    /// [`Error::BadCpus`], [`Error::NoThreads`] if there is no thread for a poller,
    /// [`Error::NotTheOwner`].
    pub fn set_poll_cpus(&self, cpus: &CpuSet) -> Result<(), Error> {
        device::set_cpus(self.as_fd(), 0, abi::FLEXSC_PARAM_POLL_CPUS, cpus)
            .map_err(|errno| self.cpus_error("set the CPUs to poll", cpus, errno))
    }

    /// Reads the CPUs that [`Engine::set_poll_cpus`] has set.
    ///
    /// # Errors
    ///
    /// [`Error::NotTheOwner`].
    pub fn poll_cpus(&self) -> Result<CpuSet, Error> {
        self.cpus(0, abi::FLEXSC_PARAM_POLL_CPUS, "read the CPUs to poll")
    }

    /// Reads the CPUs that have a poller now, awake or asleep, including recruited pollers.
    ///
    /// # Errors
    ///
    /// [`Error::NotTheOwner`].
    pub fn polled_cpus(&self) -> Result<CpuSet, Error> {
        self.cpus(0, abi::FLEXSC_PARAM_POLLED_CPUS, "read the polled CPUs")
    }

    fn cpus(&self, pool: u8, param: u32, doing: &'static str) -> Result<CpuSet, Error> {
        device::get_cpus(self.as_fd(), pool, param).map_err(|errno| match errno {
            Errno::ENOENT => Error::NoPool(pool),
            errno => self.shared.error(doing, errno),
        })
    }

    fn cpus_error(&self, doing: &'static str, cpus: &CpuSet, errno: Errno) -> Error {
        match errno {
            Errno::EINVAL => Error::BadCpus(cpus.clone()),
            Errno::EAGAIN => Error::NoThreads,
            errno => self.shared.error(doing, errno),
        }
    }

    /// Sets the order in which the calls of a batch start.
    ///
    /// # Errors
    ///
    /// As [`Engine::set`].
    pub fn set_order(&self, order: Order) -> Result<(), Error> {
        self.set(Param::Order, order as u64)
    }

    /// Sets a parameter of a pool (0 to 15), and creates the pool if it does not exist.
    /// [`Call::pool`](crate::Call::pool) selects the pool of a call.
    ///
    /// # Errors
    ///
    /// [`Error::BadPool`], [`Error::NotSoNice`], [`Error::NoThreads`] if a new pool cannot
    /// have a thread, [`Error::NotTheOwner`].
    pub fn set_pool(&self, pool: u8, param: PoolParam, value: u64) -> Result<(), Error> {
        device::set(self.as_fd(), pool, param as u32, value).map_err(|errno| match errno {
            Errno::EINVAL => Error::BadPool { pool, param, value },
            Errno::EACCES if matches!(param, PoolParam::Nice) => Error::NotSoNice {
                pool,
                nice: value as i64,
            },
            Errno::EAGAIN => Error::NoThreads,
            errno => self.shared.error("set a parameter of a pool", errno),
        })
    }

    /// Sets the CPUs that the threads of a pool (0 to 15) run on, and creates the pool if it
    /// does not exist. The empty set, the default, stands for the CPUs of the thread that
    /// opened the engine.
    ///
    /// # Errors
    ///
    /// [`Error::BadCpus`], [`Error::NoThreads`] if a new pool cannot have a thread,
    /// [`Error::NotTheOwner`].
    pub fn set_pool_cpus(&self, pool: u8, cpus: &CpuSet) -> Result<(), Error> {
        device::set_cpus(self.as_fd(), pool, abi::FLEXSC_PARAM_POOL_CPUS, cpus)
            .map_err(|errno| self.cpus_error("set the CPUs of a pool", cpus, errno))
    }

    /// Reads the CPUs that the threads of a pool run on.
    ///
    /// # Errors
    ///
    /// [`Error::NoPool`], [`Error::NotTheOwner`].
    pub fn pool_cpus(&self, pool: u8) -> Result<CpuSet, Error> {
        self.cpus(pool, abi::FLEXSC_PARAM_POOL_CPUS, "read the CPUs of a pool")
    }

    /// Reads a parameter of a pool.
    ///
    /// # Errors
    ///
    /// [`Error::NoPool`], [`Error::NotTheOwner`].
    pub fn pool(&self, pool: u8, param: PoolParam) -> Result<u64, Error> {
        device::get(self.as_fd(), pool, param as u32)
            .map_err(|errno| self.pool_error("read a parameter of a pool", pool, errno))
    }

    /// Reads the counters of a pool.
    ///
    /// # Errors
    ///
    /// [`Error::NoPool`], [`Error::NotTheOwner`].
    pub fn pool_stats(&self, pool: u8) -> Result<PoolStats, Error> {
        let raw = device::query_pool(self.as_fd(), pool)
            .map_err(|errno| self.pool_error("read the counters of a pool", pool, errno))?;
        Ok(PoolStats::from_raw(&raw))
    }

    fn pool_error(&self, doing: &'static str, pool: u8, errno: Errno) -> Error {
        match errno {
            Errno::ENOENT | Errno::EINVAL => Error::NoPool(pool),
            errno => self.shared.error(doing, errno),
        }
    }

    /// Reads the counters.
    ///
    /// # Errors
    ///
    /// [`Error::NotTheOwner`].
    pub fn stats(&self) -> Result<Stats, Error> {
        let raw = device::query(self.as_fd())
            .map_err(|errno| self.shared.error("read the counters", errno))?;
        Ok(Stats::from_raw(&raw))
    }
}

impl AsFd for Engine {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.fd.as_fd()
    }
}

impl AsRawFd for Engine {
    fn as_raw_fd(&self) -> RawFd {
        self.shared.fd.as_raw_fd()
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
        assert_eq!(engine.pool_stats(3).unwrap_err(), Error::NotTheDevice);
    }

    #[test]
    fn page_counts_are_checked_before_the_kernel_is_asked() {
        let engine = Engine::open_path(Path::new("/dev/null")).unwrap();
        assert_eq!(engine.register(0).unwrap_err(), Error::PageCount(0));
        assert_eq!(engine.register(65).unwrap_err(), Error::PageCount(65));
    }

    #[test]
    fn what_is_locked_includes_the_control_blocks() {
        assert_eq!(Engine::locked_bytes(1), 2 * 4096);
        // 4096 calls in flight.
        assert_eq!(Engine::locked_bytes(64), 264 << 10);
    }

    #[test]
    fn engines_can_be_shared() {
        fn shared<T: Send + Sync>() {}
        shared::<Engine>();
    }
}
