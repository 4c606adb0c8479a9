// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cost of a call as other things grow: the pages of its registration, the registrations of
//! its engine, the processes that have an engine. All but the measured registration are idle.

use std::io;

use flexsc::{Engine, Pages};
use nix::sys::signal::Signal;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, pause, pipe, read, write};

use super::apart::apart;
use super::{Of, Options, Suite, by_turns, write_medians};
use crate::backend::Backend;
use crate::backend::flexsc::{By, Flexsc, failed};
use crate::machine;
use crate::report::Report;
use crate::request::Request;

/// See the module.
pub const SUITE: Suite = Suite {
    name: "scale",
    about: "cost of one call as the number of idle things grows (batch = number)",
    ops: &["pages", "registrations", "processes"],
    run,
};

/// Calls at a time.
const CALLS: usize = 64;

/// The numbers that are measured of each operation.
fn counts(op: &str) -> &'static [usize] {
    match op {
        "pages" => &[1, 16, 64],
        "registrations" => &[1, 64, 1024],
        _ => &[1, 8, 64],
    }
}

fn run(options: &Options, report: &mut Report) -> io::Result<()> {
    let cpus = machine::cpus()?;
    let mut ways = Vec::new();
    for &op in SUITE.ops.iter().filter(|op| options.wants(op)) {
        ways.extend(
            options
                .batches_or(counts(op))
                .iter()
                .map(|&count| (op, count)),
        );
    }
    let figures = by_turns(
        1,
        &ways,
        |(op, _)| (op, "flexsc-inline"),
        |(op, count)| {
            apart(|| {
                machine::bind(&cpus[..1])?;
                measure(options, op, count)
            })
        },
    );
    write_medians(
        report,
        &SUITE,
        options.effort.metric,
        cpus.len(),
        ways.into_iter().zip(figures),
        |(op, batch)| Of {
            op,
            backend: "flexsc-inline",
            batch,
            unit: "per call",
        },
    )
}

fn measure(options: &Options, op: &str, count: usize) -> io::Result<f64> {
    let room = if op == "pages" { count * CALLS } else { CALLS };
    let mut measured = Flexsc::new(room, By::Waiter)?;
    let _others = match op {
        "registrations" => registrations(measured.engine(), count - 1)?,
        _ => Vec::new(),
    };
    let _processes = match op {
        "processes" => Processes::new(count - 1)?,
        _ => Processes(Vec::new()),
    };
    let parent = i64::from(nix::unistd::getppid().as_raw());
    options.effort.measure(CALLS, || {
        let mut wrong = 0;
        // SAFETY: the request has no pointer.
        unsafe {
            measured.batch(
                CALLS,
                |_| Request::Getppid,
                |result| wrong |= result ^ parent,
            )
        }?;
        match wrong {
            0 => Ok(()),
            _ => Err(io::Error::other("a getppid returned another number")),
        }
    })
}

fn registrations(engine: &Engine, count: usize) -> io::Result<Vec<Pages>> {
    (0..count)
        .map(|_| engine.register(1).map_err(failed))
        .collect()
}

/// Processes that have an engine with syscall pages, and sleep. They end when the value is dropped.
struct Processes(Vec<Pid>);

impl Processes {
    fn new(count: usize) -> io::Result<Processes> {
        let mut all = Processes(Vec::with_capacity(count));
        for _ in 0..count {
            let (from, to) = pipe()?;
            // SAFETY: this process has one thread.
            match unsafe { fork() }? {
                ForkResult::Parent { child } => all.0.push(child),
                ForkResult::Child => {
                    let made = Flexsc::new(CALLS, By::Waiter);
                    let said = write(&to, &[u8::from(made.is_ok())]);
                    while made.is_ok() && said.is_ok() {
                        pause();
                    }
                    // SAFETY: ends this process, which shares its buffers with its parent.
                    unsafe { libc::_exit(1) }
                }
            }
            drop(to);
            let mut said = [0];
            if read(&from, &mut said)? != 1 || said != [1] {
                return Err(io::Error::other("a process could not use the engine"));
            }
        }
        Ok(all)
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for &child in &self.0 {
            // Each is a child of this process that was not waited for.
            let _ = nix::sys::signal::kill(child, Signal::SIGKILL);
            let _ = waitpid(child, None);
        }
    }
}
