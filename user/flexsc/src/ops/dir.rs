// SPDX-License-Identifier: MIT OR Apache-2.0
//! Listing directories.

use std::ffi::CStr;
use std::os::fd::AsRawFd;

use super::private::{End, Prepared, Sealed};
use super::simple::counts;
use crate::sys::buf::{self, IoBufMut};
use crate::{Fd, calls};

/// Reads entries of a directory
/// ([getdents64(2)](https://man7.org/linux/man-pages/man2/getdents.2.html)). Gives back the
/// number of bytes, which is 0 at the end, and the buffer. [`Dirents::new`] finds the
/// entries in it.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Getdents64<B = Vec<u8>> {
    fd: Fd,
    buf: B,
}

impl<B: IoBufMut> Getdents64<B> {
    /// Reads to the buffer, as [`Read::new`](super::Read::new) does. An entry needs up to 280
    /// bytes; the call fails with EINVAL if there is no room for the next one.
    pub fn new(fd: impl Into<Fd>, buf: B) -> Self {
        Getdents64 { fd: fd.into(), buf }
    }
}

impl<B: IoBufMut> Sealed for Getdents64<B> {
    fn prepare(&mut self) -> Prepared {
        let len = self.buf.room();
        let buf = self.buf.as_mut_ptr().cast();
        Prepared::new(calls::getdents64(self.fd.as_raw_fd(), buf, len))
    }

    fn settle(&mut self, end: &End) {
        buf::filled(&mut self.buf, end);
    }

    fn vec(&mut self) -> Option<&mut Vec<u8>> {
        buf::as_vec(&mut self.buf)
    }
}

counts!(Getdents64: IoBufMut);

/// An entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dirent<'a> {
    /// The number of the file.
    pub ino: u64,
    /// The type of the file, `libc::DT_…`; `libc::DT_UNKNOWN` if the file system does not
    /// say.
    pub kind: u8,
    /// Its name.
    pub name: &'a CStr,
}

/// The entries in the bytes that [`Getdents64`] has read.
#[derive(Clone, Debug)]
pub struct Dirents<'a> {
    rest: &'a [u8],
}

impl<'a> Dirents<'a> {
    /// Iterates over the entries, including `.` and `..`. Ends at bytes that are not an
    /// entry.
    ///
    /// ```
    /// use flexsc::ops::{Dirents, Getdents64};
    /// use flexsc::Ring;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut ring = Ring::open(1)?;
    /// let dir = std::fs::File::open("/proc/self")?;
    /// ring.submit(Getdents64::new(dir, Vec::with_capacity(32768)), 0).unwrap();
    /// let done = ring.next_or_wait()?.expect("one is in flight");
    /// let (count, buf) = done.output::<Getdents64>();
    /// count?;
    /// assert!(Dirents::new(&buf).any(|entry| entry.name == c"stat"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Dirents { rest: bytes }
    }
}

/// Offsets in `struct linux_dirent64`: after the number and the offset of the next entry
/// come this entry's length, its type and its name.
const RECLEN: usize = 16;
const TYPE: usize = 18;
const NAME: usize = 19;

impl<'a> Iterator for Dirents<'a> {
    type Item = Dirent<'a>;

    fn next(&mut self) -> Option<Dirent<'a>> {
        let len = u16::from_ne_bytes(*self.rest.get(RECLEN..)?.first_chunk()?);
        let entry = self.rest.get(..len.into())?;
        let found = Dirent {
            ino: u64::from_ne_bytes(*entry.first_chunk()?),
            kind: *entry.get(TYPE)?,
            name: CStr::from_bytes_until_nul(entry.get(NAME..)?).ok()?,
        };
        self.rest = &self.rest[len.into()..];
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(ino: u64, kind: u8, name: &[u8]) -> Vec<u8> {
        let len = (NAME + name.len()).next_multiple_of(8);
        let mut entry = ino.to_ne_bytes().to_vec();
        entry.extend(1_u64.to_ne_bytes());
        entry.extend((len as u16).to_ne_bytes());
        entry.push(kind);
        entry.extend(name);
        entry.resize(len, 0xff);
        entry
    }

    #[test]
    fn entries_are_found_up_to_the_first_wrong_byte() {
        let mut bytes = entry(7, libc::DT_DIR, b".\0");
        bytes.extend(entry(9, libc::DT_REG, b"a longer name\0"));
        let found = |bytes: &[u8]| {
            let found =
                Dirents::new(bytes).map(|entry| (entry.ino, entry.kind, entry.name.to_owned()));
            found.collect::<Vec<_>>()
        };
        let (first, second) = (
            (7, libc::DT_DIR, c".".to_owned()),
            (9, libc::DT_REG, c"a longer name".to_owned()),
        );
        assert_eq!(found(&bytes), [first.clone(), second]);
        for len in 0..bytes.len() {
            let found = found(&bytes[..len]);
            assert!(
                found.is_empty() || found == [first.clone()],
                "{len}: {found:?}"
            );
        }
        // A length of zero, and a name without an end.
        let mut zero = bytes.clone();
        zero[RECLEN..TYPE].fill(0);
        assert!(found(&zero).is_empty());
        assert!(found(&entry(1, 1, b"endless!")[..24]).is_empty());
    }
}
