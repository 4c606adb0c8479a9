// SPDX-License-Identifier: MIT OR Apache-2.0
//! The order in which the calls of a batch start: as posted, grouped by number, or calls
//! for syscall threads first.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use flexsc::{Call, Order};

use super::{Fresh, Options, Suite, skip, write_spread};
use crate::backend::flexsc::{By, Flexsc, call_of, failed};
use crate::clock::Spread;
use crate::machine;
use crate::report::{Report, Row};
use crate::request::{Request, Status};

/// See the module.
pub const SUITE: Suite = Suite {
    name: "order",
    about: "batches of different calls, by the order in which they start",
    ops: &["inline-mix", "thread-mix"],
    run,
};

const BATCHES: [usize; 3] = [16, 64, 256];

const BYTES: usize = 64;

const ORDERS: [(&str, Order); 3] = [
    ("order-posted", Order::Posted),
    ("order-number", Order::Number),
    ("order-io-first", Order::IoFirst),
];

fn run(options: &Options, report: &mut Report) -> io::Result<()> {
    let cpus = machine::cpus()?;
    for op in SUITE.ops.iter().filter(|op| options.wants(op)) {
        for (name, order) in ORDERS {
            for &batch in options.batches_or(&BATCHES) {
                let spread = match mix(options, op, order, batch) {
                    Ok(spread) => spread,
                    Err(why) => {
                        skip(name, &why);
                        break;
                    }
                };
                let row = Row {
                    suite: SUITE.name.into(),
                    op: (*op).into(),
                    backend: name.into(),
                    cpus: cpus.len(),
                    batch,
                    metric: options.effort.metric.name().into(),
                    value: f64::NAN,
                    unit: "per call".into(),
                };
                write_spread(report, options.effort.metric, row, spread)?;
            }
        }
    }
    Ok(())
}

/// Four different calls in turn. In `thread-mix` the last of every eight calls is a read
/// that a syscall thread must make.
fn mix(options: &Options, op: &str, order: Order, batch: usize) -> io::Result<Spread> {
    let threads = op == "thread-mix";
    let fresh = Fresh::new("some bytes\n")?;
    let (file, zero) = (File::open(fresh.path())?, File::open("/dev/zero")?);
    let mut answers = vec![Status::zeroed(); batch];
    let mut buffers = vec![[0_u8; BYTES]; batch];
    let (answers, buffers) = (answers.as_mut_ptr(), buffers.as_mut_ptr());
    let call = |index: usize| -> Call {
        let buffer = buffers.wrapping_add(index).cast();
        let pread = Request::Pread(zero.as_raw_fd(), buffer, BYTES);
        if threads && index % 8 == 7 {
            return call_of(pread).asynchronous();
        }
        call_of(match index % 4 {
            0 => Request::Getppid,
            1 => pread,
            2 => Request::Fstat(file.as_raw_fd(), answers.wrapping_add(index)),
            _ => Request::Close(-1),
        })
    };
    let mut backend = Flexsc::new(batch, By::Waiter)?;
    backend.engine().set_order(order).map_err(failed)?;
    options.effort.spread(batch, || {
        // SAFETY: files and buffers live until this returns.
        unsafe { backend.stage(batch, call) }?;
        let (mut results, mut failures) = (0, 0);
        backend.take(batch, |result| {
            results += 1;
            failures += usize::from(result < 0);
        })?;
        // Every close of -1 fails, and nothing else.
        let closes = (0..batch).filter(|index| index % 4 == 3 && !(threads && index % 8 == 7));
        if (results, failures) == (batch, closes.count()) {
            Ok(())
        } else {
            Err(io::Error::other(format!(
                "{results} results of {batch}, {failures} of them failures"
            )))
        }
    })
}
