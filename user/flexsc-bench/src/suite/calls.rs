// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a call costs, by the number of calls that are made at a time.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::process;

use super::{Options, Suite, skip};
use crate::backend::flexsc::{By, Flexsc};
use crate::backend::plain::Plain;
use crate::backend::uring::{Mode, Uring};
use crate::backend::{Backend, Kind};
use crate::machine;
use crate::report::{Report, Row};
use crate::request::{Request, Status};

/// See the module.
pub const SUITE: Suite = Suite {
    name: "calls",
    about: "cost of one call, by the number of calls made at a time",
    ops: &["getppid", "pread64", "fstat", "open-close"],
    run,
};

const BATCHES: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/// Bytes that one pread64 reads.
const BYTES: usize = 64;

fn run(options: &Options, report: &mut Report) -> io::Result<()> {
    let cpus = machine::cpus()?;
    for kind in Kind::ALL.into_iter().filter(|&kind| options.uses(kind)) {
        let bench = Bench {
            kind,
            cpus: &cpus,
            options,
        };
        if let Err(why) = bench.all(report) {
            skip(kind.name(), &why);
        }
    }
    machine::bind(&cpus)
}

struct Bench<'a> {
    kind: Kind,
    cpus: &'a [usize],
    options: &'a Options,
}

impl Bench<'_> {
    fn all(&self, report: &mut Report) -> io::Result<()> {
        for op in SUITE.ops.iter().filter(|op| self.options.wants(op)) {
            for &batch in self.options.batches_or(&BATCHES) {
                machine::bind(self.cpus)?;
                let value = self.with_backend(op, batch)?;
                report.row(&Row {
                    suite: SUITE.name.into(),
                    op: (*op).into(),
                    backend: self.kind.name().into(),
                    cpus: self.cpus.len(),
                    batch,
                    metric: self.options.effort.metric.name().into(),
                    value,
                    unit: "per call".into(),
                })?;
            }
        }
        Ok(())
    }

    /// A fresh backend with room for just that batch, on the first CPU.
    fn with_backend(&self, op: &str, batch: usize) -> io::Result<f64> {
        let here = &self.cpus[..1];
        let other = self.cpus.get(1).copied();
        match self.kind {
            Kind::Plain => {
                machine::bind(here)?;
                self.one(&mut Plain, op, batch)
            }
            Kind::FlexscInline => {
                let mut backend = Flexsc::new(batch, By::Waiter)?;
                machine::bind(here)?;
                self.one(&mut backend, op, batch)
            }
            // The scheduler decides where the threads run.
            Kind::FlexscThread => self.one(&mut Flexsc::new(batch, By::Thread)?, op, batch),
            Kind::FlexscSpin => {
                let cpu = other.ok_or_else(|| io::Error::other("it needs a second CPU"))?;
                let mut backend = Flexsc::new(batch, By::Spinner(cpu))?;
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
            "pread64" => {
                let zero = File::open("/dev/zero")?;
                let fd = zero.as_raw_fd();
                let mut buffers = vec![[1_u8; BYTES]; batch];
                let base = buffers.as_mut_ptr();
                self.simple(backend, batch, BYTES as i64, move |index| {
                    Request::Pread(fd, base.wrapping_add(index).cast(), BYTES)
                })
            }
            "fstat" => {
                let path = fresh_file()?;
                let file = File::open(&path.0)?;
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

    /// Calls that all return the same.
    fn simple(
        &self,
        backend: &mut impl Backend,
        batch: usize,
        expected: i64,
        request: impl Fn(usize) -> Request,
    ) -> io::Result<f64> {
        self.options.effort.measure(batch, || {
            let mut wrong = None;
            // SAFETY: descriptors and buffers live until this returns.
            unsafe {
                backend.batch(batch, &request, |result| {
                    if result != expected {
                        wrong = Some(result);
                    }
                })
            }?;
            match wrong {
                None => Ok(()),
                Some(result) => Err(io::Error::other(format!(
                    "a call returned {result} instead of {expected}"
                ))),
            }
        })
    }

    /// Opens a batch of descriptors, then closes them. A pair counts as one.
    fn open_close(&self, backend: &mut impl Backend, batch: usize) -> io::Result<f64> {
        let path = fresh_file()?;
        let name = CString::new(path.0.as_str())?;
        let mut open: Vec<RawFd> = Vec::with_capacity(batch);
        self.options.effort.measure(batch, || {
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

/// A file in a directory in memory, gone with the value.
struct Fresh(String);

fn fresh_file() -> io::Result<Fresh> {
    let path = format!("/tmp/flexsc-bench.{}", process::id());
    fs::write(&path, "some bytes\n")?;
    Ok(Fresh(path))
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = fs::remove_file(&self.0);
    }
}
