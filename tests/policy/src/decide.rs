// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tests which task executes an entry: every number, in every role, with every flag that matters.

use crate::{
    defs::Role,
    dispatch::{
        decide, is_file_call, is_plain_call, returns_to_owner, Decision, Facts, Request, Start, Why,
    },
    policy::{classify, Class, Reason},
};

const OWNER: Role = Role::Owner;
const WORKER: Role = Role::Worker { pool: 2, slot: 0 };
const POLLER: Role = Role::Poller { slot: 0, cpu: 1 };
const ROLES: [Role; 3] = [OWNER, WORKER, POLLER];
const STARTS: [Start; 3] = [Start::First, Start::Follows, Start::Again];
const BOOLS: [bool; 2] = [false, true];

// Named by number: the tests are about the decision, not about the table.
const READ: u16 = 0;
const POLL: u16 = 7;
const RT_SIGPROCMASK: u16 = 14;
const PAUSE: u16 = 34;
const NANOSLEEP: u16 = 35;
const GETPID: u16 = 39;
const SENDFILE: u16 = 40;
const FORK: u16 = 57;
const SEMOP: u16 = 65;
const CLOCK_NANOSLEEP: u16 = 230;
const OPENAT: u16 = 257;
const PPOLL: u16 = 271;
const NO_CALL: u16 = 1023;

/// Facts as a test sets them. The test fails if `decide` looks up a fact that it does not need.
#[derive(Clone, Copy)]
struct World {
    /// descriptors whose files may block, one bit each; `None` if `decide` must not look at files
    blocking: Option<u64>,
    /// whether the owner left the entry; `None` if `decide` must not ask
    left_by_owner: Option<bool>,
    /// whether calls on files are slow at present
    files_slow: bool,
    /// descriptors whose file systems may not answer, one bit each
    silent: u64,
}

impl Facts for World {
    fn may_block(&self, fd: u32) -> bool {
        self.blocking.expect("no look at files") & (1 << fd) != 0
    }

    fn is_left_by_owner(&self) -> bool {
        self.left_by_owner.expect("no question about the owner")
    }

    fn are_files_slow(&self) -> bool {
        self.files_slow
    }

    fn keeps_waiting(&self, fd: u32) -> bool {
        fd < 64 && self.silent & (1 << fd) != 0
    }
}

const NOTHING: World = World {
    blocking: None,
    left_by_owner: None,
    files_slow: false,
    silent: 0,
};
const READY: World = World {
    blocking: Some(0),
    left_by_owner: Some(false),
    files_slow: false,
    silent: 0,
};

const ARGS: [u64; 6] = [4, 5, 0, 0, 0, 0];

fn plain(nr: u16) -> Request<'static> {
    Request {
        nr,
        args: &ARGS,
        pool: 0,
        is_async: false,
        is_valid: true,
        is_cancelled: false,
    }
}

#[test]
fn the_quick_way_says_what_decide_says() {
    let (mut plain_calls, mut file_calls) = (0, 0);
    for nr in 0..=u16::MAX {
        for role in ROLES {
            if is_plain_call(nr) {
                plain_calls += 1;
                let decision = decide(&plain(nr), role, Start::First, &NOTHING);
                assert_eq!(decision, Decision::Execute(Class::Inline), "{nr} {role:?}");
            }
        }
        if is_file_call(nr) {
            file_calls += 1;
            let on_file = Decision::Execute(Class::ByFile(4, 4));
            assert_eq!(decide(&plain(nr), OWNER, Start::First, &READY), on_file);
            let busy = World {
                blocking: Some(1 << 4),
                ..READY
            };
            let decision = decide(&plain(nr), OWNER, Start::First, &busy);
            assert_eq!(decision, Decision::Try(Class::ByFile(4, 4)), "{nr}");
        }
    }
    assert!(
        plain_calls > 300 && file_calls > 5,
        "{plain_calls} {file_calls}"
    );
}

#[test]
fn refused_and_unknown_calls_are_executed_by_nobody() {
    let mut refused = 0;
    for nr in 0..=u16::MAX {
        let why = match classify(nr, &ARGS) {
            Class::Refused(Reason::Life) => Why::Life,
            Class::Refused(Reason::Thread) => Why::Thread,
            Class::Unknown => Why::UnknownCall,
            _ => continue,
        };
        refused += 1;
        for (role, start) in ROLES.into_iter().flat_map(|r| STARTS.map(|s| (r, s))) {
            for (pool, is_async) in [(0, false), (0, true), (3, false)] {
                let request = Request {
                    pool,
                    is_async,
                    ..plain(nr)
                };
                let decision = decide(&request, role, start, &NOTHING);
                assert_eq!(decision, Decision::Refuse(why), "{nr} {role:?} {start:?}");
            }
        }
    }
    assert!(refused > 64_000, "{refused}");
    let (life, thread) = (plain(FORK), plain(PAUSE));
    assert_eq!(
        decide(&life, OWNER, Start::First, &NOTHING),
        Decision::Refuse(Why::Life)
    );
    assert_eq!(
        decide(&thread, WORKER, Start::First, &NOTHING),
        Decision::Refuse(Why::Thread)
    );
    assert_eq!(
        decide(&plain(NO_CALL), POLLER, Start::First, &NOTHING),
        Decision::Refuse(Why::UnknownCall)
    );
}

#[test]
fn cancel_comes_before_all_else_but_not_after_the_call_has_begun() {
    for (role, is_valid) in ROLES.into_iter().flat_map(|r| BOOLS.map(|v| (r, v))) {
        let request = Request {
            is_cancelled: true,
            is_valid,
            ..plain(GETPID)
        };
        for start in [Start::First, Start::Follows] {
            let decision = decide(&request, role, start, &NOTHING);
            assert_eq!(decision, Decision::Refuse(Why::Cancelled));
        }
        let again = if is_valid {
            Decision::Execute(Class::Inline)
        } else {
            Decision::Refuse(Why::BadEntry)
        };
        assert_eq!(decide(&request, role, Start::Again, &NOTHING), again);
    }
}

#[test]
fn a_bad_entry_is_refused_whatever_it_asks_for() {
    for nr in [
        GETPID,
        READ,
        NANOSLEEP,
        FORK,
        PAUSE,
        NO_CALL,
        RT_SIGPROCMASK,
    ] {
        for (role, start) in ROLES.into_iter().flat_map(|r| STARTS.map(|s| (r, s))) {
            let request = Request {
                is_valid: false,
                ..plain(nr)
            };
            let decision = decide(&request, role, start, &NOTHING);
            assert_eq!(decision, Decision::Refuse(Why::BadEntry));
        }
    }
}

#[test]
fn what_a_program_sends_to_threads_goes_to_the_pool_that_it_names() {
    for (pool, is_async) in [(0, true), (5, false), (5, true)] {
        let request = Request {
            pool,
            is_async,
            ..plain(GETPID)
        };
        for start in [Start::First, Start::Again] {
            let decision = decide(&request, OWNER, start, &NOTHING);
            assert_eq!(decision, Decision::Offload(pool));
        }
        // The first entry of a chain has decided for the whole chain.
        let here = Decision::Execute(Class::Inline);
        assert_eq!(decide(&request, OWNER, Start::Follows, &NOTHING), here);
        // A worker keeps an entry that has reached it, even if the entry names another pool by now.
        for start in STARTS {
            assert_eq!(decide(&request, WORKER, start, &NOTHING), here);
        }
        // A poller is a thread of the first pool.
        let polled = if pool == 0 {
            here
        } else {
            Decision::Offload(pool)
        };
        assert_eq!(decide(&request, POLLER, Start::First, &NOTHING), polled);
        assert_eq!(decide(&request, POLLER, Start::Follows, &NOTHING), here);
    }
}

#[test]
fn the_owner_never_executes_what_may_wait() {
    for start in STARTS {
        let decision = decide(&plain(SEMOP), OWNER, start, &NOTHING);
        assert_eq!(decision, Decision::Offload(0));
        // These wait only for files or a time, which needs no thread.
        for nr in [POLL, NANOSLEEP, CLOCK_NANOSLEEP, PPOLL] {
            let request = Request {
                args: &[4, 5, 9, 0, 0, 0],
                ..plain(nr)
            };
            let decision = decide(&request, OWNER, start, &NOTHING);
            assert_eq!(decision, Decision::Try(Class::MayBlock), "{nr}");
        }
    }
    // Either of the two files may keep the call waiting: descriptors 4 and 5.
    for (blocking, here) in [(0, true), (1 << 4, false), (1 << 5, false), (3 << 4, false)] {
        let world = World {
            blocking: Some(blocking),
            ..NOTHING
        };
        let expected = if here {
            Decision::Execute(Class::ByFile(4, 5))
        } else {
            Decision::Offload(0)
        };
        let decision = decide(&plain(SENDFILE), OWNER, Start::First, &world);
        assert_eq!(decision, expected);
    }
    // Threads exist to wait, so they do not look at files.
    for role in [WORKER, POLLER] {
        let decision = decide(&plain(NANOSLEEP), role, Start::First, &NOTHING);
        assert_eq!(decision, Decision::Execute(Class::MayBlock));
        let decision = decide(&plain(READ), role, Start::First, &NOTHING);
        assert_eq!(decision, Decision::Execute(Class::ByFile(4, 4)));
    }
}

#[test]
fn the_owner_tries_a_call_on_one_file_that_may_block() {
    let busy = World {
        blocking: Some(1 << 4),
        ..NOTHING
    };
    for start in STARTS {
        let decision = decide(&plain(READ), OWNER, start, &busy);
        assert_eq!(decision, Decision::Try(Class::ByFile(4, 4)), "{start:?}");
        let slow = World {
            files_slow: true,
            ..busy
        };
        let decision = decide(&plain(READ), OWNER, start, &slow);
        assert_eq!(decision, Decision::Offload(0), "{start:?}");
    }
    let asynchronous = Request {
        is_async: true,
        ..plain(READ)
    };
    let decision = decide(&asynchronous, OWNER, Start::First, &NOTHING);
    assert_eq!(decision, Decision::Offload(0));
}

#[test]
fn file_calls_go_to_threads_while_they_are_slow() {
    let slow = World {
        files_slow: true,
        ..READY
    };
    for nr in [OPENAT, READ] {
        for start in [Start::First, Start::Follows] {
            let decision = decide(&plain(nr), OWNER, start, &slow);
            assert_eq!(decision, Decision::OffloadSlow, "{nr} {start:?}");
        }
        // The call has begun before, and a thread delays only itself.
        let again = decide(&plain(nr), OWNER, Start::Again, &slow);
        assert!(matches!(again, Decision::Execute(_)), "{nr}: {again:?}");
        let thread = decide(&plain(nr), WORKER, Start::First, &slow);
        assert!(matches!(thread, Decision::Execute(_)), "{nr}: {thread:?}");
    }
    for nr in [GETPID, RT_SIGPROCMASK] {
        let here = decide(&plain(nr), OWNER, Start::First, &slow);
        assert!(matches!(here, Decision::Execute(_)), "{nr}: {here:?}");
    }
}

#[test]
fn calls_on_files_that_may_not_answer_are_left() {
    const CLOSE: u16 = 3;
    const FSTAT: u16 = 5;
    const MMAP: u16 = 9;
    const IOCTL: u16 = 16;
    const DUP2: u16 = 33;
    const FCNTL: u16 = 72;
    const COPY_FILE_RANGE: u16 = 326;
    const F_SETLEASE: u64 = 1024;
    let at = |place: usize, fd: u64| {
        let mut args = [9; 6];
        args[place] = fd;
        args
    };
    let world = World {
        silent: 1 << 5,
        ..READY
    };
    for (nr, args) in [
        (READ, at(0, 5)),
        (CLOSE, at(0, 5)),
        (FSTAT, at(0, 5)),
        (MMAP, at(4, 5)),
        (DUP2, at(1, 5)),
        (SENDFILE, at(0, 5)),
        (SENDFILE, at(1, 5)),
        (COPY_FILE_RANGE, at(0, 5)),
        (COPY_FILE_RANGE, at(2, 5)),
    ] {
        let request = Request {
            args: &args,
            ..plain(nr)
        };
        for start in [Start::First, Start::Follows] {
            let decision = decide(&request, OWNER, start, &world);
            assert_eq!(decision, Decision::Leave, "{nr} {args:?} {start:?}");
        }
        // The call has begun before, and a thread may wait.
        let again = decide(&request, OWNER, Start::Again, &world);
        assert!(matches!(again, Decision::Execute(_)), "{nr}: {again:?}");
        let thread = decide(&request, WORKER, Start::First, &world);
        assert!(matches!(thread, Decision::Execute(_)), "{nr}: {thread:?}");
        let elsewhere = World {
            silent: 1 << 6,
            ..world
        };
        let here = decide(&request, OWNER, Start::First, &elsewhere);
        assert!(matches!(here, Decision::Execute(_)), "{nr}: {here:?}");
    }
    for (nr, args) in [
        // A number that is no descriptor, and a call that only the owner can make.
        (GETPID, [5; 6]),
        (OPENAT, [5; 6]),
        (FCNTL, [5, F_SETLEASE, 0, 0, 0, 0]),
    ] {
        let request = Request {
            args: &args,
            ..plain(nr)
        };
        let here = decide(&request, OWNER, Start::First, &world);
        assert!(matches!(here, Decision::Execute(_)), "{nr}: {here:?}");
    }
    let request = Request {
        args: &[5, 0x8008_6601, 0, 0, 0, 0],
        ..plain(IOCTL)
    };
    assert_eq!(
        decide(&request, OWNER, Start::First, &world),
        Decision::Leave
    );
}

#[test]
fn an_own_thread_call_returns_to_the_owner_that_has_left_it_by_chance() {
    let here = Decision::Execute(Class::OwnThread);
    assert_eq!(
        decide(&plain(RT_SIGPROCMASK), OWNER, Start::First, &NOTHING),
        here
    );
    for (role, left) in [WORKER, POLLER]
        .into_iter()
        .flat_map(|r| BOOLS.map(|l| (r, l)))
    {
        let world = World {
            left_by_owner: Some(left),
            ..NOTHING
        };
        let expected = if left {
            Decision::Return
        } else {
            Decision::Refuse(Why::Thread)
        };
        let decision = decide(&plain(RT_SIGPROCMASK), role, Start::First, &world);
        assert_eq!(decision, expected);
        // The program itself has sent the entry to threads.
        for (pool, is_async) in [(0, true), (5, false)] {
            let request = Request {
                pool,
                is_async,
                ..plain(RT_SIGPROCMASK)
            };
            let decision = decide(&request, role, Start::First, &world);
            assert_eq!(decision, Decision::Refuse(Why::Thread));
            // Unless it is behind the first one of a chain.
            let decision = decide(&request, role, Start::Follows, &world);
            assert_eq!(decision, expected);
        }
    }
}

#[test]
fn a_refused_call_returns_to_the_owner_if_it_may_execute_it() {
    let left = World {
        blocking: Some(1 << 4),
        left_by_owner: Some(true),
        ..READY
    };
    let back = |nr, class, role, why, world: World| {
        returns_to_owner(&plain(nr), (class, Start::First), role, why, &world)
    };
    let file = Class::ByFile(4, 4);
    let ready = World {
        blocking: Some(0),
        ..left
    };
    for role in [WORKER, POLLER] {
        assert!(back(GETPID, Class::Inline, role, Why::Context, left));
        assert!(back(GETPID, Class::Inline, role, Why::Thread, left));
        // The owner may have other files, so it decides itself.
        assert!(back(READ, file, role, Why::Context, left));
        assert!(back(READ, file, role, Why::Thread, ready));
        assert!(!back(READ, file, role, Why::Thread, left));
        assert!(!back(NANOSLEEP, Class::MayBlock, role, Why::Thread, left));
        for why in [Why::Guarded, Why::Exiting] {
            assert!(!back(GETPID, Class::Inline, role, why, left));
        }
        let stays = World {
            left_by_owner: Some(false),
            ..left
        };
        assert!(!back(GETPID, Class::Inline, role, Why::Context, stays));
        let sent = Request {
            is_async: true,
            ..plain(GETPID)
        };
        // In a chain only the flags of the first entry count.
        for (start, returns) in [
            (Start::First, false),
            (Start::Again, false),
            (Start::Follows, true),
        ] {
            let begun = (Class::Inline, start);
            let back = returns_to_owner(&sent, begun, role, Why::Context, &left);
            assert_eq!(back, returns, "{start:?}");
        }
    }
    assert!(!back(GETPID, Class::Inline, OWNER, Why::Context, left));
}
