// SPDX-License-Identifier: MIT OR Apache-2.0
//! The header of a message of sendmsg(2) and recvmsg(2), with descriptors as ancillary data
//! ([unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html), SCM_RIGHTS).

#![expect(
    unsafe_code,
    reason = "a structure of pointers, and received descriptors"
)]

use std::mem;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use super::buf::Slices;

/// Bytes of a `cmsghdr`: its length, its level and its type.
const HEAD: usize = size_of::<libc::cmsghdr>();

/// Bytes of a descriptor in a control message.
const FD: usize = size_of::<RawFd>();

/// A message: addresses of its buffers, its address, and its ancillary data.
#[derive(Debug, Default)]
pub(crate) struct Message {
    header: Option<Box<libc::msghdr>>,
    slices: Slices,
    /// Aligned as a `cmsghdr`.
    control: Vec<u64>,
}

// SAFETY: only the kernel follows the pointers, and the operation that has them owns the
// memory.
unsafe impl Send for Message {}

impl Message {
    /// Makes the header. The control message has `control` bytes. Returns its address.
    pub(crate) fn fill(
        &mut self,
        slices: Slices,
        (name, name_len): (*mut libc::sockaddr, libc::socklen_t),
        control: (Vec<u64>, usize),
    ) -> *mut libc::msghdr {
        self.slices = slices;
        let len = control.1;
        self.control = control.0;
        // SAFETY: zeros are a valid value.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        name.expose_provenance();
        header.msg_name = name.cast();
        header.msg_namelen = name_len;
        header.msg_iov = self.slices.as_ptr().cast_mut();
        header.msg_iovlen = self.slices.count() as usize;
        header.msg_iov.expose_provenance();
        if len > 0 {
            header.msg_control = self.control.as_mut_ptr().cast();
            header.msg_controllen = len;
            header.msg_control.expose_provenance();
        }
        &raw mut **self.header.insert(Box::new(header))
    }

    /// The length of the address that the kernel has written.
    pub(crate) fn name_len(&self) -> libc::socklen_t {
        self.header.as_ref().map_or(0, |header| header.msg_namelen)
    }

    /// The flags that the kernel has written, `libc::MSG_…`.
    pub(crate) fn flags(&self) -> libc::c_int {
        self.header.as_ref().map_or(0, |header| header.msg_flags)
    }

    /// Takes the descriptors that a successful recvmsg(2) has received.
    ///
    /// # Safety
    ///
    /// The kernel has written the message, and nothing else owns its descriptors.
    pub(crate) unsafe fn take_descriptors(&mut self) -> Vec<OwnedFd> {
        let len = self
            .header
            .as_ref()
            .map_or(0, |header| header.msg_controllen);
        let control = mem::take(&mut self.control);
        let bytes: Vec<u8> = control.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let fds = descriptors(&bytes[..len.min(bytes.len())]);
        let own = |fd| {
            // SAFETY: the caller's promise.
            unsafe { OwnedFd::from_raw_fd(fd) }
        };
        fds.into_iter().map(own).collect()
    }
}

/// Makes a control message with these descriptors, and its length in bytes; none if there are
/// no descriptors.
pub(crate) fn rights(fds: &[RawFd]) -> (Vec<u64>, usize) {
    if fds.is_empty() {
        return (Vec::new(), 0);
    }
    let len = HEAD + fds.len() * FD;
    let mut bytes = len.to_ne_bytes().to_vec();
    bytes.extend(libc::SOL_SOCKET.to_ne_bytes());
    bytes.extend(libc::SCM_RIGHTS.to_ne_bytes());
    bytes.extend(fds.iter().flat_map(|fd| fd.to_ne_bytes()));
    bytes.resize(len.next_multiple_of(size_of::<u64>()), 0);
    let words = bytes.chunks_exact(size_of::<u64>());
    let words = words.map(|word| u64::from_ne_bytes(array(word))).collect();
    (words, len)
}

/// Makes room for a control message with this many descriptors.
pub(crate) fn room(fds: usize) -> (Vec<u64>, usize) {
    if fds == 0 {
        return (Vec::new(), 0);
    }
    let len = HEAD + fds * FD;
    (vec![0; len.div_ceil(size_of::<u64>())], len)
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}

/// Finds the descriptors in control messages.
fn descriptors(mut bytes: &[u8]) -> Vec<RawFd> {
    let mut found = Vec::new();
    while bytes.len() >= HEAD {
        let len = usize::from_ne_bytes(array(&bytes[..8]));
        let level = libc::c_int::from_ne_bytes(array(&bytes[8..12]));
        let kind = libc::c_int::from_ne_bytes(array(&bytes[12..HEAD]));
        if len < HEAD || len > bytes.len() {
            break;
        }
        if (level, kind) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            let fds = bytes[HEAD..len].chunks_exact(FD);
            found.extend(fds.map(|fd| RawFd::from_ne_bytes(array(fd))));
        }
        let next = len.next_multiple_of(size_of::<u64>()).min(bytes.len());
        bytes = &bytes[next..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn descriptors_are_written_as_the_kernel_reads_them() {
        for count in 0..5 {
            let fds: Vec<RawFd> = (3..3 + count).collect();
            let (words, len) = rights(&fds);
            let most = (count as usize * FD) as libc::c_uint;
            // SAFETY: computes a number.
            let expected = unsafe { libc::CMSG_LEN(most) } as usize;
            assert_eq!(len, if count == 0 { 0 } else { expected });
            assert_eq!(descriptors(&bytes(&words)[..len]), fds);
            assert_eq!(room(fds.len()).1, len);
        }
    }

    #[test]
    fn other_messages_are_skipped_and_broken_ones_end_it() {
        let mut all = bytes(&[20, 1 | (2 << 32), 0]);
        all.extend(bytes(&rights(&[7]).0));
        assert_eq!(descriptors(&all), [7]);
        assert_eq!(descriptors(&bytes(&[3, 0, 0])), []);
        assert_eq!(descriptors(&bytes(&[1 << 40, 0])), []);
    }
}
