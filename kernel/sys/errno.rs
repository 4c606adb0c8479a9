// SPDX-License-Identifier: GPL-2.0

//! Error numbers for which the kernel crate has no names.

use kernel::bindings;
use kernel::error::Error;

fn error(errno: u32) -> Error {
    Error::from_errno(-(errno as core::ffi::c_int))
}

/// The wait cannot end: too few entries are in flight.
pub(crate) fn edeadlk() -> Error {
    error(bindings::EDEADLK)
}

/// The time has expired.
pub(crate) fn etime() -> Error {
    error(bindings::ETIME)
}

/// The versions of the ABI differ.
pub(crate) fn eproto() -> Error {
    error(bindings::EPROTO)
}

/// The task does not share its tables with others of its process.
pub(crate) fn exdev() -> Error {
    error(bindings::EXDEV)
}

/// The call cannot be made from a page.
pub(crate) fn eopnotsupp() -> Error {
    error(bindings::EOPNOTSUPP)
}

/// The call was not made.
pub(crate) fn ecanceled() -> Error {
    error(bindings::ECANCELED)
}

/// There is no such call.
pub(crate) fn enosys() -> Error {
    error(bindings::ENOSYS)
}
