// SPDX-License-Identifier: MIT OR Apache-2.0
//! Each allocation and each copy in the device's calls fails once.

use std::os::fd::AsRawFd;

use nix::errno::Errno::{self, EAGAIN, EFAULT, ENOENT, ENOMEM};

use super::{check_outcome, check_sound, close_both, one_page, swept};
use crate::check::{Check, Ret};
use crate::kit::abi::{self, Cancel, Param, ParamArg, Policy, PoolStats, Wait};
use crate::kit::engine::{self, Engine, query, try_open};
use crate::kit::fault::{Faults, sweep};
use crate::kit::limits::poller_cpu;
use crate::kit::ring::{Call, Done, Ring};
use crate::kit::{process, sys};

tests! { "faults":
    open => "open: each failure is ENOMEM or EFAULT, the next try works";
    register_first => "the first REGISTER, which makes a thread: nothing stays behind if it fails";
    register_more => "a further REGISTER: nothing stays behind if it fails";
    map => "mmap of the pages: each failure is ENOMEM, the next try works";
    unregister_and_close => "UNREGISTER and close succeed without memory";
    wait_inline => "WAIT with inline calls: a failure shows only in the results of calls";
    wait_async => "WAIT and KICK with calls for syscall threads: all calls are executed";
    set => "SET of each parameter: it works or leaves everything as it was";
    get => "GET, QUERY, QUERY_POOL, CANCEL, poll, fdinfo: a failure changes nothing";
}

fn open() -> Check {
    let _faults = Faults::new()?;
    let base = process::refcnt();
    let count = sweep(
        || Ok(()),
        |()| try_open(),
        |(), outcome, injected| {
            check_outcome(&outcome, injected, &[ENOMEM, EFAULT])?;
            drop(outcome);
            let (engine, mut ring) = one_page()?;
            check_sound(&engine, &mut ring)
        },
    )?;
    process::until_refcnt(base)?;
    swept("open", count, 5)
}

/// REGISTER's documented errors.
const REGISTER: [Errno; 3] = [ENOMEM, EFAULT, EAGAIN];

fn register_first() -> Check {
    let _faults = Faults::new()?;
    let count = sweep(
        Engine::open,
        |engine| engine.register(1),
        |engine, outcome, injected| {
            check_outcome(&outcome, injected, &REGISTER)?;
            let stats = engine.stats()?;
            check_eq!("pages", stats.pages, u64::from(outcome.is_ok()));
            check!(stats.threads <= 1, "threads: {stats:?}");
            let mut ring = engine.ring(1)?;
            check_sound(&engine, &mut ring)
        },
    )?;
    process::until_tasks(1)?;
    swept("first REGISTER", count, 15)
}

fn register_more() -> Check {
    let _faults = Faults::new()?;
    let (engine, mut ring) = one_page()?;
    let count = sweep(
        || Ok(()),
        |()| engine.register(5),
        |(), outcome, injected| {
            check_outcome(&outcome, injected, &REGISTER)?;
            let left = if outcome.is_ok() { 6 } else { 1 };
            check_eq!("pages", engine.stats()?.pages, left);
            if let Ok(registered) = outcome {
                check_eq!("UNREGISTER", engine.unregister(registered.id), Ok(0));
            }
            check_sound(&engine, &mut ring)
        },
    )?;
    swept("further REGISTER", count, 5)
}

fn map() -> Check {
    let _faults = Faults::new()?;
    let count = sweep(
        || {
            let engine = Engine::open()?;
            let registered = ok!("REGISTER", engine.register(3));
            Ok((engine, registered))
        },
        |(engine, registered)| {
            let prot = libc::PROT_READ | libc::PROT_WRITE;
            let (len, offset) = (registered.mmap_len as usize, registered.mmap_offset);
            sys::mmap(len, prot, libc::MAP_SHARED, engine.fd(), offset)
        },
        |(engine, registered), outcome, injected| {
            check_outcome(&outcome, injected, &[ENOMEM])?;
            if let Ok(at) = outcome {
                check_eq!(
                    "munmap",
                    sys::munmap(at, registered.mmap_len as usize),
                    Ok(0)
                );
            }
            let mut ring = Ring::map(engine.fd(), &registered)?;
            check_sound(&engine, &mut ring)
        },
    )?;
    swept("mmap", count, 2)
}

fn unregister_and_close() -> Check {
    let _faults = Faults::new()?;
    let base = process::refcnt();
    let count = sweep(
        one_page,
        |(engine, ring)| engine.unregister(ring.id),
        |_, outcome, _| {
            check_eq!("UNREGISTER", outcome, Ok(0));
            Ok(())
        },
    )?;
    println!("# UNREGISTER: {count} failures injected");
    let count = sweep(
        || Ok(Some(one_page()?)),
        |both| drop(both.take()),
        |_, (), _| process::until_refcnt(base),
    )?;
    println!("# munmap and close: {count} failures injected");
    Ok(())
}

/// Calls that allocate.
fn allocating(pair: &mut [i32; 2]) -> [Call; 4] {
    let path = c"/proc/self/stat";
    [
        call!(SYS_getpid),
        call!(SYS_openat, libc::AT_FDCWD, path, libc::O_RDONLY),
        call!(SYS_pipe2, pair.as_mut_ptr(), 0),
        call!(SYS_eventfd2, 0, 0),
    ]
}

/// Results of the calls above; the descriptors are closed. A look-up in procfs that gets no memory
/// for an inode gives ENOENT.
fn check_results(done: &[Done], pair: &[i32; 2], injected: bool) -> Check {
    let mut failed = 0;
    for (index, done) in done.iter().enumerate() {
        if done.result < 0 {
            failed += 1;
            let error = Errno::from_raw(-done.result as i32);
            check!(
                injected
                    && (matches!(error, ENOMEM | EFAULT | Errno::ENFILE | EAGAIN)
                        || (index == 1 && error == ENOENT)),
                "call {index}: {done:?}, injected: {injected}"
            );
            continue;
        }
        match index {
            1 | 3 => drop(plain!(SYS_close, done.result)),
            2 => close_both(pair),
            _ => check_ret!("getpid", done.result, std::process::id()),
        }
    }
    check!(failed <= 1, "{failed} calls failed because of one failure");
    Ok(())
}

fn wait_inline() -> Check {
    let _faults = Faults::new()?;
    let mut pair = [-1; 2];
    let calls = allocating(&mut pair);
    let count = sweep(
        || {
            let (engine, mut ring) = one_page()?;
            let slots = ring.post_all(&calls);
            Ok((engine, ring, slots))
        },
        |(_, ring, _)| ring.wait_fast(Policy::All, 0),
        |(engine, mut ring, slots), outcome, injected| {
            check_eq!("WAIT", outcome, Ok(4));
            let done: Vec<Done> = slots.iter().map(|&slot| ring.reap(slot)).collect();
            check_results(&done, &pair, injected)?;
            check_sound(&engine, &mut ring)
        },
    )?;
    swept("WAIT with inline calls", count, 8)
}

fn wait_async() -> Check {
    let _faults = Faults::new()?;
    let count = sweep(
        || {
            let (engine, mut ring) = one_page()?;
            let slots = ring.post_all(&[call!(SYS_getpid).asynchronous(); 8]);
            Ok((engine, ring, slots))
        },
        |(_, ring, _)| {
            let kicked = ring.kick();
            (kicked, ring.wait_raw(&mut Wait::new(ring.id, Policy::All)))
        },
        |(engine, mut ring, slots), (kicked, waited), injected| {
            check_eq!("KICK", kicked, Ok(0));
            check_outcome(&waited, injected, &[EFAULT])?;
            for done in ring.finish(&slots)? {
                check_ret!("getpid", done.result, std::process::id());
            }
            check_sound(&engine, &mut ring)
        },
    )?;
    swept("WAIT and KICK with syscall threads", count, 1)
}

fn set() -> Check {
    let _faults = Faults::new()?;
    let eventfd = plain!(SYS_eventfd2, 0, libc::EFD_CLOEXEC);
    check!(eventfd >= 0, "eventfd2: {}", Ret(eventfd));
    let eventfd = sys::own(eventfd as i32);
    let values = [
        (Param::PollCpus, 0, 1u64 << poller_cpu()),
        (Param::IdleNs, 0, 1000),
        (Param::MaxThreads, 0, 64),
        (Param::RetireMs, 0, 100),
        (Param::ExtraPollers, 0, 1),
        (Param::Order, 0, 1),
        (Param::LoopMax, 0, 9),
        (Param::PoolCpus, 3, 1),
        (Param::PoolConcurrency, 4, 1),
        (Param::PoolNice, 5, 5),
    ];
    // A new engine has no thread that could poll: SET makes one.
    let count = sweep(
        Engine::open,
        |engine| engine.try_set(Param::PollCpus, 1 << poller_cpu()),
        |engine, outcome, injected| {
            check_outcome(&outcome, injected, &[ENOMEM, EFAULT, EAGAIN])?;
            if outcome.is_err() {
                check_eq!("POLL_CPUS after a failure", engine.get(Param::PollCpus)?, 0);
            }
            let mut ring = engine.ring(1)?;
            check_sound(&engine, &mut ring)
        },
    )?;
    swept("SET POLL_CPUS of a new engine", count, 10)?;
    for (param, pool, value) in values {
        let set = |engine: &Engine| engine::set(engine.fd(), pool, param, value);
        check_eq!(format!("SET {param:?}"), set(&Engine::open()?), Ok(0));
        let count = sweep(
            one_page,
            |(engine, _)| set(engine),
            |(engine, mut ring), outcome, injected| {
                check_outcome(&outcome, injected, &[ENOMEM, EFAULT, EAGAIN])?;
                check_sound(&engine, &mut ring)?;
                check_eq!("SET again", set(&engine), Ok(0));
                check_sound(&engine, &mut ring)
            },
        )
        .map_err(|failure| failure.within(format_args!("SET {param:?}")))?;
        swept(&format!("SET {param:?}"), count, 1)?;
    }
    let count = sweep(
        one_page,
        |(engine, _)| engine.try_set_eventfd(eventfd.as_raw_fd()),
        |(engine, mut ring), outcome, injected| {
            check_outcome(&outcome, injected, &[EFAULT])?;
            check_sound(&engine, &mut ring)?;
            engine.set_eventfd(&eventfd)?;
            check_sound(&engine, &mut ring)
        },
    )?;
    swept("EVENTFD", count, 1)
}

/// A call that changes nothing and allocates little.
fn harmless(
    what: &str,
    at_least: u32,
    call: impl Fn(&Engine, &Ring) -> Result<u64, Errno>,
) -> Check {
    let (engine, mut ring) = one_page()?;
    let usual = call(&engine, &ring);
    check!(usual != Err(Errno::ENOTTY), "{what} is not known");
    let count = sweep(
        || Ok(()),
        |()| call(&engine, &ring),
        |(), outcome, injected| match outcome {
            Err(EFAULT | ENOMEM) if injected => Ok(()),
            other => {
                check_eq!(what, other, usual);
                Ok(())
            }
        },
    )?;
    check_sound(&engine, &mut ring)?;
    swept(what, count, at_least)
}

fn get() -> Check {
    let _faults = Faults::new()?;
    harmless("GET", 2, |engine, _| {
        let mut arg = ParamArg::new(Param::IdleNs, 0);
        sys::ioctl_with(engine.fd(), abi::IOC_GET, &mut arg)
    })?;
    harmless("QUERY", 2, |engine, _| query(engine.fd()).map(|_| 0))?;
    harmless("QUERY_POOL", 2, |engine, _| {
        let mut arg = PoolStats {
            size: size_of::<PoolStats>() as u32,
            ..PoolStats::default()
        };
        sys::ioctl_with(engine.fd(), abi::IOC_QUERY_POOL, &mut arg)
    })?;
    // Nothing is posted there: ENOENT.
    harmless("CANCEL", 1, |engine, ring| {
        let mut arg = Cancel {
            size: size_of::<Cancel>() as u32,
            id: ring.id,
            ..Cancel::default()
        };
        sys::ioctl_with(engine.fd(), abi::IOC_CANCEL, &mut arg)
    })?;
    harmless("poll", 1, |engine, _| {
        let mut poll = libc::pollfd {
            fd: engine.fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        sys::result(plain!(SYS_poll, std::ptr::from_mut(&mut poll), 1, 0))
    })?;
    harmless("fdinfo", 3, |engine, _| {
        let path = format!("/proc/self/fdinfo/{}", engine.fd());
        match std::fs::read(path) {
            Ok(bytes) => Ok(u64::from(!bytes.is_empty())),
            Err(error) => Err(Errno::from_raw(error.raw_os_error().unwrap_or(0))),
        }
    })
}
