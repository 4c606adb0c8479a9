// SPDX-License-Identifier: MIT OR Apache-2.0
//! The events of the module's tracepoints for this process.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::process;
use crate::check::{Check, skip};

const ROOT: &str = "/sys/kernel/tracing";

/// One line of the log.
#[derive(Debug)]
pub struct Event {
    /// The thread that the event is about.
    pub tid: i32,
    /// `flexsc_invoke` and others.
    pub name: String,
    /// `nr=39 index=0 …`
    pub text: String,
}

impl Event {
    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<i64> {
        let mut words = self.text.split_whitespace();
        let value = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
        match value.strip_prefix("0x") {
            Some(hex) => i64::from_str_radix(hex, 16).ok(),
            None => value.parse().ok(),
        }
    }
}

/// Logs events until this is dropped, in a trace instance of this test's own.
pub struct Trace {
    dir: PathBuf,
}

impl Trace {
    fn new() -> Check<Trace> {
        if !Path::new(ROOT).join("events/flexsc").exists() {
            return skip("needs tracefs at /sys/kernel/tracing");
        }
        let pid = std::process::id();
        let dir = Path::new(ROOT).join(format!("instances/flexsc-tests.{pid}"));
        ok!("a trace instance", fs::create_dir(&dir));
        Ok(Trace { dir })
    }

    /// Logs these events of this process.
    pub fn start(events: &[&str]) -> Check<Trace> {
        let trace = Trace::new()?;
        // A clock that gives one order of events for all CPUs.
        trace.write("trace_clock", "counter")?;
        // Enough for all tests. The buffer consists of single pages, which the debug kernel
        // allocates slowly.
        trace.set_size(2048)?;
        events.iter().try_for_each(|event| trace.enable(event))?;
        Ok(trace)
    }

    /// Logs these events of all tasks, each named by its system and itself.
    pub fn watch(events: &[&str]) -> Check<Trace> {
        let trace = Trace::new()?;
        trace.set_size(2048)?;
        trace.log(events)?;
        Ok(trace)
    }

    /// Logs no event so far, and few at a time: fast on the debug kernel.
    pub fn idle() -> Check<Trace> {
        let trace = Trace::new()?;
        trace.set_size(64)?;
        Ok(trace)
    }

    /// Also logs these events, as in [`Self::watch`].
    pub fn log(&self, events: &[&str]) -> Check {
        for event in events {
            if !self.dir.join("events").join(event).exists() {
                return skip(format!("needs the event {event}"));
            }
            self.write(&format!("events/{event}/enable"), "1")?;
        }
        Ok(())
    }

    /// The lines of the log that name this process's tasks and contain `word`.
    pub fn lines(&self, word: &str) -> Check<Vec<String>> {
        let text = ok!("trace", fs::read_to_string(self.dir.join("trace")));
        let tasks = process::tasks(std::process::id() as i32);
        let ours = |line: &str| {
            let tid = line
                .split_once(" [")
                .and_then(|(task, _)| task.rsplit_once('-'));
            let tid = tid.and_then(|(_, tid)| tid.trim().parse().ok());
            tasks.iter().any(|task| Some(task.tid) == tid)
        };
        let lines = text
            .lines()
            .filter(|line| line.contains(word) && ours(line));
        Ok(lines.map(str::to_owned).collect())
    }

    /// As [`Self::lines`], of all tasks and of interrupts.
    pub fn all_lines(&self, word: &str) -> Check<Vec<String>> {
        let text = ok!("trace", fs::read_to_string(self.dir.join("trace")));
        let lines = text.lines().filter(|line| line.contains(word));
        Ok(lines.map(str::to_owned).collect())
    }

    /// Also logs this event of this process.
    pub fn enable(&self, event: &str) -> Check {
        let pid = std::process::id();
        self.write(
            &format!("events/flexsc/{event}/filter"),
            &format!("tgid=={pid}"),
        )?;
        self.write(&format!("events/flexsc/{event}/enable"), "1")
    }

    fn write(&self, file: &str, value: &str) -> Check {
        ok!(file, fs::write(self.dir.join(file), value));
        Ok(())
    }

    /// Sets the size of the log.
    pub fn set_size(&self, kib: u32) -> Check {
        self.write("buffer_size_kb", &kib.to_string())
    }

    /// The events so far, in order.
    pub fn events(&self) -> Check<Vec<Event>> {
        let text = ok!("trace", fs::read_to_string(self.dir.join("trace")));
        // Only the head of the log shows whether new events have replaced old ones.
        let counts = text
            .lines()
            .find_map(|line| line.strip_prefix("# entries-in-buffer/entries-written: "))
            .and_then(|rest| rest.split_whitespace().next()?.split_once('/'));
        let Some((kept, written)) = counts else {
            fail!("the log does not say how many events it has: {text}");
        };
        check!(
            kept == written && !text.contains("LOST"),
            "the log has lost events: {kept} of {written} are left"
        );
        Ok(text.lines().filter_map(parse).collect())
    }
}

/// An event for each call of a function of the kernel, until this is dropped. A [`Trace`] of it must be
/// dropped before.
pub struct Probe {
    name: String,
}

const PROBES: &str = "/sys/kernel/tracing/kprobe_events";

impl Probe {
    /// `fetch` says what is logged, in the words of the kernel's documentation of such events.
    pub fn new(function: &str, fetch: &str) -> Check<Probe> {
        let name = format!("flexsc/{function}_{}", std::process::id());
        let mut probes = match fs::OpenOptions::new().append(true).open(PROBES) {
            Ok(probes) => probes,
            Err(_) => return skip("needs kprobe_events in tracefs"),
        };
        let line = format!("p:{name} {function} {fetch}\n");
        ok!(line, probes.write_all(line.as_bytes()));
        Ok(Probe { name })
    }

    /// The event's system and name.
    pub fn event(&self) -> &str {
        &self.name
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Ok(mut probes) = fs::OpenOptions::new().append(true).open(PROBES) {
            let _ = probes.write_all(format!("-:{}\n", self.name).as_bytes());
        }
    }
}

/// Does the work and returns how many traps the kernel has counted in this thread meanwhile,
/// including the traps of the counting itself, whose number is always the same.
/// raw_syscalls:sys_enter fires for each executed call in the thread that executes it, so calls
/// executed by other threads do not count.
pub fn traps(work: impl FnOnce() -> Check) -> Check<u64> {
    hits("raw_syscalls/sys_enter", work)
}

/// Does the work and returns the histogram of an event meanwhile.
fn histogram(event: &str, keys: &str, filter: &str, work: impl FnOnce() -> Check) -> Check<String> {
    let trace = Trace::new()?;
    // The debug kernel takes seconds for a table of the usual size, 2048.
    let trigger = format!("hist:keys={keys}:size=128{filter}");
    let event = format!("events/{event}");
    trace.write(&format!("{event}/trigger"), &trigger)?;
    let done = work();
    let hist = ok!(
        "hist",
        fs::read_to_string(trace.dir.join(&event).join("hist"))
    );
    trace.write(&format!("{event}/trigger"), &format!("!{trigger}"))?;
    done?;
    Ok(hist)
}

/// Does the work and returns how often kworkers have called a function meanwhile.
pub fn kworker_runs(function: &str, work: impl FnOnce() -> Check) -> Check<u64> {
    let event = "workqueue/workqueue_execute_start";
    let hist = histogram(event, "function.sym", "", work)?;
    // `{ function: [ffffffffc0001234] NAME [module] } hitcount:  12`
    let line = hist
        .lines()
        .find(|line| line.split_whitespace().any(|word| word == function));
    let count = line.map(|line| line.rsplit_once("hitcount:"));
    match count {
        None => Ok(0),
        Some(Some((_, count))) => Ok(ok!("hitcount", count.trim().parse())),
        Some(None) => fail!("no count in {line:?}"),
    }
}

/// Does the work and returns how often an event has fired in this thread meanwhile.
pub fn hits(event: &str, work: impl FnOnce() -> Check) -> Check<u64> {
    let tid = plain!(SYS_gettid);
    let filter = format!(" if common_pid == {tid}");
    let hist = histogram(event, "common_pid", &filter, work)?;
    let hits = hist
        .lines()
        .find_map(|line| line.trim().strip_prefix("Hits: "));
    match hits.and_then(|hits| hits.trim().parse().ok()) {
        Some(hits) => Ok(hits),
        None => fail!("no number of hits in {hist}"),
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = fs::write(self.dir.join("events/enable"), "0");
        let _ = fs::remove_dir(&self.dir);
    }
}

/// `  flexsc-123   [001] .....  4711: flexsc_invoke: nr=39 …`
fn parse(line: &str) -> Option<Event> {
    if line.trim_start().starts_with('#') {
        return None;
    }
    let (task, rest) = line.split_once(" [")?;
    let tid = task.trim().rsplit_once('-')?.1.trim().parse().ok()?;
    let (_, rest) = rest.split_once(": ")?;
    let (name, text) = rest.split_once(": ")?;
    Some(Event {
        tid,
        name: name.to_owned(),
        text: text.to_owned(),
    })
}

/// The largest number of syscall threads that executed entries at once, without those that finish a
/// call in which they had blocked. `owners` do not count. Needs the events `flexsc_invoke`,
/// `flexsc_block` and `flexsc_complete`.
pub fn most_running(events: &[Event], owners: &[i32]) -> usize {
    let mut running: HashSet<i32> = HashSet::new();
    let mut most = 0;
    for event in events.iter().filter(|e| !owners.contains(&e.tid)) {
        match event.name.as_str() {
            "flexsc_invoke" => {
                running.insert(event.tid);
            }
            _ => {
                running.remove(&event.tid);
            }
        }
        most = most.max(running.len());
    }
    most
}
