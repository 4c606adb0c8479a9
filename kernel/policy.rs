// SPDX-License-Identifier: GPL-2.0

//! The syscall policy: who may execute a posted call, decided by its number and, for some calls,
//! by its arguments.
//!
//! The rows are in `policy/table.rs`, one for each number of x86-64; `docs/syscalls.md` shows them
//! with their reasons. This file turns a row into a [`Class`]. Pure logic, shared with the host's
//! tests: no allocation, no locks, no user memory. The policy never reads what a pointer argument
//! points to, so a call whose class depends on such memory gets the stricter class.
//!
//! The numbers and structures that the rules name come from the kernel's UAPI headers.

// A crate that includes this file by its path needs these paths.
#[path = "policy/files.rs"]
pub(crate) mod files;
#[macro_use]
#[path = "policy/ioctl.rs"]
mod ioctl;
#[macro_use]
#[path = "policy/table.rs"]
mod table;

/// Who may execute a posted call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Any thread gives the same answer, and the call never waits for an event: the owner in WAIT
    /// executes it.
    Inline,
    /// Any thread gives the same answer. The call may wait without a bound if one of these two file
    /// descriptors (often the same one twice) refers to a file that has a `poll` operation and is
    /// not in non-blocking mode; otherwise as [`Class::Inline`].
    ByFile(u32, u32),
    /// Any thread gives the same answer, but the call may wait without a bound: a syscall thread
    /// executes it.
    MayBlock,
    /// Only the owner itself, executing inline, gives the right answer. A syscall thread that gets
    /// the call returns it to the owner or refuses it with [`Reason::Thread`].
    OwnThread,
    /// No thread can execute the call from a page.
    Refused(Reason),
    /// There is no such call: its result is `-ENOSYS`, and nothing is executed.
    Unknown,
}

/// Why the policy refuses a call, as in `enum flexsc_reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// `FLEXSC_REASON_LIFE`
    Life,
    /// `FLEXSC_REASON_THREAD`
    Thread,
}

/// A row of the table: how a call gets its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Rule {
    /// No call has this number.
    Gap,

    // The same class for all arguments.
    /// [`Class::Inline`]
    Inline,
    /// [`Class::MayBlock`]
    MayBlock,
    /// [`Class::OwnThread`]
    OwnThread,
    /// [`Class::Refused`] with [`Reason::Life`]
    Life,
    /// [`Class::Refused`] with [`Reason::Thread`]
    Thread,

    // By file.
    /// The file in argument 0.
    File0,
    /// The files in arguments 0 and 1.
    Files01,
    /// The files in arguments 0 and 2.
    Files02,

    // By arguments, as the row in the table says.
    /// `bpf`
    Bpf,
    /// `clock_gettime`, `timer_create`
    Clock0,
    /// `clock_nanosleep`
    ClockNanosleep,
    /// `close_range`
    CloseRange,
    /// `epoll_pwait`
    EpollPwait,
    /// `epoll_wait`
    EpollWait,
    /// `fcntl`
    Fcntl,
    /// `flock`
    Flock,
    /// `futex`
    Futex,
    /// `getrusage`
    Getrusage,
    /// `io_getevents`
    IoGetevents,
    /// `io_pgetevents`
    IoPgetevents,
    /// `io_uring_enter`
    IoUringEnter,
    /// `io_uring_register`
    IoUringRegister,
    /// `ioctl`
    Ioctl,
    /// `ioprio_get`, `ioprio_set`
    IoprioWho,
    /// `sendmsg`, `recvmsg`: `MSG_*` in argument 2
    MsgFlags2,
    /// `sendto`, `recvfrom` and others: `MSG_*` in argument 3
    MsgFlags3,
    /// `msgsnd`: `IPC_NOWAIT` in argument 3
    Msgsnd,
    /// `msgrcv`: `IPC_NOWAIT` in argument 4
    Msgrcv,
    /// `msync`
    Msync,
    /// `pidfd_send_signal`
    PidfdSendSignal,
    /// `poll`
    Poll,
    /// `prctl`
    Prctl,
    /// `getpriority`, `setpriority`
    PriorityWho,
    /// `mmap`, `mprotect`, `pkey_mprotect`: `PROT_*` in argument 2
    Prot2,
    /// `preadv2`, `pwritev2`: `RWF_*` in argument 5
    RwFlags5,
    /// `ppoll`: signal mask in argument 3
    SigMask3,
    /// `epoll_pwait2`: signal mask in argument 4
    SigMask4,
    /// `pselect6`: signal mask in argument 5
    SigMask5,
    /// `sync_file_range`
    SyncFileRange,
    /// `syslog`
    Syslog,
    /// `tee`
    Tee,
    /// `vmsplice`
    Vmsplice,
    /// `wait4`: options in argument 2
    Wait4,
    /// `waitid`: options in argument 3
    Waitid,
    /// Calls whose argument 0 names a task; 0 is the caller.
    ZeroPid,
}

/// More than the highest number in the table, and a power of two.
pub(crate) const LEN: usize = 1024;

macro_rules! build_table {
    ($(($nr:literal, $name:ident, $rule:ident, $why:literal),)*) => {
        static TABLE: [Rule; LEN] = {
            let mut table = [Rule::Gap; LEN];
            $(table[$nr] = Rule::$rule;)*
            table
        };
    };
}
syscall_rows!(build_table);

/// For each number below `LEN`: [`files::quick`] for [`is_inline`], 2 for [`is_by_file`], else 0.
pub(crate) static QUICK: [u8; LEN] = {
    let (mut quick, mut nr) = ([0; LEN], 0);
    while nr < LEN {
        let inline = matches!(TABLE[nr], Rule::Inline) as u8 * files::quick(nr as u16);
        quick[nr] = inline + 2 * matches!(TABLE[nr], Rule::File0) as u8;
        nr += 1;
    }
    quick
};

/// Returns true if call `nr` is [`Class::Inline`] whatever its arguments are.
#[inline(always)]
pub(crate) fn is_inline(nr: u16) -> bool {
    // Needs no bounds check: `LEN` is a power of two.
    TABLE[usize::from(nr) % LEN] == Rule::Inline && usize::from(nr) < LEN
}

/// Returns true if call `nr` is [`Class::ByFile`] by its argument 0, whatever the others are.
#[inline(always)]
pub(crate) fn is_by_file(nr: u16) -> bool {
    TABLE[usize::from(nr) % LEN] == Rule::File0 && usize::from(nr) < LEN
}

/// Returns the class of call `nr` with `args`.
#[inline(always)]
pub(crate) fn classify(nr: u16, args: &[u64; 6]) -> Class {
    if is_inline(nr) {
        return Class::Inline;
    }
    if usize::from(nr) >= LEN {
        return Class::Unknown;
    }
    // No bounds check, as above; a speculative access stays within the table too.
    match TABLE[usize::from(nr) % LEN] {
        Rule::File0 => one_file(args),
        rule => apply(rule, args),
    }
}

fn one_file(args: &[u64; 6]) -> Class {
    let fd = args[0] as u32;

    Class::ByFile(fd, fd)
}

/// The rows that [`classify`] does not decide at once.
#[inline(never)]
fn apply(rule: Rule, args: &[u64; 6]) -> Class {
    match rule {
        Rule::Gap => Class::Unknown,
        Rule::Inline => Class::Inline,
        Rule::MayBlock => Class::MayBlock,
        Rule::OwnThread => Class::OwnThread,
        Rule::Life => Class::Refused(Reason::Life),
        Rule::Thread => Class::Refused(Reason::Thread),

        Rule::File0 => one_file(args),
        Rule::Files01 => Class::ByFile(args[0] as u32, args[1] as u32),
        Rule::Files02 => Class::ByFile(args[0] as u32, args[2] as u32),

        Rule::Bpf if args[0] as u32 == BPF_PROG_TEST_RUN => Class::Refused(Reason::Thread),
        Rule::Bpf => Class::Inline,
        Rule::Clock0 => own_if(is_cpu_clock_of_task(args[0])),
        Rule::ClockNanosleep if is_cpu_clock_of_task(args[0]) => Class::Refused(Reason::Thread),
        Rule::ClockNanosleep => Class::MayBlock,
        Rule::CloseRange => own_if(has(args[2], CLOSE_RANGE_UNSHARE)),
        Rule::EpollPwait => masked(args[4], args[3] as u32 == 0),
        Rule::EpollWait => inline_if(args[3] as u32 == 0),
        Rule::Fcntl => fcntl(args),
        Rule::Flock => inline_if(has(args[1], LOCK_NB | LOCK_UN)),
        Rule::Futex => futex(args[1] as u32),
        Rule::Getrusage => own_if(args[0] as u32 == RUSAGE_THREAD),
        Rule::IoGetevents => inline_if(args[1] == 0),
        Rule::IoPgetevents => masked(args[5], args[1] == 0),
        Rule::IoUringEnter => io_uring_enter(args),
        Rule::Ioctl => ioctl::classify(args[1] as u32),
        Rule::IoUringRegister => io_uring_register(args[1] as u32),
        Rule::IoprioWho => own_if(args[0] as u32 == IOPRIO_WHO_PROCESS && args[1] as u32 == 0),
        Rule::MsgFlags2 if has(args[2], MSG_DONTWAIT) => Class::Inline,
        Rule::MsgFlags3 if has(args[3], MSG_DONTWAIT) => Class::Inline,
        Rule::MsgFlags2 | Rule::MsgFlags3 => one_file(args),
        Rule::Msgsnd => inline_if(has(args[3], IPC_NOWAIT)),
        Rule::Msgrcv => inline_if(has(args[4], IPC_NOWAIT)),
        Rule::Msync => inline_if(!has(args[2], MS_SYNC)),
        Rule::PidfdSendSignal => own_if(args[2] != 0),
        Rule::Poll => inline_if(args[2] as u32 == 0),
        Rule::Prctl => prctl(args[0] as u32),
        Rule::PriorityWho => own_if(args[0] as u32 == PRIO_PROCESS && args[1] as u32 == 0),
        Rule::Prot2 => own_if(args[2] & PROT_MASK == PROT_EXEC),
        Rule::RwFlags5 if has(args[5], RWF_NOWAIT) => Class::Inline,
        Rule::RwFlags5 => one_file(args),
        Rule::SigMask3 => masked(args[3], false),
        Rule::SigMask4 => masked(args[4], false),
        Rule::SigMask5 => masked(args[5], false),
        Rule::SyncFileRange => inline_if(!has(args[3], SYNC_FILE_RANGE_WAIT)),
        Rule::Syslog => inline_if(args[0] as u32 != SYSLOG_ACTION_READ),
        Rule::Tee if has(args[3], SPLICE_F_NONBLOCK) => Class::Inline,
        Rule::Tee => Class::ByFile(args[0] as u32, args[1] as u32),
        Rule::Vmsplice => inline_if(has(args[3], SPLICE_F_NONBLOCK)),
        Rule::Wait4 => wait(args[2]),
        Rule::Waitid => wait(args[3]),
        Rule::ZeroPid => own_if(args[0] as u32 == 0),
    }
}

const BPF_PROG_TEST_RUN: u32 = 10;
const CLOSE_RANGE_UNSHARE: u64 = 1 << 1;
const IOPRIO_WHO_PROCESS: u32 = 1;
const IPC_NOWAIT: u64 = 0o4000;
const LOCK_NB: u64 = 4;
const LOCK_UN: u64 = 8;
const MSG_DONTWAIT: u64 = 0x40;
const MS_SYNC: u64 = 4;
const PRIO_PROCESS: u32 = 0;
const PROT_EXEC: u64 = 4;
const PROT_MASK: u64 = 7;
const RUSAGE_THREAD: u32 = 1;
const RWF_NOWAIT: u64 = 8;
const SPLICE_F_NONBLOCK: u64 = 2;
/// `SYNC_FILE_RANGE_WAIT_BEFORE` and `SYNC_FILE_RANGE_WAIT_AFTER`
const SYNC_FILE_RANGE_WAIT: u64 = 1 | 4;
const SYSLOG_ACTION_READ: u32 = 2;

fn has(word: u64, flags: u64) -> bool {
    word & flags != 0
}

fn own_if(own: bool) -> Class {
    if own {
        Class::OwnThread
    } else {
        Class::Inline
    }
}

fn inline_if(inline: bool) -> Class {
    if inline {
        Class::Inline
    } else {
        Class::MayBlock
    }
}

/// Classifies a call that waits and, if `mask` is set, sets the caller's signal mask meanwhile.
/// `at_once` is true if the call returns without waiting.
///
/// The mask belongs to the thread that takes the signals. So a syscall thread must not set it, and
/// the owner must not sleep in an entry.
fn masked(mask: u64, at_once: bool) -> Class {
    match (mask != 0, at_once) {
        (true, true) => Class::OwnThread,
        (true, false) => Class::Refused(Reason::Thread),
        (false, at_once) => inline_if(at_once),
    }
}

/// Returns true if this clock is the CPU time of the calling thread, or of a task that the clock id
/// names.
///
/// A negative clock id holds either a file descriptor or the number of a task. The caller's own
/// number is not equivalent to a sibling's.
fn is_cpu_clock_of_task(clock: u64) -> bool {
    const CLOCK_THREAD_CPUTIME_ID: i32 = 3;
    const CLOCKFD_MASK: i32 = 7;
    const CLOCKFD: i32 = 3;

    let clock = clock as i32;
    clock == CLOCK_THREAD_CPUTIME_ID || (clock < 0 && clock & CLOCKFD_MASK != CLOCKFD)
}

fn wait(options: u64) -> Class {
    const WNOHANG: u64 = 1;
    const WNOTHREAD: u64 = 0x2000_0000;

    match (has(options, WNOTHREAD), has(options, WNOHANG)) {
        (true, true) => Class::OwnThread,
        (true, false) => Class::Refused(Reason::Thread),
        (false, at_once) => inline_if(at_once),
    }
}

fn fcntl(args: &[u64; 6]) -> Class {
    const F_SETFL: u32 = 4;
    const F_SETLKW: u32 = 7;
    const F_OFD_SETLKW: u32 = 38;
    const F_SETLEASE: u32 = 1024;
    const F_NOTIFY: u32 = 1026;
    const O_ASYNC: u64 = 0o20000;

    match args[1] as u32 {
        F_SETLKW | F_OFD_SETLKW => Class::MayBlock,
        // These commands make the calling thread the receiver of the file's signals.
        F_SETLEASE | F_NOTIFY => Class::OwnThread,
        F_SETFL => own_if(has(args[2], O_ASYNC)),
        _ => Class::Inline,
    }
}

fn futex(op: u32) -> Class {
    const FUTEX_PRIVATE_FLAG: u32 = 128;
    const FUTEX_CLOCK_REALTIME: u32 = 256;
    const FUTEX_WAIT: u32 = 0;
    const FUTEX_LOCK_PI: u32 = 6;
    const FUTEX_UNLOCK_PI: u32 = 7;
    const FUTEX_TRYLOCK_PI: u32 = 8;
    const FUTEX_WAIT_BITSET: u32 = 9;
    const FUTEX_WAIT_REQUEUE_PI: u32 = 11;
    const FUTEX_CMP_REQUEUE_PI: u32 = 12;
    const FUTEX_LOCK_PI2: u32 = 13;

    match op & !(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME) {
        FUTEX_WAIT | FUTEX_WAIT_BITSET => Class::MayBlock,
        // A PI futex holds the number of the thread that owns it.
        FUTEX_UNLOCK_PI | FUTEX_TRYLOCK_PI | FUTEX_CMP_REQUEUE_PI => Class::OwnThread,
        FUTEX_LOCK_PI | FUTEX_LOCK_PI2 | FUTEX_WAIT_REQUEUE_PI => Class::Refused(Reason::Thread),
        _ => Class::Inline,
    }
}

fn io_uring_enter(args: &[u64; 6]) -> Class {
    const IORING_ENTER_GETEVENTS: u64 = 1;
    const IORING_ENTER_SQ_WAIT: u64 = 4;

    let (min_complete, flags) = (args[2] as u32, args[3]);
    let waits = has(flags, IORING_ENTER_GETEVENTS) && min_complete != 0;
    if waits || has(flags, IORING_ENTER_SQ_WAIT) {
        Class::Refused(Reason::Thread)
    } else {
        Class::OwnThread
    }
}

fn io_uring_register(op: u32) -> Class {
    const IORING_UNREGISTER_BUFFERS: u32 = 1;
    const IORING_UNREGISTER_FILES: u32 = 3;
    const IORING_REGISTER_SYNC_CANCEL: u32 = 24;
    const IORING_REGISTER_USE_REGISTERED_RING: u32 = 1 << 31;

    match op & !IORING_REGISTER_USE_REGISTERED_RING {
        // These operations wait for requests in flight.
        IORING_UNREGISTER_BUFFERS | IORING_UNREGISTER_FILES | IORING_REGISTER_SYNC_CANCEL => {
            Class::Refused(Reason::Thread)
        }
        _ => Class::OwnThread,
    }
}

fn prctl(option: u32) -> Class {
    const PR_GET_DUMPABLE: u32 = 3;
    const PR_SET_DUMPABLE: u32 = 4;
    const PR_SET_CHILD_SUBREAPER: u32 = 36;
    const PR_GET_CHILD_SUBREAPER: u32 = 37;
    const PR_SET_THP_DISABLE: u32 = 41;
    const PR_GET_THP_DISABLE: u32 = 42;
    const PR_SET_MDWE: u32 = 65;
    const PR_GET_MDWE: u32 = 66;
    const PR_SET_MEMORY_MERGE: u32 = 67;
    const PR_GET_MEMORY_MERGE: u32 = 68;
    const PR_GET_AUXV: u32 = 0x4155_5856;
    const PR_SET_VMA: u32 = 0x5356_4D41;

    match option {
        // These options act on the address space or on the process as a whole.
        PR_GET_DUMPABLE
        | PR_SET_DUMPABLE
        | PR_SET_CHILD_SUBREAPER
        | PR_GET_CHILD_SUBREAPER
        | PR_SET_THP_DISABLE
        | PR_GET_THP_DISABLE
        | PR_SET_MDWE
        | PR_GET_MDWE
        | PR_SET_MEMORY_MERGE
        | PR_GET_MEMORY_MERGE
        | PR_GET_AUXV
        | PR_SET_VMA => Class::Inline,
        _ => Class::OwnThread,
    }
}
