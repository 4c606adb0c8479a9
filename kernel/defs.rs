// SPDX-License-Identifier: GPL-2.0

//! Shared definitions: roles of tasks, sets of pools, kinds of order, walks over doorbell
//! bits. Imports nothing else of the module.

mod bits;
mod order;
mod pool_set;
mod role;

pub(crate) use self::{
    bits::Bits,
    order::OrderKind,
    pool_set::{PoolSet, POOLS},
    role::Role,
};
