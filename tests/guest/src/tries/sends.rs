// SPDX-License-Identifier: MIT OR Apache-2.0
//! A blocking send sends everything, whatever room there is.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::option;
use crate::check::Check;
use crate::kit::files::pipe;
use crate::kit::mode::in_modes;
use crate::kit::net::{self, tcp_pair, unix_pair};
use crate::kit::ring::{Call, Ring};
use crate::kit::rounds;

tests! { "tries":
    send_everything => "sends of 1 byte to 1 MB return their size, and all bytes arrive in order";
    small_buffers => "the same with send buffers of the smallest size";
    buffers_that_change => "the same while SO_SNDBUF changes from large to small all the time";
}

const SIZES: [usize; 12] = [
    1, 100, 2240, 2241, 4096, 4097, 30_000, 32_768, 40_000, 106_433, 300_000, 1_000_000,
];

/// Byte number `at` of a stream.
fn byte(at: usize) -> u8 {
    (at * 31 + at / 251) as u8
}

/// Reads everything in pieces, now and then small ones. Returns how much arrived, up to the first
/// mistake.
fn reader(from: &OwnedFd) -> Result<usize, usize> {
    let mut piece = vec![0u8; 50_000];
    let mut total = 0;
    for round in 0.. {
        let len = if round % 3 == 0 { piece.len() } else { 700 };
        let got = plain!(SYS_read, from, piece.as_mut_ptr(), len);
        if got <= 0 {
            break;
        }
        for &there in &piece[..got as usize] {
            if there != byte(total) {
                return Err(total);
            }
            total += 1;
        }
    }
    Ok(total)
}

/// Posts sends of all sizes, one after the other, and takes the data that arrives at the other end.
/// When all sends are done, or one has failed, calls `at_end` and closes the sending end.
fn send_all(
    ring: &mut Ring,
    (to, from): (OwnedFd, OwnedFd),
    sizes: &[usize],
    at_end: impl FnOnce(),
) -> Check {
    let is_socket = plain!(SYS_sendto, &to, 0, 0, 0, 0, 0) != -i64::from(libc::ENOTSOCK);
    let total: usize = sizes.iter().sum();
    let bytes: Vec<u8> = (0..total).map(byte).collect();
    thread::scope(|scope| {
        let arrived = scope.spawn(|| reader(&from));
        let mut rest = &bytes[..];
        let mut failed = Ok(());
        for (round, &size) in sizes.iter().enumerate() {
            let call = if is_socket && round % 2 == 0 {
                call!(SYS_sendto, &to, rest.as_ptr(), size, 0, 0, 0)
            } else {
                call!(SYS_write, &to, rest.as_ptr(), size)
            };
            failed = sent(ring, call, size);
            if failed.is_err() {
                break;
            }
            rest = &rest[size..];
        }
        at_end();
        drop(to);
        let arrived = arrived.join().expect("no panic");
        failed?;
        check_eq!("bytes that arrived", arrived, Ok(total));
        Ok(())
    })
}

fn sent(ring: &mut Ring, call: Call, size: usize) -> Check {
    check_ret!(format!("a send of {size}"), ring.result(call)?, size as i64);
    Ok(())
}

fn streams() -> [(&'static str, Check<(OwnedFd, OwnedFd)>); 3] {
    [
        ("unix", unix_pair(libc::SOCK_STREAM)),
        ("tcp", tcp_pair()),
        ("pipe", pipe().map(|(from, to)| (to, from))),
    ]
}

fn send_everything() -> Check {
    net::loopback_up()?;
    in_modes(1, |_, ring| {
        for (name, pair) in streams() {
            send_all(ring, pair?, &SIZES, || ()).map_err(|f| f.within(name))?;
        }
        Ok(())
    })
}

fn small_buffers() -> Check {
    net::loopback_up()?;
    in_modes(1, |_, ring| {
        for (name, pair) in streams() {
            let pair = pair?;
            if name != "pipe" {
                option(&pair.0, libc::SO_SNDBUF, 1)?;
            }
            send_all(ring, pair, &SIZES[..9], || ()).map_err(|f| f.within(name))?;
        }
        Ok(())
    })
}

fn buffers_that_change() -> Check {
    net::loopback_up()?;
    in_modes(1, |_, ring| {
        for (name, pair) in streams() {
            if name == "pipe" {
                continue;
            }
            let pair = pair?;
            let changed = net::duplicate(&pair.0)?;
            let stop = AtomicBool::new(false);
            let sizes = vec![30_000; rounds(40) as usize];
            thread::scope(|scope| {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        for size in [1, 200_000] {
                            let _ = option(&changed, libc::SO_SNDBUF, size);
                        }
                    }
                    // The reader ends when nothing is sent any more.
                    plain!(SYS_shutdown, &changed, libc::SHUT_WR);
                });
                let at_end = || stop.store(true, Ordering::Relaxed);
                send_all(ring, pair, &sizes, at_end).map_err(|f| f.within(name))
            })?;
        }
        Ok(())
    })
}
