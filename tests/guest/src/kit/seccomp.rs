// SPDX-License-Identifier: MIT OR Apache-2.0
//! seccomp filters.

use std::os::fd::OwnedFd;

use nix::errno::Errno;

use super::sys;

const LOAD_WORD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// The offsets in `struct seccomp_data` of the number, the address, and the low half of an
/// argument.
const NUMBER_AT: u32 = 0;
const ADDRESS_AT: u32 = 8;
const fn argument_at(index: u32) -> u32 {
    16 + 8 * index
}

/// The most instructions of a filter: `BPF_MAXINSNS`.
pub const LONGEST: usize = 4096;

/// The error of a filtered call. No other check gives it.
pub const FILTERED: i32 = libc::EUCLEAN;

/// The action of a filter for its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Allow,
    Log,
    Errno(i32),
    Trap,
    /// Fails without a tracer.
    Trace,
    /// Asks a supervisor.
    Notify,
    KillThread,
    KillProcess,
}

impl Action {
    pub const ALL: [Action; 8] = [
        Action::Allow,
        Action::Log,
        Action::Errno(FILTERED),
        Action::Trap,
        Action::Trace,
        Action::Notify,
        Action::KillThread,
        Action::KillProcess,
    ];

    /// Returns true if the action ends the caller.
    pub fn kills(self) -> bool {
        matches!(self, Action::KillThread | Action::KillProcess)
    }

    fn word(self) -> u32 {
        match self {
            Action::Allow => libc::SECCOMP_RET_ALLOW,
            Action::Log => libc::SECCOMP_RET_LOG,
            Action::Errno(errno) => libc::SECCOMP_RET_ERRNO | errno as u32,
            Action::Trap => libc::SECCOMP_RET_TRAP,
            Action::Trace => libc::SECCOMP_RET_TRACE,
            Action::Notify => libc::SECCOMP_RET_USER_NOTIF,
            Action::KillThread => libc::SECCOMP_RET_KILL_THREAD,
            Action::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        }
    }
}

/// A filter: the first rule that applies decides, or else [`Filter::otherwise`].
#[derive(Clone, Default)]
pub struct Filter {
    program: Vec<libc::sock_filter>,
}

impl Filter {
    pub fn new() -> Filter {
        Filter::default()
    }

    fn step(mut self, code: u16, (jt, jf): (u8, u8), k: u32) -> Filter {
        self.program.push(libc::sock_filter { code, jt, jf, k });
        self
    }

    fn load(self, at: u32) -> Filter {
        self.step(LOAD_WORD, (0, 0), at)
    }

    fn skip_unless(self, word: u32, steps: u8) -> Filter {
        self.step(JUMP_IF_EQUAL, (0, steps), word)
    }

    /// Ends the filter with this action for all calls that no rule applies to.
    pub fn otherwise(self, action: Action) -> Filter {
        self.step(RETURN, (0, 0), action.word())
    }

    /// Adds a rule: this action for call `nr`.
    pub fn rule(self, nr: i64, action: Action) -> Filter {
        self.load(NUMBER_AT)
            .skip_unless(nr as u32, 1)
            .otherwise(action)
    }

    /// Adds a rule: this action for call `nr` if the low half of argument `index` is `value`.
    pub fn rule_for(self, nr: i64, index: u32, value: u32, action: Action) -> Filter {
        self.load(NUMBER_AT)
            .skip_unless(nr as u32, 3)
            .load(argument_at(index))
            .skip_unless(value, 1)
            .otherwise(action)
    }

    /// Loads the address of the call, and does nothing with it.
    pub fn asks_for_address(self) -> Filter {
        self.load(ADDRESS_AT)
    }

    /// Loads an argument of each call, so that no answer can be cached, and does nothing with it.
    pub fn asks_for_argument(self) -> Filter {
        self.load(argument_at(5))
    }

    /// Adds rules for numbers of no call, until there is room for just one more step.
    pub fn lengthened(mut self) -> Filter {
        self = self.load(NUMBER_AT);
        while self.program.len() + 3 <= LONGEST {
            let nr = 0x10_0000 + self.program.len() as u32;
            self = self.skip_unless(nr, 1).otherwise(Action::KillProcess);
        }
        self
    }

    /// Installs the filter for this thread, or for all (TSYNC). Returns the result of seccomp(2).
    pub fn install(&self, flags: u32) -> Result<u64, Errno> {
        let mut program = self.program.clone();
        let filter = libc::sock_fprog {
            len: program.len() as u16,
            filter: program.as_mut_ptr(),
        };
        sys::result(plain!(SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        let at = std::ptr::from_ref(&filter);
        sys::result(plain!(
            SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            at
        ))
    }

    /// As [`Filter::install`], for this thread.
    pub fn hold(&self) -> Result<u64, Errno> {
        self.install(0)
    }

    /// As [`Filter::install`], for all threads.
    pub fn hold_for_all(&self) -> Result<u64, Errno> {
        self.install(libc::SECCOMP_FILTER_FLAG_TSYNC as u32)
    }
}

/// Installs a filter for `nr` in this thread, or in all (TSYNC). Returns the descriptor on which a
/// supervisor listens.
pub fn install(nr: i64, action: Action, all_threads: bool) -> Result<Option<OwnedFd>, Errno> {
    let mut flags = 0;
    if all_threads {
        flags |= libc::SECCOMP_FILTER_FLAG_TSYNC as u32;
    }
    if action == Action::Notify {
        flags |= libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;
    }
    let filter = Filter::new().rule(nr, action).otherwise(Action::Allow);
    let fd = filter.install(flags)?;
    Ok((action == Action::Notify).then(|| sys::own(fd as i32)))
}

/// Makes `nr` fail with `FILTERED` from now on, in this thread or in all (TSYNC).
pub fn refuse(nr: i64, all_threads: bool) -> Result<u64, Errno> {
    refuse_with(nr, FILTERED, all_threads)
}

/// As `refuse`, with another error.
pub fn refuse_with(nr: i64, errno: i32, all_threads: bool) -> Result<u64, Errno> {
    install(nr, Action::Errno(errno), all_threads).map(|_| 0)
}
