// SPDX-License-Identifier: GPL-2.0

//! The commands of ioctl(2) that may be posted: number, name and class.
//!
//! A driver may do anything with a command: look at the calling task (job control of terminals,
//! Binder, kcov, tun), and wait for an unbounded time (TIOCMIWAIT, KVM_RUN, FIFREEZE). While the
//! owner waits inside such a call in WAIT, the program gets no results of its other entries. So
//! this list has only commands that are known to return soon; all others need a plain call.
//!
//! `ioctl_rows!(m)` passes all rows to the macro `m`; `docs/syscalls.md` is made from them too.

use super::{Class, Reason};

/// Magic of this module's own commands. If they are posted, they fail at once with `EBUSY`.
const FLEXSC_IOC_MAGIC: u32 = 0xDA;
const FLEXSC_IOC_LAST: u32 = 10;
const FLEXSC_WAIT: u32 = 2;
const FLEXSC_WAIT_FAST: u32 = 3;

macro_rules! ioctl_rows {
    ($each:ident) => {
        $each! {
            // Commands that the kernel executes for all files, without asking a driver.
            (0x0000_0002, FIGETBSZ, Inline),
            (0x0000_5421, FIONBIO, Inline),
            (0x0000_5450, FIONCLEX, Inline),
            (0x0000_5451, FIOCLEX, Inline),
            (0x0000_5452, FIOASYNC, OwnThread),
            (0x0000_5460, FIOQSIZE, Inline),
            (0x4004_9409, FICLONE, Inline),
            (0x4020_940D, FICLONERANGE, Inline),
            (0xC018_9436, FIDEDUPERANGE, Inline),
            // File systems.
            (0x4008_6602, FS_IOC_SETFLAGS, Inline),
            (0x401C_5820, FS_IOC_FSSETXATTR, Inline),
            (0x8008_6601, FS_IOC_GETFLAGS, Inline),
            (0x8008_7601, FS_IOC_GETVERSION, OwnThread),
            (0x801C_581F, FS_IOC_FSGETXATTR, Inline),
            (0xC020_660B, FS_IOC_FIEMAP, Inline),
            // Terminals: commands that only read memory, and job control.
            (0x0000_5401, TCGETS, Inline),
            (0x0000_5405, TCGETA, OwnThread),
            (0x0000_540F, TIOCGPGRP, OwnThread),
            (0x0000_5410, TIOCSPGRP, OwnThread),
            (0x0000_5411, TIOCOUTQ, Inline),
            (0x0000_5413, TIOCGWINSZ, Inline),
            (0x0000_5414, TIOCSWINSZ, OwnThread),
            (0x0000_541B, FIONREAD, Inline),
            (0x0000_5429, TIOCGSID, OwnThread),
            (0x4004_5431, TIOCSPTLCK, OwnThread),
            (0x8004_5430, TIOCGPTN, OwnThread),
            (0x8004_5439, TIOCGPTLCK, OwnThread),
            // Sockets and network interfaces.
            (0x0000_8901, FIOSETOWN, OwnThread),
            (0x0000_8902, SIOCSPGRP, OwnThread),
            (0x0000_8903, FIOGETOWN, OwnThread),
            (0x0000_8904, SIOCGPGRP, OwnThread),
            (0x0000_8905, SIOCATMARK, OwnThread),
            (0x0000_8906, SIOCGSTAMP_OLD, OwnThread),
            (0x0000_8907, SIOCGSTAMPNS_OLD, OwnThread),
            (0x0000_8910, SIOCGIFNAME, OwnThread),
            (0x0000_8912, SIOCGIFCONF, OwnThread),
            (0x0000_8913, SIOCGIFFLAGS, OwnThread),
            (0x0000_8915, SIOCGIFADDR, OwnThread),
            (0x0000_8917, SIOCGIFDSTADDR, OwnThread),
            (0x0000_8919, SIOCGIFBRDADDR, OwnThread),
            (0x0000_891B, SIOCGIFNETMASK, OwnThread),
            (0x0000_8921, SIOCGIFMTU, OwnThread),
            (0x0000_8927, SIOCGIFHWADDR, OwnThread),
            (0x0000_8933, SIOCGIFINDEX, OwnThread),
            (0x8010_8906, SIOCGSTAMP_NEW, OwnThread),
            (0x8010_8907, SIOCGSTAMPNS_NEW, OwnThread),
            // Sizes of block devices.
            (0x0000_125E, BLKROGET, OwnThread),
            (0x0000_1260, BLKGETSIZE, OwnThread),
            (0x0000_1268, BLKSSZGET, OwnThread),
            (0x0000_1278, BLKIOMIN, OwnThread),
            (0x0000_1279, BLKIOOPT, OwnThread),
            (0x0000_127A, BLKALIGNOFF, OwnThread),
            (0x0000_127B, BLKPBSZGET, OwnThread),
            (0x0000_127E, BLKROTATIONAL, OwnThread),
            (0x8008_1270, BLKBSZGET, OwnThread),
            (0x8008_1272, BLKGETSIZE64, OwnThread),
        }
    };
}

macro_rules! class_of {
    ($(($cmd:literal, $name:ident, $class:ident),)*) => {
        /// Returns the class of an ioctl with this command.
        pub(super) fn classify(cmd: u32) -> Class {
            match cmd {
                $($cmd => Class::$class,)*
                _ => unlisted(cmd),
            }
        }
    };
}
ioctl_rows!(class_of);

fn unlisted(cmd: u32) -> Class {
    let (magic, nr) = ((cmd >> 8) & 0xFF, cmd & 0xFF);
    // WAIT in an entry would wait for itself.
    let waits = matches!(nr, FLEXSC_WAIT | FLEXSC_WAIT_FAST);
    if magic == FLEXSC_IOC_MAGIC && nr <= FLEXSC_IOC_LAST && !waits {
        Class::OwnThread
    } else {
        Class::Refused(Reason::Thread)
    }
}
