// SPDX-License-Identifier: MIT OR Apache-2.0
//! A syscall thread goes on with the chain of an owner that ends: calls that look for their caller
//! find the owner, or find that it is gone.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use super::terminal::{block, terminal};
use crate::chains::flagged;
use crate::check::{Check, Ret};
use crate::kit::abi::{Ctrl, ENTRY_ALWAYS, ENTRY_LINK, Entry, PAGE_SIZE, REASON_THREAD};
use crate::kit::cgroup::Cgroup;
use crate::kit::child::spawn;
use crate::kit::engine::Engine;
use crate::kit::ring::Call;
use crate::kit::{Random, memory, process, rounds, sys, until};

tests! { "guard":
    owner_ends_in_chain => "an owner ends while a thread makes its chain: calls find it or fail";
}

/// The files and memory that the calls of the chains use. They outlive the owners.
struct Things {
    /// A terminal whose foreground job is another one.
    terminal: OwnedFd,
    /// cgroup.threads of the process's group.
    threads: OwnedFd,
    path: [u8; 64],
    byte: [u8; 8],
    times: [[i64; 2]; 2],
}

/// The file of the calling thread's timer slack.
fn slack() -> Check<OwnedFd> {
    // A thread's own directory in /proc, which is not listed, has this file; the one in task/ has
    // not.
    let path = format!("/proc/{}/timerslack_ns", sys::gettid());
    let path = CString::new(path).expect("no zero byte");
    Ok(ok!("timerslack_ns", sys::open(&path, libc::O_RDWR, 0)))
}

impl Things {
    /// Each of the calls that look for their caller, several times, with sleeps in between.
    fn chain(&mut self, slack: &OwnedFd) -> Vec<Call> {
        let (path, byte) = (self.path.as_mut_ptr(), self.byte.as_mut_ptr());
        let calls = [
            call!(SYS_readlink, c"/proc/thread-self", path, 64),
            call!(SYS_access, c"/proc/thread-self/comm", libc::R_OK),
            call!(SYS_pwrite64, &self.threads, c"0", 1, 0),
            call!(SYS_write, slack, c"50000", 5),
            call!(SYS_pread64, slack, byte, 1, 0),
            call!(SYS_ioctl, &self.terminal, libc::TCGETS, path),
            // Job control looks at the caller's signals.
            call!(SYS_read, &self.terminal, byte, 1),
        ];
        let mut chain = Vec::new();
        for time in &self.times {
            chain.push(call!(SYS_nanosleep, time.as_ptr(), 0));
            chain.extend(calls);
        }
        // For the owner itself only.
        chain.push(call!(SYS_ioctl, &self.terminal, libc::TIOCGPGRP, path));
        let last = chain.len() - 1;
        for (index, call) in chain.iter_mut().enumerate() {
            // Each call is made, whatever the result of the ones before it.
            let link = if index == last { 0 } else { ENTRY_LINK };
            *call = flagged(*call, link | ENTRY_ALWAYS);
        }
        // Only the first call determines which thread executes the chain, and no call is before it.
        chain[0].flags &= !ENTRY_ALWAYS;
        chain
    }
}

/// The results of a registration whose owner has ended.
fn results(base: *mut u8, ctrl_len: usize, count: usize) -> Check<Vec<(u16, i64, u8)>> {
    // The first page's control block.
    let ctrl = memory::at(base as *const Ctrl, 0);
    until("the chain's results", || {
        ctrl.done.load(Ordering::Acquire).count_ones() as usize == count
    })?;
    let entries = base.wrapping_add(ctrl_len) as *const Entry;
    Ok((0..count)
        .map(|index| {
            let entry = memory::at(entries, index);
            (
                entry.nr.load(Ordering::Relaxed),
                entry.result.load(Ordering::Relaxed),
                entry.reason.load(Ordering::Relaxed),
            )
        })
        .collect())
}

/// Returns how many calls found an owner, and how many found that it is gone.
fn one_owner(engine: &Engine, things: &mut Things, random: &mut Random) -> Check<[usize; 2]> {
    for time in &mut things.times {
        time[1] = 100_000 + random.below(2_000_000) as i64;
    }
    let stay = random.below(3_000);
    let (base, len, count) = std::thread::scope(|scope| {
        let owner = scope.spawn(|| -> Check<(usize, usize, usize)> {
            let (slack, mut ring) = (slack()?, engine.ring(1)?);
            let chain = things.chain(&slack);
            ring.post_blocked(&chain)?;
            std::thread::sleep(std::time::Duration::from_micros(stay));
            // The file stays open until the process ends.
            std::mem::forget(slack);
            let (base, len) = ring.leak();
            Ok((base as usize, len, chain.len()))
        });
        owner.join().expect("no panic")
    })?;
    let mut found = [0; 2];
    let ctrl_len = len - PAGE_SIZE;
    for (index, (nr, result, reason)) in results(base as *mut u8, ctrl_len, count)?
        .into_iter()
        .enumerate()
    {
        let gone = [libc::ESRCH, libc::ENOENT, libc::ECANCELED];
        let is_gone = gone.iter().any(|&errno| result == -i64::from(errno));
        let good = match i64::from(nr) {
            // The terminal has another foreground job, and the owner blocks SIGTTIN.
            libc::SYS_read => result == -i64::from(libc::EIO),
            libc::SYS_ioctl if reason == REASON_THREAD => result == -i64::from(libc::EOPNOTSUPP),
            _ => result >= 0,
        };
        check!(
            good || is_gone,
            "entry {index}, call {nr}: {} reason {reason}",
            Ret(result)
        );
        found[usize::from(is_gone)] += 1;
    }
    let _ = sys::munmap(base as *mut u8, len);
    Ok(found)
}

fn owner_ends_in_chain() -> Check {
    let group = Cgroup::new(None)?;
    // The session's leader, whose child is a background job.
    let session = spawn(|_| {
        let (_master, terminal) = terminal()?;
        let job = spawn(|_| {
            check_ret!("setpgid", plain!(SYS_setpgid, 0, 0), 0);
            block(libc::SIGTTIN)?;
            group.enter()?;
            let threads = group.file("cgroup.threads");
            let mut things = Things {
                terminal,
                threads: ok!("cgroup.threads", sys::open(&threads, libc::O_RDWR, 0)),
                path: [0; 64],
                byte: [0; 8],
                times: [[0; 2]; 2],
            };
            let engine = Engine::open()?;
            let mut random = Random::new();
            let mut found = [0; 2];
            for round in 0..rounds(60) {
                let now = one_owner(&engine, &mut things, &mut random)
                    .map_err(|failure| failure.within(format_args!("round {round}")))?;
                found[0] += now[0];
                found[1] += now[1];
            }
            println!(
                "# {} calls found their owner, {} that it is gone",
                found[0], found[1]
            );
            check!(found[0] > 0 && found[1] > 0, "no owner ended in its chain");
            drop(engine);
            process::until_tasks(1)
        })?;
        job.join()
    })?;
    session.join()
}
