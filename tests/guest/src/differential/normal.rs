// SPDX-License-Identifier: MIT OR Apache-2.0
//! Normalises what may differ between two runs of the same calls. Everything else must be the same.

/// How a buffer is compared after the call. After a failed call all but `Nothing` are compared byte
/// by byte.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Norm {
    /// Not an output. A change by the call is not looked for here: the call's results would show
    /// it.
    Input,
    /// Byte by byte, including bytes that the call has not written.
    Exact,
    /// Not at all: random numbers, and remaining times.
    Nothing,
    /// Up to the first bytes: the rest is random (the generation number in a file handle).
    First(usize),
    /// `struct stat`: the device (each run has a tmpfs of its own), inode numbers of other file
    /// systems (pipes and sockets count for the whole machine), times that are "now", and all times
    /// of other file systems (nothing sets those of a socket: they are what was in memory).
    Stat,
    /// `struct statx`, as `Stat`, and the mount ID.
    Statx,
    /// These fields.
    Fields(&'static [(usize, Field)]),
    /// `struct inotify_event`s: the cookie of a rename counts for the whole machine.
    Inotify,
    /// `struct sockaddr_in` at this offset: a port that the kernel chose is random.
    Port(usize),
}

/// A field that may differ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Field {
    /// This number of bytes, which differ for the reason given at the structure.
    Any(usize),
    /// Seconds: "now" is another time in each run. Times that were set are compared.
    Seconds,
    /// A process ID: that of the run's own process.
    Pid,
}

/// `struct statfs`: the id is made from the device.
pub const STATFS: Norm = Norm::Fields(&[(56, Field::Any(8))]);
/// `struct signalfd_siginfo`
pub const SIGNALFD: Norm = Norm::Fields(&[(12, Field::Pid)]);
/// `siginfo_t` of a signal from a process
pub const SIGINFO: Norm = Norm::Fields(&[(16, Field::Pid)]);
/// `struct msqid64_ds`
pub const MSQID: Norm = Norm::Fields(&[
    (48, Field::Seconds),
    (56, Field::Seconds),
    (64, Field::Seconds),
    (96, Field::Pid),
    (100, Field::Pid),
]);
/// `struct semid64_ds`
pub const SEMID: Norm = Norm::Fields(&[(48, Field::Seconds), (64, Field::Seconds)]);
/// `struct shmid64_ds`
pub const SHMID: Norm = Norm::Fields(&[
    (56, Field::Seconds),
    (64, Field::Seconds),
    (72, Field::Seconds),
    (80, Field::Pid),
    (84, Field::Pid),
]);
/// `struct flock`: who holds the lock
pub const FLOCK: Norm = Norm::Fields(&[(24, Field::Pid)]);
/// `struct sysinfo`: up-time, load and memory; the rest is a gap
pub const SYSINFO: Norm = Norm::Nothing;
/// A word that is a process ID
pub const PID: Norm = Norm::Fields(&[(0, Field::Pid)]);
/// `struct ucred`
pub const UCRED: Norm = Norm::Fields(&[(0, Field::Pid)]);

/// Properties of a run that the comparison needs.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    pub pid: u32,
    /// Device number of the run's own tmpfs.
    pub dev: u64,
    /// CLOCK_REALTIME in seconds at the beginning.
    pub begun: i64,
}

fn get<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn clear(bytes: &mut [u8], at: usize, len: usize) {
    let end = (at + len).min(bytes.len());
    if at < end {
        bytes[at..end].fill(0);
    }
}

impl Own {
    fn is_now(&self, seconds: i64) -> bool {
        (self.begun - 2..self.begun + 7200).contains(&seconds)
    }

    fn time(&self, bytes: &mut [u8], at: usize, len: usize) {
        if get(bytes, at).is_some_and(|word| self.is_now(i64::from_ne_bytes(word))) {
            clear(bytes, at, len);
        }
    }

    fn pid_at(&self, bytes: &mut [u8], at: usize) {
        if get(bytes, at).is_some_and(|word| u32::from_ne_bytes(word) == self.pid) {
            clear(bytes, at, 4);
        }
    }

    /// Returns true if this is the run's own file system.
    fn inode(&self, bytes: &mut [u8], own: bool, at: usize) {
        if !own {
            clear(bytes, at, 8);
        }
    }

    fn file_time(&self, bytes: &mut [u8], own: bool, at: usize) {
        if own {
            self.time(bytes, at, 16);
        } else {
            clear(bytes, at, 16);
        }
    }

    /// Clears the parts that may differ.
    pub fn normalise(&self, norm: Norm, bytes: &mut [u8]) {
        match norm {
            Norm::Input | Norm::Exact => {}
            Norm::Nothing => bytes.fill(0),
            Norm::First(len) => clear(bytes, len, bytes.len()),
            Norm::Stat => {
                let own = get(bytes, 0).is_some_and(|dev| u64::from_ne_bytes(dev) == self.dev);
                clear(bytes, 0, 8);
                self.inode(bytes, own, 8);
                for at in [72, 88, 104] {
                    self.file_time(bytes, own, at);
                }
            }
            Norm::Statx => {
                let [major, minor] =
                    [136, 140].map(|at| get(bytes, at).map_or(0, u32::from_ne_bytes));
                let own = libc::makedev(major, minor) == self.dev;
                clear(bytes, 136, 16);
                self.inode(bytes, own, 32);
                for at in [64, 80, 96, 112] {
                    self.file_time(bytes, own, at);
                }
            }
            Norm::Fields(fields) => {
                for &(at, field) in fields {
                    match field {
                        Field::Any(len) => clear(bytes, at, len),
                        Field::Seconds => self.time(bytes, at, 8),
                        Field::Pid => self.pid_at(bytes, at),
                    }
                }
            }
            Norm::Inotify => {
                let mut at = 0;
                while let Some(len) = get(bytes, at + 12).map(u32::from_ne_bytes) {
                    clear(bytes, at + 8, 4);
                    // Bytes that were not written are 0xA5: they end the list.
                    at += 16 + len as usize;
                }
            }
            Norm::Port(at) => {
                let inet = get(bytes, at).map(u16::from_ne_bytes) == Some(libc::AF_INET as u16);
                let port = get(bytes, at + 2).map_or(0, u16::from_be_bytes);
                if inet && port >= 32768 {
                    clear(bytes, at + 2, 2);
                }
            }
        }
    }
}
