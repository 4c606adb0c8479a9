// SPDX-License-Identifier: MIT OR Apache-2.0
//! Entries that take away something that their own execution needs: the descriptor of a thread that
//! has a table of files of its own, and with it the engine's last reference, the mapping, the
//! registration.

use std::os::fd::OwnedFd;
use std::sync::Barrier;
use std::time::Instant;

use nix::errno::Errno;

use crate::check::Check;
use crate::kit::abi::{self, MAX_IDLE_NS, Param, Policy};
use crate::kit::engine::{self, DEVICE, Engine};
use crate::kit::files::{Leased, TempDir, memory_file, socket_pair};
use crate::kit::limits::{need_root, need_two_cpus, poller_cpu, slow_kernel};
use crate::kit::ring::{Call, Ring, linked};
use crate::kit::{chances, patience, process, rounds, scm, sys, until};

use super::quota::Parameter;

tests! { "borrowed":
    closed_inside => "entries close or replace the last descriptor, or close a range, in each WAIT";
    closed_in_chain => "a chain unmaps the pages and closes the last descriptor";
    closed_and_blocked => "entries close the last descriptor, then one blocks its owner in WAIT";
    closed_and_opened => "entries close the last descriptor and open the device again";
    closed_by_thread => "KICK makes a thread that closes the last descriptor while KICK goes on";
    closed_by_poller => "a poller executes entries that unmap pages and close the last descriptor";
    unshared_inside => "entries unshare the table of files, and then close the last descriptor";
    received => "the last descriptor came over a socket, and an entry closes it";
    unregister_inside => "a posted UNREGISTER of the pages that it came from is EBUSY";
    same_number => "two threads end a dead thread's pages while a third registers: its own stay";
}

/// How a thread waits.
#[derive(Clone, Copy, Debug)]
enum Way {
    Call,
    Fast,
    Full,
}

const WAYS: [Way; 3] = [Way::Call, Way::Fast, Way::Full];

impl Way {
    fn wait(self, ring: &Ring) -> Result<u64, Errno> {
        match self {
            Way::Call => ring.wait_call(Policy::None, 0),
            Way::Fast => ring.wait_fast(Policy::None, 0),
            Way::Full => ring.wait(Policy::None),
        }
    }
}

/// Makes the calling thread's table of files its own.
fn unshare_files() -> Check {
    check_ret!("unshare", plain!(SYS_unshare, libc::CLONE_FILES), 0);
    Ok(())
}

/// See [`alone_beside`].
fn alone(work: impl FnOnce(i32, Ring) -> Check + Send) -> Check {
    alone_beside(0, work)
}

/// Runs `work` on a thread that has the last descriptor and the last mapping of an engine, in a
/// table of files that no other thread shares: the engine's syscall threads have the process's
/// table. Afterwards there may be `others` threads beside this one.
fn alone_beside(others: usize, work: impl FnOnce(i32, Ring) -> Check + Send) -> Check {
    let base = process::refcnt();
    let engine = Engine::open()?;
    let first = engine.ring(1)?;
    let fd = engine.fd();
    let turn = Barrier::new(2);
    let outcome = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let prepared = unshare_files().and_then(|()| {
                let given = ok!("REGISTER", engine::register(fd, 1));
                Ring::map(fd, &given)
            });
            turn.wait();
            turn.wait();
            work(fd, prepared?)
        });
        turn.wait();
        drop(first);
        drop(engine);
        turn.wait();
        thread.join().expect("no panic")
    });
    outcome?;
    if others == 0 {
        process::until_tasks(1)?;
    }
    process::until_refcnt(base)
}

/// Calls that leave marks in a file when they are executed.
fn marks(file: &OwnedFd, count: u64) -> Vec<Call> {
    (0..count)
        .map(|at| call!(SYS_pwrite64, file, c"x".as_ptr(), 1, at))
        .collect()
}

fn marked(file: &OwnedFd) -> i64 {
    plain!(SYS_lseek, file, 0, libc::SEEK_END)
}

/// Executes the calls, which take everything away, and then `count` marks.
fn take_away(fd: i32, mut ring: Ring, way: Way, calls: &[Call], link: bool) -> Check {
    let file = memory_file()?;
    let (at, len) = ring.base();
    let mut all = vec![call!(SYS_getpid), call!(SYS_munmap, at, len)];
    all.extend(calls);
    all.extend(marks(&file, 20));
    if link {
        let last = all.len() - 1;
        for call in &mut all[..last] {
            *call = linked(*call);
        }
    }
    ring.post_all(&all);
    let ret = way.wait(&ring);
    ring.leak();
    // The results were written, though no thread can read them.
    check_eq!("WAIT", ret, Ok(all.len() as u64));
    check_ret!("marks behind the close", marked(&file), 20);
    check_eq!(
        "QUERY",
        engine::query(fd).map(|stats| stats.pages),
        Err(if plain!(SYS_fcntl, fd, libc::F_GETFD) < 0 {
            Errno::EBADF
        } else {
            Errno::ENOTTY
        })
    );
    Ok(())
}

fn closed_inside() -> Check {
    for way in WAYS {
        for round in 0..rounds(6) {
            alone(|fd, ring| {
                let other = memory_file()?;
                let close = match round % 3 {
                    0 => call!(SYS_close, fd),
                    1 => call!(SYS_dup2, &other, fd),
                    _ => call!(SYS_close_range, fd, fd, 0),
                };
                take_away(fd, ring, way, &[close], false)
            })
            .map_err(|failure| failure.within(format_args!("{way:?}, round {round}")))?;
        }
    }
    Ok(())
}

fn closed_in_chain() -> Check {
    for way in WAYS {
        for _ in 0..rounds(3) {
            alone(|fd, ring| take_away(fd, ring, way, &[call!(SYS_close, fd)], true))
                .map_err(|failure| failure.within(format_args!("{way:?}")))?;
        }
    }
    Ok(())
}

fn closed_and_opened() -> Check {
    for way in WAYS {
        for _ in 0..rounds(3) {
            alone(|fd, mut ring| {
                let file = memory_file()?;
                let (at, len) = ring.base();
                let open = call!(SYS_openat, libc::AT_FDCWD, DEVICE, libc::O_RDWR);
                let mut all = vec![call!(SYS_munmap, at, len), call!(SYS_close, fd)];
                all.extend([open; 3]);
                all.extend(marks(&file, 20));
                ring.post_all(&all);
                let ret = way.wait(&ring);
                ring.leak();
                check_eq!("WAIT", ret, Ok(all.len() as u64));
                check_ret!("marks", marked(&file), 20);
                // The descriptor belongs to another engine now.
                let pages = engine::query(fd).map(|stats| stats.pages);
                check_eq!("pages of the new engine", pages, Ok(0));
                Ok(())
            })
            .map_err(|failure| failure.within(format_args!("{way:?}")))?;
        }
    }
    Ok(())
}

fn closed_and_blocked() -> Check {
    let dir = TempDir::new()?;
    for way in WAYS {
        for round in 0..rounds(3) {
            let leased = Leased::at(dir.join(format!("{way:?}{round}")))?;
            let open = leased.open();
            let file = memory_file()?;
            let view = sys::own(plain!(SYS_dup, &file) as i32);
            // Gives the lease up once the owner sleeps in its call.
            let opener = std::thread::spawn(move || -> Check {
                let pid = std::process::id() as i32;
                until("the owner asleep in open", || {
                    marked(&view) == 1
                        && process::tasks(pid)
                            .iter()
                            .any(|task| task.name == "borrowed" && task.state == 'S')
                })?;
                leased.release()
            });
            let outcome = alone_beside(1, |fd, mut ring| {
                check_ret!(
                    "prctl",
                    plain!(SYS_prctl, libc::PR_SET_NAME, c"borrowed".as_ptr()),
                    0
                );
                let (at, len) = ring.base();
                let mut all = vec![call!(SYS_munmap, at, len), call!(SYS_close, fd)];
                all.extend(marks(&file, 1));
                all.push(open);
                ring.post_all(&all);
                let ret = way.wait(&ring);
                ring.leak();
                check_eq!("WAIT", ret, Ok(all.len() as u64));
                Ok(())
            });
            outcome.map_err(|failure| failure.within(format_args!("{way:?}")))?;
            opener.join().expect("no panic")?;
        }
    }
    process::until_tasks(1)
}

fn closed_by_thread() -> Check {
    for _ in 0..rounds(20) {
        let base = process::refcnt();
        let engine = Engine::open()?;
        let fd = engine.fd();
        let turn = Barrier::new(2);
        let outcome = std::thread::scope(|scope| {
            let thread = scope.spawn(|| -> Check {
                // The engine's threads share the table of the first one, which has this thread's
                // table.
                let prepared = unshare_files().and_then(|()| {
                    let given = ok!("REGISTER", engine::register(fd, 1));
                    Ring::map(fd, &given)
                });
                turn.wait();
                turn.wait();
                let mut ring = prepared?;
                let (at, len) = ring.base();
                ring.post_all(&[
                    call!(SYS_munmap, at, len).asynchronous(),
                    call!(SYS_close, fd).asynchronous(),
                ]);
                check_eq!("KICK", ring.kick(), Ok(0));
                ring.leak();
                until("the descriptor closed", || {
                    plain!(SYS_fcntl, fd, libc::F_GETFD) == -i64::from(libc::EBADF)
                })
            });
            turn.wait();
            drop(engine);
            turn.wait();
            thread.join().expect("no panic")
        });
        outcome?;
        process::until_tasks(1)?;
        process::until_refcnt(base)?;
    }
    Ok(())
}

fn closed_by_poller() -> Check {
    need_two_cpus()?;
    for round in 0..rounds(20) {
        let base = process::refcnt();
        let engine = Engine::open()?;
        engine.set(Param::IdleNs, MAX_IDLE_NS)?;
        let fd = engine.fd();
        let turn = Barrier::new(2);
        let outcome = std::thread::scope(|scope| {
            let thread = scope.spawn(|| -> Check {
                // This thread creates the poller, which therefore has this thread's table.
                let prepared = unshare_files().and_then(|()| {
                    let poll = engine::set(fd, 0, Param::PollCpus, 1 << poller_cpu());
                    ok!("POLL_CPUS", poll);
                    let given = ok!("REGISTER", engine::register(fd, 1));
                    let ring = Ring::map(fd, &given)?;
                    until("a poller that is awake", || !ring.needs_kick())?;
                    Ok(ring)
                });
                turn.wait();
                turn.wait();
                let mut ring = prepared?;
                let (at, len) = ring.base();
                // The engine ends with its last descriptor, and the entries behind the close end
                // with the engine.
                let mut all = vec![call!(SYS_munmap, at, len), call!(SYS_close, fd)];
                all.extend([call!(SYS_getpid); 20]);
                ring.post_all(&all);
                if round % 2 == 1 {
                    // The owner is in WAIT meanwhile, or finds that the engine is gone.
                    let ret = ring.wait(Policy::All);
                    check!(matches!(ret, Ok(_) | Err(Errno::EBADF)), "WAIT: {ret:?}");
                }
                ring.leak();
                until("the descriptor closed", || {
                    plain!(SYS_fcntl, fd, libc::F_GETFD) == -i64::from(libc::EBADF)
                })
            });
            turn.wait();
            drop(engine);
            turn.wait();
            thread.join().expect("no panic")
        });
        outcome.map_err(|failure| failure.within(format_args!("round {round}")))?;
        process::until_tasks(1)?;
        process::until_refcnt(base)?;
    }
    Ok(())
}

/// How the entries that unshare the table of files, and those that close the descriptor, are
/// posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Together {
    Row,
    Chain,
    /// The second WAIT begins when no other thread shares the table.
    TwoWaits,
}

/// Entries with which the calling thread gets a table of files of its own and closes the engine,
/// which the other thread has closed in its table meanwhile. Returns false if the other thread came
/// too late.
fn unshare_and_close(way: Way, how: Together) -> Check<bool> {
    let base = process::refcnt();
    let engine = Engine::open()?;
    let fd = engine.fd();
    let (file, turn) = (memory_file()?, Barrier::new(2));
    let view = sys::own(plain!(SYS_dup, &file) as i32);
    let mut buffer = vec![0u8; if slow_kernel() { 1 << 19 } else { 4 << 20 }];
    let first = std::thread::scope(|scope| -> Check<bool> {
        let thread = scope.spawn(|| -> Check {
            let given = engine::register(fd, 1).map_err(|error| format!("REGISTER: {error:?}"));
            turn.wait();
            let mut ring = Ring::map(fd, &ok!("REGISTER", given))?;
            let (at, len) = ring.base();
            let mut all = vec![call!(SYS_unshare, libc::CLONE_FILES)];
            all.extend(marks(&file, 1));
            // Meanwhile the other thread closes its descriptor.
            let random = call!(SYS_getrandom, buffer.as_mut_ptr(), buffer.len(), 0);
            all.extend([random; 2]);
            all.extend([call!(SYS_munmap, at, len), call!(SYS_close, fd)]);
            all.extend(marks(&file, 20));
            let last = all.len() - 1;
            if how == Together::Chain {
                for call in &mut all[..last] {
                    *call = linked(*call);
                }
            }
            let (first, second) = all.split_at(if how == Together::TwoWaits { 2 } else { 0 });
            let mut before = Ok(0);
            if how == Together::TwoWaits {
                ring.post_all(first);
                before = way.wait(&ring);
                turn.wait();
            }
            ring.post_all(second);
            let ret = way.wait(&ring);
            ring.leak();
            check_eq!("first WAIT", before, Ok(first.len() as u64));
            check_eq!("WAIT", ret, Ok(all.len() as u64));
            Ok(())
        });
        turn.wait();
        let unshared = until("the first mark", || marked(&view) >= 1);
        drop(engine);
        let first = marked(&view) == 1;
        if how == Together::TwoWaits {
            turn.wait();
        }
        thread.join().expect("no panic")?;
        unshared?;
        Ok(first)
    })?;
    check_ret!("marks behind the close", marked(&file), 20);
    process::until_tasks(1)?;
    process::until_refcnt(base)?;
    Ok(first)
}

fn unshared_inside() -> Check {
    for way in WAYS {
        for how in [Together::Row, Together::Chain, Together::TwoWaits] {
            let end = Instant::now() + patience();
            let mut good = 0;
            while good < rounds(2) {
                check!(Instant::now() < end, "{way:?}: the other close comes late");
                let first = unshare_and_close(way, how)
                    .map_err(|failure| failure.within(format_args!("{way:?}, {how:?}")))?;
                good += u32::from(first);
            }
        }
    }
    Ok(())
}

fn received() -> Check {
    for way in WAYS {
        let base = process::refcnt();
        let (here, there) = socket_pair()?;
        let turn = Barrier::new(2);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let prepared = unshare_files();
                turn.wait();
                prepared?;
                let received = scm::receive_fd(&there);
                turn.wait();
                turn.wait();
                let engine = Engine::from_fd(received?);
                let ring = engine.ring(1)?;
                let fd = engine.fd();
                std::mem::forget(engine);
                take_away(fd, ring, way, &[call!(SYS_close, fd)], false)
            });
            turn.wait();
            let engine = Engine::open()?;
            let first = engine.ring(1)?;
            scm::send_fd(&here, engine.fd())?;
            turn.wait();
            drop(first);
            drop(engine);
            // Not at the same time: an owner that waits for the address space in an inline call
            // leaves the other entries to threads, which refuse them.
            turn.wait();
            thread.join().expect("no panic")
        })
        .map_err(|failure| failure.within(format_args!("{way:?}")))?;
        process::until_tasks(1)?;
        process::until_refcnt(base)?;
    }
    Ok(())
}

fn unregister_inside() -> Check {
    alone(|fd, mut ring| {
        let unregister = call!(SYS_ioctl, fd, abi::IOC_UNREGISTER, ring.id);
        for done in ring.run_all(&[unregister, linked(unregister), unregister])? {
            check!(
                [-i64::from(libc::EBUSY), -i64::from(libc::ECANCELED)].contains(&done.result),
                "posted UNREGISTER: {done:?}"
            );
        }
        check_ret!(
            "getpid",
            ring.result(call!(SYS_getpid))?,
            std::process::id()
        );
        Ok(())
    })
}

fn same_number() -> Check {
    need_root()?;
    let engine = Engine::open()?;
    // All other numbers are taken: the next registration gets the number that is freed.
    // One number is left.
    let limit = Parameter::get("max_pages")?;
    limit.set(512)?;
    for _ in 0..511 {
        ok!("REGISTER", engine.register(1));
    }
    let mut ended = 0;
    for round in 0..chances(300) {
        let id = std::thread::scope(|scope| {
            let owner = scope.spawn(|| engine.register(1).map(|given| given.id));
            owner.join().expect("no panic")
        });
        let id = ok!("REGISTER by a thread that ends", id);
        let turn = Barrier::new(3);
        let mine = std::thread::scope(|scope| -> Check<u32> {
            let end = || {
                turn.wait();
                engine.unregister(id)
            };
            let ends = [scope.spawn(end), scope.spawn(end)];
            turn.wait();
            let mut mine = Err(Errno::ENOSPC);
            let found = until("a free number", || {
                for _ in 0..1000 {
                    mine = engine.register(1).map(|given| given.id);
                    if mine != Err(Errno::ENOSPC) {
                        return true;
                    }
                }
                false
            });
            for end in ends {
                match end.join().expect("no panic") {
                    Ok(_) => ended += 1,
                    Err(Errno::ENOENT | Errno::EPERM) => {}
                    Err(error) => fail!("UNREGISTER of a dead thread's pages: {error:?}"),
                }
            }
            found?;
            Ok(ok!("REGISTER", mine))
        })?;
        check_eq!("the number", mine, id);
        check_eq!(
            format!("UNREGISTER of this thread's own pages, round {round}"),
            engine.unregister(mine),
            Ok(0)
        );
        check_eq!("registrations ended by others", ended, round + 1);
    }
    Ok(())
}
