// SPDX-License-Identifier: MIT OR Apache-2.0
//! seccomp filters that apply to one call number.

use std::os::fd::OwnedFd;

use nix::errno::Errno;

use super::sys;

const LOAD_WORD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

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

/// From now on the filter decides over `nr` in this thread, or in all (TSYNC). Returns the
/// descriptor at which a supervisor listens.
pub fn install(nr: i64, action: Action, all_threads: bool) -> Result<Option<OwnedFd>, Errno> {
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        step(LOAD_WORD, 0, 0, 0),
        step(JUMP_IF_EQUAL, 0, 1, nr as u32),
        step(RETURN, 0, 0, action.word()),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    let mut flags = 0;
    if all_threads {
        flags |= libc::SECCOMP_FILTER_FLAG_TSYNC as u32;
    }
    if action == Action::Notify {
        flags |= libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;
    }
    sys::result(plain!(SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
    let at = std::ptr::from_ref(&filter);
    let ret = plain!(SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, at);
    let fd = sys::result(ret)?;
    Ok((action == Action::Notify).then(|| sys::own(fd as i32)))
}

/// From now on `nr` fails with `FILTERED` in this thread, or in all (TSYNC).
pub fn refuse(nr: i64, all_threads: bool) -> Result<u64, Errno> {
    refuse_with(nr, FILTERED, all_threads)
}

/// As `refuse`, with another error.
pub fn refuse_with(nr: i64, errno: i32, all_threads: bool) -> Result<u64, Errno> {
    install(nr, Action::Errno(errno), all_threads).map(|_| 0)
}
