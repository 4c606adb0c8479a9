// SPDX-License-Identifier: MIT OR Apache-2.0
//! The part of statx that a copy needs.

/// The identity of a file: major and minor number of its device, and its inode.
pub type Id = (u32, u32, u64);

/// The mask for statx.
pub const MASK: u32 = libc::STATX_BASIC_STATS;

/// Type, permissions, owner, size and times.
#[derive(Clone, Copy, Debug)]
pub struct Meta {
    pub id: Id,
    /// Type and permissions.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub links: u32,
    pub size: u64,
    /// Blocks of 512 bytes.
    pub blocks: u64,
    /// The device number of a device node, as mknodat takes it.
    pub device: u32,
    pub accessed: libc::timespec,
    pub modified: libc::timespec,
}

const NEVER: libc::timespec = libc::timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

impl Meta {
    /// A placeholder.
    pub const NONE: Meta = Meta {
        id: (0, 0, 0),
        mode: 0,
        uid: 0,
        gid: 0,
        links: 0,
        size: 0,
        blocks: 0,
        device: 0,
        accessed: NEVER,
        modified: NEVER,
    };

    /// S_IF*
    pub fn kind(&self) -> u32 {
        self.mode & libc::S_IFMT
    }

    pub fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }

    pub fn has_owner_of(&self, other: &Meta) -> bool {
        (self.uid, self.gid) == (other.uid, other.gid)
    }

    /// Returns true if the file takes fewer blocks than its size needs.
    pub fn has_holes(&self) -> bool {
        self.blocks < self.size / 512
    }
}

/// Converts from types that have the fields of the kernel's `struct statx`.
macro_rules! from_statx {
    ($($statx:ty, $timestamp:ty;)*) => {
        $(impl From<&$statx> for Meta {
            fn from(statx: &$statx) -> Self {
                let time = |time: $timestamp| libc::timespec {
                    tv_sec: time.tv_sec,
                    tv_nsec: time.tv_nsec.into(),
                };
                Meta {
                    id: (statx.stx_dev_major, statx.stx_dev_minor, statx.stx_ino),
                    mode: statx.stx_mode.into(),
                    uid: statx.stx_uid,
                    gid: statx.stx_gid,
                    links: statx.stx_nlink,
                    size: statx.stx_size,
                    blocks: statx.stx_blocks,
                    // The kernel's numbers have 12 and 20 bits, which fit into 32.
                    device: libc::makedev(statx.stx_rdev_major, statx.stx_rdev_minor) as u32,
                    accessed: time(statx.stx_atime),
                    modified: time(statx.stx_mtime),
                }
            }
        })*
    };
}

from_statx! {
    libc::statx, libc::statx_timestamp;
    rustix::fs::Statx, rustix::fs::StatxTimestamp;
}

/// Returns the name of a type for messages.
pub fn kind_name(kind: u32) -> &'static str {
    match kind & libc::S_IFMT {
        libc::S_IFREG => "a regular file",
        libc::S_IFDIR => "a directory",
        libc::S_IFLNK => "a symbolic link",
        libc::S_IFIFO => "a FIFO",
        libc::S_IFSOCK => "a socket",
        libc::S_IFBLK => "a block device",
        libc::S_IFCHR => "a character device",
        _ => "of an unknown type",
    }
}
