// SPDX-License-Identifier: MIT OR Apache-2.0
//! Threads of a closed engine do not prevent the creation of threads of the next one.

use std::time::Instant;

use nix::errno::Errno;

use super::{WAITS, start_in_turn};
use crate::check::{Check, skip};
use crate::kit::cgroup::Cgroup;
use crate::kit::child::in_child;
use crate::kit::engine::{Engine, try_open};
use crate::kit::files::{BlockedReads, pipe};
use crate::kit::limits;
use crate::kit::mode::Mode;
use crate::kit::{in_some_try, rounds};

tests! { "life":
    close_gives_threads_back => "RLIMIT_NPROC for one thread: close, open and REGISTER in a loop";
    close_in_cgroup => "pids.max for one thread: close, open and REGISTER in a loop";
    full_at_once => "at a limit that other threads use up, REGISTER fails at once";
}

/// Opens, registers, blocks a thread in a call and closes, again and again, at a limit of one
/// syscall thread.
fn again_and_again() -> Check {
    match try_open() {
        Ok(engine) => drop(engine),
        Err(Errno::EACCES | Errno::EPERM) => {
            return skip("needs a device that everybody may open");
        }
        Err(error) => fail!("open: {error:?}"),
    }
    let (from, _to) = pipe()?;
    for round in 0..rounds(100) {
        let (_engine, mut ring) = start_in_turn(Mode::Inline)
            .map_err(|failure| failure.within(format_args!("round {round}")))?;
        if round % 2 == 0 {
            let reads = BlockedReads::new(&from, 1);
            ring.post_blocked(&reads.calls())?;
        } else {
            ring.run(call!(SYS_getppid).asynchronous())?;
        }
    }
    Ok(())
}

fn close_gives_threads_back() -> Check {
    limits::need_root()?;
    in_child(|| {
        ok!("RLIMIT_NPROC", limits::set_limit(libc::RLIMIT_NPROC, 2));
        ok!("dropping rights", limits::drop_rights());
        again_and_again()
    })
}

fn close_in_cgroup() -> Check {
    let group = Cgroup::new(Some("pids"))?;
    group.write("pids.max", 2)?;
    in_child(|| {
        group.enter()?;
        again_and_again()
    })
}

fn full_at_once() -> Check {
    let group = Cgroup::new(Some("pids"))?;
    group.write("pids.max", 2)?;
    in_child(|| {
        group.enter()?;
        let first = Engine::open()?;
        let _ring = first.ring(1)?;
        let second = Engine::open()?;
        in_some_try("REGISTER at once", |_| {
            let begin = Instant::now();
            let registered = second.register(1).map(|r| r.id);
            check_eq!("REGISTER", registered, Err(Errno::EAGAIN));
            let took = begin.elapsed();
            println!("# REGISTER took {took:?}");
            Ok(took < WAITS / 2)
        })
    })
}
