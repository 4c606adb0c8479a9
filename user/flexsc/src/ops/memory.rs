// SPDX-License-Identifier: MIT OR Apache-2.0
//! Advising the kernel about memory, and flushing it to its file.

use std::io;

use libc::c_int;

use super::private::{End, Prepared, Sealed};
use super::{Mapping, Operation};
use crate::calls;
use crate::sys::buf::IoBufMut;

/// How a program will use memory
/// ([madvise(2)](https://man7.org/linux/man-pages/man2/madvise.2.html)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
#[non_exhaustive]
pub enum Advice {
    /// In no special way.
    Normal = libc::MADV_NORMAL,
    /// In random order: read nothing ahead.
    Random = libc::MADV_RANDOM,
    /// From the start to the end: read ahead much.
    Sequential = libc::MADV_SEQUENTIAL,
    /// Soon: read it now.
    WillNeed = libc::MADV_WILLNEED,
    /// Not any more: anonymous memory becomes zero, and that of a file is read again.
    DontNeed = libc::MADV_DONTNEED,
    /// Use huge pages if possible.
    HugePage = libc::MADV_HUGEPAGE,
    /// Use no huge pages.
    NoHugePage = libc::MADV_NOHUGEPAGE,
    /// Rarely: take it first if memory is short.
    Cold = libc::MADV_COLD,
    /// Rarely: write it out now.
    PageOut = libc::MADV_PAGEOUT,
    /// Make all of it present for reads.
    PopulateRead = libc::MADV_POPULATE_READ,
    /// Make all of it present for writes.
    PopulateWrite = libc::MADV_POPULATE_WRITE,
}

/// Tells the kernel how the program will use a mapping
/// ([madvise(2)](https://man7.org/linux/man-pages/man2/madvise.2.html)). Gives the mapping
/// back.
///
/// ```
/// use flexsc::ops::{Advice, Madvise, Mapping};
/// use flexsc::Ring;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut ring = Ring::open(1)?;
/// let madvise = Madvise::new(Mapping::anonymous(1 << 20)?, Advice::Sequential);
/// ring.submit(madvise, 0).unwrap();
/// let done = ring.next_or_wait()?.expect("one is in flight");
/// let (advised, mapping) = done.output::<Madvise>();
/// advised?;
/// assert_eq!(mapping.len(), 1 << 20);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Madvise {
    mapping: Mapping,
    advice: Advice,
}

impl Madvise {
    /// Gives this advice about the whole mapping.
    pub fn new(mapping: Mapping, advice: Advice) -> Self {
        Madvise { mapping, advice }
    }
}

impl Sealed for Madvise {
    fn prepare(&mut self) -> Prepared {
        let (base, len) = (self.mapping.as_mut_ptr(), self.mapping.room());
        Prepared::new(calls::madvise(base.cast(), len, self.advice as c_int))
    }
}

impl Operation for Madvise {
    type Output = (io::Result<()>, Mapping);

    fn output(self, end: End) -> Self::Output {
        (end.unit(), self.mapping)
    }
}

/// Writes a mapping of a file to its disk
/// ([msync(2)](https://man7.org/linux/man-pages/man2/msync.2.html)). Gives the mapping back.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Msync {
    mapping: Mapping,
    flags: c_int,
}

impl Msync {
    /// Writes all changed pages, and ends when they are on disk (MS_SYNC).
    pub fn new(mapping: Mapping) -> Self {
        Msync {
            mapping,
            flags: libc::MS_SYNC,
        }
    }

    /// Does not wait for the disk (MS_ASYNC).
    pub fn without_wait(mut self) -> Self {
        self.flags = libc::MS_ASYNC;
        self
    }
}

impl Sealed for Msync {
    fn prepare(&mut self) -> Prepared {
        let (base, len) = (self.mapping.as_mut_ptr(), self.mapping.room());
        Prepared::new(calls::msync(base.cast(), len, self.flags))
    }
}

impl Operation for Msync {
    type Output = (io::Result<()>, Mapping);

    fn output(self, end: End) -> Self::Output {
        (end.unit(), self.mapping)
    }
}
