// SPDX-License-Identifier: GPL-2.0

//! Decides who executes an entry: the current task, a syscall thread of a pool, the owner, or
//! no task. The decision depends on the entry, on the role of the task that claimed it and on a few
//! [`Facts`], and it changes nothing: `run` executes, retries and publishes.
//!
//! Pure logic, shared with the tests of the host.

use crate::{
    defs::Role,
    policy::{self, Class, Reason},
};

/// What an entry asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) nr: u16,
    pub(crate) args: &'a [u64; 6],
    /// The pool that the entry names; 0 if it names none.
    pub(crate) pool: u8,
    /// The entry has FLEXSC_ENTRY_ASYNC.
    pub(crate) is_async: bool,
    /// The entry has no unknown flag, and its pool exists.
    pub(crate) is_valid: bool,
    /// The program has called CANCEL for it.
    pub(crate) is_cancelled: bool,
}

/// How the execution of an entry begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Alone, or as the first of its chain.
    First,
    /// In a chain, behind other entries.
    Follows,
    /// Again, after a signal has interrupted its call.
    Again,
}

/// Facts that a decision looks up only if it depends on them.
pub(crate) trait Facts {
    /// Returns true if a read from or a write to `fd` may wait without a bound.
    fn may_block(&self, fd: u32) -> bool;

    /// Returns true if the owner has claimed the entry in WAIT, has left it to a syscall thread by
    /// chance, and can still execute it.
    fn is_left_by_owner(&self) -> bool;

    /// Returns true if calls that may ask a file system currently make their owner wait for long.
    fn are_files_slow(&self) -> bool;

    /// Returns true if a call on `fd` may keep the owner waiting for a daemon, a server or a frozen
    /// file system, and a syscall thread can make it.
    fn keeps_waiting(&self, fd: u32) -> bool;
}

/// Who executes an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The current task executes the call, which is of this class.
    Execute(Class),
    /// The current task, the owner, executes the call, which is of this class, if it need not wait.
    /// Otherwise it waits for its file without a thread, or a syscall thread of the first pool
    /// executes the entry.
    Try(Class),
    /// A syscall thread of this pool executes the entry.
    Offload(u8),
    /// A syscall thread of the first pool executes the entry, because calls of its kind have made
    /// the owner wait for long. If no thread can execute the entry, the owner does.
    OffloadSlow,
    /// As [`Decision::OffloadSlow`], because the file system of the call's file may not answer.
    Leave,
    /// The owner executes the entry in its next WAIT.
    Return,
    /// No task executes the call.
    Refuse(Why),
}

/// Why a call is not executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// CANCEL was called first.
    Cancelled,
    /// The entry has an unknown flag, names a pool that does not exist, or takes a result that does
    /// not exist.
    BadEntry,
    /// No call has this number.
    UnknownCall,
    /// The call begins, ends or replaces a thread or a process.
    Life,
    /// The call acts on the calling thread, and a syscall thread has claimed it.
    Thread,
    /// The owner's filters of seccomp do not allow the call, or ptrace or user dispatch decide about
    /// the owner's calls.
    Guarded,
    /// A syscall thread does not share the tables or groups that the owner's call would use.
    Context,
    /// The owner is exiting.
    Exiting,
    /// An entry before it in its chain has failed.
    ChainFailed,
}

impl Request<'_> {
    /// Returns true if the program itself has sent the entry to syscall threads. Within a chain the
    /// first entry decides.
    fn is_for_threads(&self, start: Start) -> bool {
        (self.pool != 0 || self.is_async) && start != Start::Follows
    }
}

/// Decides quickly about an entry without flags, pool and taken results: returns true if the task
/// that claimed the entry executes its call, as [`decide`] would say.
#[inline(always)]
pub(crate) fn is_plain_call(nr: u16) -> bool {
    policy::is_inline(nr)
}

/// As [`is_plain_call`], for the owner and a call that depends on the file in its first argument:
/// returns true if the owner executes it unless the file [may block](Facts::may_block).
#[inline(always)]
pub(crate) fn is_file_call(nr: u16) -> bool {
    policy::is_by_file(nr)
}

/// Calls that wait for files or for a time, and for nothing else: poll, nanosleep, clock_nanosleep and
/// ppoll.
fn waits_for_time(nr: u16) -> bool {
    matches!(nr, 7 | 35 | 230 | 271)
}

/// Returns true if the owner executes a call of this class on its own stack: it does not sleep
/// there for an unbounded time.
fn runs_inline(class: Class, facts: &impl Facts) -> bool {
    match class {
        Class::Inline | Class::OwnThread => true,
        Class::ByFile(a, b) => !facts.may_block(a) && (a == b || !facts.may_block(b)),
        _ => false,
    }
}

/// Decides who executes an entry that a task in `role` has claimed.
#[inline(always)]
pub(crate) fn decide(
    request: &Request<'_>,
    role: Role,
    start: Start,
    facts: &impl Facts,
) -> Decision {
    // Checked first: CANCEL marks the entry with a flag that no program may set.
    if request.is_cancelled && start != Start::Again {
        return Decision::Refuse(Why::Cancelled);
    }
    if !request.is_valid {
        return Decision::Refuse(Why::BadEntry);
    }
    let class = match policy::classify(request.nr, request.args) {
        Class::Refused(Reason::Life) => return Decision::Refuse(Why::Life),
        Class::Refused(Reason::Thread) => return Decision::Refuse(Why::Thread),
        Class::Unknown => return Decision::Refuse(Why::UnknownCall),
        class => class,
    };
    if role.is_owner() {
        decide_for_owner(request, class, start, facts)
    } else {
        decide_for_thread(request, class, role, start, facts)
    }
}

#[inline(always)]
fn decide_for_owner(
    request: &Request<'_>,
    class: Class,
    start: Start,
    facts: &impl Facts,
) -> Decision {
    if request.is_for_threads(start) {
        return Decision::Offload(request.pool);
    }
    if !runs_inline(class, facts) {
        return decide_to_try(request.nr, class, facts);
    }
    let may_be_slow = class != Class::OwnThread && start != Start::Again;
    if may_be_slow && facts.are_files_slow() && policy::files::asks_files(request.nr) {
        return Decision::OffloadSlow;
    }
    if may_be_slow && may_keep_waiting(request, facts) {
        return Decision::Leave;
    }
    Decision::Execute(class)
}

/// Returns true if the file system of a file that the call acts on may not answer.
#[inline(always)]
fn may_keep_waiting(request: &Request<'_>, facts: &impl Facts) -> bool {
    match policy::files::files_of(request.nr, request.args) {
        Some((a, b)) => facts.keeps_waiting(a) || a != b && facts.keeps_waiting(b),
        None => false,
    }
}

/// Decides for the owner about a call that may wait but may also be ready to return at once.
#[inline(always)]
fn decide_to_try(nr: u16, class: Class, facts: &impl Facts) -> Decision {
    match class {
        Class::MayBlock if waits_for_time(nr) => Decision::Try(class),
        // A try may sleep for the lock of a socket or a pipe, which another call holds while it
        // waits for a file system with its buffer.
        Class::ByFile(a, b) if a == b && !facts.are_files_slow() => Decision::Try(class),
        _ => Decision::Offload(0),
    }
}

#[inline(always)]
fn decide_for_thread(
    request: &Request<'_>,
    class: Class,
    role: Role,
    start: Start,
    facts: &impl Facts,
) -> Decision {
    if class == Class::OwnThread {
        return if !request.is_for_threads(start) && facts.is_left_by_owner() {
            Decision::Return
        } else {
            Decision::Refuse(Why::Thread)
        };
    }
    // An entry that has reached a pool stays there, even if it names another pool by now.
    if role.pool().is_none() && request.pool != 0 && start != Start::Follows {
        return Decision::Offload(request.pool);
    }
    Decision::Execute(class)
}

/// Returns true if the owner must execute an entry because the kernel has refused its call, of
/// `class`, to a syscall thread before doing anything.
pub(crate) fn returns_to_owner(
    request: &Request<'_>,
    (class, start): (Class, Start),
    role: Role,
    why: Why,
    facts: &impl Facts,
) -> bool {
    let by_owner = match why {
        // An owner with tables of its own sees other files, so it decides itself.
        Why::Context => matches!(class, Class::Inline | Class::ByFile(..)),
        Why::Thread => runs_inline(class, facts),
        _ => false,
    };
    by_owner && !role.is_owner() && !request.is_for_threads(start) && facts.is_left_by_owner()
}
