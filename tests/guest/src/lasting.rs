// SPDX-License-Identifier: MIT OR Apache-2.0
//! Syscall threads that run for a long time without sleeping do not hold up tracers and CPU timers.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::chains::flagged;
use crate::check::{Check, skip};
use crate::kit::abi::{ENTRY_LOOP, MAX_IDLE_NS, MAX_ROUNDS, Param};
use crate::kit::child::in_child;
use crate::kit::engine::Engine;
use crate::kit::limits::{need_root, need_two_cpus, poller_cpu};
use crate::kit::ring::Ring;
use crate::kit::{patience, signals, until};

tests! { "lasting":
    tracers_detach => "ftrace and kprobes attach and detach beside an awake poller and a loop";
    profiled => "ITIMER_PROF of a process ticks while its poller polls an empty page";
    profiled_in_loop => "ITIMER_PROF of a process ticks while a loop runs";
}

const TRACING: &str = "/sys/kernel/tracing";

/// A poller that polls in vain for longer than any test takes.
fn polling() -> Check<(Engine, Ring)> {
    need_two_cpus()?;
    let engine = Engine::open()?;
    engine.set(Param::IdleNs, MAX_IDLE_NS)?;
    engine.set(Param::LoopMax, MAX_ROUNDS)?;
    let ring = engine.ring(1)?;
    engine.set(Param::PollCpus, 1 << poller_cpu())?;
    until("a poller that is awake", || !ring.needs_kick())?;
    Ok((engine, ring))
}

/// A trace instance, removed when dropped.
struct Instance(PathBuf);

impl Instance {
    fn new() -> Check<Instance> {
        if !Path::new(TRACING).join("available_tracers").exists() {
            return skip("needs tracefs at /sys/kernel/tracing");
        }
        let name = format!("instances/flexsc-lasting.{}", std::process::id());
        let dir = Path::new(TRACING).join(name);
        ok!("a trace instance", fs::create_dir(&dir));
        Ok(Instance(dir))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn write(path: &Path, value: &str) -> Result<(), String> {
    use std::io::Write;
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(path)
        .map_err(|e| format!("{}: {e}", path.display()))?;
    file.write_all(value.as_bytes())
        .map_err(|e| format!("{value:?} to {}: {e}", path.display()))
}

/// Attaches a function tracer and a kprobe, and detaches both again.
fn attach_and_detach(instance: &Path) -> Result<(), String> {
    let tracing = Path::new(TRACING);
    write(&instance.join("set_ftrace_filter"), "do_sys_openat2")?;
    write(&instance.join("current_tracer"), "function")?;
    write(&instance.join("current_tracer"), "nop")?;
    let probe = format!("flexsc_lasting_{}", std::process::id());
    write(
        &tracing.join("kprobe_events"),
        &format!("p:kprobes/{probe} do_sys_openat2\n"),
    )?;
    let enable = tracing.join(format!("events/kprobes/{probe}/enable"));
    write(&enable, "1")?;
    write(&enable, "0")?;
    write(
        &tracing.join("kprobe_events"),
        &format!("-:kprobes/{probe}\n"),
    )
}

fn tracers_detach() -> Check {
    need_root()?;
    let instance = Instance::new()?;
    let (engine, mut ring) = polling()?;
    // The loop leaves the CPU to another thread, which goes on polling.
    let endless = ring.post(flagged(call!(SYS_getppid), ENTRY_LOOP));
    ring.until_taken(&[endless])?;
    until("a poller that is awake", || !ring.needs_kick())?;
    // A task that waits for a grace period of Tasks-RCU cannot be interrupted, so this thread does
    // not wait itself.
    let (done, wait) = mpsc::channel();
    let dir = instance.0.clone();
    let begin = Instant::now();
    let tracer = std::thread::spawn(move || done.send(attach_and_detach(&dir)));
    let result = wait.recv_timeout(patience());
    let took = begin.elapsed();
    let is_running = !ring.is_done(endless) && !ring.needs_kick();
    ok!("CANCEL", ring.cancel(endless));
    ring.poll_until_done(&[endless])?;
    drop(ring);
    drop(engine);
    let _ = tracer.join();
    match result {
        Ok(Ok(())) => println!("# {took:?}"),
        Ok(Err(error)) => fail!("{error}"),
        Err(_) => fail!("tracers were not attached and detached within {took:?}"),
    }
    check!(is_running, "the poller or the loop has ended meanwhile");
    Ok(())
}

/// CPU time that this process has used.
fn used() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let at = std::ptr::from_mut(&mut time);
    plain!(SYS_clock_gettime, libc::CLOCK_PROCESS_CPUTIME_ID, at);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Profiles the process, whose CPU time syscall threads use, until there are 20 signals.
fn profile() -> Check {
    signals::count_signal(libc::SIGPROF, libc::SA_RESTART)?;
    let tick = libc::timeval {
        tv_sec: 0,
        tv_usec: 10_000,
    };
    let timer = libc::itimerval {
        it_interval: tick,
        it_value: tick,
    };
    let begin = used();
    let set = std::ptr::from_ref(&timer);
    check_ret!(
        "setitimer",
        plain!(SYS_setitimer, libc::ITIMER_PROF, set, 0),
        0
    );
    // On a machine that is slow or stands still, many ticks become one signal.
    let ran = until("20 signals", || signals::counted() >= 20);
    let (count, used) = (signals::counted(), used() - begin);
    let off = libc::itimerval {
        it_interval: libc::timeval {
            tv_sec: 0,
            tv_usec: 0,
        },
        it_value: libc::timeval {
            tv_sec: 0,
            tv_usec: 0,
        },
    };
    plain!(
        SYS_setitimer,
        libc::ITIMER_PROF,
        std::ptr::from_ref(&off),
        0
    );
    println!("# {count} signals in {used:?}");
    ran?;
    Ok(())
}

fn profiled() -> Check {
    in_child(|| {
        let (_engine, ring) = polling()?;
        profile()?;
        check!(!ring.needs_kick(), "the poller has not polled all the time");
        Ok(())
    })
}

fn profiled_in_loop() -> Check {
    in_child(|| {
        let engine = Engine::open()?;
        engine.set(Param::LoopMax, MAX_ROUNDS)?;
        let mut ring = engine.ring(1)?;
        let endless = ring.post(flagged(call!(SYS_getppid), ENTRY_LOOP));
        ring.kicked()?;
        let profiled = profile();
        check!(!ring.is_done(endless), "the loop has ended");
        ok!("CANCEL", ring.cancel(endless));
        ring.poll_until_done(&[endless])?;
        profiled
    })
}
