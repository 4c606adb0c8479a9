// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations of the safe layer: system calls that own their buffers, paths and descriptors.
//!
//! An operation owns or shares its descriptors ([`Fd`](crate::Fd)), and owns its paths and
//! its buffers ([`IoBuf`], [`IoBufMut`], or a part of one: [`Slice`]; [`BufPool`] has buffers of
//! one size, and the feature `bytes` adds those of that crate). `new` takes the required
//! arguments, and setters the optional ones. [`Done::output`](crate::Done::output) returns the
//! typed result together with the values that the operation took: `(io::Result<T>, buffer)`. The
//! errors are those of the call, which its man page lists, and ECANCELED if the operation was
//! cancelled before it started. Lengths and offsets are in bytes.
//!
//! ```
//! use std::os::fd::OwnedFd;
//! use flexsc::ops::{Close, OFlag, OpenAt, Read, Statx};
//! use flexsc::{Fd, Ring, Wait};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut ring = Ring::open(1)?;
//! ring.submit(OpenAt::new(Fd::cwd(), c"/proc/self/stat", OFlag::O_RDONLY), 0).unwrap();
//! ring.submit(Statx::new(Fd::cwd(), c"/proc/self/exe"), 1).unwrap();
//! ring.wait(Wait::all())?;
//! while let Some(done) = ring.next() {
//!     if done.is::<Statx>() {
//!         let (stat, path) = done.output::<Statx>();
//!         println!("{path:?} has {} bytes", stat?.stx_size);
//!     } else {
//!         let (file, path) = done.output::<OpenAt>();
//!         let file: OwnedFd = file?;
//!         println!("{path:?} is open");
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Operations
//!
//! | Operation | Gives back | Call |
//! |---|---|---|
//! | [`OpenAt`], [`OpenAt2`] | `OwnedFd`, path | openat(2), openat2(2) |
//! | [`OpenAt::then`] | path, the outputs of the others | openat(2), …, close(2) |
//! | [`Close`] | | close(2) |
//! | [`Read`], [`ReadVectored`] | bytes, buffer(s) | read(2), pread(2), readv(2), preadv(2) |
//! | [`Write`], [`WriteVectored`] | bytes, buffer(s) | write(2), pwrite(2), writev(2), pwritev(2), pwritev2(2) |
//! | [`Fsync`] | | fsync(2), fdatasync(2) |
//! | [`Ftruncate`], [`Fallocate`] | | ftruncate(2), fallocate(2) |
//! | [`CopyFileRange`], [`Sendfile`], [`Splice`] | bytes | copy_file_range(2), sendfile(2), splice(2) |
//! | [`GetXattr`], [`SetXattr`], [`ListXattr`], [`RemoveXattr`] | name, buffer | fgetxattr(2), fsetxattr(2), flistxattr(2), fremovexattr(2) |
//! | [`Statx`] | `libc::statx`, path | statx(2) |
//! | [`Fstat`] | `libc::stat` | fstat(2) |
//! | [`Getdents64`] | bytes, buffer | getdents64(2) |
//! | [`MkdirAt`], [`UnlinkAt`] | path | mkdirat(2), unlinkat(2) |
//! | [`RenameAt2`], [`LinkAt`], [`SymlinkAt`] | both paths | renameat2(2), linkat(2), symlinkat(2) |
//! | [`ReadLinkAt`] | bytes, path, buffer | readlinkat(2) |
//! | [`Socket`] | `OwnedFd` | socket(2) |
//! | [`Accept4`] | `OwnedFd` and [`SockAddr`] | accept4(2) |
//! | [`Bind`], [`Listen`], [`Connect`], [`Shutdown`] | | bind(2), listen(2), connect(2), shutdown(2) |
//! | [`Send`], [`SendTo`] | bytes, buffer | sendto(2) |
//! | [`Recv`] | bytes, buffer | recvfrom(2) |
//! | [`RecvFrom`] | bytes and [`SockAddr`], buffer | recvfrom(2) |
//! | [`SendMsg`] | bytes, buffers | sendmsg(2) |
//! | [`RecvMsg`] | [`Received`], buffers | recvmsg(2) |
//! | [`SetSockOpt`], [`GetSockOpt`] | the value of a [`SockOpt`] | setsockopt(2), getsockopt(2) |
//! | [`Sleep`] | | clock_nanosleep(2) |
//! | [`Poll`] | events | poll(2) |
//! | [`EpollCtl`], [`EpollWait`] | number of events, events | epoll_ctl(2), epoll_wait(2) |
//! | [`Eventfd`], [`EventfdRead`], [`EventfdWrite`] | `OwnedFd`, counter | eventfd(2), read(2), write(2) |
//! | [`Timerfd`], [`TimerfdSettime`] | `OwnedFd` | timerfd_create(2), timerfd_settime(2) |
//! | [`Madvise`], [`Msync`] | [`Mapping`] | madvise(2), msync(2) |
//! | [`Operation::within`] | the output of the other operation | any, with a time limit |
//! | [`Operation::in_pool`] | the output of the other operation | any, by the threads of a pool |
//! | [`Raw`], [`RawChain`] (`unsafe`) | the number(s), a value | any |
//!
//! # Order
//!
//! Operations in flight have no order: a [`Fsync`] that is submitted after a [`Write`] may
//! be executed first. Wait for the write first, or use [`Write::synced`] or
//! [`OpenAt::then`].
//!
//! # Descriptors that are not taken
//!
//! If the program does not take the descriptor that an operation has opened, it is closed: when
//! the [`Done`](crate::Done) is dropped, when the ring is dropped, or when the call finishes
//! after that. There is one exception: if the kernel itself executes a call that cannot be
//! cancelled within the two seconds that the drop of a ring waits, and the call opens a
//! descriptor later, that descriptor stays open.

use std::time::Duration;

pub use nix::fcntl::{AtFlags, FallocateFlags, OFlag, ResolveFlag};
pub use nix::sys::stat::Mode;

pub use crate::sys::buf::{IoBuf, IoBufMut};
pub use crate::sys::mapping::Mapping;
pub use crate::sys::pool::{BufPool, PoolBuf};
pub use crate::sys::slice::Slice;
pub use address::SockAddr;
pub use dir::{Dirent, Dirents, Getdents64};
pub use event::{EpollCtl, EpollWait, EventfdRead, EventfdWrite};
pub use file::{Fsync, Read, Write};
pub use in_pool::InPool;
pub use memory::{Advice, Madvise, Msync};
pub use message::{Received, RecvMsg, SendMsg};
pub use moving::{Sendfile, Splice};
pub use names::{LinkAt, MkdirAt, ReadLinkAt, RenameAt2, SymlinkAt, UnlinkAt};
pub use open::{Close, OpenAt, OpenAt2};
pub use raw::{Raw, RawChain};
pub use size::{CopyFileRange, Fallocate, Ftruncate};
pub use socket::{Accept4, Bind, Connect, Listen, Shutdown, Socket};
pub use sockopt::{GetSockOpt, Linger, SetSockOpt, SockOpt, SockOptValue};
pub use stat::{Fstat, Statx};
pub use time::{Poll, Sleep};
pub use timer::{Eventfd, Timerfd, TimerfdSettime};
pub use transfer::{Recv, RecvFrom, Send, SendTo};
pub use vectored::{ReadVectored, WriteVectored};
pub use with_file::{OnFile, WithFile};
pub use within::Within;
pub use xattr::{GetXattr, ListXattr, RemoveXattr, SetXattr};

mod address;
mod dir;
mod event;
mod file;
mod in_pool;
mod memory;
mod message;
mod moving;
mod names;
mod open;
pub(crate) mod private;
mod raw;
mod simple;
mod size;
mod socket;
mod sockopt;
mod stat;
mod time;
mod timer;
mod transfer;
mod vectored;
mod with_file;
mod within;
mod xattr;

/// An operation that can be submitted to a [`Ring`](crate::Ring).
pub trait Operation: private::Sealed {
    /// The output: the result, and the values that the operation took.
    type Output;

    /// Limits how long the operation may take, from its submission on: see [`Within`].
    fn within(self, time: Duration) -> Within<Self>
    where
        Self: Sized,
    {
        Within::new(self, time)
    }

    /// Has the threads of a pool (0 to 15) execute the operation: see [`InPool`].
    fn in_pool(self, pool: u8) -> InPool<Self>
    where
        Self: Sized,
    {
        InPool::new(self, pool)
    }

    /// Makes the output from the operation, which has ended.
    #[doc(hidden)]
    fn output(self, end: private::End) -> Self::Output;
}
