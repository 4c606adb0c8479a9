// SPDX-License-Identifier: MIT OR Apache-2.0

//! Compiles the module's syscall policy, and its decision about which task executes an entry, for
//! the host: tests both, and prints docs/syscalls.md: `cargo run -q -p flexsc-policy-tests >
//! docs/syscalls.md`

#[macro_use]
#[path = "../../../kernel/policy.rs"]
#[cfg_attr(not(test), expect(dead_code, reason = "printing needs the rows only"))]
mod policy;

#[cfg(test)]
#[path = "../../../kernel/wait/adaptive.rs"]
#[expect(dead_code, reason = "the module stores what it knows as a number")]
mod adaptive;
#[cfg(test)]
mod asking;
#[cfg(test)]
#[path = "../../../kernel/pool/backlog.rs"]
mod backlog;
#[cfg(test)]
mod classes;
#[cfg(test)]
mod counts;
#[cfg(test)]
mod decide;
#[cfg(test)]
mod defs;
#[cfg(test)]
#[path = "../../../kernel/dispatch.rs"]
#[expect(dead_code, reason = "a failed chain is refused by the batch alone")]
mod dispatch;
mod document;
#[cfg(test)]
mod identity;
#[cfg(test)]
mod rate;
#[cfg(test)]
mod table;
#[cfg(test)]
mod wake_up;

use policy::{Class, Rule};

fn main() {
    print!("{}", document::document());
}

/// A row of the policy table as the document shows it.
#[derive(Clone, Copy, Debug)]
struct Row {
    /// number of the call
    nr: u16,
    /// its name, as in the kernel's table
    name: &'static str,
    /// how to find its class
    rule: Rule,
    /// why; empty if the call is simply inline
    why: &'static str,
}

macro_rules! build_rows {
    ($(($nr:literal, $name:ident, $rule:ident, $why:literal),)*) => {
        /// All rows, by number.
        static ROWS: &[Row] = &[
            $(Row { nr: $nr, name: stringify!($name), rule: Rule::$rule, why: $why },)*
        ];
    };
}
syscall_rows!(build_rows);

macro_rules! build_ioctls {
    ($(($cmd:literal, $name:ident, $class:ident),)*) => {
        /// The commands of ioctl(2) that may be posted: name and class.
        static IOCTLS: &[(&str, Class)] = &[$((stringify!($name), Class::$class),)*];
    };
}
ioctl_rows!(build_ioctls);

/// The classes that a rule can give, in the words of the document, the usual one first.
fn classes(rule: Rule) -> &'static [&'static str] {
    match rule {
        Rule::Gap => &["no call"],
        Rule::Inline => &["inline"],
        Rule::MayBlock => &["may block"],
        Rule::OwnThread => &["own thread"],
        Rule::Life => &["refused (LIFE)"],
        Rule::Thread => &["refused (THREAD)"],

        Rule::File0 | Rule::Files01 | Rule::Files02 => &["by file"],

        Rule::MsgFlags2 | Rule::MsgFlags3 | Rule::RwFlags5 | Rule::Tee => &["by file", "inline"],

        Rule::EpollWait
        | Rule::Flock
        | Rule::IoGetevents
        | Rule::Msgrcv
        | Rule::Msgsnd
        | Rule::Poll
        | Rule::Vmsplice => &["may block", "inline"],
        Rule::Msync | Rule::SyncFileRange | Rule::Syslog => &["inline", "may block"],

        Rule::Clock0
        | Rule::CloseRange
        | Rule::Getrusage
        | Rule::IoprioWho
        | Rule::PidfdSendSignal
        | Rule::PriorityWho
        | Rule::Prot2
        | Rule::ZeroPid => &["inline", "own thread"],
        Rule::Prctl => &["own thread", "inline"],

        Rule::ClockNanosleep | Rule::SigMask3 | Rule::SigMask4 | Rule::SigMask5 => {
            &["may block", "refused (THREAD)"]
        }
        Rule::Bpf => &["inline", "refused (THREAD)"],
        Rule::IoUringEnter | Rule::IoUringRegister => &["own thread", "refused (THREAD)"],
        Rule::Ioctl => &["refused (THREAD)", "inline", "own thread"],
        Rule::Fcntl => &["inline", "may block", "own thread"],
        Rule::EpollPwait | Rule::Futex | Rule::IoPgetevents | Rule::Wait4 | Rule::Waitid => {
            &["may block", "inline", "own thread", "refused (THREAD)"]
        }
    }
}
