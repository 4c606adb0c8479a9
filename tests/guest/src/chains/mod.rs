// SPDX-License-Identifier: MIT OR Apache-2.0
//! Linked entries, results passed on, loops, and the order within a batch.

pub mod always;
pub mod loops;
pub mod orders;

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use crate::check::{Check, Ret};
use crate::kit::abi::{Param, REASON_CHAIN, REASON_ENTRY, REASON_NONE, take};
use crate::kit::files::{TempDir, memory_file, pipe, write_all};
use crate::kit::mode::{Mode, in_modes};
use crate::kit::ring::{Call, Done, Ring, check_done, linked};
use crate::kit::{Random, rounds};

tests! { "chains":
    in_order => "the entries of a chain are executed one after the other";
    open_read_close => "a descriptor passes from open to read and close without leaving the kernel";
    failure_cancels => "no entry behind a failed one is executed: ECANCELED, reason CHAIN";
    refusal_cancels => "a refused entry fails its chain";
    blocked_member => "while a chain waits for a pipe, other calls go on; then the chain does";
    goes_on_elsewhere => "if a chain's thread may not go on, another one does; all results come";
    two_results_taken => "an entry takes the results of two different entries";
    take_out_of_chain => "an entry cannot take a result from before the chain";
    chain_ends_with_page => "a link at the end of the page or of the posted entries leads nowhere";
    side_by_side => "32 chains of two fill a page; every fourth fails";
    random_chains => "random chains with random failures give the results of a model";
}

/// A chain's first call: opens a file to be read.
fn opening(path: &CStr) -> Call {
    let at = libc::AT_FDCWD;
    linked(call!(SYS_openat, at, path.as_ptr(), libc::O_RDONLY))
}

fn taking(call: Call, takes: [u8; 2]) -> Call {
    Call {
        take: takes,
        ..call
    }
}

pub fn flagged(call: Call, flags: u8) -> Call {
    Call {
        flags: call.flags | flags,
        ..call
    }
}

/// A thread that comes back from a sleep finds its pool at the concurrency limit, and offloads the
/// rest of its chain. The rest looks like calls outside of a chain.
fn goes_on_elsewhere() -> Check {
    let time = [0u64, 100_000];
    for mode in [Mode::Kick, Mode::Async] {
        let (engine, mut ring) = mode.start(1)?;
        engine.set(Param::PoolConcurrency, 1)?;
        let sleep = linked(call!(SYS_nanosleep, time.as_ptr(), 0));
        let pair = [sleep, call!(SYS_getpid)];
        for _ in 0..rounds(30) {
            let slots = ring.post_all(&pair.repeat(32));
            for (place, done) in ring.finish(&slots)?.into_iter().enumerate() {
                let want = if place % 2 == 0 {
                    0
                } else {
                    std::process::id()
                };
                check_done("chain", done, want.into(), REASON_NONE)?;
            }
        }
    }
    Ok(())
}

fn check_cancelled(what: &str, done: Done) -> Check {
    check_done(what, done, -i64::from(libc::ECANCELED), REASON_CHAIN)
}

fn content(file: &OwnedFd) -> Check<Vec<u8>> {
    let mut bytes = vec![0u8; 1 << 20];
    let count = plain!(SYS_pread64, file, bytes.as_mut_ptr(), bytes.len(), 0);
    check!(count >= 0, "pread64: {}", Ret(count));
    bytes.truncate(count as usize);
    Ok(bytes)
}

fn in_order() -> Check {
    let digits = b"0123456789";
    in_modes(1, |engine, ring| {
        let file = memory_file()?;
        let mut calls: Vec<Call> = digits
            .iter()
            .map(|digit| linked(call!(SYS_write, &file, std::ptr::from_ref(digit), 1)))
            .collect();
        calls[9].flags = 0;
        for _ in 0..5 {
            for done in ring.run_all(&calls)? {
                check_done("write", done, 1, REASON_NONE)?;
            }
        }
        check_eq!("content", content(&file)?, digits.repeat(5));
        check_eq!("chains", engine.stats()?.chains, 5);
        Ok(())
    })
}

fn open_read_close() -> Check {
    let dir = TempDir::new()?;
    let path = dir.file("text", b"hello from a file")?;
    in_modes(1, |_, ring| {
        for _ in 0..3 {
            let mut buf = [0u8; 32];
            let calls = [
                opening(&path),
                linked(taking(
                    call!(SYS_read, -1, buf.as_mut_ptr(), buf.len()),
                    [take(0, 1), 0],
                )),
                taking(call!(SYS_close, -1), [0, take(0, 2)]),
            ];
            let done = ring.run_all(&calls)?;
            check!(done[0].result > 2, "openat: {}", Ret(done[0].result));
            check_done("read", done[1], 17, REASON_NONE)?;
            check_done("close", done[2], 0, REASON_NONE)?;
            check_eq!("text", &buf[..17], b"hello from a file");
            let open = plain!(SYS_fcntl, done[0].result, libc::F_GETFD);
            check_ret!("fcntl of the closed descriptor", open, -libc::EBADF);
        }
        Ok(())
    })
}

fn failure_cancels() -> Check {
    in_modes(1, |_, ring| {
        let file = memory_file()?;
        let write = call!(SYS_write, &file, c"x".as_ptr(), 1);
        for failing in 0..4 {
            let mut calls = [linked(write); 5];
            calls[4].flags = 0;
            calls[failing] = linked(call!(SYS_close, -1));
            let done = ring.run_all(&calls)?;
            for (at, done) in done.into_iter().enumerate() {
                match at.cmp(&failing) {
                    std::cmp::Ordering::Less => check_done("before", done, 1, REASON_NONE)?,
                    std::cmp::Ordering::Equal => {
                        check_done("failed", done, -i64::from(libc::EBADF), REASON_NONE)?;
                    }
                    std::cmp::Ordering::Greater => check_cancelled("behind", done)?,
                }
            }
        }
        check_eq!("writes", content(&file)?.len(), 1 + 2 + 3);
        Ok(())
    })
}

fn refusal_cancels() -> Check {
    in_modes(1, |_, ring| {
        let file = memory_file()?;
        let calls = [
            linked(call!(SYS_getppid)),
            linked(call!(SYS_vfork)),
            call!(SYS_write, &file, c"x".as_ptr(), 1),
            call!(SYS_getpid),
        ];
        let done = ring.run_all(&calls)?;
        check_eq!("vfork", done[1].result, -i64::from(libc::EOPNOTSUPP));
        check_cancelled("write", done[2])?;
        check_ret!("getpid", done[3].result, std::process::id());
        check_eq!("writes", content(&file)?.len(), 0);
        Ok(())
    })
}

fn blocked_member() -> Check {
    in_modes(1, |_, ring| {
        let file = memory_file()?;
        let (from, to) = pipe()?;
        let mut buf = [0u8; 8];
        let calls = [
            linked(call!(SYS_write, &file, c"a".as_ptr(), 1)),
            linked(call!(SYS_read, &from, buf.as_mut_ptr(), buf.len())),
            taking(call!(SYS_write, &file, buf.as_ptr(), 0), [take(2, 1), 0]),
        ];
        let slots = ring.post_blocked(&calls)?;
        for _ in 0..20 {
            for done in ring.run_all(&[call!(SYS_getpid); 20])? {
                check_ret!("getpid beside", done.result, std::process::id());
            }
        }
        for &slot in &slots {
            check!(!ring.is_done(slot), "published early: {}", ring.show(slot));
        }
        write_all(&to, b"bcd")?;
        let done = ring.finish(&slots)?;
        check_done("first write", done[0], 1, REASON_NONE)?;
        check_done("read", done[1], 3, REASON_NONE)?;
        check_done("second write", done[2], 3, REASON_NONE)?;
        check_eq!("content", content(&file)?, b"abcd");
        Ok(())
    })
}

fn two_results_taken() -> Check {
    let dir = TempDir::new()?;
    let path = dir.file("out", b"")?;
    in_modes(1, |_, ring| {
        let source = memory_file()?;
        write_all(&source, b"0123456789")?;
        let mut buf = [0u8; 6];
        let flags = libc::O_WRONLY | libc::O_TRUNC;
        let calls = [
            linked(call!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags)),
            linked(call!(SYS_pread64, &source, buf.as_mut_ptr(), buf.len(), 7)),
            linked(taking(
                call!(SYS_write, -1, buf.as_ptr(), -1),
                [take(0, 2), take(2, 1)],
            )),
            taking(call!(SYS_close, -1), [take(0, 3), 0]),
        ];
        let done = ring.run_all(&calls)?;
        check_done("pread64", done[1], 3, REASON_NONE)?;
        check_done("write", done[2], 3, REASON_NONE)?;
        check_done("close", done[3], 0, REASON_NONE)?;
        check_eq!("content", dir.read("out")?, b"789");
        Ok(())
    })
}

fn take_out_of_chain() -> Check {
    in_modes(1, |_, ring| {
        let calls = [
            call!(SYS_getpid),
            linked(call!(SYS_getppid)),
            linked(taking(call!(SYS_close, -1), [take(0, 2), 0])),
            call!(SYS_getpid),
        ];
        let done = ring.run_all(&calls)?;
        check_ret!("getpid", done[0].result, std::process::id());
        check_done("take", done[2], -i64::from(libc::EINVAL), REASON_ENTRY)?;
        check_cancelled("behind it", done[3])
    })
}

fn chain_ends_with_page() -> Check {
    in_modes(2, |_, ring| {
        let me = i64::from(std::process::id());
        let mut calls = vec![call!(SYS_getpid); 66];
        calls[63] = linked(call!(SYS_close, -1));
        let done = ring.run_all(&calls)?;
        check_done(
            "last of the page",
            done[63],
            -i64::from(libc::EBADF),
            REASON_NONE,
        )?;
        check_done("first of the next", done[64], me, REASON_NONE)?;
        // Entries that are posted later are not part of the chain.
        check_done(
            "link",
            ring.run(linked(call!(SYS_close, -1)))?,
            -i64::from(libc::EBADF),
            0,
        )?;
        check_done("later", ring.run(call!(SYS_getpid))?, me, REASON_NONE)
    })
}

fn side_by_side() -> Check {
    let me = i64::from(std::process::id());
    in_modes(1, |engine, ring| {
        let mut calls = Vec::new();
        for chain in 0..32 {
            calls.push(linked(if chain % 4 == 3 {
                call!(SYS_close, -1)
            } else {
                call!(SYS_getppid)
            }));
            calls.push(call!(SYS_getpid));
        }
        for _ in 0..rounds(10) {
            for (chain, pair) in ring.run_all(&calls)?.chunks(2).enumerate() {
                if chain % 4 == 3 {
                    check_cancelled("second of a failed chain", pair[1])?;
                } else {
                    check_done("second of a chain", pair[1], me, REASON_NONE)?;
                }
            }
        }
        check_eq!("chains", engine.stats()?.chains, u64::from(rounds(10)) * 32);
        Ok(())
    })
}

/// Posts random chains; each member appends its number to a file, or fails.
fn random_chains_in(ring: &mut Ring, random: &mut Random) -> Check {
    let file = memory_file()?;
    let mut calls = Vec::new();
    let mut want: Vec<Vec<bool>> = Vec::new();
    let letters: Vec<u8> = (0..64).map(|n| b'0' + n).collect();
    let mut last_linked = false;
    for letter in &letters {
        let fails = random.below(8) == 0;
        let links = random.below(3) != 0;
        let call = if fails {
            call!(SYS_close, -1)
        } else {
            call!(SYS_write, &file, std::ptr::from_ref(letter), 1)
        };
        calls.push(if links { linked(call) } else { call });
        if !last_linked {
            want.push(Vec::new());
        }
        if let Some(chain) = want.last_mut() {
            chain.push(fails);
        }
        last_linked = links;
    }
    let mut done = ring.run_all(&calls)?.into_iter();
    let mut written = 0;
    for chain in want {
        let mut failed = false;
        for fails in chain {
            let Some(done) = done.next() else {
                fail!("a result is missing");
            };
            if failed {
                check_cancelled("behind a failure", done)?;
            } else if fails {
                check_done("failure", done, -i64::from(libc::EBADF), REASON_NONE)?;
                failed = true;
            } else {
                check_done("write", done, 1, REASON_NONE)?;
                written += 1;
            }
        }
    }
    check_eq!("writes", content(&file)?.len(), written);
    Ok(())
}

fn random_chains() -> Check {
    let mut random = Random::new();
    for mode in Mode::ALL {
        let (_engine, mut ring) = mode.start(1)?;
        for _ in 0..rounds(20) {
            random_chains_in(&mut ring, &mut random)
                .map_err(|failure| failure.within(format_args!("mode {mode:?}")))?;
        }
    }
    Ok(())
}
