// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls that need each other's results: as plain calls, posted one after the other, and as
//! chains.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;

use flexsc::{Call, Chain, Wait, calls};

use super::{Fresh, Options, Suite, skip, write_spread};
use crate::backend::Backend;
use crate::backend::flexsc::{By, Flexsc, call_of, failed};
use crate::backend::plain::Plain;
use crate::clock::Spread;
use crate::machine;
use crate::report::{Report, Row};
use crate::request::Request;

/// See the module.
pub const SUITE: Suite = Suite {
    name: "chains",
    about: "open-read-close: three calls, or one chain; a loop of reads to the end of a file",
    ops: &["open-read-close", "read-to-end"],
    run,
};

/// Number of chains at a time: chains of three calls each, all on one page.
const BATCHES: [usize; 5] = [1, 2, 4, 8, 16];

/// Bytes that one read reads, and the number of reads until the file ends.
const BYTES: usize = 64;
const READS: usize = 32;

const WAYS: [&str; 3] = ["plain", "flexsc-inline", "flexsc-chain"];

fn run(options: &Options, report: &mut Report) -> io::Result<()> {
    let cpus = machine::cpus()?;
    for op in SUITE.ops.iter().filter(|op| options.wants(op)) {
        let looped = *op == "read-to-end";
        let batches: &[usize] = if looped { &[READS] } else { &BATCHES };
        for way in WAYS {
            for &batch in options.batches_or(batches) {
                machine::bind(&cpus[..1])?;
                let measured = match (looped, way) {
                    (false, _) => open_read_close(options, way, batch),
                    (true, "flexsc-inline") => continue,
                    (true, _) => read_to_end(options, way),
                };
                let spread = match measured {
                    Ok(spread) => spread,
                    Err(why) => {
                        skip(&format!("{op} by {way}"), &why);
                        break;
                    }
                };
                let row = Row {
                    suite: SUITE.name.into(),
                    op: (*op).into(),
                    backend: way.into(),
                    cpus: cpus.len(),
                    batch,
                    metric: options.effort.metric.name().into(),
                    value: f64::NAN,
                    unit: if looped { "per read" } else { "per file" }.into(),
                };
                write_spread(report, options.effort.metric, row, spread)?;
            }
        }
    }
    machine::bind(&cpus)
}

fn wrong(what: &str) -> io::Error {
    io::Error::other(format!("{what} has another result than it should have"))
}

fn open_read_close(options: &Options, way: &str, batch: usize) -> io::Result<Spread> {
    let file = Fresh::new(&"x".repeat(BYTES))?;
    let path = CString::new(file.path())?;
    let mut buffers = vec![[0_u8; BYTES]; batch];
    let base = buffers.as_mut_ptr();
    let buffer = move |index: usize| base.wrapping_add(index).cast::<u8>();
    match way {
        "plain" => options.effort.spread(batch, || {
            // SAFETY: path and buffers live until this returns.
            unsafe { in_rounds(&mut Plain, batch, &path, buffer) }
        }),
        "flexsc-inline" => {
            let mut backend = Flexsc::new(batch, By::Waiter)?;
            options.effort.spread(batch, || {
                // SAFETY: as above.
                unsafe { in_rounds(&mut backend, batch, &path, buffer) }
            })
        }
        _ => {
            let chain = |index| {
                let read = call_of(Request::Read(-1, buffer(index), BYTES));
                Chain::new()
                    .then(call_of(Request::Open(path.as_ptr())))
                    .then(read.take(0, 1))
                    .then(call_of(Request::Close(-1)).take(0, 2))
            };
            let chains: Vec<_> = (0..batch).map(chain).collect();
            let mut backend = Flexsc::new(3 * batch, By::Waiter)?;
            options.effort.spread(batch, || {
                let mut sum = 0;
                // SAFETY: as above.
                let results = unsafe { post(&mut backend, &chains, |result| sum += result) }?;
                // Descriptors are small and not negative, so no other results have this
                // sum.
                let bytes = (batch * BYTES) as i64;
                if results == 3 * batch && (bytes..bytes + 4096 * batch as i64).contains(&sum) {
                    Ok(())
                } else {
                    Err(wrong("a chain"))
                }
            })
        }
    }
}

/// All opens, then all reads, then all closes.
unsafe fn in_rounds(
    backend: &mut impl Backend,
    batch: usize,
    path: &CString,
    buffer: impl Fn(usize) -> *mut u8,
) -> io::Result<()> {
    let mut files = [0_i32; 64];
    let mut opened = 0;
    let mut good = true;
    // SAFETY: the caller's promise.
    unsafe {
        backend.batch(
            batch,
            |_| Request::Open(path.as_ptr()),
            |fd| {
                good &= fd >= 0;
                files[opened] = fd as i32;
                opened += 1;
            },
        )
    }?;
    // SAFETY: the caller's promise.
    unsafe {
        backend.batch(
            batch,
            |index| Request::Read(files[index], buffer(index), BYTES),
            |len| good &= len == BYTES as i64,
        )
    }?;
    // SAFETY: takes descriptors that were opened above.
    unsafe {
        backend.batch(
            batch,
            |index| Request::Close(files[index]),
            |result| good &= result == 0,
        )
    }?;
    if good { Ok(()) } else { Err(wrong("a call")) }
}

/// Posts chains, waits for them and takes all results. Returns the number of results.
///
/// # Safety
///
/// The memory that the calls point to must be valid until this returns.
#[inline(always)]
unsafe fn post(
    backend: &mut Flexsc,
    chains: &[Chain],
    mut take: impl FnMut(i64),
) -> io::Result<usize> {
    let pages = backend.pages();
    for chain in chains {
        // SAFETY: the caller's promise.
        unsafe { pages.stage_chain(chain) }.map_err(failed)?;
    }
    pages.wait(Wait::all()).map_err(failed)?;
    let mut count = 0;
    for done in pages.drain() {
        take(done.result);
        count += 1;
    }
    Ok(count)
}

/// Reads a file from its beginning until a read returns 0.
fn read_to_end(options: &Options, way: &str) -> io::Result<Spread> {
    let fresh = Fresh::new(&"x".repeat(BYTES * (READS - 1)))?;
    let file = File::open(fresh.path())?;
    let fd = file.as_raw_fd();
    let mut buffer = [0_u8; BYTES];
    let read = calls::read(fd, buffer.as_mut_ptr().cast(), BYTES);
    let rewind = calls::lseek(fd, 0, libc::SEEK_SET);
    let all = fs::metadata(fresh.path())?.len() as i64;
    if way == "plain" {
        let make = |call: &Call| {
            // SAFETY: the buffer lives until this returns.
            unsafe { call.make() }
        };
        return options.effort.spread(READS, || {
            let mut sum = make(&rewind);
            loop {
                match make(&read) {
                    0 => break,
                    len => sum += len,
                }
            }
            if sum == all {
                Ok(())
            } else {
                Err(wrong("read"))
            }
        });
    }
    let chains = [Chain::new().then(rewind).repeat(read.sum())];
    let mut backend = Flexsc::new(2, By::Waiter)?;
    options.effort.spread(READS, || {
        let mut sum = 0;
        // SAFETY: the buffer lives until this returns.
        unsafe { post(&mut backend, &chains, |result| sum += result) }?;
        if sum == all {
            Ok(())
        } else {
            Err(wrong("a loop"))
        }
    })
}
