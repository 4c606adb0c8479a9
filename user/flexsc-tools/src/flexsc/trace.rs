// SPDX-License-Identifier: MIT OR Apache-2.0
//! `flexsc trace`: shows the posted calls of a process with their arguments and results, which
//! strace does not see because they make no trap.

mod decode;
mod events;
mod session;
mod summary;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::out::{Out, complain};
use events::{By, Call, Calls, Event};
use session::Session;
use summary::Summary;

/// How long to sleep if there is nothing to read.
const PAUSE: Duration = Duration::from_millis(5);

/// Most bytes of a string.
const STRING: usize = 256;

/// What to trace, and how to show it.
pub struct Options {
    pub pid: Option<u32>,
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// Print only how often each call was made.
    pub summary: bool,
    /// Read the strings that arguments point to.
    pub strings: bool,
}

/// Traces until the process has ended or a signal comes. Returns true if it could trace.
pub fn trace(out: &mut Out, options: &Options) -> bool {
    match try_trace(out, options) {
        Ok(()) => true,
        Err(why) => {
            complain(format_args!("{why}"));
            false
        }
    }
}

fn try_trace(out: &mut Out, options: &Options) -> Result<(), String> {
    if let Some(pid) = options.pid {
        if !Path::new(&format!("/proc/{pid}")).exists() {
            return Err(format!("there is no process {pid}"));
        }
    }
    let signals = signals().map_err(|why| format!("cannot wait for signals: {why}"))?;
    let mut session = Session::start()?;
    let mut subject = Subject::new(options)?;
    let mut calls = Calls::new(subject.pid());
    let mut summary = Summary::default();
    let mut lost = 0;
    let mut last = false;
    loop {
        let some = session.read(|line| {
            lost += lost_events(line);
            let ended = Event::parse(line).and_then(|event| calls.note(&event));
            if let Some(call) = ended {
                if options.summary {
                    summary.add(&call);
                } else {
                    show(out, &call, options.strings);
                }
            }
        });
        let some = some.map_err(|why| format!("cannot read the trace: {why}"))?;
        if some && out.is_fine() {
            continue;
        }
        if last || !out.is_fine() {
            break;
        }
        out.flush();
        let signalled = matches!(signals.read_signal(), Ok(Some(_)));
        if signalled || subject.has_ended() {
            // What is in the log by now is all.
            session
                .stop()
                .map_err(|why| format!("cannot stop tracing: {why}"))?;
            last = true;
        } else {
            thread::sleep(PAUSE);
        }
    }
    if options.summary {
        summary.print(out);
    }
    if lost > 0 {
        complain(format_args!(
            "the kernel's log was full: {lost} events are missing"
        ));
    }
    Ok(())
}

/// Makes signals that would end this program readable, so that it can remove its traces. A
/// command begins without this.
fn signals() -> nix::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

/// The process that is traced.
enum Subject {
    All,
    Process(u32),
    Command(Child),
}

impl Subject {
    fn new(options: &Options) -> Result<Subject, String> {
        let Some((program, args)) = options.command.split_first() else {
            return Ok(options.pid.map_or(Subject::All, Subject::Process));
        };
        let child = Command::new(program).args(args).spawn();
        let program = Path::new(program).display();
        child
            .map(Subject::Command)
            .map_err(|why| format!("cannot run {program}: {why}"))
    }

    fn pid(&self) -> Option<u32> {
        match self {
            Subject::All => None,
            Subject::Process(pid) => Some(*pid),
            Subject::Command(child) => Some(child.id()),
        }
    }

    fn has_ended(&mut self) -> bool {
        match self {
            Subject::All => false,
            Subject::Process(pid) => !Path::new(&format!("/proc/{pid}")).exists(),
            Subject::Command(child) => !matches!(child.try_wait(), Ok(None)),
        }
    }
}

/// The number in a line like `CPU:1 [LOST 5 EVENTS]`.
fn lost_events(line: &str) -> u64 {
    let number = || {
        let (_, rest) = line.split_once("[LOST ")?;
        rest.split(' ').next()?.parse().ok()
    };
    number().unwrap_or(0)
}

fn show(out: &mut Out, call: &Call, strings: bool) {
    let string = |at| {
        if strings {
            read_string(call.process, at).ok()
        } else {
            None
        }
    };
    let text = decode::call(call.nr, call.args, string);
    let result = decode::result(call.result);
    let by = match call.by {
        By::Owner => String::new(),
        By::Thread(tid) => format!(" thread {tid}"),
        By::Parked => " parked".into(),
    };
    let blocked = if call.blocked { " blocked" } else { "" };
    let Call { owner, took, .. } = call;
    out.line(format_args!(
        "{owner} {text} = {result} <{took:.6}>{by}{blocked}"
    ));
}

/// Reads a string from the memory of a process. Fails if it is not a text: the memory has
/// something else by now.
fn read_string(pid: u32, at: u64) -> io::Result<String> {
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let mut bytes = [0; STRING];
    // A string may end just before memory that is not there.
    let to_page = 4096 - (at % 4096) as usize;
    let mut count = memory.read_at(&mut bytes[..to_page.min(STRING)], at)?;
    if count == to_page && !bytes[..count].contains(&0) {
        count += memory
            .read_at(&mut bytes[count..], at + count as u64)
            .unwrap_or(0);
    }
    let end = bytes[..count].iter().position(|&byte| byte == 0);
    let text = std::str::from_utf8(&bytes[..end.unwrap_or(count)]);
    let text = text.map_err(io::Error::other)?;
    if text.chars().any(char::is_control) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_events_are_counted() {
        assert_eq!(lost_events("CPU:1 [LOST 5 EVENTS]"), 5);
        assert_eq!(lost_events("a-1 [0] x: y: z"), 0);
    }

    #[test]
    fn strings_are_those_of_the_process() {
        let text = c"some text";
        let at = text.as_ptr().expose_provenance() as u64;
        let read = read_string(std::process::id(), at).unwrap();
        assert_eq!(read, "some text");
        for no_text in [&b"a\x01\0"[..], b"\xff\xfe\0"] {
            let at = no_text.as_ptr().expose_provenance() as u64;
            assert!(read_string(std::process::id(), at).is_err());
        }
        assert!(read_string(std::process::id(), 8).is_err());
    }
}
