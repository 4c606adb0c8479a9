// SPDX-License-Identifier: MIT OR Apache-2.0
//! Helpers that fill a call. The arguments are those of section 2 of the manual.

use std::ffi::{c_char, c_int, c_long, c_uint, c_void};

use libc::{epoll_event, iovec, msghdr, pollfd, sockaddr, socklen_t, statx, timespec};

use crate::call::flexsc_call;

/// A value as an argument of a system call.
trait Arg {
    fn arg(self) -> u64;
}

impl Arg for c_int {
    fn arg(self) -> u64 {
        i64::from(self) as u64
    }
}

impl Arg for c_uint {
    fn arg(self) -> u64 {
        self.into()
    }
}

impl Arg for i64 {
    fn arg(self) -> u64 {
        self as u64
    }
}

impl Arg for u64 {
    fn arg(self) -> u64 {
        self
    }
}

impl Arg for usize {
    fn arg(self) -> u64 {
        self as u64
    }
}

impl<T> Arg for *const T {
    fn arg(self) -> u64 {
        // The kernel turns it back into a pointer.
        self.expose_provenance() as u64
    }
}

impl<T> Arg for *mut T {
    fn arg(self) -> u64 {
        self.expose_provenance() as u64
    }
}

fn with<const N: usize>(given: [u64; N]) -> [u64; 6] {
    let mut args = [0; 6];
    args[..N].copy_from_slice(&given);
    args
}

/// Prepares any system call: its number, SYS_..., and its arguments. Missing arguments are zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_syscall(
    call: *mut flexsc_call,
    nr: c_long,
    args: *const u64,
    count: c_uint,
) {
    let mut all = [0; 6];
    let given = all.iter_mut().take(count as usize).enumerate();
    for (nth, arg) in given {
        let from = args.wrapping_add(nth);
        // SAFETY: the caller's promise: there are as many arguments.
        *arg = unsafe { from.read() };
    }
    let nr = if (0..=c_long::from(u16::MAX)).contains(&nr) {
        nr
    } else {
        -1
    };
    // SAFETY: the caller's promise.
    unsafe { (*call).set(nr, all) };
}

/// Prepares read(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_read(
    call: *mut flexsc_call,
    fd: c_int,
    buf: *mut c_void,
    len: usize,
) {
    let args = with([fd.arg(), buf.arg(), len.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_read, args) };
}

/// Prepares write(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_write(
    call: *mut flexsc_call,
    fd: c_int,
    buf: *const c_void,
    len: usize,
) {
    let args = with([fd.arg(), buf.arg(), len.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_write, args) };
}

/// Prepares pread(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_pread(
    call: *mut flexsc_call,
    fd: c_int,
    buf: *mut c_void,
    len: usize,
    offset: i64,
) {
    let args = with([fd.arg(), buf.arg(), len.arg(), offset.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_pread64, args) };
}

/// Prepares pwrite(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_pwrite(
    call: *mut flexsc_call,
    fd: c_int,
    buf: *const c_void,
    len: usize,
    offset: i64,
) {
    let args = with([fd.arg(), buf.arg(), len.arg(), offset.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_pwrite64, args) };
}

/// Prepares readv(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_readv(
    call: *mut flexsc_call,
    fd: c_int,
    iov: *const iovec,
    count: c_int,
) {
    let args = with([fd.arg(), iov.arg(), count.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_readv, args) };
}

/// Prepares writev(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_writev(
    call: *mut flexsc_call,
    fd: c_int,
    iov: *const iovec,
    count: c_int,
) {
    let args = with([fd.arg(), iov.arg(), count.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_writev, args) };
}

/// Prepares lseek(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_lseek(
    call: *mut flexsc_call,
    fd: c_int,
    offset: i64,
    whence: c_int,
) {
    let args = with([fd.arg(), offset.arg(), whence.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_lseek, args) };
}

/// Prepares openat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_openat(
    call: *mut flexsc_call,
    dir: c_int,
    path: *const c_char,
    flags: c_int,
    mode: c_uint,
) {
    let args = with([dir.arg(), path.arg(), flags.arg(), mode.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_openat, args) };
}

/// Prepares close(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_close(call: *mut flexsc_call, fd: c_int) {
    let args = with([fd.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_close, args) };
}

/// Prepares fsync(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_fsync(call: *mut flexsc_call, fd: c_int) {
    let args = with([fd.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_fsync, args) };
}

/// Prepares fdatasync(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_fdatasync(call: *mut flexsc_call, fd: c_int) {
    let args = with([fd.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_fdatasync, args) };
}

/// Prepares ftruncate(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_ftruncate(call: *mut flexsc_call, fd: c_int, len: i64) {
    let args = with([fd.arg(), len.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_ftruncate, args) };
}

/// Prepares fallocate(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_fallocate(
    call: *mut flexsc_call,
    fd: c_int,
    mode: c_int,
    offset: i64,
    len: i64,
) {
    let args = with([fd.arg(), mode.arg(), offset.arg(), len.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_fallocate, args) };
}

/// Prepares copy_file_range(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_copy_file_range(
    call: *mut flexsc_call,
    from: c_int,
    from_offset: *mut i64,
    to: c_int,
    to_offset: *mut i64,
    len: usize,
    flags: c_uint,
) {
    let args = with([
        from.arg(),
        from_offset.arg(),
        to.arg(),
        to_offset.arg(),
        len.arg(),
        flags.arg(),
    ]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_copy_file_range, args) };
}

/// Prepares splice(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_splice(
    call: *mut flexsc_call,
    from: c_int,
    from_offset: *mut i64,
    to: c_int,
    to_offset: *mut i64,
    len: usize,
    flags: c_uint,
) {
    let args = with([
        from.arg(),
        from_offset.arg(),
        to.arg(),
        to_offset.arg(),
        len.arg(),
        flags.arg(),
    ]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_splice, args) };
}

/// Prepares statx(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_statx(
    call: *mut flexsc_call,
    dir: c_int,
    path: *const c_char,
    flags: c_int,
    mask: c_uint,
    to: *mut statx,
) {
    let args = with([dir.arg(), path.arg(), flags.arg(), mask.arg(), to.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_statx, args) };
}

/// Prepares getdents64(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_getdents64(
    call: *mut flexsc_call,
    fd: c_int,
    buf: *mut c_void,
    len: usize,
) {
    let args = with([fd.arg(), buf.arg(), len.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_getdents64, args) };
}

/// Prepares mkdirat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_mkdirat(
    call: *mut flexsc_call,
    dir: c_int,
    path: *const c_char,
    mode: c_uint,
) {
    let args = with([dir.arg(), path.arg(), mode.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_mkdirat, args) };
}

/// Prepares unlinkat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_unlinkat(
    call: *mut flexsc_call,
    dir: c_int,
    path: *const c_char,
    flags: c_int,
) {
    let args = with([dir.arg(), path.arg(), flags.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_unlinkat, args) };
}

/// Prepares renameat2(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_renameat2(
    call: *mut flexsc_call,
    from: c_int,
    old: *const c_char,
    to: c_int,
    path: *const c_char,
    flags: c_uint,
) {
    let args = with([from.arg(), old.arg(), to.arg(), path.arg(), flags.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_renameat2, args) };
}

/// Prepares linkat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_linkat(
    call: *mut flexsc_call,
    from: c_int,
    old: *const c_char,
    to: c_int,
    path: *const c_char,
    flags: c_int,
) {
    let args = with([from.arg(), old.arg(), to.arg(), path.arg(), flags.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_linkat, args) };
}

/// Prepares symlinkat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_symlinkat(
    call: *mut flexsc_call,
    target: *const c_char,
    dir: c_int,
    path: *const c_char,
) {
    let args = with([target.arg(), dir.arg(), path.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_symlinkat, args) };
}

/// Prepares readlinkat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_readlinkat(
    call: *mut flexsc_call,
    dir: c_int,
    path: *const c_char,
    buf: *mut c_char,
    len: usize,
) {
    let args = with([dir.arg(), path.arg(), buf.arg(), len.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_readlinkat, args) };
}

/// Prepares socket(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_socket(
    call: *mut flexsc_call,
    domain: c_int,
    kind: c_int,
    protocol: c_int,
) {
    let args = with([domain.arg(), kind.arg(), protocol.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_socket, args) };
}

/// Prepares bind(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_bind(
    call: *mut flexsc_call,
    fd: c_int,
    address: *const sockaddr,
    len: socklen_t,
) {
    let args = with([fd.arg(), address.arg(), len.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_bind, args) };
}

/// Prepares listen(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_listen(call: *mut flexsc_call, fd: c_int, backlog: c_int) {
    let args = with([fd.arg(), backlog.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_listen, args) };
}

/// Prepares accept4(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_accept4(
    call: *mut flexsc_call,
    fd: c_int,
    address: *mut sockaddr,
    len: *mut socklen_t,
    flags: c_int,
) {
    let args = with([fd.arg(), address.arg(), len.arg(), flags.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_accept4, args) };
}

/// Prepares connect(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_connect(
    call: *mut flexsc_call,
    fd: c_int,
    address: *const sockaddr,
    len: socklen_t,
) {
    let args = with([fd.arg(), address.arg(), len.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_connect, args) };
}

/// Prepares shutdown(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_shutdown(call: *mut flexsc_call, fd: c_int, how: c_int) {
    let args = with([fd.arg(), how.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_shutdown, args) };
}

/// Prepares sendto(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_sendto(
    call: *mut flexsc_call,
    fd: c_int,
    buf: *const c_void,
    len: usize,
    flags: c_int,
    address: *const sockaddr,
    address_len: socklen_t,
) {
    let args = with([
        fd.arg(),
        buf.arg(),
        len.arg(),
        flags.arg(),
        address.arg(),
        address_len.arg(),
    ]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_sendto, args) };
}

/// Prepares recvfrom(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_recvfrom(
    call: *mut flexsc_call,
    fd: c_int,
    buf: *mut c_void,
    len: usize,
    flags: c_int,
    address: *mut sockaddr,
    address_len: *mut socklen_t,
) {
    let args = with([
        fd.arg(),
        buf.arg(),
        len.arg(),
        flags.arg(),
        address.arg(),
        address_len.arg(),
    ]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_recvfrom, args) };
}

/// Prepares sendmsg(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_sendmsg(
    call: *mut flexsc_call,
    fd: c_int,
    message: *const msghdr,
    flags: c_int,
) {
    let args = with([fd.arg(), message.arg(), flags.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_sendmsg, args) };
}

/// Prepares recvmsg(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_recvmsg(
    call: *mut flexsc_call,
    fd: c_int,
    message: *mut msghdr,
    flags: c_int,
) {
    let args = with([fd.arg(), message.arg(), flags.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_recvmsg, args) };
}

/// Prepares setsockopt(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_setsockopt(
    call: *mut flexsc_call,
    fd: c_int,
    level: c_int,
    option: c_int,
    value: *const c_void,
    len: socklen_t,
) {
    let args = with([fd.arg(), level.arg(), option.arg(), value.arg(), len.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_setsockopt, args) };
}

/// Prepares getsockopt(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_getsockopt(
    call: *mut flexsc_call,
    fd: c_int,
    level: c_int,
    option: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) {
    let args = with([fd.arg(), level.arg(), option.arg(), value.arg(), len.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_getsockopt, args) };
}

/// Prepares epoll_ctl(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_epoll_ctl(
    call: *mut flexsc_call,
    epoll: c_int,
    op: c_int,
    fd: c_int,
    event: *mut epoll_event,
) {
    let args = with([epoll.arg(), op.arg(), fd.arg(), event.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_epoll_ctl, args) };
}

/// Prepares epoll_wait(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_epoll_wait(
    call: *mut flexsc_call,
    epoll: c_int,
    events: *mut epoll_event,
    most: c_int,
    timeout_ms: c_int,
) {
    let args = with([epoll.arg(), events.arg(), most.arg(), timeout_ms.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_epoll_wait, args) };
}

/// Prepares poll(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_poll(
    call: *mut flexsc_call,
    fds: *mut pollfd,
    count: u64,
    timeout_ms: c_int,
) {
    let args = with([fds.arg(), count.arg(), timeout_ms.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_poll, args) };
}

/// Prepares clock_nanosleep(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_clock_nanosleep(
    call: *mut flexsc_call,
    clock: c_int,
    flags: c_int,
    time: *const timespec,
    rest: *mut timespec,
) {
    let args = with([clock.arg(), flags.arg(), time.arg(), rest.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_clock_nanosleep, args) };
}

/// Prepares madvise(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_madvise(
    call: *mut flexsc_call,
    start: *mut c_void,
    len: usize,
    advice: c_int,
) {
    let args = with([start.arg(), len.arg(), advice.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_madvise, args) };
}

/// Prepares msync(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_msync(
    call: *mut flexsc_call,
    start: *mut c_void,
    len: usize,
    flags: c_int,
) {
    let args = with([start.arg(), len.arg(), flags.arg()]);
    // SAFETY: the caller's promise.
    unsafe { (*call).set(libc::SYS_msync, args) };
}
