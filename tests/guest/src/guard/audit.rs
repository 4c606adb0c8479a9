// SPDX-License-Identifier: MIT OR Apache-2.0
//! Audit: a record for every entry that is executed, with the process ID.

use std::os::fd::OwnedFd;
use std::time::Instant;

use super::Path;
use super::on_each_path;
use crate::check::{Check, Ret, skip};
use crate::kit::abi::REASON_NONE;
use crate::kit::child::{End, spawn};
use crate::kit::files::readable;
use crate::kit::ring::Call;
use crate::kit::seccomp::{self, Action};
use crate::kit::{limits, patience, sys};

tests! { "guard":
    audit_records => "a rule gives one record for each executed entry, with its owner's login";
    kills_are_logged => "a posted call for which a filter kills leaves the record of a plain one";
}

const NETLINK_AUDIT: i32 = 9;
const AUDIT_SET: u16 = 1001;
const AUDIT_ADD_RULE: u16 = 1011;
const AUDIT_DEL_RULE: u16 = 1012;
const AUDIT_SYSCALL: u16 = 1300;
const AUDIT_SECCOMP: u16 = 1326;
const FILTER_TASK: u32 = 1;
const FILTER_EXIT: u32 = 4;
const NEVER: u32 = 0;
const ALWAYS: u32 = 2;

/// A socket to the kernel's audit subsystem, which listens to `groups`.
fn socket(groups: u32) -> Check<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    let fd = plain!(SYS_socket, libc::AF_NETLINK, kind, NETLINK_AUDIT);
    if fd < 0 {
        return skip(format!("needs audit: {}", Ret(fd)));
    }
    let fd = sys::own(fd as i32);
    let address = [libc::AF_NETLINK as u32, 0, groups];
    check_ret!("bind", plain!(SYS_bind, &fd, address.as_ptr(), 12), 0);
    Ok(fd)
}

fn receive(fd: &OwnedFd) -> Option<(u16, Vec<u8>)> {
    let mut bytes = vec![0u8; 16384];
    let len = plain!(
        SYS_recvfrom,
        fd,
        bytes.as_mut_ptr(),
        bytes.len(),
        libc::MSG_DONTWAIT,
        0,
        0
    );
    let bytes = bytes.get(..usize::try_from(len).ok()?)?;
    let kind = bytes.get(4..6)?.try_into().ok()?;
    Some((u16::from_ne_bytes(kind), bytes.get(16..)?.to_vec()))
}

/// Sends a request and waits for the answer, which must be a success.
fn request(fd: &OwnedFd, kind: u16, words: &[u32]) -> Check {
    // NLM_F_REQUEST and NLM_F_ACK
    let mut all = vec![
        16 + 4 * words.len() as u32,
        u32::from(kind) | (5 << 16),
        1,
        0,
    ];
    all.extend_from_slice(words);
    let sent = plain!(SYS_sendto, fd, all.as_ptr(), 4 * all.len(), 0, 0, 0);
    check_ret!("request to audit", sent, 4 * all.len() as i64);
    check!(readable(fd, patience()), "audit does not answer");
    let Some((answer, bytes)) = receive(fd) else {
        fail!("audit gave no answer");
    };
    check_eq!("kind of the answer", answer, libc::NLMSG_ERROR as u16);
    check_eq!(format!("answer to request {kind}"), &bytes[..4], &[0; 4]);
    Ok(())
}

/// `struct audit_rule_data` for one call, or for all tasks.
fn rule(list: u32, action: u32, nr: Option<i64>) -> Vec<u32> {
    let mut words = vec![0; 3 + 4 * 64 + 1];
    words[0] = list;
    words[1] = action;
    if let Some(nr) = nr {
        words[3 + nr as usize / 32] = 1 << (nr % 32);
    }
    words
}

const COUNT: usize = 10;

fn audit_records() -> Check {
    limits::need_root()?;
    let control = socket(0)?;
    // mask: enabled
    request(&control, AUDIT_SET, &[1, 1, 0, 0, 0, 0, 0, 0, 0, 0])?;
    let nr = libc::SYS_getpgrp;
    request(
        &control,
        AUDIT_ADD_RULE,
        &rule(FILTER_EXIT, ALWAYS, Some(nr)),
    )?;
    let found = counted(nr);
    request(
        &control,
        AUDIT_DEL_RULE,
        &rule(FILTER_EXIT, ALWAYS, Some(nr)),
    )?;
    // Otherwise audit would keep data for each new task, and slow down the tests after this one.
    request(&control, AUDIT_ADD_RULE, &rule(FILTER_TASK, NEVER, None))?;
    request(&control, AUDIT_SET, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
    found
}

fn counted(nr: i64) -> Check {
    let records = socket(1)?;
    on_each_path(|path| {
        while receive(&records).is_some() {}
        let (_engine, mut ring) = path.start()?;
        // Syscall threads exist already. Records show the present login all the same.
        let login = format!("{}", 4711 + std::process::id());
        if let Err(error) = std::fs::write("/proc/self/loginuid", &login) {
            fail!("loginuid: {error}");
        }
        let mut made = 0;
        for _ in 0..COUNT {
            for done in path.run(&mut ring, call!(SYS_getpgrp))? {
                check_eq!("reason", done.reason, REASON_NONE);
                made += 1;
            }
        }
        let (call, process, login) = (
            format!(" syscall={nr} "),
            format!(" pid={} ", std::process::id()),
            format!(" auid={login} "),
        );
        let end = Instant::now() + patience();
        let mut seen = 0;
        while seen < made && Instant::now() < end {
            readable(&records, patience());
            while let Some((kind, bytes)) = receive(&records) {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let ours = text.contains(&call) && text.contains(&process);
                if kind == AUDIT_SYSCALL && ours {
                    check!(text.contains(&login), "no {login:?} in {text:?}");
                    seen += 1;
                }
            }
        }
        check_eq!("audit records of the calls", seen, made);
        Ok(())
    })
}

/// The fields of a seccomp record that do not depend on the thread that made the call.
fn said(text: &str) -> Vec<&str> {
    let kept = [
        "auid=", "uid=", "gid=", "sig=", "arch=", "syscall=", "compat=", "code=",
    ];
    let words = text.split_whitespace();
    words
        .filter(|word| kept.iter().any(|kept| word.starts_with(kept)))
        .collect()
}

/// Returns the one seccomp record about a process that dies of `work`.
fn record_of_death(records: &OwnedFd, work: impl FnOnce() -> Check) -> Check<String> {
    while receive(records).is_some() {}
    let mut child = spawn(|_| work())?;
    let process = format!(" pid={} ", child.pid);
    let end = child.end()?;
    let killed = matches!(end, End::Signal { signal, .. } if signal == libc::SIGSYS);
    check!(killed, "the child ended with {end:?}");
    let mut found = Vec::new();
    let end = Instant::now() + patience();
    while found.is_empty() && Instant::now() < end {
        readable(records, patience());
        while let Some((kind, bytes)) = receive(records) {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if kind == AUDIT_SECCOMP && text.contains(&process) {
                found.push(text);
            }
        }
    }
    check_eq!(format!("records {found:?}"), found.len(), 1);
    Ok(found.remove(0))
}

fn kills_are_logged() -> Check {
    limits::need_root()?;
    let records = socket(1)?;
    let call = Call::new(libc::SYS_getpgrp as u16, [0; 6]);
    for action in [Action::KillThread, Action::KillProcess] {
        let install = || -> Check {
            ok!("seccomp", seccomp::install(call.nr.into(), action, false));
            Ok(())
        };
        let plain = record_of_death(&records, || {
            install()?;
            sys::syscall(call.nr.into(), call.args);
            fail!("the filter has not killed")
        })?;
        for path in Path::ALL {
            let posted = record_of_death(&records, || {
                let (_engine, mut ring) = path.start()?;
                install()?;
                path.run(&mut ring, call)?;
                plain!(SYS_getppid);
                fail!("the filter has not killed")
            })?;
            check_eq!(format!("{action:?} {path:?}"), said(&posted), said(&plain));
        }
    }
    Ok(())
}
