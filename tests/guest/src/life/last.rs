// SPDX-License-Identifier: MIT OR Apache-2.0
//! The process ends with its last thread that runs in user space, as if it had no syscall threads.

use super::Busy;
use super::death::die;
use crate::check::Check;
use crate::kit::child::{Child, End, Link};
use crate::kit::mode::Mode;
use crate::kit::uffd::Slow;
use crate::kit::{patience, process, rounds, sys, until};

tests! { "life":
    last_thread_exits => "the last thread ends by exit(2), not exit_group(2), with calls in flight";
    last_code => "if two threads end by exit(2), the later one's code is the process's";
    last_thread_idle => "the same while the syscall threads have nothing to do";
    last_thread_fault => "the same while a call waits for a page, deaf to all signals but SIGKILL";
}

/// Checks that the process ends with this code.
fn expect(code: i32) -> impl Fn(Child) -> Check {
    move |mut child| {
        check_eq!("end of the process", child.end()?, End::Exit(code));
        Ok(())
    }
}

fn last_thread_exits() -> Check {
    for mode in Mode::ALL {
        for _ in 0..rounds(3) {
            let work = |link: &Link| {
                let mut busy = Busy::start(mode)?;
                busy.call()?;
                link.ready();
                sys::exit_thread(25);
            };
            die(work, expect(25)).map_err(|failure| failure.within(format_args!("{mode:?}")))?;
        }
    }
    Ok(())
}

/// Returns true if the calling process's first thread has ended.
fn main_has_ended() -> bool {
    let pid = std::process::id() as i32;
    let mut tasks = process::tasks(pid).into_iter();
    tasks.any(|task| task.tid == pid && task.state == 'Z')
}

fn last_code() -> Check {
    // First without an engine, then with one in each mode.
    for mode in [None].into_iter().chain(Mode::ALL.map(Some)) {
        let work = |link: &Link| {
            let mut busy = mode.map(Busy::start).transpose()?;
            if let Some(busy) = &mut busy {
                busy.call()?;
            }
            std::thread::spawn(|| {
                let alone = until("the end of the main thread", main_has_ended);
                sys::exit_thread(if alone.is_ok() { 27 } else { 1 });
            });
            link.ready();
            sys::exit_thread(26);
        };
        die(work, expect(27)).map_err(|failure| failure.within(format_args!("{mode:?}")))?;
    }
    Ok(())
}

fn last_thread_idle() -> Check {
    for mode in Mode::ALL {
        let work = |link: &Link| {
            let (engine, mut ring) = mode.start(1)?;
            ring.run(call!(SYS_getpid).asynchronous())?;
            // The threads stay for ever, unless they are told to end.
            engine.keep_threads()?;
            link.ready();
            sys::exit_thread(28);
        };
        die(work, expect(28)).map_err(|failure| failure.within(format_args!("{mode:?}")))?;
    }
    Ok(())
}

fn last_thread_fault() -> Check {
    for mode in [Mode::Async, Mode::Kick, Mode::Poller] {
        let work = |link: &Link| {
            let (_engine, mut ring) = mode.start(1)?;
            let page = Slow::page()?;
            ring.post(call!(SYS_uname, page.at).asynchronous());
            ring.kicked()?;
            let blocked = page.is_wanted(patience());
            check!(blocked, "the call does not wait for the page");
            link.ready();
            sys::exit_thread(29);
        };
        die(work, expect(29)).map_err(|failure| failure.within(format_args!("{mode:?}")))?;
    }
    Ok(())
}
