// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cost for programs that do not use FlexSC: the same plain calls and context switches, to
//! be run on a patched and on an unpatched kernel.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork, pipe};

use super::{Options, Suite};
use crate::backend::plain;
use crate::machine;
use crate::report::{Report, Row};
use crate::request::Request;

/// See the module.
pub const SUITE: Suite = Suite {
    name: "absent",
    about: "plain calls and context switches; --label names the kernel in the CSV",
    ops: &["getppid", "read", "ping-pong"],
    run,
};

fn run(options: &Options, report: &mut Report) -> io::Result<()> {
    let cpus = machine::cpus()?;
    machine::bind(&cpus[..1])?;
    for op in SUITE.ops.iter().filter(|op| options.wants(op)) {
        let (value, unit) = match *op {
            "getppid" => (repeat(options, Request::Getppid, None)?, "per call"),
            "read" => {
                let zero = File::open("/dev/zero")?;
                let mut buffer = [0; 64];
                let request = Request::Read(zero.as_raw_fd(), buffer.as_mut_ptr(), buffer.len());
                (repeat(options, request, Some(64))?, "per call")
            }
            _ => (ping_pong(options)?, "per round trip"),
        };
        report.row(&Row {
            suite: SUITE.name.into(),
            op: (*op).into(),
            backend: options.label.clone(),
            cpus: cpus.len(),
            batch: 1,
            metric: options.effort.metric.name().into(),
            value,
            unit: unit.into(),
        })?;
    }
    machine::bind(&cpus)
}

/// Repeats the same call.
fn repeat(options: &Options, request: Request, expected: Option<i64>) -> io::Result<f64> {
    options.effort.measure(1, || {
        // SAFETY: descriptor and buffer belong to the caller.
        let result = unsafe { plain::call(request) };
        match expected {
            Some(expected) if result != expected => {
                Err(io::Error::other(format!("a call returned {result}")))
            }
            _ => Ok(()),
        }
    })
}

/// Passes one byte to or from a pipe. Returns the call's result.
fn byte(fd: RawFd, nr: libc::c_long) -> i64 {
    let mut byte = 0_u8;
    // SAFETY: one byte to read or to write.
    unsafe { libc::syscall(nr, fd, &raw mut byte, 1) }
}

/// Sends a byte to another process and back, on one CPU: two context switches.
fn ping_pong(options: &Options) -> io::Result<f64> {
    let (there_read, there): (OwnedFd, OwnedFd) = pipe()?;
    let (back, back_write): (OwnedFd, OwnedFd) = pipe()?;
    // SAFETY: the child makes only system calls, and ends without returning.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop(there);
            drop(back);
            while byte(there_read.as_raw_fd(), libc::SYS_read) == 1 {
                byte(back_write.as_raw_fd(), libc::SYS_write);
            }
            // SAFETY: ends the child without its parent's clean-up.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop(there_read);
            drop(back_write);
            let value = options.effort.measure(1, || {
                let sent = byte(there.as_raw_fd(), libc::SYS_write);
                let got = byte(back.as_raw_fd(), libc::SYS_read);
                if (sent, got) == (1, 1) {
                    Ok(())
                } else {
                    Err(io::Error::other("the other process is gone"))
                }
            });
            drop(there);
            waitpid(child, None)?;
            value
        }
    }
}
