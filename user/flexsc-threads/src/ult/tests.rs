// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the tables against simple models.

use std::vec::Vec;

use crate::sys::area::Area;
use crate::sys::kernel::Info;
use crate::ult::core::Ult;
use crate::ult::futex::{Futexes, WakeOp};
use crate::ult::list::{Id, List};
use crate::ult::masks::Masks;
use crate::ult::signals::{Pending, bit};
use crate::ult::timers::Timers;

/// Numbers that look random, always the same.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % end
    }
}

fn ults(len: usize) -> Area<Ult> {
    Area::new(len).expect("there is memory")
}

#[test]
fn a_queue_gives_back_in_order_what_is_left_in_it() {
    let mut ults = ults(100);
    let mut list = List::EMPTY;
    let mut model = Vec::new();
    let mut numbers = Numbers(1);
    for _ in 0..10_000 {
        let id = Id(1 + numbers.below(99) as u32);
        if let Some(at) = model.iter().position(|other| *other == id) {
            model.remove(at);
            list.remove(&mut ults, id);
        } else if numbers.below(3) > 0 {
            model.push(id);
            list.push(&mut ults, id);
        } else if !model.is_empty() {
            assert_eq!(list.pop(&mut ults), Some(model.remove(0)));
        }
        assert_eq!(list.is_empty(), model.is_empty());
    }
    let rest: Vec<Id> = std::iter::from_fn(|| list.pop(&mut ults)).collect();
    assert_eq!(rest, model);
}

#[test]
fn deadlines_come_in_order() {
    let mut ults = ults(200);
    let mut timers = Timers::new();
    timers.set_room(Area::new(200).expect("there is memory"));
    let mut model: Vec<(u64, Id)> = Vec::new();
    let mut numbers = Numbers(2);
    let mut now = 0;
    for _ in 0..20_000 {
        let id = Id(1 + numbers.below(199) as u32);
        match model.iter().position(|row| row.1 == id) {
            Some(at) => {
                model.remove(at);
                timers.remove(&mut ults, id);
                // It has none: nothing happens.
                timers.remove(&mut ults, id);
            }
            None => {
                let deadline = now + numbers.below(50);
                model.push((deadline, id));
                timers.add(&mut ults, id, deadline);
            }
        }
        let first = model.iter().map(|row| row.0).min();
        assert_eq!(timers.first(&ults), first);
        if numbers.below(4) == 0 {
            now += numbers.below(20);
            while let Some(id) = timers.pop(&mut ults, now) {
                let at = model.iter().position(|row| row.1 == id).expect("known");
                let (deadline, _) = model.remove(at);
                assert!(deadline <= now);
                assert!(model.iter().all(|row| row.0 >= deadline));
            }
            assert!(model.iter().all(|row| row.0 > now));
        }
    }
}

#[test]
fn waiters_of_a_word_are_woken_in_order() {
    let mut ults = ults(20);
    let mut futexes = Futexes::new();
    // Two words that share a bucket or do not.
    for id in 1..=9 {
        let address = if id % 3 == 0 { 0x2000 } else { 0x1000 };
        futexes.add(&mut ults, Id(id), address, 1 << (id % 2));
    }
    assert_eq!(futexes.take(&mut ults, 0x1000, 2), Some(Id(1)));
    assert_eq!(futexes.take(&mut ults, 0x1000, 1), Some(Id(2)));
    // 4, 5, 7, 8 are left; two of them go behind 3, 6, 9.
    assert_eq!(futexes.requeue(&mut ults, 0x1000, 0x2000, 2), 2);
    futexes.remove(&mut ults, Id(6));
    futexes.remove(&mut ults, Id(6));
    let all = |futexes: &mut Futexes, ults: &mut Area<Ult>, address| -> Vec<u32> {
        std::iter::from_fn(|| futexes.take(ults, address, !0))
            .map(|id| id.0)
            .collect()
    };
    assert_eq!(all(&mut futexes, &mut ults, 0x2000), [3, 9, 4, 5]);
    assert!(futexes.has(&ults, 0x1000) && !futexes.has(&ults, 0x2000));
    assert_eq!(all(&mut futexes, &mut ults, 0x1000), [7, 8]);
}

#[test]
fn a_wake_operation_changes_and_compares_as_the_kernel_does() {
    let operation = |operation: u32, comparison: u32, argument: i32, with: i32| {
        WakeOp(
            (operation << 28)
                | (comparison << 24)
                | ((argument as u32 & 0xfff) << 12)
                | with as u32 & 0xfff,
        )
    };
    // What glibc uses: set to 0, greater than 1.
    let unlock = operation(0, 4, 0, 1);
    assert_eq!((unlock.apply(2), unlock.compare(2)), (Some(0), Some(true)));
    assert_eq!(unlock.compare(1), Some(false));
    assert_eq!(operation(1, 0, -1, 0).apply(0), Some(u32::MAX));
    assert_eq!(operation(2, 0, 6, 0).apply(9), Some(15));
    assert_eq!(operation(3, 0, 6, 0).apply(15), Some(9));
    assert_eq!(operation(4, 0, 6, 0).apply(15), Some(9));
    // The argument is a number of a bit.
    assert_eq!(operation(8 | 2, 0, 5, 0).apply(0), Some(32));
    assert_eq!(operation(0, 2, 0, -1).compare(u32::MAX - 1), Some(true));
    assert_eq!(operation(5, 0, 0, 0).apply(0), None);
    assert_eq!(operation(0, 6, 0, 0).compare(0), None);
}

#[test]
fn the_kernel_blocks_what_all_threads_block() {
    let mut masks = Masks::new();
    masks.add(0b0110);
    assert_eq!(masks.all_block(), 0b0110);
    masks.add(0b0011);
    masks.add(0b0011);
    assert_eq!(masks.all_block(), 0b0010);
    masks.remove(0b0110);
    masks.remove(0b0011);
    assert_eq!(masks.all_block(), 0b0011);
    masks.remove(0b0011);
    // More masks than there is room for: nothing is blocked while one of them is unknown.
    let many: Vec<u64> = (0..70).map(|bit| 1 | (bit << 1)).collect();
    for mask in &many {
        masks.add(*mask);
    }
    assert_eq!(masks.all_block(), 0);
    for mask in &many {
        masks.remove(*mask);
    }
    masks.add(0b1000);
    assert_eq!(masks.all_block(), 0b1000);
}

#[test]
fn a_pending_signal_is_taken_by_whom_it_is_for() {
    const USR1: u32 = 10;
    const RT: u32 = 40;
    let mut pending = Pending::new();
    let info = |signal, value| Info::new(signal, 0, 0, value);
    assert!(pending.push(Id(1), &info(USR1, 1)));
    // One of a kind.
    assert!(pending.push(Id(1), &info(USR1, 2)));
    assert!(pending.push(Id::NONE, &info(RT, 3)));
    assert!(pending.push(Id::NONE, &info(RT, 4)));
    assert!(pending.take(Id(2), bit(USR1)).is_none());
    assert_eq!(pending.set(Id(2)), bit(RT));
    assert_eq!(pending.take(Id(2), !0).map(|info| info.value()), Some(3));
    assert_eq!(pending.take(Id(1), !0).map(|info| info.value()), Some(1));
    assert_eq!(pending.take(Id(1), !0).map(|info| info.value()), Some(4));
    assert!(pending.take(Id(1), !0).is_none());
    assert!(pending.push(Id(3), &info(USR1, 5)));
    pending.forget(Id(3));
    assert_eq!(pending.set(Id(3)), 0);
    // There is an end to it.
    let pushed = (0..1000).filter(|_| pending.push(Id::NONE, &info(RT, 0)));
    assert_eq!(pushed.count(), 128);
}

/// The structures of the ABI, which this crate writes down itself because it contains nothing of std.
#[test]
fn the_abi_is_that_of_the_header() {
    use std::mem::{offset_of, size_of};

    use crate::sys::engine::{self, Cancel, Control, Entry, Register, Wait};
    use flexsc::abi;

    macro_rules! same {
        ($ours:ty, $theirs:ty, $($field:ident),*) => {
            assert_eq!(size_of::<$ours>(), size_of::<$theirs>());
            $(assert_eq!(offset_of!($ours, $field), offset_of!($theirs, $field));)*
        };
    }
    same!(
        Entry,
        abi::flexsc_entry,
        nr,
        flags,
        pool,
        take,
        reason,
        status,
        args,
        result
    );
    same!(
        Control,
        abi::flexsc_ctrl,
        posted,
        reaped,
        taken,
        done,
        flags
    );
    same!(
        Register,
        abi::flexsc_register,
        size,
        abi,
        pages,
        id,
        ctrl_len,
        mmap_offset,
        mmap_len
    );
    same!(Wait, abi::flexsc_wait, id, policy, timeout_ns);
    same!(Cancel, abi::flexsc_cancel, id, index);
    assert_eq!(engine::ABI, abi::FLEXSC_ABI_VERSION);
    assert_eq!(engine::ENTRIES, abi::FLEXSC_PAGE_ENTRIES as usize);
    assert_eq!(engine::WAIT_NONE, abi::FLEXSC_WAIT_NONE);
    assert_eq!(engine::WAIT_ANY, abi::FLEXSC_WAIT_ANY);
    assert_eq!(u32::from(engine::CANCELLED), abi::FLEXSC_REASON_CANCELLED);
    assert!(engine::PAGES <= abi::FLEXSC_MAX_PAGES as usize);
}
