// SPDX-License-Identifier: MIT OR Apache-2.0
//! seccomp: filters are asked about calls that wait for a time or for several files, too.

use std::os::fd::{AsRawFd, OwnedFd};

use super::check_guarded;
use crate::check::Check;
use crate::kit::abi::{Policy, REASON_NONE};
use crate::kit::child::in_child;
use crate::kit::engine::Engine;
use crate::kit::files::pipe;
use crate::kit::mode::Mode;
use crate::kit::ring::{Call, Ring, check_done};
use crate::kit::seccomp::{Action, FILTERED, Filter};

tests! { "guard":
    waits_allowed => "polls and sleeps that a filter allows are parked, and asked about as they were posted";
    waits_refused => "polls and sleeps that a filter does not allow are refused, and not parked";
    waits_refused_later => "a filter that comes while polls are parked has them refused";
    waits_not_killed => "a filter that kills, and comes while calls are parked, has them refused and kills nobody";
}

const ERRNO: Action = Action::Errno(FILTERED);

/// Posts a call that has to wait, and returns its slot once it is parked.
fn park(engine: &Engine, ring: &mut Ring, call: Call) -> Check<usize> {
    let before = engine.stats()?.parked;
    let slot = ring.post(call);
    ok!("WAIT", ring.wait(Policy::None));
    check_eq!(ring.show(slot), engine.stats()?.parked - before, 1);
    Ok(slot)
}

/// What poll() waits for: that `from` can be read.
fn readable(from: &OwnedFd) -> libc::pollfd {
    libc::pollfd {
        fd: from.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    }
}

fn waits_allowed() -> Check {
    in_child(|| {
        let (engine, mut ring) = Mode::Inline.start(1)?;
        let before = engine.stats()?;
        let (from, to) = pipe()?;
        // A parked ppoll looks at its files by a poll that does not wait. That is no call of the
        // program's.
        let filter = Filter::new()
            .rule_for(libc::SYS_poll, 2, 0, ERRNO)
            .rule(libc::SYS_poll, Action::Allow)
            .rule_for(libc::SYS_ppoll, 1, 1, Action::Allow)
            .rule(libc::SYS_ppoll, ERRNO)
            .asks_for_argument();
        ok!("seccomp", filter.otherwise(Action::Allow).hold());
        let mut fd = readable(&from);
        let at = std::ptr::from_mut(&mut fd);
        let nap = [0i64, 20_000_000];
        for call in [call!(SYS_poll, at, 1, -1), call!(SYS_ppoll, at, 1, 0, 0, 0)] {
            let slot = park(&engine, &mut ring, call)?;
            check_ret!("write", plain!(SYS_write, &to, b"a".as_ptr(), 1), 1);
            check_done("poll", ring.finish(&[slot])?[0], 1, REASON_NONE)?;
            let mut byte = 0u8;
            let read = plain!(SYS_read, &from, std::ptr::from_mut(&mut byte), 1);
            check_ret!("read", read, 1);
        }
        for call in [
            call!(SYS_nanosleep, nap.as_ptr(), 0),
            call!(
                SYS_clock_nanosleep,
                libc::CLOCK_BOOTTIME,
                0,
                nap.as_ptr(),
                0
            ),
        ] {
            let slot = park(&engine, &mut ring, call)?;
            check_done("sleep", ring.finish(&[slot])?[0], 0, REASON_NONE)?;
        }
        // A thread may end a wait, but none waits.
        let after = engine.stats()?;
        check_eq!("most blocked", after.peak_blocked, before.peak_blocked);
        Ok(())
    })
}

fn waits_refused() -> Check {
    in_child(|| {
        let (engine, mut ring) = Mode::Inline.start(1)?;
        let (from, _to) = pipe()?;
        let filter = Filter::new()
            .rule(libc::SYS_poll, ERRNO)
            .rule(libc::SYS_ppoll, ERRNO)
            .rule(libc::SYS_nanosleep, ERRNO)
            .rule_for(
                libc::SYS_clock_nanosleep,
                0,
                libc::CLOCK_BOOTTIME as u32,
                ERRNO,
            );
        ok!("seccomp", filter.otherwise(Action::Allow).hold());
        let mut fd = readable(&from);
        let at = std::ptr::from_mut(&mut fd);
        let nap = [1000i64, 0];
        let before = engine.stats()?.parked;
        for call in [
            call!(SYS_poll, at, 1, -1),
            call!(SYS_ppoll, at, 1, 0, 0, 0),
            call!(SYS_nanosleep, nap.as_ptr(), 0),
            call!(
                SYS_clock_nanosleep,
                libc::CLOCK_BOOTTIME,
                0,
                nap.as_ptr(),
                0
            ),
        ] {
            let slot = ring.post(call);
            ok!("WAIT", ring.wait(Policy::None));
            check!(ring.is_done(slot), "no result at once: {}", ring.show(slot));
            check_guarded(&[ring.reap(slot)])?;
        }
        check_eq!("parked", engine.stats()?.parked, before);
        Ok(())
    })
}

fn waits_refused_later() -> Check {
    for filtered in [false, true] {
        in_child(|| {
            let (engine, mut ring) = Mode::Inline.start(1)?;
            let (from, to) = pipe()?;
            if filtered {
                let filter = Filter::new().asks_for_argument();
                ok!("seccomp", filter.otherwise(Action::Allow).hold());
            }
            let mut fds = [readable(&from); 2];
            let at = fds.as_mut_ptr();
            let poll = park(&engine, &mut ring, call!(SYS_poll, at, 1, -1))?;
            let ppoll = park(
                &engine,
                &mut ring,
                call!(SYS_ppoll, at.wrapping_add(1), 1, 0, 0, 0),
            )?;
            let refuse = Filter::new().rule(libc::SYS_ppoll, ERRNO);
            ok!("seccomp", refuse.otherwise(Action::Allow).hold());
            check_ret!("write", plain!(SYS_write, &to, b"a".as_ptr(), 1), 1);
            let dones = ring.finish(&[poll, ppoll])?;
            check_done("poll", dones[0], 1, REASON_NONE)?;
            check_guarded(&dones[1..])
        })?;
    }
    Ok(())
}

fn waits_not_killed() -> Check {
    for action in [Action::KillThread, Action::KillProcess] {
        in_child(|| {
            let (engine, mut ring) = Mode::Inline.start(1)?;
            let (from, to) = pipe()?;
            let (other_from, other_to) = pipe()?;
            let mut bytes = [0u8; 2];
            let at = bytes.as_mut_ptr();
            let read = call!(SYS_read, &from, at, 1);
            let by_owner = park(&engine, &mut ring, read)?;
            let read = call!(SYS_read, &other_from, at.wrapping_add(1), 1);
            let by_thread = park(&engine, &mut ring, read)?;
            let kill = Filter::new().rule(libc::SYS_read, action);
            ok!("seccomp", kill.otherwise(Action::Allow).hold());
            check_ret!("write", plain!(SYS_write, &to, b"a".as_ptr(), 1), 1);
            check_guarded(&ring.finish(&[by_owner])?)?;
            // Without WAIT a thread goes on with the call.
            check_ret!("write", plain!(SYS_write, &other_to, b"a".as_ptr(), 1), 1);
            ring.poll_until_done(&[by_thread])?;
            check_guarded(&[ring.reap(by_thread)])
        })
        .map_err(|failure| failure.within(format_args!("{action:?}")))?;
    }
    Ok(())
}
