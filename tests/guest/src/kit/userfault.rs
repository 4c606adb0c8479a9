// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pages that are missing until somebody provides them (userfaultfd(2)).

use std::os::fd::{AsRawFd, OwnedFd};

use super::{memory, sys};
use crate::check::{Check, Ret};

/// `UFFDIO_API`, `UFFDIO_REGISTER`, `UFFDIO_ZEROPAGE` and what they want (ioctl_userfaultfd(2)).
const UFFDIO_API: u32 = 0xc018_aa3f;
const UFFDIO_REGISTER: u32 = 0xc020_aa00;
const UFFDIO_ZEROPAGE: u32 = 0xc020_aa04;
const UFFD_API: u64 = 0xaa;
const UFFDIO_REGISTER_MODE_MISSING: u64 = 1;

/// A page that is missing, and where to learn that somebody wants it.
pub fn missing_page() -> Check<(OwnedFd, *mut u8)> {
    let made = plain!(SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK);
    check!(made >= 0, "userfaultfd: {}", Ret(made));
    let faults = sys::own(made as i32);
    let fd = faults.as_raw_fd();
    let mut api = [UFFD_API, 0, 0];
    ok!("UFFDIO_API", sys::ioctl_with(fd, UFFDIO_API, &mut api));
    let page = memory::pages(4096)?;
    let mut range = [page as u64, 4096, UFFDIO_REGISTER_MODE_MISSING, 0];
    let registered = sys::ioctl_with(fd, UFFDIO_REGISTER, &mut range);
    ok!("UFFDIO_REGISTER", registered);
    Ok((faults, page))
}

/// Provides the page, zeroed.
pub fn provide(faults: &OwnedFd, page: *mut u8) -> Check {
    let mut range = [page as u64, 4096, 0, 0];
    let provided = sys::ioctl_with(faults.as_raw_fd(), UFFDIO_ZEROPAGE, &mut range);
    ok!("UFFDIO_ZEROPAGE", provided);
    Ok(())
}
