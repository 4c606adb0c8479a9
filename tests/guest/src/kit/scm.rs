// SPDX-License-Identifier: MIT OR Apache-2.0
//! Descriptors passed to another process over a socket (SCM_RIGHTS).

use std::os::fd::OwnedFd;

use super::sys;
use crate::check::Check;

/// `struct msghdr` with a control message that holds one descriptor.
#[repr(C)]
struct Message {
    name: u64,
    name_len: u64,
    iov: *const libc::iovec,
    iov_len: u64,
    control: *mut u64,
    control_len: u64,
    flags: u64,
}

/// Length of a `struct cmsghdr` with one descriptor behind it.
const CONTROL: u64 = 16 + 4;

fn transfer(nr: i64, socket: &OwnedFd, control: &mut [u64; 3]) -> i64 {
    let mut byte = 0u8;
    let part = libc::iovec {
        iov_base: std::ptr::from_mut(&mut byte).cast(),
        iov_len: 1,
    };
    let message = Message {
        name: 0,
        name_len: 0,
        iov: &part,
        iov_len: 1,
        control: control.as_mut_ptr(),
        control_len: 24,
        flags: 0,
    };
    let at = std::ptr::from_ref(&message);
    let args = [sys::Arg::word(socket), at as u64, 0, 0, 0, 0];
    sys::syscall(nr, args)
}

/// Sends a descriptor.
pub fn send_fd(socket: &OwnedFd, fd: i32) -> Check {
    let kind = libc::SOL_SOCKET as u64 | ((libc::SCM_RIGHTS as u64) << 32);
    let mut control = [CONTROL, kind, fd as u64];
    check_ret!(
        "sendmsg",
        transfer(libc::SYS_sendmsg, socket, &mut control),
        1
    );
    Ok(())
}

/// Receives a descriptor.
pub fn receive_fd(socket: &OwnedFd) -> Check<OwnedFd> {
    let mut control = [0; 3];
    check_ret!(
        "recvmsg",
        transfer(libc::SYS_recvmsg, socket, &mut control),
        1
    );
    check_eq!("control message", control[0], CONTROL);
    Ok(sys::own(control[2] as u32 as i32))
}
