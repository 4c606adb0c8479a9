// SPDX-License-Identifier: GPL-2.0

//! The kinds of order in which the entries of a batch are started: FLEXSC_PARAM_ORDER.

use kernel::prelude::*;
use kernel::uapi;

/// See `enum flexsc_order`.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum OrderKind {
    /// By index, wrapping around the page.
    Posted = uapi::flexsc_order_FLEXSC_ORDER_POSTED,
    /// Grouped by number.
    Number = uapi::flexsc_order_FLEXSC_ORDER_NUMBER,
    /// Entries for syscall threads first.
    IoFirst = uapi::flexsc_order_FLEXSC_ORDER_IO_FIRST,
}

impl OrderKind {
    /// Returns the kind with this number, or `Posted` if there is none.
    #[inline(always)]
    pub(crate) fn from_raw(value: u32) -> Self {
        if value == OrderKind::Posted as u32 {
            return OrderKind::Posted;
        }
        Self::other(value)
    }

    #[cold]
    fn other(value: u32) -> Self {
        Self::try_from(u64::from(value)).unwrap_or(OrderKind::Posted)
    }
}

impl TryFrom<u64> for OrderKind {
    type Error = Error;

    fn try_from(value: u64) -> Result<Self> {
        const POSTED: u64 = OrderKind::Posted as u64;
        const NUMBER: u64 = OrderKind::Number as u64;
        const IO_FIRST: u64 = OrderKind::IoFirst as u64;
        match value {
            POSTED => Ok(OrderKind::Posted),
            NUMBER => Ok(OrderKind::Number),
            IO_FIRST => Ok(OrderKind::IoFirst),
            _ => Err(EINVAL),
        }
    }
}
