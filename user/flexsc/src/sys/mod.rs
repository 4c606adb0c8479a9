// SPDX-License-Identifier: MIT OR Apache-2.0
//! Everything that needs `unsafe`: the ABI, the device's calls, the mapping,
//! access to shared memory, buffers of operations, plain system calls.

pub mod abi;
pub(crate) mod buf;
#[cfg(feature = "bytes")]
mod bytes;
pub(crate) mod device;
pub(crate) mod guard;
pub(crate) mod kept;
pub(crate) mod map;
pub(crate) mod mapping;
pub(crate) mod message;
pub(crate) mod plain;
pub(crate) mod poll;
pub(crate) mod pool;
pub(crate) mod region;
pub(crate) mod slice;
