// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cost of a call, by the number of calls made at a time.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use super::apart::apart;
use super::filter::allow_all;
use super::{Fresh, Of, Options, Suite, by_turns, write_medians};
use crate::backend::flexsc::{By, Flexsc};
use crate::backend::plain::Plain;
use crate::backend::uring::{Mode, Uring};
use crate::backend::{Backend, Kind};
use crate::clock::Effort;
use crate::machine;
use crate::report::Report;
use crate::request::{Request, Status};

/// See the module.
pub const SUITE: Suite = Suite {
    name: "calls",
    about: "cost of one call, by the number of calls made at a time",
    ops: &["getppid", "pread64", "read", "fstat", "open-close"],
    run,
};

const BATCHES: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/// The largest batch for which the two ways to wait are compared.
const COMPARED: usize = 8;

/// Bytes that one pread64 or read reads.
const BYTES: usize = 64;

/// How often the backends take turns if time is measured. Each turn has correspondingly
/// fewer samples.
const TURNS: usize = 5;

/// A measurement that takes turns: an operation, its backend and its batch.
type Way = (&'static str, Kind, usize);

fn run(options: &Options, report: &mut Report) -> io::Result<()> {
    let cpus = machine::cpus()?;
    let mut effort = options.effort;
    // Nothing disturbs exact counts.
    let turns = if effort.metric.varies() { TURNS } else { 1 };
    effort.samples = effort.samples.div_ceil(turns);
    let ways = ways(options);
    let name = |(_, kind, _): Way| kind.name();
    let figures = by_turns(turns, &ways, name, |(op, kind, batch)| {
        let bench = Bench {
            kind,
            cpus: &cpus,
            effort,
        };
        apart(|| {
            if options.filter {
                allow_all()?;
            }
            bench.with_backend(op, batch)
        })
    });
    let measured = ways.into_iter().zip(figures);
    write_medians(
        report,
        &SUITE,
        effort.metric,
        cpus.len(),
        measured,
        |(op, kind, batch)| Of {
            op,
            backend: kind.name(),
            batch,
            unit: "per call",
        },
    )
}

/// All requested measurements. Those that are compared are adjacent.
fn ways(options: &Options) -> Vec<Way> {
    let mut ways = Vec::new();
    for &op in SUITE.ops.iter().filter(|op| options.wants(op)) {
        for &batch in options.batches_or(&BATCHES) {
            for kind in Kind::ALL.into_iter().filter(|&kind| options.uses(kind)) {
                // The two ways to wait differ by the same amount for every call.
                let compares = kind == Kind::FlexscIoctl && options.backends.is_empty();
                if !compares || op == "getppid" && batch <= COMPARED {
                    ways.push((op, kind, batch));
                }
            }
        }
    }
    ways
}

struct Bench<'a> {
    kind: Kind,
    cpus: &'a [usize],
    effort: Effort,
}

impl Bench<'_> {
    /// Makes a fresh backend with room for exactly this batch, on the first CPU.
    fn with_backend(&self, op: &str, batch: usize) -> io::Result<f64> {
        let here = &self.cpus[..1];
        let other = self.cpus.get(1).copied();
        match self.kind {
            Kind::Plain => {
                machine::bind(here)?;
                self.one(&mut Plain, op, batch)
            }
            Kind::FlexscInline | Kind::FlexscIoctl => {
                let by = match self.kind {
                    Kind::FlexscIoctl => By::WaiterByIoctl,
                    _ => By::Waiter,
                };
                let mut backend = Flexsc::new(batch, by)?;
                machine::bind(here)?;
                self.one(&mut backend, op, batch)
            }
            // The scheduler decides where the threads run.
            Kind::FlexscThread => self.one(&mut Flexsc::new(batch, By::Thread)?, op, batch),
            Kind::FlexscPoller => {
                let cpu = other.ok_or_else(|| io::Error::other("this needs a second CPU"))?;
                let mut backend = Flexsc::new(batch, By::Poller(cpu))?;
                machine::bind(here)?;
                self.one(&mut backend, op, batch)
            }
            Kind::Uring | Kind::UringDefer | Kind::UringSqpoll => {
                let mode = match self.kind {
                    Kind::Uring => Mode::Simple,
                    Kind::UringDefer => Mode::Defer,
                    _ => Mode::Sqpoll(other),
                };
                let mut backend = Uring::new(batch, mode)?;
                machine::bind(here)?;
                self.one(&mut backend, op, batch)
            }
        }
    }

    fn one(&self, backend: &mut impl Backend, op: &str, batch: usize) -> io::Result<f64> {
        match op {
            "getppid" => {
                let parent = match self.kind {
                    Kind::Uring | Kind::UringDefer | Kind::UringSqpoll => 0,
                    _ => i64::from(nix::unistd::getppid().as_raw()),
                };
                self.simple(backend, batch, parent, |_| Request::Getppid)
            }
            "pread64" => self.zeroes(backend, batch, Request::Pread),
            "read" => self.zeroes(backend, batch, Request::Read),
            "fstat" => {
                let fresh = Fresh::new("some bytes\n")?;
                let file = File::open(fresh.path())?;
                let fd = file.as_raw_fd();
                let mut answers = vec![Status::zeroed(); batch];
                let base = answers.as_mut_ptr();
                self.simple(backend, batch, 0, move |index| {
                    Request::Fstat(fd, base.wrapping_add(index))
                })
            }
            _ => self.open_close(backend, batch),
        }
    }

    /// Calls that read from /dev/zero, each to its own buffer.
    fn zeroes(
        &self,
        backend: &mut impl Backend,
        batch: usize,
        request: impl Fn(i32, *mut u8, usize) -> Request,
    ) -> io::Result<f64> {
        let zero = File::open("/dev/zero")?;
        let fd = zero.as_raw_fd();
        let mut buffers = vec![[1_u8; BYTES]; batch];
        let base = buffers.as_mut_ptr();
        self.simple(backend, batch, BYTES as i64, move |index| {
            request(fd, base.wrapping_add(index).cast(), BYTES)
        })
    }

    /// Calls that all return the same value.
    fn simple(
        &self,
        backend: &mut impl Backend,
        batch: usize,
        expected: i64,
        request: impl Fn(usize) -> Request,
    ) -> io::Result<f64> {
        self.effort.measure(batch, || {
            // All bits in which a result was wrong.
            let mut wrong = 0;
            // SAFETY: descriptors and buffers live until this returns.
            unsafe { backend.batch(batch, &request, |result| wrong |= result ^ expected) }?;
            if wrong == 0 {
                return Ok(());
            }
            Err(io::Error::other(format!(
                "a call did not return {expected}: the result differs in the bits {wrong:#x}"
            )))
        })
    }

    /// Opens a batch of descriptors and closes them. A pair counts as one call.
    fn open_close(&self, backend: &mut impl Backend, batch: usize) -> io::Result<f64> {
        let fresh = Fresh::new("some bytes\n")?;
        let name = CString::new(fresh.path())?;
        let mut open: Vec<RawFd> = Vec::with_capacity(batch);
        self.effort.measure(batch, || {
            let mut wrong = None;
            open.clear();
            // SAFETY: the path lives until this returns.
            unsafe {
                backend.batch(
                    batch,
                    |_| Request::Open(name.as_ptr()),
                    |result| match RawFd::try_from(result) {
                        Ok(fd) if fd >= 0 => open.push(fd),
                        _ => wrong = Some(result),
                    },
                )
            }?;
            // SAFETY: takes descriptors that were opened above.
            unsafe {
                backend.batch(
                    open.len(),
                    |index| Request::Close(open[index]),
                    |result| {
                        if result != 0 {
                            wrong = Some(result);
                        }
                    },
                )
            }?;
            match wrong {
                None => Ok(()),
                Some(result) => Err(io::Error::other(format!("openat or close: {result}"))),
            }
        })
    }
}
