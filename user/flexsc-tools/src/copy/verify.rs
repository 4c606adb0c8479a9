// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compares two trees, byte by byte, with plain calls of the standard library.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What was compared, and what differs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub files: u64,
    pub dirs: u64,
    pub links: u64,
    pub bytes: u64,
    pub differences: Vec<String>,
}

const BUFFER: usize = 256 << 10;

impl Verdict {
    /// Compares the trees at `left` and `right`.
    pub fn of(left: &Path, right: &Path) -> io::Result<Self> {
        let mut verdict = Verdict::default();
        let mut buffers = (vec![0; BUFFER], vec![0; BUFFER]);
        verdict.dir(left, right, &mut buffers)?;
        Ok(verdict)
    }

    fn differ(&mut self, path: &Path, how: &str) {
        self.differences.push(format!("{}: {how}", path.display()));
    }

    fn dir(
        &mut self,
        left: &Path,
        right: &Path,
        buffers: &mut (Vec<u8>, Vec<u8>),
    ) -> io::Result<()> {
        self.dirs += 1;
        let (ours, mut theirs) = (list(left)?, list(right)?);
        for (name, meta) in ours {
            let (left, right) = (left.join(&name), right.join(&name));
            let kind = meta.file_type();
            if !(kind.is_file() || kind.is_dir() || kind.is_symlink()) {
                continue; // Not copied.
            }
            let Some(other) = theirs.remove(&name) else {
                self.differ(&left, "is missing in the copy");
                continue;
            };
            if kind != other.file_type() {
                self.differ(&left, "is of another kind in the copy");
                continue;
            }
            if !kind.is_symlink()
                && (meta.permissions().mode() ^ other.permissions().mode()) & 0o777 != 0
            {
                self.differ(&left, "has another mode in the copy");
            }
            if kind.is_dir() {
                self.dir(&left, &right, buffers)?;
            } else if kind.is_symlink() {
                self.links += 1;
                if fs::read_link(&left)? != fs::read_link(&right)? {
                    self.differ(&left, "points elsewhere in the copy");
                }
            } else {
                self.file(&left, &right, buffers)?;
            }
        }
        for name in theirs.keys() {
            self.differ(&right.join(name), "is not in the source");
        }
        Ok(())
    }

    fn file(
        &mut self,
        left: &Path,
        right: &Path,
        (a, b): &mut (Vec<u8>, Vec<u8>),
    ) -> io::Result<()> {
        self.files += 1;
        let (mut ours, mut theirs) = (File::open(left)?, File::open(right)?);
        let mut at = 0;
        loop {
            let (m, n) = (read_full(&mut ours, a)?, read_full(&mut theirs, b)?);
            if a[..m] != b[..n] {
                let same = a[..m].iter().zip(&b[..n]).take_while(|(a, b)| a == b);
                let first = at + same.count() as u64;
                self.differ(left, &format!("differs in the copy from byte {first} on"));
                return Ok(());
            }
            if m == 0 {
                self.bytes += at;
                return Ok(());
            }
            at += m as u64;
        }
    }
}

fn list(dir: &Path) -> io::Result<BTreeMap<OsString, Metadata>> {
    fs::read_dir(dir)?
        .map(|entry| {
            let entry = entry?;
            Ok((entry.file_name(), entry.metadata()?))
        })
        .collect()
}

/// Reads until the buffer is full or the file at its end.
fn read_full(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match file.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
        }
    }
    Ok(len)
}
