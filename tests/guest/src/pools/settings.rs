// SPDX-License-Identifier: MIT OR Apache-2.0
//! Creating pools, and their parameters.

use nix::errno::Errno;

use crate::check::Check;
use crate::kit::abi::{self, Param, PoolStats, REASON_ENTRY};
use crate::kit::cgroup::Cgroup;
use crate::kit::child::in_child;
use crate::kit::engine::Engine;
use crate::kit::limits::{self, need_root, need_two_cpus};
use crate::kit::{cpu, debug, process, sys, until};

tests! { "pools":
    made_by_set => "SET of any POOL_* makes a pool; before it GET and QUERY_POOL are ENOENT";
    sixteen => "16 pools, each executes its entries; there is no seventeenth";
    bad_values => "wrong pools, CPUs, nice values and sizes are EINVAL and make no pool";
    query_sizes => "QUERY_POOL fills in the fields that the caller knows, and reports its own size";
    first_pool => "pool 0 is always there and has the opener's CPUs and nice value";
    cpus => "threads of a pool run on its CPUs only, even after a change";
    cpus_of_opener => "POOL_CPUS 0 gives the CPUs of the opener again";
    nice => "threads of a pool have its nice value, even after a change; other threads have not";
    nice_needs_right => "a better nice value without the right is EACCES; a worse one is allowed";
    nice_limit => "RLIMIT_NICE gives the right to a better nice value";
    thread_limit => "MAX_THREADS counts the threads of all pools; at it SET is EAGAIN, later works";
    process_limit => "RLIMIT_NPROC: SET of a new pool is EAGAIN, leaves no pool, works later";
    cgroup_limit => "pids.max: SET of a new pool is EAGAIN, leaves no pool, works later";
    cpuset => "POOL_CPUS outside of the cpuset is EINVAL; threads follow a cpuset that shrinks";
}

/// The threads of a pool of the only engine.
fn threads_of(pool: u32) -> Check<Vec<i32>> {
    let threads = debug::threads()?.into_iter();
    Ok(threads.filter(|t| t.pool == pool).map(|t| t.tid).collect())
}

/// Waits until all threads of pool 1 have applied the settings.
fn until_all(engine: &Engine, what: &str, good: impl Fn(i32) -> bool) -> Check {
    threads_of(1)?;
    let mut ring = engine.ring(1)?;
    until(what, || {
        // Blocking calls wake one thread after the other.
        let nap = [0i64, 1];
        let naps = [call!(SYS_nanosleep, nap.as_ptr(), 0).in_pool(1); 4];
        let _ = ring.run_all(&naps);
        threads_of(1).is_ok_and(|threads| !threads.is_empty() && threads.into_iter().all(&good))
    })?;
    check_eq!("UNREGISTER", ring.unregister(), Ok(0));
    Ok(())
}

fn made_by_set() -> Check {
    let mine = cpu::allowed(sys::gettid()).unwrap_or(1) as i64;
    let params = [
        (Param::PoolCpus, mine),
        (Param::PoolConcurrency, 1),
        (Param::PoolNice, 3),
    ];
    for (param, value) in params {
        let engine = Engine::open()?;
        let mut ring = engine.ring(1)?;
        check_eq!("pools", engine.stats()?.pools, 1);
        for (what, _) in params {
            check_eq!(
                format!("GET {what:?} of no pool"),
                engine.try_get_pool(5, what),
                Err(Errno::ENOENT)
            );
        }
        let query = engine.try_pool(5).map(|_| ());
        check_eq!("QUERY_POOL of no pool", query, Err(Errno::ENOENT));
        let refused = ring.run(call!(SYS_getpid).in_pool(5))?;
        check_ret!("an entry for no pool", refused.result, -libc::EINVAL);
        check_eq!("its reason", refused.reason, REASON_ENTRY);

        engine.set_pool(5, param, value)?;
        check_eq!("GET", engine.try_get_pool(5, param), Ok(value));
        check_eq!("pools", engine.stats()?.pools, 2);
        let stats = engine.pool(5)?;
        check_eq!("threads", stats.threads, 1);
        let done = ring.run(call!(SYS_getpid).in_pool(5))?;
        check_ret!("getpid", done.result, std::process::id());
        check_eq!("executed", engine.pool(5)?.executed, 1);
    }
    Ok(())
}

fn sixteen() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    for pool in 1..16 {
        engine.set_pool(pool, Param::PoolConcurrency, 0)?;
    }
    check_eq!("pools", engine.stats()?.pools, 16);
    let over = engine.try_set_pool(16, Param::PoolConcurrency, 0);
    check_eq!("SET of pool 16", over, Err(Errno::EINVAL));
    let calls: Vec<_> = (0..64)
        .map(|n| call!(SYS_getpid).in_pool(n as u8 % 16))
        .collect();
    for done in ring.run_all(&calls)? {
        check_ret!("getpid", done.result, std::process::id());
    }
    for pool in 1..16 {
        check_eq!(
            format!("executed by pool {pool}"),
            engine.pool(pool)?.executed,
            4
        );
    }
    let stats = engine.stats()?;
    check_eq!("executed inline", stats.inline_done, 4);
    check_eq!("executed by threads", stats.thread_done, 60);
    drop(ring);
    drop(engine);
    process::until_tasks(1)
}

fn bad_values() -> Check {
    let engine = Engine::open()?;
    let bad = [
        (16, Param::PoolCpus, 0),
        (u32::MAX, Param::PoolNice, 0),
        (3, Param::PoolCpus, i64::MIN),
        (3, Param::PoolConcurrency, -1),
        (3, Param::PoolConcurrency, 1 << 32),
        (3, Param::PoolNice, 20),
        (3, Param::PoolNice, -21),
        (3, Param::PoolNice, 1 << 32),
        (3, Param::IdleNs, 5),
        (3, Param::PollCpus, 0),
    ];
    for (pool, param, value) in bad {
        check_eq!(
            format!("SET {param:?} of pool {pool} to {value}"),
            engine.try_set_pool(pool, param, value),
            Err(Errno::EINVAL)
        );
    }
    check_eq!(
        "GET of pool 16",
        engine.try_get_pool(16, Param::PoolNice),
        Err(Errno::EINVAL)
    );
    let query = engine.try_pool(16).map(|_| ());
    check_eq!("QUERY_POOL 16", query, Err(Errno::EINVAL));
    check_eq!("pools", engine.stats()?.pools, 1);
    check_eq!("threads", engine.stats()?.threads, 0);
    Ok(())
}

fn query_sizes() -> Check {
    let engine = Engine::open()?;
    engine.set_pool(2, Param::PoolNice, 4)?;
    let full = size_of::<PoolStats>() as u32;
    let mut stats = PoolStats {
        size: 16,
        pool: 2,
        nice: 77,
        ..PoolStats::default()
    };
    let ret = sys::ioctl_with(engine.fd(), abi::IOC_QUERY_POOL, &mut stats);
    check_eq!("QUERY_POOL with 16 bytes", ret, Ok(0));
    check_eq!("size", stats.size, full);
    check!(stats.cpus != 0, "no CPUs");
    check_eq!("a field that the caller does not know", stats.nice, 77);
    stats.size = 7;
    let ret = sys::ioctl_with(engine.fd(), abi::IOC_QUERY_POOL, &mut stats);
    check_eq!("QUERY_POOL with 7 bytes", ret, Err(Errno::EINVAL));
    check_eq!("nice", engine.pool(2)?.nice, 4);
    Ok(())
}

fn first_pool() -> Check {
    let engine = Engine::open()?;
    let mine = cpu::allowed(sys::gettid()).unwrap_or(0);
    let stats = engine.pool(0)?;
    check_eq!(
        "CPUs",
        engine.try_get_pool(0, Param::PoolCpus),
        Ok(mine as i64)
    );
    check_eq!("number of CPUs", stats.cpus, mine.count_ones().into());
    check_eq!("nice", Some(stats.nice as i64), cpu::nice(sys::gettid()));
    check_eq!("limit", stats.concurrency, limits::cpus() as u64);
    check_eq!(
        "POOL_CONCURRENCY",
        engine.try_get_pool(0, Param::PoolConcurrency),
        Ok(0)
    );
    engine.set_pool(0, Param::PoolConcurrency, 1)?;
    check_eq!("limit", engine.pool(0)?.concurrency, 1);
    engine.set_pool(0, Param::PoolConcurrency, 1000)?;
    check_eq!("limit", engine.pool(0)?.concurrency, limits::cpus() as u64);
    check_eq!("pools", engine.stats()?.pools, 1);
    Ok(())
}

/// Checks that the threads of pool 1 run on these CPUs.
fn until_allowed(engine: &Engine, mask: u64) -> Check {
    until_all(engine, &format!("pool 1 on CPUs {mask:#x}"), |tid| {
        cpu::allowed(tid).is_none_or(|at| at == mask)
    })?;
    Ok(())
}

/// Checks that the threads of pool 1 have moved and have run on these CPUs.
fn check_ran(mask: u64) -> Check {
    for tid in threads_of(1)? {
        let last = cpu::last(tid).unwrap_or(0);
        check!(
            mask & (1 << last) != 0,
            "ran on CPU {last}, not in {mask:#x}"
        );
    }
    Ok(())
}

fn cpus() -> Check {
    need_two_cpus()?;
    let engine = Engine::open()?;
    for mask in [0b10, 0b01, 0b11, 0b10] {
        engine.set_pool(1, Param::PoolCpus, mask)?;
        check_eq!("GET", engine.try_get_pool(1, Param::PoolCpus), Ok(mask));
        check_eq!("CPUs", engine.pool(1)?.cpus, mask.count_ones().into());
        check_eq!(
            "limit",
            engine.pool(1)?.concurrency,
            u64::from(mask.count_ones())
        );
        until_allowed(&engine, mask as u64)?;
        check_ran(mask as u64)?;
    }
    Ok(())
}

fn cpus_of_opener() -> Check {
    need_two_cpus()?;
    ok!("sched_setaffinity", sys::pin(1));
    let engine = Engine::open()?;
    let all = [u64::MAX; 2];
    plain!(SYS_sched_setaffinity, 0, size_of_val(&all), all.as_ptr());
    engine.set_pool(1, Param::PoolCpus, 0b01)?;
    until_allowed(&engine, 0b01)?;
    engine.set_pool(1, Param::PoolCpus, 0)?;
    check_eq!("CPUs", engine.try_get_pool(1, Param::PoolCpus), Ok(0b10));
    until_allowed(&engine, 0b10)?;
    check_ran(0b10)
}

fn nice() -> Check {
    let engine = Engine::open()?;
    let own = cpu::nice(sys::gettid());
    let mut values = vec![7, 12];
    if plain!(SYS_geteuid) == 0 {
        values.extend([-5, 0]);
    }
    for value in values {
        engine.set_pool(1, Param::PoolNice, value)?;
        check_eq!("QUERY_POOL", engine.pool(1)?.nice as i64, value);
        until_all(&engine, &format!("pool 1 with nice {value}"), |tid| {
            cpu::nice(tid).is_none_or(|nice| nice == value)
        })?;
        for tid in threads_of(0)? {
            check_eq!("a thread of pool 0", cpu::nice(tid), own);
        }
        check_eq!("the program's own", cpu::nice(sys::gettid()), own);
    }
    Ok(())
}

fn nice_needs_right() -> Check {
    need_root()?;
    in_child(|| {
        ok!("setrlimit", limits::set_limit(libc::RLIMIT_NICE, 0));
        let engine = Engine::open()?;
        ok!("dropping rights", limits::drop_rights());
        let better = engine.try_set_pool(1, Param::PoolNice, -1);
        check_eq!("SET POOL_NICE -1", better, Err(Errno::EACCES));
        check_eq!("threads", engine.stats()?.threads, 0);
        check_eq!(
            "SET POOL_NICE 5",
            engine.try_set_pool(1, Param::PoolNice, 5),
            Ok(0)
        );
        let back = engine.try_set_pool(1, Param::PoolNice, 0);
        check_eq!("SET POOL_NICE 0 after 5", back, Err(Errno::EACCES));
        check_eq!("GET", engine.try_get_pool(1, Param::PoolNice), Ok(5));
        Ok(())
    })
}

fn nice_limit() -> Check {
    need_root()?;
    in_child(|| {
        // 20 - limit is the best value.
        ok!("setrlimit", limits::set_limit(libc::RLIMIT_NICE, 23));
        let engine = Engine::open()?;
        ok!("dropping rights", limits::drop_rights());
        check_eq!("-3", engine.try_set_pool(1, Param::PoolNice, -3), Ok(0));
        let better = engine.try_set_pool(1, Param::PoolNice, -4);
        check_eq!("-4", better, Err(Errno::EACCES));
        Ok(())
    })
}

fn thread_limit() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    engine.set(Param::MaxThreads, 3)?;
    engine.set_pool(1, Param::PoolConcurrency, 0)?;
    engine.set_pool(2, Param::PoolConcurrency, 0)?;
    check_eq!("threads", engine.stats()?.threads, 3);
    for _ in 0..3 {
        let over = engine.try_set_pool(3, Param::PoolConcurrency, 0);
        check_eq!("SET of a fourth pool", over, Err(Errno::EAGAIN));
        let query = engine.try_pool(3).map(|_| ());
        check_eq!("QUERY_POOL of it", query, Err(Errno::ENOENT));
    }
    check_eq!("pools", engine.stats()?.pools, 3);
    engine.set(Param::MaxThreads, 100)?;
    engine.set_pool(3, Param::PoolConcurrency, 0)?;
    let calls = [1, 2, 3].map(|pool| call!(SYS_getpid).in_pool(pool));
    for done in ring.run_all(&calls)? {
        check_ret!("getpid", done.result, std::process::id());
    }
    Ok(())
}

/// Checks that a pool cannot be made while `limit` holds, and can be made after `lift`.
fn limited(limit: impl FnOnce() -> Check, lift: impl FnOnce() -> Check) -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    limit()?;
    let over = engine.try_set_pool(1, Param::PoolConcurrency, 0);
    check_eq!("SET of a new pool", over, Err(Errno::EAGAIN));
    check_eq!("pools", engine.stats()?.pools, 1);
    let refused = ring.run(call!(SYS_getpid).in_pool(1))?;
    check_ret!("an entry for it", refused.result, -libc::EINVAL);
    lift()?;
    engine.set_pool(1, Param::PoolConcurrency, 0)?;
    let done = ring.run(call!(SYS_getpid).in_pool(1))?;
    check_ret!("getpid", done.result, std::process::id());
    Ok(())
}

fn process_limit() -> Check {
    need_root()?;
    in_child(|| {
        // The hard limit stays, so that the soft one can be raised again without privileges.
        let soft = |cur| {
            let limit = libc::rlimit {
                rlim_cur: cur,
                rlim_max: 10_000,
            };
            let at = std::ptr::from_ref(&limit);
            let ret = plain!(SYS_prlimit64, 0, libc::RLIMIT_NPROC, at, 0);
            check_ret!("prlimit", ret, 0);
            Ok(())
        };
        soft(10_000)?;
        ok!("dropping rights", limits::drop_rights());
        limited(|| soft(1), || soft(10_000))
    })
}

fn cgroup_limit() -> Check {
    let group = Cgroup::new(Some("pids"))?;
    in_child(|| {
        group.enter()?;
        limited(
            || group.write("pids.max", group.read("pids.current").trim()),
            || group.write("pids.max", "max"),
        )
    })
}

fn cpuset() -> Check {
    need_two_cpus()?;
    let group = Cgroup::new(Some("cpuset"))?;
    in_child(|| {
        group.write("cpuset.cpus", "1")?;
        group.enter()?;
        let engine = Engine::open()?;
        for mask in [0b01, 0b11] {
            let ret = engine.try_set_pool(1, Param::PoolCpus, mask);
            check_eq!(format!("SET POOL_CPUS {mask}"), ret, Err(Errno::EINVAL));
        }
        engine.set_pool(1, Param::PoolCpus, 0b10)?;
        until_allowed(&engine, 0b10)?;
        group.write("cpuset.cpus", "0-1")?;
        engine.set_pool(1, Param::PoolCpus, 0b11)?;
        until_allowed(&engine, 0b11)?;
        group.write("cpuset.cpus", "0")?;
        until_allowed(&engine, 0b01)?;
        engine.until_pool(1, "a limit of one thread on one CPU", |s| {
            s.concurrency == 1
        })?;
        check_eq!(
            "the CPUs asked for",
            engine.try_get_pool(1, Param::PoolCpus),
            Ok(0b11)
        );
        Ok(())
    })
}
