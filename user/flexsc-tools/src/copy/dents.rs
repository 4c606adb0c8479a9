// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parses the output of getdents64(2).

/// Offsets of the fields of `struct linux_dirent64`.
const RECLEN: usize = 16;
const TYPE: usize = 18;
const NAME: usize = 19;

/// One entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// DT_*
    pub kind: u8,
    /// Without the final zero.
    pub name: &'a [u8],
    /// Length of the whole entry in bytes.
    pub len: usize,
}

/// Returns the first entry in `bytes`, or `None` at the end or if it is malformed.
pub fn first(bytes: &[u8]) -> Option<Entry<'_>> {
    let len = bytes.get(RECLEN..TYPE)?;
    let len = usize::from(u16::from_ne_bytes(len.try_into().ok()?));
    let entry = bytes.get(..len)?;
    let name = entry.get(NAME..)?;
    let end = name.iter().position(|&byte| byte == 0)?;
    Some(Entry {
        kind: entry[TYPE],
        name: &name[..end],
        len,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: u8, name: &[u8], len: u16) -> Vec<u8> {
        let mut bytes = vec![0; usize::from(len)];
        bytes[RECLEN..TYPE].copy_from_slice(&len.to_ne_bytes());
        bytes[TYPE] = kind;
        bytes[NAME..NAME + name.len()].copy_from_slice(name);
        bytes
    }

    #[test]
    fn entries_follow_each_other() {
        let mut bytes = entry(libc::DT_REG, b"one", 24);
        bytes.extend(entry(libc::DT_DIR, b"three", 32));
        let one = first(&bytes).unwrap();
        assert_eq!(
            (one.kind, one.name, one.len),
            (libc::DT_REG, &b"one"[..], 24)
        );
        let two = first(&bytes[one.len..]).unwrap();
        assert_eq!(
            (two.kind, two.name, two.len),
            (libc::DT_DIR, &b"three"[..], 32)
        );
        assert_eq!(first(&bytes[56..]), None);
    }

    #[test]
    fn nonsense_ends_the_list() {
        assert_eq!(first(&[0; 64]), None);
        assert_eq!(first(&entry(0, b"x", 24)[..23]), None);
        let mut open_end = entry(0, b"x", 24);
        open_end[NAME..].fill(b'x');
        assert_eq!(first(&open_end), None);
    }
}
