// SPDX-License-Identifier: MIT OR Apache-2.0
//! Signals that a call raises for its caller.

use std::os::fd::AsRawFd;

use crate::check::Check;
use crate::kit::child::{End, spawn};
use crate::kit::files::{memory_file, pipe, write_all};
use crate::kit::mode::{Mode, in_modes};
use crate::kit::{limits, signals, sys, until};

tests! { "calls":
    closed_pipe => "a write to a closed pipe is EPIPE and sends SIGPIPE to the owner";
    closed_pipe_second_thread => "SIGPIPE goes to the thread that owns the page, not to another";
    closed_pipe_kills => "SIGPIPE without a handler ends the process, in every mode";
    closed_while_blocked => "a write asleep while its pipe is closed: EPIPE, SIGPIPE to the owner";
    closed_pipe_ignored => "with SIGPIPE ignored there is only EPIPE";
    file_too_large => "a write beyond RLIMIT_FSIZE is EFBIG and sends SIGXFSZ to the owner";
    file_too_large_second_thread => "SIGXFSZ goes to the thread that owns the page, not to another";
    kill_self => "kill of the process itself through an entry runs the handler";
}

fn write_to_closed_pipe(mode: Mode) -> Check {
    let (_engine, mut ring) = mode.start(1)?;
    let (from, to) = pipe()?;
    drop(from);
    for round in 1..=5 {
        let result = ring.result(call!(SYS_write, &to, b"x".as_ptr(), 1))?;
        check_ret!("write", result, -libc::EPIPE);
        until("SIGPIPE", || signals::counted() >= round)?;
        check_eq!("SIGPIPE count", signals::counted(), round);
        check_eq!(
            "thread that got SIGPIPE",
            signals::last_thread(),
            sys::gettid()
        );
    }
    Ok(())
}

fn closed_pipe() -> Check {
    for mode in Mode::ALL {
        signals::count_signal(libc::SIGPIPE, 0)?;
        write_to_closed_pipe(mode).map_err(|failure| failure.within(format_args!("{mode:?}")))?;
    }
    Ok(())
}

fn closed_pipe_second_thread() -> Check {
    std::thread::scope(|scope| scope.spawn(closed_pipe).join().expect("no panic"))
}

fn closed_pipe_kills() -> Check {
    for mode in Mode::ALL {
        let mut child = spawn(|_| {
            signals::default_action(libc::SIGPIPE)?;
            let (_engine, mut ring) = mode.start(1)?;
            let (from, to) = pipe()?;
            drop(from);
            ring.run(call!(SYS_write, &to, b"x".as_ptr(), 1))?;
            // The signal comes with the result or shortly after.
            until("SIGPIPE", || false)
        })?;
        let want = End::Signal {
            signal: libc::SIGPIPE,
            core: false,
        };
        check_eq!(
            format!("end of the process, mode {mode:?}"),
            child.end()?,
            want
        );
    }
    Ok(())
}

fn closed_while_blocked() -> Check {
    for mode in Mode::ALL {
        let (engine, mut ring) = mode.start(1)?;
        signals::count_signal(libc::SIGPIPE, libc::SA_RESTART)?;
        let (from, to) = pipe()?;
        check_ret!(
            "the pipe's size",
            plain!(SYS_fcntl, &to, libc::F_SETPIPE_SZ, 4096),
            4096
        );
        write_all(&to, &[1; 4096])?;
        let byte = [2u8];
        let slots = ring.post_blocked(&[call!(SYS_write, &to, byte.as_ptr(), 1)])?;
        engine.until_stats("a blocked write", |stats| stats.peak_blocked >= 1)?;
        check_eq!("SIGPIPE before", signals::counted(), 0);
        drop(from);
        check_ret!(
            format!("write in mode {mode:?}"),
            ring.finish(&slots)?[0].result,
            -libc::EPIPE
        );
        until("SIGPIPE", || signals::counted() >= 1)?;
        check_eq!(
            "thread that got SIGPIPE",
            signals::last_thread(),
            sys::gettid()
        );
    }
    Ok(())
}

fn closed_pipe_ignored() -> Check {
    // Rust's runtime ignores SIGPIPE from the start.
    in_modes(1, |_, ring| {
        let (from, to) = pipe()?;
        drop(from);
        for done in ring.run_all(&[call!(SYS_write, &to, b"x".as_ptr(), 1); 64])? {
            check_ret!("write", done.result, -libc::EPIPE);
        }
        Ok(())
    })
}

fn file_too_large() -> Check {
    let file = memory_file()?;
    ok!("RLIMIT_FSIZE", limits::set_limit(libc::RLIMIT_FSIZE, 4096));
    for mode in Mode::ALL {
        let (_engine, mut ring) = mode.start(1)?;
        signals::count_signal(libc::SIGXFSZ, 0)?;
        let fd = file.as_raw_fd();
        let result = ring.result(call!(SYS_pwrite64, fd, b"x".as_ptr(), 1, 5000))?;
        check_ret!(format!("pwrite64 in mode {mode:?}"), result, -libc::EFBIG);
        until("SIGXFSZ", || signals::counted() >= 1)?;
        check_eq!(
            "thread that got SIGXFSZ",
            signals::last_thread(),
            sys::gettid()
        );
        let result = ring.result(call!(SYS_pwrite64, fd, b"xy".as_ptr(), 2, 4095))?;
        check_ret!("pwrite64 up to the limit", result, 1);
    }
    Ok(())
}

fn file_too_large_second_thread() -> Check {
    std::thread::scope(|scope| scope.spawn(file_too_large).join().expect("no panic"))
}

fn kill_self() -> Check {
    in_modes(1, |_, ring| {
        signals::count_signal(libc::SIGUSR1, libc::SA_RESTART)?;
        let result = ring.result(call!(SYS_kill, std::process::id(), libc::SIGUSR1))?;
        check_ret!("kill", result, 0);
        until("SIGUSR1", || signals::counted() == 1)
    })
}
