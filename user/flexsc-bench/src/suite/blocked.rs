// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls that block: N readers of N empty pipes, as threads, in io_uring and in syscall
//! pages. Measures their cost while they wait, and the release of all of them.
//!
//! Each measurement runs in a separate process, so that none is affected by the leftovers
//! of another.

use std::env;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::unistd::pipe;

use super::{Options, Suite, skip};
use crate::backend::flexsc::{By, Flexsc};
use crate::backend::plain;
use crate::backend::uring::{Mode, Uring};
use crate::clock::Metric;
use crate::machine::{self, Memory};
use crate::report::{Report, Row};
use crate::request::Request;

/// See the module.
pub const SUITE: Suite = Suite {
    name: "blocked",
    about: "N readers of empty pipes: memory, context switches, release of all (batch = N)",
    ops: &["pipe-read"],
    run,
};

const COUNTS: [usize; 4] = [1, 10, 100, 1000];

/// Stack of a reading thread: small, as in programs with thousands of threads.
const STACK: usize = 64 << 10;

/// The backends that can be compared.
const WAYS: [&str; 3] = ["threads", "io_uring", "flexsc"];

fn run(options: &Options, report: &mut Report) -> io::Result<()> {
    for way in WAYS {
        for &count in options.batches_or(&COUNTS) {
            let output = Command::new(env::current_exe()?)
                .args(["one-blocked", way, &count.to_string()])
                .args(["--metric", options.effort.metric.name()])
                .stderr(Stdio::inherit())
                .output()?;
            if !output.status.success() {
                skip(&format!("{way} with {count}"), &output.status);
                continue;
            }
            let text = String::from_utf8_lossy(&output.stdout);
            for row in text.lines().filter_map(Row::parse) {
                report.row(&row)?;
            }
        }
    }
    Ok(())
}

/// Started readers.
trait Readers {
    /// Returns how many readers are blocked.
    fn blocked(&self) -> io::Result<usize>;

    /// Takes all results after the pipes were written to.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// A pipe and a byte for each reader.
struct Pipes {
    ends: Vec<(OwnedFd, OwnedFd)>,
    bytes: Vec<u8>,
}

impl Pipes {
    fn new(count: usize) -> io::Result<Pipes> {
        let ends = (0..count).map(|_| pipe()).collect::<Result<_, _>>()?;
        Ok(Pipes {
            ends,
            bytes: vec![0; count],
        })
    }

    fn request(&self) -> impl Fn(usize) -> Request + use<> {
        let base = self.bytes.as_ptr().cast_mut();
        let fds: Vec<_> = self.ends.iter().map(|(read, _)| read.as_raw_fd()).collect();
        move |index| Request::Read(fds[index], base.wrapping_add(index), 1)
    }

    fn release(&self) -> io::Result<()> {
        for (_, write) in &self.ends {
            nix::unistd::write(write, b"x")?;
        }
        Ok(())
    }
}

/// Waits until all readers are blocked. A quiet machine alone does not prove this.
fn wait_blocked(readers: &dyn Readers, count: usize) -> io::Result<()> {
    for _ in 0..1500 {
        if readers.blocked()? >= count {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    let blocked = readers.blocked()?;
    Err(io::Error::other(format!(
        "only {blocked} of {count} readers are blocked after half a minute"
    )))
}

fn check(results: usize, wrong: usize, count: usize) -> io::Result<()> {
    if (results, wrong) == (count, 0) {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "{results} of {count} reads came back, {wrong} of them wrong"
        )))
    }
}

struct Threads(Vec<JoinHandle<i64>>);

impl Threads {
    fn start(pipes: &Pipes) -> io::Result<Box<dyn Readers>> {
        /// A request that may move to another thread.
        struct Carried<F>(F);
        // SAFETY: each reader has its own byte.
        unsafe impl<F> Send for Carried<F> {}
        // SAFETY: as above.
        unsafe impl<F> Sync for Carried<F> {}

        let carried = Arc::new(Carried(pipes.request()));
        let start = |index| {
            let carried = Arc::clone(&carried);
            thread::Builder::new().stack_size(STACK).spawn(move || {
                let carried = &*carried;
                // SAFETY: the pipes and their bytes live until all have been joined.
                unsafe { plain::call((carried.0)(index)) }
            })
        };
        let handles = (0..pipes.ends.len()).map(start).collect::<Result<_, _>>()?;
        Ok(Box::new(Threads(handles)))
    }
}

impl Readers for Threads {
    fn blocked(&self) -> io::Result<usize> {
        machine::sleeping_threads()
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        let count = self.0.len();
        let results: Vec<_> = self.0.into_iter().map(JoinHandle::join).collect();
        let good = results.iter().filter(|result| matches!(result, Ok(1)));
        check(count, count - good.count(), count)
    }
}

struct InRing(Uring, usize);

impl InRing {
    fn start(pipes: &Pipes) -> io::Result<Box<dyn Readers>> {
        let count = pipes.ends.len();
        let mut ring = Uring::new(count, Mode::Simple)?;
        // SAFETY: the pipes and their bytes outlive the results.
        unsafe { ring.post(count, pipes.request()) }?;
        Ok(Box::new(InRing(ring, count)))
    }
}

impl Readers for InRing {
    // The submission has tried each read and left it waiting.
    fn blocked(&self) -> io::Result<usize> {
        Ok(self.1)
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        let (mut results, mut wrong, count) = (0, 0, self.1);
        self.0.take(count, |result| {
            results += 1;
            wrong += usize::from(result != 1);
        })?;
        check(results, wrong, count)
    }
}

struct InPages(Flexsc, usize);

impl InPages {
    fn start(pipes: &Pipes) -> io::Result<Box<dyn Readers>> {
        let count = pipes.ends.len();
        let mut pages = Flexsc::new(count, By::Waiter)?;
        // SAFETY: the pipes and their bytes outlive the results.
        unsafe { pages.post(count, pipes.request()) }?;
        pages.begin()?;
        Ok(Box::new(InPages(pages, count)))
    }
}

impl Readers for InPages {
    fn blocked(&self) -> io::Result<usize> {
        self.0.blocked()
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        let (mut results, mut wrong, count) = (0, 0, self.1);
        self.0.take(count, |result| {
            results += 1;
            wrong += usize::from(result != 1);
        })?;
        check(results, wrong, count)
    }
}

/// Makes one measurement in this process.
///
/// # Errors
///
/// The backend does not work here, or a result is wrong.
pub fn one(way: &str, count: usize, metric: Metric, report: &mut Report) -> io::Result<()> {
    let start = match way {
        "threads" => Threads::start,
        "io_uring" => InRing::start,
        "flexsc" => InPages::start,
        _ => return Err(io::Error::other(format!("no such way: {way}"))),
    };
    machine::want_files(2 * count as u64 + 64)?;
    let cpus = machine::cpus()?.len();
    let pipes = Pipes::new(count)?;
    machine::settle()?;

    let (memory, switches) = (Memory::now()?, machine::switches()?);
    let readers = start(&pipes)?;
    wait_blocked(&*readers, count)?;
    machine::settle()?;
    let (blocked, switches_blocked) = (Memory::now()?, machine::switches()?);

    let begun = metric.now();
    pipes.release()?;
    readers.finish()?;
    let took = metric.now() - begun;
    let switches_released = machine::switches()?;

    let each = |value: f64| value / count as f64;
    let less = |before: u64, after: u64| each(before as f64 - after as f64);
    let (bytes, calls) = ("bytes per call", "per call");
    let available = less(memory.available, blocked.available);
    for (name, value, unit) in [
        ("memory", available, bytes),
        ("memory-slab", less(blocked.slab, memory.slab), bytes),
        ("memory-stack", less(blocked.stacks, memory.stacks), bytes),
        ("switches-block", less(switches_blocked, switches), calls),
        (
            "switches-release",
            less(switches_released, switches_blocked),
            calls,
        ),
        (metric.name(), each(took as f64), "per released call"),
    ] {
        report.row(&Row {
            suite: SUITE.name.into(),
            op: SUITE.ops[0].into(),
            backend: way.into(),
            cpus,
            batch: count,
            metric: name.into(),
            value,
            unit: unit.into(),
        })?;
    }
    Ok(())
}
