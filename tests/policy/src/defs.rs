// SPDX-License-Identifier: MIT OR Apache-2.0

//! Definitions that the module's parts share, as far as the files under test use these.

#[path = "../../../kernel/defs/bits.rs"]
mod bits;
#[path = "../../../kernel/defs/role.rs"]
mod role;

pub(crate) use bits::Bits;
pub(crate) use role::Role;

#[test]
fn bits_yields_each_set_bit_once_and_in_order() {
    assert_eq!(Bits(0).next(), None);
    assert_eq!(Bits(u64::MAX).count(), 64);
    assert_eq!(
        Bits((1 << 63) | (1 << 5) | 1).collect::<Vec<_>>(),
        [0, 5, 63]
    );
    assert_eq!(Bits(0b1111_0000).only(|bit| bit % 2 == 0), 0b0101_0000);
}

#[test]
fn only_workers_have_a_pool_and_only_threads_a_slot() {
    assert_eq!((Role::Owner.pool(), Role::Owner.slot()), (None, None));
    let worker = Role::Worker { pool: 3, slot: 7 };
    assert_eq!((worker.pool(), worker.slot()), (Some(3), Some(7)));
    let poller = Role::Poller { slot: 7, cpu: 1 };
    assert_eq!((poller.pool(), poller.slot()), (None, Some(7)));
}
