// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one plain call leaves in the caches of the processor model: the calls of FlexSC's Table 1.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::ptr;

use super::{Fresh, Options, Suite};
use crate::clock::Effort;
use crate::marker;
use crate::report::{Report, Row};

/// See the module.
pub const SUITE: Suite = Suite {
    name: "footprint",
    about: "what one plain call evicts in the processor model (needs --mark)",
    ops: &["stat", "pread", "pwrite", "open-close", "mmap-munmap"],
    run,
};

/// Bytes that pread and pwrite transfer, and that mmap maps.
const BYTES: usize = 4096;

fn run(options: &Options, report: &mut Report) -> io::Result<()> {
    let effort = options.effort;
    if !effort.mark {
        return Err(io::Error::other("the suite footprint needs --mark"));
    }
    let fresh = Fresh::new(&"x".repeat(2 * BYTES))?;
    let name = CString::new(fresh.path())?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(fresh.path())?;
    let mut target = Target {
        name,
        file,
        bytes: vec![1; BYTES],
    };
    for &op in SUITE.ops.iter().filter(|op| options.wants(op)) {
        marker::begin_label(&[SUITE.name, op, "plain"], &[1, 1]);
        let value = measure(&effort, || target.call(op))?;
        report.row(&Row {
            suite: SUITE.name.into(),
            op: op.into(),
            backend: "plain".into(),
            cpus: 1,
            batch: 1,
            metric: effort.metric.name().into(),
            value,
            unit: "per call".into(),
        })?;
    }
    Ok(())
}

/// Like [`Effort::measure`], with the model's caches full of other lines before each call.
fn measure(effort: &Effort, mut call: impl FnMut() -> io::Result<()>) -> io::Result<f64> {
    for _ in 0..16 {
        call()?;
    }
    marker::add_calls(effort.calls);
    let sample = marker::region(|| {
        let start = effort.metric.now();
        for _ in 0..effort.calls {
            marker::prime();
            call()?;
        }
        Ok(effort.metric.now() - start)
    })?;
    Ok(sample as f64 / effort.calls as f64)
}

/// What the calls work on.
struct Target {
    name: CString,
    file: File,
    bytes: Vec<u8>,
}

impl Target {
    fn call(&mut self, op: &str) -> io::Result<()> {
        let fd = self.file.as_raw_fd();
        let result = match op {
            "stat" => {
                let mut status = std::mem::MaybeUninit::<libc::stat>::uninit();
                // SAFETY: the path and the room for the answer live during the call.
                let failed = unsafe { libc::stat(self.name.as_ptr(), status.as_mut_ptr()) };
                failed as isize
            }
            "pread" => {
                let room = self.bytes.as_mut_ptr().cast();
                // SAFETY: there is room for so many bytes.
                unsafe { libc::pread(fd, room, BYTES, 0) }
            }
            "pwrite" => {
                let bytes = self.bytes.as_ptr().cast();
                // SAFETY: there are so many bytes.
                unsafe { libc::pwrite(fd, bytes, BYTES, 0) }
            }
            "open-close" => {
                // SAFETY: the path lives during the call.
                let opened = unsafe { libc::open(self.name.as_ptr(), libc::O_RDONLY) };
                if opened < 0 {
                    return Err(io::Error::last_os_error());
                }
                // SAFETY: this descriptor was opened here.
                let failed = unsafe { libc::close(opened) };
                failed as isize
            }
            _ => return self.map(),
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Maps a part of the file and removes the mapping.
    fn map(&self) -> io::Result<()> {
        let (read, private) = (libc::PROT_READ, libc::MAP_PRIVATE);
        let fd = self.file.as_raw_fd();
        // SAFETY: makes a new mapping at an address that the kernel chooses.
        let mapped = unsafe { libc::mmap(ptr::null_mut(), BYTES, read, private, fd, 0) };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: nothing refers to the mapping.
        if unsafe { libc::munmap(mapped, BYTES) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}
