// SPDX-License-Identifier: MIT OR Apache-2.0
//! The operations whose cost is measured, with any backend.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process;

use super::Fresh;
use crate::backend::Backend;
use crate::backend::plain;
use crate::clock::Effort;
use crate::machine;
use crate::request::{Request, Status};

/// The operations. The last three are pairs of calls, and a pair counts as one.
pub const OPS: [&str; 7] = [
    "getppid",
    "pread64",
    "read",
    "fstat",
    "open-close",
    "getdents64",
    "send-recv",
];

/// Bytes that one call reads, sends or receives.
const BYTES: usize = 64;

/// Files in the directory that getdents64 reads, and room for their names.
const FILES: usize = 8;
const NAMES: usize = 1024;

/// Measures an operation. `nop` says that the backend has NOP instead of getppid.
///
/// # Errors
///
/// The backend does not work or does not have the operation, or a call has a wrong result.
pub fn measure(
    effort: Effort,
    nop: bool,
    backend: &mut impl Backend,
    op: &str,
    batch: usize,
) -> io::Result<f64> {
    let operation = Operation { effort, batch };
    match op {
        "getppid" => {
            let parent = match nop {
                true => 0,
                false => i64::from(nix::unistd::getppid().as_raw()),
            };
            operation.simple(backend, parent, |_| Request::Getppid)
        }
        "pread64" => operation.zeroes(backend, Request::Pread),
        "read" => operation.zeroes(backend, Request::Read),
        "fstat" => {
            let fresh = Fresh::new("some bytes\n")?;
            let file = File::open(fresh.path())?;
            let fd = file.as_raw_fd();
            let mut answers = vec![Status::zeroed(); batch];
            let base = answers.as_mut_ptr();
            operation.simple(backend, 0, move |index| {
                Request::Fstat(fd, base.wrapping_add(index))
            })
        }
        "getdents64" => operation.getdents(backend),
        "send-recv" => operation.send_recv(backend),
        _ => operation.open_close(backend),
    }
}

struct Operation {
    effort: Effort,
    batch: usize,
}

/// Fails if a bit of a result was wrong.
fn verdict(wrong: i64, expected: i64) -> io::Result<()> {
    if wrong == 0 {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "a call did not return {expected}: the result differs in the bits {wrong:#x}"
    )))
}

impl Operation {
    /// Calls that all return the same value.
    fn simple(
        &self,
        backend: &mut impl Backend,
        expected: i64,
        request: impl Fn(usize) -> Request,
    ) -> io::Result<f64> {
        self.effort.measure(self.batch, || {
            // All bits in which a result was wrong.
            let mut wrong = 0;
            // SAFETY: descriptors and buffers live until this returns.
            unsafe { backend.batch(self.batch, &request, |result| wrong |= result ^ expected) }?;
            verdict(wrong, expected)
        })
    }

    /// A batch of one call and then a batch of another; all results of a batch are the same.
    fn pair(
        &self,
        backend: &mut impl Backend,
        (first, of_first): (impl Fn(usize) -> Request, i64),
        (second, of_second): (impl Fn(usize) -> Request, i64),
    ) -> io::Result<f64> {
        self.effort.measure(self.batch, || {
            let (mut wrong, mut also_wrong) = (0, 0);
            // SAFETY: descriptors and buffers live until this returns.
            unsafe { backend.batch(self.batch, &first, |result| wrong |= result ^ of_first) }?;
            verdict(wrong, of_first)?;
            let check = |result| also_wrong |= result ^ of_second;
            // SAFETY: as above.
            unsafe { backend.batch(self.batch, &second, check) }?;
            verdict(also_wrong, of_second)
        })
    }

    /// Calls that read from /dev/zero, each to its own buffer.
    fn zeroes(
        &self,
        backend: &mut impl Backend,
        request: impl Fn(i32, *mut u8, usize) -> Request,
    ) -> io::Result<f64> {
        let zero = File::open("/dev/zero")?;
        let fd = zero.as_raw_fd();
        let mut buffers = vec![[1_u8; BYTES]; self.batch];
        let base = buffers.as_mut_ptr();
        self.simple(backend, BYTES as i64, move |index| {
            request(fd, base.wrapping_add(index).cast(), BYTES)
        })
    }

    /// Rewinds directories and reads them, each with its own position.
    fn getdents(&self, backend: &mut impl Backend) -> io::Result<f64> {
        let directory = Directory::new()?;
        self.want_files(1)?;
        let open = |_| File::open(&directory.0);
        let files: Vec<_> = (0..self.batch).map(open).collect::<io::Result<_>>()?;
        let mut buffers = vec![[0_u8; NAMES]; self.batch];
        let base = buffers.as_mut_ptr();
        let fd = |index: usize| files[index].as_raw_fd();
        let read =
            |index: usize| Request::Getdents(fd(index), base.wrapping_add(index).cast(), NAMES);
        // SAFETY: descriptor and buffer live until this returns.
        let bytes = unsafe { plain::call(read(0)) };
        // Each of them has a header of 19 bytes.
        if bytes < 19 * (FILES + 2) as i64 {
            return Err(io::Error::other(format!("getdents64 returned {bytes}")));
        }
        self.pair(
            backend,
            (|index: usize| Request::Rewind(fd(index)), 0),
            (read, bytes),
        )
    }

    /// Sends to sockets and receives at their other ends.
    fn send_recv(&self, backend: &mut impl Backend) -> io::Result<f64> {
        self.want_files(2)?;
        let connect = |_| UnixStream::pair();
        let pairs: Vec<_> = (0..self.batch).map(connect).collect::<io::Result<_>>()?;
        let text = [7_u8; BYTES];
        let mut buffers = vec![[0_u8; BYTES]; self.batch];
        let base = buffers.as_mut_ptr();
        let value = self.pair(
            backend,
            (
                |index: usize| Request::Send(pairs[index].0.as_raw_fd(), text.as_ptr(), BYTES),
                BYTES as i64,
            ),
            (
                |index: usize| {
                    let buffer = base.wrapping_add(index).cast();
                    Request::Recv(pairs[index].1.as_raw_fd(), buffer, BYTES)
                },
                BYTES as i64,
            ),
        )?;
        if buffers.iter().any(|buffer| *buffer != text) {
            return Err(io::Error::other("a socket received something else"));
        }
        Ok(value)
    }

    /// Opens a batch of descriptors and closes them.
    fn open_close(&self, backend: &mut impl Backend) -> io::Result<f64> {
        let fresh = Fresh::new("some bytes\n")?;
        let name = CString::new(fresh.path())?;
        self.want_files(1)?;
        let mut open: Vec<RawFd> = Vec::with_capacity(self.batch);
        self.effort.measure(self.batch, || {
            let mut wrong = None;
            open.clear();
            // SAFETY: the path lives until this returns.
            unsafe {
                backend.batch(
                    self.batch,
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

    /// Raises the limit for so many descriptors for each call, and some more.
    fn want_files(&self, each: usize) -> io::Result<()> {
        machine::want_files((each * self.batch + 64) as u64)
    }
}

/// A directory with some files, which is removed when the value is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> io::Result<Directory> {
        let directory = Directory(format!("/tmp/flexsc-bench-dir.{}", process::id()).into());
        fs::create_dir_all(&directory.0)?;
        for file in 0..FILES {
            File::create(directory.0.join(format!("file-{file}")))?;
        }
        Ok(directory)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // It may already be gone.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::plain::Plain;
    use crate::backend::uring::{Mode, Uring};
    use crate::clock::Metric;

    const EFFORT: Effort = Effort {
        metric: Metric::Ns,
        samples: 2,
        calls: 8,
        mark: false,
    };

    #[test]
    fn every_operation_works_plainly() {
        for op in OPS {
            for batch in [1, 5] {
                let value = measure(EFFORT, false, &mut Plain, op, batch);
                assert!(value.as_ref().is_ok_and(|&ns| ns > 0.0), "{op}: {value:?}");
            }
        }
    }

    #[test]
    fn a_wrong_result_is_an_error() {
        // Plain has no NOP, which returns 0.
        let why = measure(EFFORT, true, &mut Plain, "getppid", 1).unwrap_err();
        assert!(why.to_string().contains("did not return 0"));
    }

    #[test]
    fn io_uring_reports_what_it_does_not_have() {
        // Some machines refuse rings.
        let Ok(mut ring) = Uring::new(4, Mode::Simple) else {
            return;
        };
        for op in OPS {
            let value = measure(EFFORT, true, &mut ring, op, 4);
            assert_eq!(value.is_ok(), op != "getdents64", "{op}: {value:?}");
        }
    }
}
