// SPDX-License-Identifier: MIT OR Apache-2.0
//! The order in which the entries of a batch are executed.

use std::os::fd::AsRawFd;

use nix::errno::Errno;

use super::{content, random_chains_in};
use crate::check::Check;
use crate::kit::abi::{Param, REASON_NONE};
use crate::kit::files::{memory_file, pipe, write_all};
use crate::kit::mode::Mode;
use crate::kit::ring::{Call, check_done};
use crate::kit::{Random, rounds};

tests! { "chains":
    posted_order => "entries used in turn start in the order of posting, round the end of the page";
    order_by_number => "with ORDER NUMBER the calls of a batch are grouped";
    any_order => "every ORDER gives all results, chains included";
    order_bad => "an unknown ORDER and LOOP_MAX 0 are EINVAL";
}

fn posted_order() -> Check {
    let (_engine, mut ring) = Mode::Inline.start(1)?;
    let file = memory_file()?;
    let letters: Vec<u8> = (0..200u8).collect();
    let mut slot = 0;
    for group in letters.chunks(7) {
        let mut slots = Vec::new();
        let mut bits = 0u64;
        for letter in group {
            ring.stage(
                slot,
                &call!(SYS_write, &file, std::ptr::from_ref(letter), 1),
            );
            bits |= 1 << slot;
            slots.push(slot);
            slot = (slot + 1) % 64;
        }
        ring.ring_bell(0, bits);
        ring.finish(&slots)?;
    }
    check_eq!("order of writes", content(&file)?, letters);
    Ok(())
}

fn order_by_number() -> Check {
    let (engine, mut ring) = Mode::Inline.start(1)?;
    engine.set(Param::Order, 1)?;
    let file = memory_file()?;
    let letters = [b'w', b'v'];
    let vec = libc::iovec {
        iov_base: letters[1..].as_ptr().cast_mut().cast(),
        iov_len: 1,
    };
    let write = call!(SYS_write, &file, letters.as_ptr(), 1);
    let writev = call!(SYS_writev, &file, std::ptr::from_ref(&vec), 1);
    let calls: Vec<Call> = (0..64)
        .map(|n| if n % 2 == 0 { write } else { writev })
        .collect();
    for done in ring.run_all(&calls)? {
        check_done("write", done, 1, REASON_NONE)?;
    }
    let grouped = [[b'w'; 32], [b'v'; 32]].concat();
    check_eq!("order of writes", content(&file)?, grouped);
    Ok(())
}

fn any_order() -> Check {
    let mut random = Random::new();
    let me = i64::from(std::process::id());
    for order in 0..3 {
        for mode in Mode::ALL {
            let (engine, mut ring) = mode.start(1)?;
            engine.set(Param::Order, order)?;
            check_eq!("GET ORDER", engine.get(Param::Order)?, order);
            for _ in 0..rounds(5) {
                random_chains_in(&mut ring, &mut random)?;
                let (from, to) = pipe()?;
                write_all(&to, &[7; 16])?;
                let mut bytes = [0u8; 16];
                let calls: Vec<Call> = (0..64)
                    .map(|n| match n % 4 {
                        0 => call!(SYS_read, &from, std::ptr::from_mut(&mut bytes[n / 4]), 1),
                        1 => call!(SYS_getpid).asynchronous(),
                        _ => call!(SYS_getpid),
                    })
                    .collect();
                for (n, done) in ring.run_all(&calls)?.into_iter().enumerate() {
                    let want = if n % 4 == 0 { 1 } else { me };
                    check_done("call", done, want, REASON_NONE)?;
                }
                check_eq!("bytes", bytes, [7; 16]);
                check!(from.as_raw_fd() >= 0, "the pipe is open");
            }
        }
    }
    Ok(())
}

fn order_bad() -> Check {
    let (engine, _ring) = Mode::Inline.start(1)?;
    for (param, value) in [
        (Param::Order, 3),
        (Param::Order, u64::MAX),
        (Param::LoopMax, 0),
    ] {
        check_eq!(
            format!("SET {param:?} {value}"),
            engine.try_set(param, value),
            Err(Errno::EINVAL)
        );
    }
    check_eq!("ORDER", engine.get(Param::Order)?, 0);
    Ok(())
}
