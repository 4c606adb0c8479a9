// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pools as seen in fdinfo, debugfs and the event log.

use std::fs;

use crate::check::Check;
use crate::kit::abi::{Param, Policy};
use crate::kit::debug;
use crate::kit::engine::Engine;
use crate::kit::files::{BlockedReads, pipe};
use crate::kit::trace::Trace;
use crate::kit::{rounds, sys};

tests! { "watch":
    fdinfo => "fdinfo has a line for each pool, with the values of QUERY_POOL";
    debug_file => "debugfs has one file for each engine, with its registrations and threads";
    debug_file_of_many => "the file can be read while threads come, block and go";
    events => "posts, hand-offs, waits and kicks are in the event log, with the process";
    events_off => "events that are not enabled are not logged";
}

fn fdinfo() -> Check {
    let engine = Engine::open()?;
    engine.set_pool(3, Param::PoolNice, 9)?;
    let text = ok!(
        "fdinfo",
        fs::read_to_string(format!("/proc/self/fdinfo/{}", engine.fd()))
    );
    let line = |name: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"))
    };
    check_eq!("pools", line("flexsc-pools"), Some("2"));
    check_eq!("pollers", line("flexsc-pollers"), Some("0"));
    for pool in [0, 3] {
        let Some(line) = line(&format!("flexsc-pool-{pool}")) else {
            fail!("no line for pool {pool}: {text}");
        };
        let stats = engine.pool(pool)?;
        let words: Vec<&str> = line.split(' ').collect();
        let value = |name| {
            words
                .iter()
                .position(|&w| w == name)
                .map(|at| words[at + 1])
        };
        let nice = (stats.nice as i64).to_string();
        check_eq!("nice", value("nice"), Some(nice.as_str()));
        let threads = stats.threads.to_string();
        check_eq!("threads", value("threads"), Some(threads.as_str()));
        let cpus = stats.cpus.to_string();
        check_eq!("cpus", value("cpus"), Some(cpus.as_str()));
    }
    Ok(())
}

fn debug_file() -> Check {
    check_eq!("files before", debug::files()?.len(), 0);
    let engine = Engine::open()?;
    engine.set_pool(2, Param::PoolConcurrency, 0)?;
    let mut ring = engine.ring(3)?;
    let (from, to) = pipe()?;
    let reads = BlockedReads::new(&from, 2);
    let calls: Vec<_> = reads.calls().iter().map(|c| c.in_pool(2)).collect();
    let slots = ring.post_blocked(&calls)?;
    engine.until_pool(2, "two blocked threads", |s| s.blocked == 2)?;
    engine.until_pool(0, "an idle thread", |s| s.threads_idle == 1)?;
    let text = debug::text()?;
    let registration = format!(
        "registration {} owner {} pages 3 ready 0 unfinished 2",
        ring.id,
        sys::gettid()
    );
    check!(text.lines().any(|line| line == registration), "{text}");
    let states = |state: &str, pool| -> Check<usize> {
        let threads = debug::threads()?.into_iter();
        Ok(threads
            .filter(|t| t.pool == pool && t.state == state)
            .count())
    };
    check_eq!("blocked threads of pool 2", states("blocked", 2)?, 2);
    check_eq!("blocked threads of pool 0", states("blocked", 0)?, 0);
    check_eq!("idle threads of pool 0", states("idle", 0)?, 1);
    let other = Engine::open()?;
    check_eq!("files of two engines", debug::files()?.len(), 2);
    drop(other);
    reads.release(&to)?;
    ring.finish(&slots)?;
    drop(ring);
    check_eq!("files of one", debug::files()?.len(), 1);
    drop(engine);
    check_eq!("files after", debug::files()?.len(), 0);
    Ok(())
}

fn debug_file_of_many() -> Check {
    let engine = Engine::open()?;
    engine.set(Param::RetireMs, 1)?;
    let mut ring = engine.ring(1)?;
    let (from, to) = pipe()?;
    for _ in 0..rounds(10) {
        let reads = BlockedReads::new(&from, 50);
        let slots = ring.post_blocked(&reads.calls())?;
        let seen = debug::threads()?.len();
        check!(seen >= 1, "no thread is shown");
        reads.release(&to)?;
        debug::threads()?;
        ring.finish(&slots)?;
        debug::threads()?;
    }
    Ok(())
}

fn events() -> Check {
    let trace = Trace::start(&[
        "flexsc_post",
        "flexsc_handoff",
        "flexsc_wait",
        "flexsc_kick",
    ])?;
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let (from, to) = pipe()?;
    let reads = BlockedReads::new(&from, 2);
    let slots = ring.post_blocked(&reads.calls())?;
    engine.until_pool(0, "two blocked threads", |s| s.blocked == 2)?;
    let before = engine.stats()?.sleeps;
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            engine.until_stats("the owner sleeps", |s| s.sleeps > before)?;
            reads.release(&to)
        });
        ok!("WAIT", ring.wait(Policy::Any));
        other.join().expect("no panic")
    })?;
    ring.finish(&slots)?;
    ring.run(call!(SYS_getpid))?;
    let events = trace.events()?;
    let pid = i64::from(std::process::id());
    for event in &events {
        check_eq!(event.text, event.field("tgid"), Some(pid));
    }
    let of = |name: &str| events.iter().filter(|e| e.name == name).collect::<Vec<_>>();
    let posts = of("flexsc_post");
    check!(posts.len() >= 2, "{events:?}");
    check_eq!("first bits", posts[0].field("bits"), Some(0b11));
    check_eq!(
        "owner",
        posts[0].field("owner"),
        Some(i64::from(sys::gettid()))
    );
    let kicks = of("flexsc_kick");
    check_eq!("kicks", kicks.len(), 1);
    check_eq!(
        "registration",
        kicks[0].field("id"),
        Some(i64::from(ring.id))
    );
    let handoffs = of("flexsc_handoff");
    check!(!handoffs.is_empty(), "{events:?}");
    check_eq!("pool", handoffs[0].field("pool"), Some(0));
    let waits = of("flexsc_wait");
    check!(!waits.is_empty(), "{events:?}");
    check_eq!("missing", waits[0].field("missing"), Some(1));
    check_eq!("who waits", waits[0].tid, sys::gettid());
    Ok(())
}

fn events_off() -> Check {
    let trace = Trace::start(&[])?;
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    ring.run_all(&[call!(SYS_getpid); 64])?;
    ring.kicked()?;
    check_eq!("events", trace.events()?.len(), 0);
    trace.enable("flexsc_kick")?;
    ring.run_all(&[call!(SYS_getpid); 64])?;
    ring.kicked()?;
    check!(!trace.events()?.is_empty(), "no events of the same calls");
    Ok(())
}
