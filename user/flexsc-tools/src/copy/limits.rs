// SPDX-License-Identifier: MIT OR Apache-2.0
//! Limits on open files and directories.

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Standard streams, engine, inherited descriptors.
const SPARE: u64 = 64;
/// Directories that may be open at once if the limit allows it.
const DIRS: u64 = 1024;

/// How many jobs and directories are allowed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Jobs, of two descriptors each.
    pub jobs: usize,
    /// Directories, of two descriptors each. More are opened only if there is nothing else
    /// to do, for the way down a deep tree.
    pub dirs: usize,
}

impl Limits {
    /// Computes the limits for `have` descriptors, with as many jobs as wanted if possible.
    fn with(wanted: usize, have: u64) -> Self {
        if have >= needed(wanted) {
            let dirs = DIRS as usize;
            return Limits { jobs: wanted, dirs };
        }
        // Half of them are for jobs and a quarter for directories; the rest is for the way
        // down a deep tree.
        let have = have.saturating_sub(SPARE) as usize;
        Limits {
            jobs: wanted.min(have / 4).max(2),
            dirs: (have / 8).max(1),
        }
    }
}

fn needed(wanted: usize) -> u64 {
    2 * (wanted as u64 + DIRS) + SPARE
}

/// Raises the limit on descriptors as far as needed and possible, and grows the descriptor
/// table at once while it is not shared. Later, with syscall threads, each growth would
/// wait for all of them.
pub fn reserve(wanted: usize) -> Limits {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    let needed = needed(wanted);
    let mut have = soft;
    if soft < needed {
        let more = needed.min(hard);
        have = setrlimit(Resource::RLIMIT_NOFILE, more, hard).map_or(soft, |()| more);
    }
    let last = i32::try_from(have.min(needed) - 1).unwrap_or(1023);
    // If this fails, the table grows when necessary.
    if let Ok(fd) = fcntl(std::io::stderr(), FcntlArg::F_DUPFD_CLOEXEC(last)) {
        let _ = nix::unistd::close(fd);
    }
    Limits::with(wanted, have)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_stay_below_the_number_of_descriptors() {
        assert_eq!(Limits::with(511, 4096).jobs, 511);
        for have in [256, 1024, 2048, 4096, 1 << 20] {
            let Limits { jobs, dirs } = Limits::with(511, have);
            assert!(2 * (jobs + dirs) as u64 + SPARE <= have, "{have}");
            assert!(jobs >= 2 && dirs >= 1);
        }
    }
}
