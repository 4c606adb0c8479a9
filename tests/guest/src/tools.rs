// SPDX-License-Identifier: MIT OR Apache-2.0
//! `flexsc doctor` and `flexsc stat` with the module, and the names of threads in /proc.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::check::{Check, skip};
use crate::kit::abi::Param;
use crate::kit::engine::Engine;
use crate::kit::files::{BlockedReads, pipe};
use crate::kit::mode::Mode;
use crate::kit::seccomp::{Action, Filter};
use crate::kit::trace::Trace;
use crate::kit::{debug, process, until};

tests! { "tools":
    doctor_fine => "flexsc doctor tries every way and finds nothing wrong";
    doctor_filtered => "doctor says which common calls a filter allows, and for which it kills";
    doctor_refused => "flexsc doctor fails if a filter makes the kernel refuse its posted calls";
    doctor_killed => "flexsc doctor reports a filter that kills the caller of flexsc_wait(2)";
    full => "flexsc doctor and stat say in one sentence that standard output is full";
    names => "header, fdinfo and flexsc stat have the same counters with the same values";
    stat_json => "flexsc stat --json has the same counters; with an interval it prints rates";
    trace_shows => "flexsc trace shows posted calls with their arguments, results and executors";
    events_of_calls => "flexsc_invoke and flexsc_complete fire once for each executed entry";
    threads => "names of syscall threads tell engine and pool; wchan tells where they sleep";
}

const PROGRAM: &str = "/bin/flexsc";
const HEADER: &str = include_str!("../../../kernel/include/uapi/linux/flexsc.h");

fn program() -> Check<Command> {
    if !Path::new(PROGRAM).exists() {
        return skip(format!("needs {PROGRAM}"));
    }
    Ok(Command::new(PROGRAM))
}

/// Returns the output of `flexsc doctor` under a filter, if there is one, and whether it succeeded.
fn doctor(filter: Option<Filter>) -> Check<(String, bool)> {
    let mut command = program()?;
    command.arg("doctor");
    if let Some(filter) = filter {
        let filter = filter.otherwise(Action::Allow);
        #[expect(unsafe_code, reason = "pre_exec is unsafe")]
        // SAFETY: the closure makes system calls and nothing else.
        unsafe {
            command.pre_exec(move || {
                filter.hold()?;
                Ok(())
            });
        }
    }
    let output = ok!("flexsc doctor", command.output());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in text.lines() {
        println!("# {line}");
    }
    Ok((text, output.status.success()))
}

fn has_line(text: &str, begin: &str, words: &str) -> bool {
    text.lines()
        .any(|line| line.starts_with(begin) && line.contains(words))
}

fn doctor_fine() -> Check {
    let (text, fine) = doctor(None)?;
    check!(fine, "{text}");
    for way in [
        "register", "ioctl", "wait", "thread", "kick", "poll", "eventfd", "cancel",
    ] {
        check!(has_line(&text, &format!("ok   {way} "), ""), "{way}");
    }
    check!(has_line(&text, "ok   seccomp ", "no filter"), "{text}");
    Ok(())
}

fn doctor_filtered() -> Check {
    let filter = Filter::new()
        .rule(libc::SYS_connect, Action::Errno(libc::EPERM))
        .rule(libc::SYS_splice, Action::KillProcess)
        .rule(libc::SYS_sendmsg, Action::KillThread);
    let (text, fine) = doctor(Some(filter))?;
    check!(fine, "{text}");
    for (begin, words) in [
        ("ok   seccomp ", "it allows 45 of 48 common calls"),
        (
            "note seccomp ",
            "made plainly, as the filter is then asked: connect",
        ),
        ("note seccomp ", "kills for: splice, sendmsg"),
        ("ok   thread ", ""),
    ] {
        check!(has_line(&text, begin, words), "{words}: {text}");
    }
    Ok(())
}

fn doctor_refused() -> Check {
    // A filter that allows no posted call.
    let (text, fine) = doctor(Some(Filter::new().asks_for_address()))?;
    check!(!fine, "doctor is content");
    check!(
        has_line(&text, "FAIL ioctl ", "a posted call was refused"),
        "{text}"
    );
    check!(has_line(&text, "FlexSC cannot be used here", ""), "{text}");
    Ok(())
}

fn doctor_killed() -> Check {
    for action in [Action::KillThread, Action::KillProcess, Action::Trap] {
        let (text, fine) = doctor(Some(Filter::new().rule(548, action)))?;
        check!(!fine, "{action:?}: doctor is content");
        check!(has_line(&text, "FAIL wait ", "killed by SIGSYS"), "{text}");
        check!(has_line(&text, "FlexSC cannot be used here", ""), "{text}");
    }
    Ok(())
}

fn full() -> Check {
    let engine = Engine::open()?;
    let pid = std::process::id().to_string();
    for args in [vec!["doctor"], vec!["stat"], vec!["stat", "-p", &pid]] {
        let mut command = program()?;
        let full = ok!("/dev/full", File::options().write(true).open("/dev/full"));
        let output = ok!(
            "flexsc",
            command
                .args(&args)
                .stdout(full)
                .stderr(Stdio::piped())
                .output()
        );
        let said = String::from_utf8_lossy(&output.stderr);
        check_eq!(format!("{args:?}: {said}"), output.status.code(), Some(1));
        check_eq!(format!("{args:?}: {said}"), said.lines().count(), 1);
        check!(said.contains("cannot write to standard output"), "{said}");
    }
    drop(engine);
    Ok(())
}

/// The counters that a struct of the header has, in order.
fn header_names(name: &str) -> Vec<&'static str> {
    let begin = format!("struct {name} {{");
    let body = HEADER.split_once(&begin).map_or("", |(_, rest)| rest);
    let body = body.split_once('}').map_or("", |(body, _)| body);
    let fields = body.lines().filter_map(|line| {
        let (kind, field) = line.trim().trim_end_matches(';').split_once('\t')?;
        (kind == "__u64").then_some(field.trim())
    });
    fields.collect()
}

/// Names and values of lines `PREFIXname: value`, without those of pools.
fn pairs(text: &str, prefix: &str, colon: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter_map(|line| {
        let (name, value) = line.strip_prefix(prefix)?.split_once(colon)?;
        Some((name.to_owned(), value.trim().to_owned()))
    });
    lines
        .filter(|(name, _)| !name.starts_with("pool-"))
        .collect()
}

fn names() -> Check {
    let wanted = header_names("flexsc_stats");
    check!(
        wanted.len() >= 25 && wanted.contains(&"cancels"),
        "{wanted:?}"
    );
    let (engine, mut ring) = Mode::Async.start(1)?;
    engine.set(Param::RetireMs, 60_000)?;
    ring.run_all(&[call!(SYS_getpid); 3])?;
    engine.until_pool(0, "idle threads", |pool| pool.threads_idle == pool.threads)?;
    let path = format!("/proc/self/fdinfo/{}", engine.fd());
    let text = ok!("fdinfo", fs::read_to_string(path));
    let fdinfo = pairs(&text, "flexsc-", ":\t");
    let names: Vec<&str> = fdinfo.iter().map(|(name, _)| name.as_str()).collect();
    check_eq!("names in fdinfo", names, wanted);

    let pid = std::process::id().to_string();
    let output = ok!(
        "flexsc stat",
        program()?.args(["stat", "-p", &pid]).output()
    );
    let stat = String::from_utf8_lossy(&output.stdout).into_owned();
    check_eq!("flexsc stat", pairs(&stat, "  ", " "), fdinfo);

    let stats = engine.stats()?;
    let value = |name: &str| {
        let found = fdinfo.iter().find(|(n, _)| n == name);
        found.and_then(|(_, value)| value.parse::<u64>().ok())
    };
    for (name, queried) in [
        ("posted", stats.posted),
        ("thread_done", stats.thread_done),
        ("cancels", stats.cancels),
        ("loop_rounds", stats.loop_rounds),
        ("pools", stats.pools),
    ] {
        check_eq!(name, value(name), Some(queried));
    }

    let wanted = header_names("flexsc_pool_stats");
    let pool = text
        .lines()
        .find_map(|line| line.strip_prefix("flexsc-pool-0:\t"));
    let words: Vec<&str> = pool.unwrap_or_default().split(' ').collect();
    let mut names: Vec<&str> = words.iter().step_by(2).copied().collect();
    let mut wanted = wanted;
    names.sort_unstable();
    wanted.sort_unstable();
    check_eq!("names in the pool's line", names, wanted);
    Ok(())
}

fn stat_json() -> Check {
    let (engine, mut ring) = Mode::Async.start(1)?;
    ring.run_all(&[call!(SYS_getpid); 3])?;
    let pid = std::process::id().to_string();
    let json = || -> Check<String> {
        let output = program()?.args(["stat", "-p", &pid, "--json"]).output();
        let output = ok!("flexsc stat", output);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let text = json()?;
    check_eq!("lines", text.lines().count(), 1);
    check!(text.starts_with(&format!("{{\"pid\":{pid},")), "{text}");
    let posted = format!("\"posted\":{},", engine.stats()?.posted);
    check!(text.contains(&posted), "no {posted} in {text}");
    check!(text.contains("\"pool-0\":{\"nice\":"), "{text}");
    let output = program()?.args(["stat", "-p", &pid, "0.1", "2"]).output();
    let output = ok!("flexsc stat 0.1 2", output);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    check_eq!(format!("lines: {text}"), lines.len(), 3);
    check_eq!(
        "heading",
        lines[0][..3].to_vec(),
        vec!["pid", "fd", "posted"]
    );
    for row in &lines[1..] {
        check_eq!(
            format!("{text}"),
            (row[0], row.len()),
            (pid.as_str(), lines[0].len())
        );
        check_eq!("calls in a second", row[2], "0");
    }
    Ok(())
}

fn trace_shows() -> Check {
    if !Path::new("/sys/kernel/tracing/events/flexsc").exists() {
        return skip("needs tracefs at /sys/kernel/tracing");
    }
    let pid = std::process::id().to_string();
    let child = ok!(
        "flexsc trace",
        program()?
            .args(["trace", "-s", "-p", &pid])
            .stdout(Stdio::piped())
            .spawn()
    );
    // The program has set up everything when its pipe is open, which it opens last.
    let instance = format!("/sys/kernel/tracing/instances/flexsc-trace.{}", child.id());
    let pipe = format!("{instance}/trace_pipe");
    let fds = format!("/proc/{}/fd", child.id());
    until("flexsc trace has set up", || {
        let fds = fs::read_dir(&fds).into_iter().flatten().flatten();
        fds.filter_map(|fd| fs::read_link(fd.path()).ok())
            .any(|to| to == Path::new(&pipe))
    })?;
    let path = c"/no/such/file";
    let mut tids = Vec::new();
    for mode in [Mode::Inline, Mode::Async] {
        let (_engine, mut ring) = mode.start(1)?;
        ring.run_all(&[call!(SYS_getpgrp); 2])?;
        let open = call!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY, 0);
        ring.run_all(&[open])?;
        tids.push(plain!(SYS_gettid));
    }
    let interrupted = nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(child.id() as i32),
        nix::sys::signal::Signal::SIGINT,
    );
    ok!("SIGINT", interrupted);
    let output = ok!("flexsc trace", child.wait_with_output());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    check!(output.status.success(), "{:?}", output.status);
    check!(!Path::new(&instance).exists(), "{instance} is still there");
    let calls = |words: &str| text.lines().filter(|line| line.contains(words)).count();
    let group = plain!(SYS_getpgrp);
    check_eq!(
        format!("getpgrp: {text}"),
        calls(&format!("getpgrp() = {group} <")),
        4
    );
    let open = "openat(AT_FDCWD, \"/no/such/file\", 0x0, 0o0) = -1 ENOENT";
    check_eq!(format!("openat: {text}"), calls(open), 2);
    let by_owner = |line: &&str| line.starts_with(&format!("{} ", tids[0]));
    check_eq!(
        format!("owners: {text}"),
        text.lines().filter(by_owner).count(),
        6
    );
    check_eq!(format!("threads: {text}"), calls("> thread "), 3);
    Ok(())
}

fn events_of_calls() -> Check {
    let trace = Trace::start(&["flexsc_invoke", "flexsc_complete"])?;
    let mut expected = 0;
    for mode in Mode::ALL {
        let (_engine, mut ring) = mode.start(1)?;
        let (from, to) = pipe()?;
        ring.run_all(&[call!(SYS_getpgrp); 64])?;
        expected += 64;
        // Calls that the owner leaves to a thread because they may block, and that do block.
        let reads = BlockedReads::new(&from, 4);
        let slots = ring.post_blocked(&reads.calls())?;
        reads.release(&to)?;
        ring.finish(&slots)?;
        expected += 4;
        let events = trace.events()?;
        for name in ["flexsc_invoke", "flexsc_complete"] {
            let seen = events.iter().filter(|event| event.name == name).count();
            check_eq!(format!("{mode:?}: {name}"), seen, expected);
        }
    }
    Ok(())
}

fn threads() -> Check {
    let engine = Engine::open()?;
    engine.set_pool(3, Param::PoolConcurrency, 0)?;
    let ring = engine.ring(1)?;
    let files = debug::files()?;
    check_eq!("engines", files.len(), 1);
    let number = files[0]
        .rsplit_once('-')
        .map(|(_, number)| number.to_owned());
    let number: u64 = ok!("number", number.unwrap_or_default().parse::<u64>());
    for pool in [0, 3] {
        let name = format!("flexsc-{}:{pool}", number % 100_000);
        let pid = std::process::id() as i32;
        let tasks = process::tasks(pid);
        let found = tasks.into_iter().find(|task| task.name == name);
        let Some(task) = found else {
            fail!("no thread {name}");
        };
        until("an idle thread's wchan", || {
            let path = format!("/proc/{pid}/task/{}/wchan", task.tid);
            fs::read_to_string(path).is_ok_and(|at| at == "flexsc_sleep")
        })?;
    }
    drop(ring);
    Ok(())
}
