// SPDX-License-Identifier: MIT OR Apache-2.0
//! Builders of common system calls. The arguments are those of section 2 of the manual.
//!
//! Building a call is safe, posting it is not: the kernel follows the pointers when it
//! executes the call.

use libc::{c_char, c_int, c_uint, c_void, gid_t, mode_t, off_t, size_t, uid_t};

use crate::Call;

/// A value that fits into a register.
trait Arg {
    fn arg(self) -> u64;
}

macro_rules! signed {
    ($($type:ty),*) => {
        $(impl Arg for $type {
            fn arg(self) -> u64 {
                i64::from(self) as u64
            }
        })*
    };
}

signed!(c_int, c_uint, i64);

impl Arg for usize {
    fn arg(self) -> u64 {
        self as u64
    }
}

// The kernel turns the number back into a pointer. Without exposed provenance the compiler
// may assume that no code accesses the memory.
impl<T> Arg for *const T {
    fn arg(self) -> u64 {
        self.expose_provenance() as u64
    }
}

impl<T> Arg for *mut T {
    fn arg(self) -> u64 {
        self.expose_provenance() as u64
    }
}

/// One function for each call: `name(arguments) = number`.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) = $nr:ident;)*) => {
        $(
            $(#[$doc])*
            #[inline]
            pub fn $name($($arg: $type),*) -> Call {
                Call::with_args(libc::$nr, [$(Arg::arg($arg)),*])
            }
        )*
    };
}

calls! {
    /// getpid(2)
    getpid() = SYS_getpid;
    /// getppid(2), which does almost nothing and thus measures the overhead of a call
    getppid() = SYS_getppid;
    /// getuid(2)
    getuid() = SYS_getuid;
    /// geteuid(2)
    geteuid() = SYS_geteuid;

    /// openat(2)
    openat(dirfd: c_int, path: *const c_char, flags: c_int, mode: mode_t) = SYS_openat;
    /// close(2)
    close(fd: c_int) = SYS_close;
    /// read(2)
    read(fd: c_int, buf: *mut c_void, len: size_t) = SYS_read;
    /// write(2)
    write(fd: c_int, buf: *const c_void, len: size_t) = SYS_write;
    /// pread64(2)
    pread64(fd: c_int, buf: *mut c_void, len: size_t, offset: off_t) = SYS_pread64;
    /// pwrite64(2)
    pwrite64(fd: c_int, buf: *const c_void, len: size_t, offset: off_t) = SYS_pwrite64;
    /// readv(2)
    readv(fd: c_int, iov: *const libc::iovec, count: c_int) = SYS_readv;
    /// writev(2)
    writev(fd: c_int, iov: *const libc::iovec, count: c_int) = SYS_writev;
    /// preadv(2) with the kernel's arguments: `offset_high` counts on 32-bit machines only
    preadv(fd: c_int, iov: *const libc::iovec, count: c_int, offset: off_t, offset_high: off_t) = SYS_preadv;
    /// pwritev(2), with arguments as [`preadv`]
    pwritev(fd: c_int, iov: *const libc::iovec, count: c_int, offset: off_t, offset_high: off_t) = SYS_pwritev;
    /// pwritev2(2) with the kernel's arguments: `offset_high` counts on 32-bit machines
    /// only
    pwritev2(fd: c_int, iov: *const libc::iovec, count: c_int, offset: off_t, offset_high: off_t, flags: c_int) = SYS_pwritev2;
    /// lseek(2)
    lseek(fd: c_int, offset: off_t, whence: c_int) = SYS_lseek;
    /// fsync(2)
    fsync(fd: c_int) = SYS_fsync;
    /// fdatasync(2)
    fdatasync(fd: c_int) = SYS_fdatasync;
    /// ftruncate(2)
    ftruncate(fd: c_int, len: off_t) = SYS_ftruncate;
    /// fallocate(2)
    fallocate(fd: c_int, mode: c_int, offset: off_t, len: off_t) = SYS_fallocate;
    /// copy_file_range(2)
    copy_file_range(from: c_int, from_offset: *mut i64, to: c_int, to_offset: *mut i64, len: size_t, flags: c_uint) = SYS_copy_file_range;

    /// sendfile(2)
    sendfile(to: c_int, from: c_int, offset: *mut i64, len: size_t) = SYS_sendfile;
    /// splice(2)
    splice(from: c_int, from_offset: *mut i64, to: c_int, to_offset: *mut i64, len: size_t, flags: c_uint) = SYS_splice;

    /// fstat(2)
    fstat(fd: c_int, stat: *mut libc::stat) = SYS_fstat;
    /// fstatat(2)
    newfstatat(dirfd: c_int, path: *const c_char, stat: *mut libc::stat, flags: c_int) = SYS_newfstatat;
    /// statx(2)
    statx(dirfd: c_int, path: *const c_char, flags: c_int, mask: c_uint, statx: *mut libc::statx) = SYS_statx;
    /// getdents64(2)
    getdents64(fd: c_int, buf: *mut c_void, len: size_t) = SYS_getdents64;
    /// mkdirat(2)
    mkdirat(dirfd: c_int, path: *const c_char, mode: mode_t) = SYS_mkdirat;
    /// unlinkat(2)
    unlinkat(dirfd: c_int, path: *const c_char, flags: c_int) = SYS_unlinkat;
    /// symlinkat(2)
    symlinkat(target: *const c_char, dirfd: c_int, path: *const c_char) = SYS_symlinkat;
    /// readlinkat(2)
    readlinkat(dirfd: c_int, path: *const c_char, buf: *mut c_char, len: size_t) = SYS_readlinkat;
    /// linkat(2)
    linkat(from: c_int, old: *const c_char, to: c_int, new: *const c_char, flags: c_int) = SYS_linkat;
    /// renameat2(2)
    renameat2(from: c_int, old: *const c_char, to: c_int, new: *const c_char, flags: c_uint) = SYS_renameat2;
    /// faccessat(2), without flags
    faccessat(dirfd: c_int, path: *const c_char, mode: c_int) = SYS_faccessat;
    /// fchmod(2)
    fchmod(fd: c_int, mode: mode_t) = SYS_fchmod;
    /// fchmodat(2), without flags
    fchmodat(dirfd: c_int, path: *const c_char, mode: mode_t) = SYS_fchmodat;
    /// fchmodat2(2)
    fchmodat2(dirfd: c_int, path: *const c_char, mode: mode_t, flags: c_int) = SYS_fchmodat2;
    /// fchown(2)
    fchown(fd: c_int, uid: uid_t, gid: gid_t) = SYS_fchown;
    /// fchownat(2)
    fchownat(dirfd: c_int, path: *const c_char, uid: uid_t, gid: gid_t, flags: c_int) = SYS_fchownat;
    /// faccessat2(2)
    faccessat2(dirfd: c_int, path: *const c_char, mode: c_int, flags: c_int) = SYS_faccessat2;
    /// mknodat(2); `dev` is the kernel's 32-bit device number
    mknodat(dirfd: c_int, path: *const c_char, mode: mode_t, dev: c_uint) = SYS_mknodat;
    /// openat2(2); `len` is the size of `how`
    openat2(dirfd: c_int, path: *const c_char, how: *const libc::open_how, len: size_t) = SYS_openat2;
    /// flistxattr(2)
    flistxattr(fd: c_int, list: *mut c_char, len: size_t) = SYS_flistxattr;
    /// fgetxattr(2)
    fgetxattr(fd: c_int, name: *const c_char, value: *mut c_void, len: size_t) = SYS_fgetxattr;
    /// fsetxattr(2)
    fsetxattr(fd: c_int, name: *const c_char, value: *const c_void, len: size_t, flags: c_int) = SYS_fsetxattr;
    /// fremovexattr(2)
    fremovexattr(fd: c_int, name: *const c_char) = SYS_fremovexattr;
    /// llistxattr(2)
    llistxattr(path: *const c_char, list: *mut c_char, len: size_t) = SYS_llistxattr;
    /// lgetxattr(2)
    lgetxattr(path: *const c_char, name: *const c_char, value: *mut c_void, len: size_t) = SYS_lgetxattr;
    /// lsetxattr(2)
    lsetxattr(path: *const c_char, name: *const c_char, value: *const c_void, len: size_t, flags: c_int) = SYS_lsetxattr;
    /// lremovexattr(2)
    lremovexattr(path: *const c_char, name: *const c_char) = SYS_lremovexattr;
    /// utimensat(2)
    utimensat(dirfd: c_int, path: *const c_char, times: *const libc::timespec, flags: c_int) = SYS_utimensat;

    /// pipe2(2)
    pipe2(fds: *mut c_int, flags: c_int) = SYS_pipe2;
    /// socket(2)
    socket(domain: c_int, kind: c_int, protocol: c_int) = SYS_socket;
    /// bind(2)
    bind(fd: c_int, address: *const libc::sockaddr, len: libc::socklen_t) = SYS_bind;
    /// listen(2)
    listen(fd: c_int, backlog: c_int) = SYS_listen;
    /// accept4(2)
    accept4(fd: c_int, address: *mut libc::sockaddr, len: *mut libc::socklen_t, flags: c_int) = SYS_accept4;
    /// connect(2)
    connect(fd: c_int, address: *const libc::sockaddr, len: libc::socklen_t) = SYS_connect;
    /// sendto(2)
    sendto(fd: c_int, buf: *const c_void, len: size_t, flags: c_int, address: *const libc::sockaddr, address_len: libc::socklen_t) = SYS_sendto;
    /// recvfrom(2)
    recvfrom(fd: c_int, buf: *mut c_void, len: size_t, flags: c_int, address: *mut libc::sockaddr, address_len: *mut libc::socklen_t) = SYS_recvfrom;
    /// sendmsg(2)
    sendmsg(fd: c_int, message: *const libc::msghdr, flags: c_int) = SYS_sendmsg;
    /// recvmsg(2)
    recvmsg(fd: c_int, message: *mut libc::msghdr, flags: c_int) = SYS_recvmsg;
    /// shutdown(2)
    shutdown(fd: c_int, how: c_int) = SYS_shutdown;
    /// getsockopt(2)
    getsockopt(fd: c_int, level: c_int, name: c_int, value: *mut c_void, len: *mut libc::socklen_t) = SYS_getsockopt;
    /// setsockopt(2)
    setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, len: libc::socklen_t) = SYS_setsockopt;
    /// poll(2)
    poll(fds: *mut libc::pollfd, count: libc::nfds_t, timeout_ms: c_int) = SYS_poll;
    /// epoll_ctl(2)
    epoll_ctl(epoll: c_int, op: c_int, fd: c_int, event: *mut libc::epoll_event) = SYS_epoll_ctl;
    /// epoll_wait(2)
    epoll_wait(epoll: c_int, events: *mut libc::epoll_event, count: c_int, timeout_ms: c_int) = SYS_epoll_wait;
    /// clock_nanosleep(2)
    clock_nanosleep(clock: c_int, flags: c_int, time: *const libc::timespec, left: *mut libc::timespec) = SYS_clock_nanosleep;
    /// eventfd2(2)
    eventfd2(counter: c_uint, flags: c_int) = SYS_eventfd2;
    /// timerfd_create(2)
    timerfd_create(clock: libc::clockid_t, flags: c_int) = SYS_timerfd_create;
    /// timerfd_settime(2)
    timerfd_settime(fd: c_int, flags: c_int, new: *const libc::itimerspec, old: *mut libc::itimerspec) = SYS_timerfd_settime;
    /// madvise(2)
    madvise(address: *mut c_void, len: size_t, advice: c_int) = SYS_madvise;
    /// msync(2)
    msync(address: *mut c_void, len: size_t, flags: c_int) = SYS_msync;
    /// mmap(2)
    mmap(address: *mut c_void, len: size_t, prot: c_int, flags: c_int, fd: c_int, offset: off_t) = SYS_mmap;
    /// munmap(2)
    munmap(address: *mut c_void, len: size_t) = SYS_munmap;
}

impl Arg for u64 {
    fn arg(self) -> u64 {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr;

    #[test]
    fn negative_numbers_are_sign_extended() {
        let call = openat(libc::AT_FDCWD, ptr::null(), libc::O_RDONLY, 0o644);
        assert_eq!(call.nr(), libc::SYS_openat as u16);
        assert_eq!(call.args(), [-100_i64 as u64, 0, 0, 0o644, 0, 0]);
    }

    #[test]
    fn six_arguments_keep_their_order() {
        let call = copy_file_range(1, ptr::null_mut(), 2, ptr::null_mut(), 3, 4);
        assert_eq!(call.args(), [1, 0, 2, 0, 3, 4]);
    }
}
