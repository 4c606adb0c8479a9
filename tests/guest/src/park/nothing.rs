// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parked calls that end with nothing read or written: /proc/PID/io counts them like plain ones.

use std::fs;
use std::os::fd::OwnedFd;

use super::park;
use crate::check::{Check, Ret};
use crate::kit::files::{pipe, socket_pair};
use crate::kit::mode::Mode;
use crate::kit::net;
use crate::kit::ring::Call;
use crate::kit::stream::{Kind, Stream};
use crate::kit::sys;
use crate::tries::seen::{ACCOUNT, added};

tests! { "park":
    nothing_counts => "a call that times out or is cancelled with nothing read or written counts once";
}

/// A time limit for calls on a socket.
fn limit(socket: &OwnedFd, option: i32) -> Check {
    let time = [0i64, 20_000];
    let set = net::set(socket, libc::SOL_SOCKET, option, &time);
    check_ret!("a time limit", set, 0);
    Ok(())
}

fn nothing_counts() -> Check {
    if fs::metadata("/proc/self/io").is_err() {
        return crate::check::skip("needs CONFIG_TASK_IO_ACCOUNTING");
    }
    net::loopback_up()?;
    let (engine, mut ring) = Mode::Inline.start(1)?;
    let (empty, _to) = pipe()?;
    let (silent, _peer) = socket_pair()?;
    limit(&silent, libc::SO_RCVTIMEO)?;
    let full = Stream::new(Kind::Pipe)?;
    let slow = Stream::new(Kind::Tcp)?;
    for stream in [&full, &slow] {
        stream.fill(4096)?;
    }
    limit(&slow.to, libc::SO_SNDTIMEO)?;
    let mut byte = 0u8;
    let at = std::ptr::from_mut(&mut byte);
    let part = [at as u64, 1];
    let both = |one: i64, vector: i64, file: &OwnedFd| -> [Call; 2] {
        let fd = sys::Arg::word(file);
        [
            Call::new(one as u16, [fd, at as u64, 1, 0, 0, 0]),
            Call::new(vector as u16, [fd, part.as_ptr() as u64, 1, 0, 0, 0]),
        ]
    };
    let reads = |file| both(libc::SYS_read, libc::SYS_readv, file);
    let writes = |file| both(libc::SYS_write, libc::SYS_writev, file);
    // Without a time limit, CANCEL ends the call, as a signal ends a plain one.
    for (name, calls, count, times_out) in [
        ("read", reads(&empty), [0, 0, 1, 0], false),
        ("receive", reads(&silent), [0, 0, 1, 0], true),
        ("write", writes(&full.to), [0, 0, 0, 1], false),
        ("send", writes(&slow.to), [0, 0, 0, 1], true),
    ] {
        for call in calls {
            if times_out {
                let plain = added(|| {
                    let result = sys::syscall(call.nr.into(), call.args);
                    check_ret!(name, result, -libc::EAGAIN);
                    Ok(())
                })?;
                check_eq!(format!("{name}, plain: {ACCOUNT}"), plain, count);
            }
            let error = if times_out { libc::EAGAIN } else { libc::EINTR };
            let got = added(|| {
                let slots = park(&engine, &mut ring, &[call]).map_err(|f| f.within(name))?;
                if !times_out {
                    check_eq!("CANCEL", ring.cancel(slots[0]), Ok(0));
                }
                let result = ring.finish(&slots)?[0].result;
                check!(result == -i64::from(error), "{name}: {}", Ret(result));
                Ok(())
            })?;
            check_eq!(format!("{name}: {ACCOUNT}"), got, count);
        }
    }
    Ok(())
}
