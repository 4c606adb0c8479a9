// SPDX-License-Identifier: MIT OR Apache-2.0
//! Describes as text the state that a run leaves behind: descriptors, files, memory, contents of
//! pipes and queues.

use std::ffi::CString;
use std::fmt::Write;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::normal::Norm;
use super::sandbox::{ARENA_PAGES, ROOT, Sandbox};
use crate::kit::{speed, sys};

/// Returns the whole state as text, a line for each item.
pub fn of(sandbox: &Sandbox) -> String {
    let mut text = String::new();
    process(&mut text);
    memory(&mut text, sandbox);
    // Reading a file's content changes its times, so its status comes first.
    tree(&mut text, sandbox, Path::new(ROOT));
    descriptors(&mut text, sandbox);
    queues(&mut text);
    text
}

/// The first line in which two states differ.
pub fn first_difference(got: &str, want: &str) -> Option<String> {
    if got == want {
        return None;
    }
    let (mut a, mut b) = (got.lines(), want.lines());
    loop {
        let (a, b) = (a.next(), b.next());
        if a != b {
            let line = |line: Option<&str>| line.unwrap_or("(nothing more)").to_owned();
            return Some(format!("it leaves `{}`, plainly `{}`", line(a), line(b)));
        }
        if a.is_none() {
            return Some("the states differ".to_owned());
        }
    }
}

fn line(text: &mut String, args: std::fmt::Arguments<'_>) {
    text.write_fmt(args)
        .expect("writing to a string cannot fail");
    text.push('\n');
}

macro_rules! line {
    ($text:expr, $($arg:tt)+) => { line($text, format_args!($($arg)+)) };
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

fn process(text: &mut String) {
    let dir = std::env::current_dir().map_err(|error| error.kind());
    line!(text, "directory {dir:?}");
    line!(text, "umask {:o}", plain!(SYS_umask, 0o022));
    let mut ids = [0u32; 6];
    let [a, b, c, d, e, f] = &mut ids;
    let at = std::ptr::from_mut::<u32>;
    plain!(SYS_getresuid, at(a), at(b), at(c));
    plain!(SYS_getresgid, at(d), at(e), at(f));
    line!(text, "users and groups {ids:?}");
    let fs_ids = (plain!(SYS_setfsuid, -1), plain!(SYS_setfsgid, -1));
    line!(text, "for files {fs_ids:?}");
    for resource in 0..16u32 {
        let mut limit = [0u64; 2];
        plain!(SYS_prlimit64, 0, resource, 0, limit.as_mut_ptr());
        line!(text, "limit {resource}: {limit:?}");
    }
    let (mut mask, mut pending) = (0u64, 0u64);
    plain!(SYS_rt_sigprocmask, 0, 0, at_word(&mut mask), 8);
    plain!(SYS_rt_sigpending, at_word(&mut pending), 8);
    line!(text, "signals blocked {mask:x} pending {pending:x}");
    for which in 0..3 {
        let mut timer = [0u64; 4];
        plain!(SYS_getitimer, which, timer.as_mut_ptr());
        let runs = timer[2] | timer[3] != 0;
        line!(text, "interval timer {which}: {runs}, {:?}", &timer[..2]);
    }
    line!(text, "priority {}", plain!(SYS_getpriority, 0, 0));
    line!(text, "io priority {}", plain!(SYS_ioprio_get, 1, 0));
    line!(
        text,
        "execution domain {:x}",
        plain!(SYS_personality, -1i32 as u32)
    );
    let mut name = [0u8; 16];
    plain!(SYS_prctl, libc::PR_GET_NAME, name.as_mut_ptr());
    line!(text, "name {name:?}");
    for option in [
        libc::PR_GET_DUMPABLE,
        libc::PR_GET_NO_NEW_PRIVS,
        libc::PR_GET_THP_DISABLE,
    ] {
        line!(
            text,
            "prctl {option}: {}",
            plain!(SYS_prctl, option, 0, 0, 0, 0)
        );
    }
    let mut system = [0u8; 390];
    plain!(SYS_uname, system.as_mut_ptr());
    line!(text, "names {:x}", hash(&system));
}

fn at_word(word: &mut u64) -> *mut u64 {
    std::ptr::from_mut(word)
}

fn memory(text: &mut String, sandbox: &Sandbox) {
    let arena = sandbox.arena as u64;
    let end = arena + ARENA_PAGES * 4096;
    for map in fs::read_to_string("/proc/self/maps")
        .unwrap_or_default()
        .lines()
    {
        let Some((range, rest)) = map.split_once(' ') else {
            continue;
        };
        let Some((from, to)) = range.split_once('-') else {
            continue;
        };
        let word = |text| u64::from_str_radix(text, 16).unwrap_or(0);
        let (from, to) = (word(from), word(to));
        if to <= arena || from >= end {
            continue;
        }
        // "rw-p 00000000 00:01 1234 name": device and inode belong to the run.
        let parts: Vec<&str> = rest.split_whitespace().collect();
        let (from, to) = (from.max(arena) - arena, to.min(end) - arena);
        let name = parts
            .get(4..)
            .map(|name| name.join(" "))
            .unwrap_or_default();
        line!(text, "map {from:x}-{to:x} {} {} {name}", parts[0], parts[1]);
    }
    for page in 0..ARENA_PAGES {
        let mut bytes = vec![0u8; 4096];
        let [to, from] = [bytes.as_mut_ptr() as u64, arena + page * 4096].map(|base| [base, 4096]);
        let pid = sandbox.own.pid;
        let (to, from) = (to.as_ptr(), from.as_ptr());
        let got = plain!(SYS_process_vm_readv, pid, to, 1, from, 1, 0);
        if got != -i64::from(libc::EFAULT) {
            line!(text, "page {page}: {got} {:x}", hash(&bytes));
        }
    }
}

fn tree(text: &mut String, sandbox: &Sandbox, dir: &Path) {
    let mut names: Vec<_> = match fs::read_dir(dir) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(error) => return line!(text, "{}: {:?}", dir.display(), error.kind()),
    };
    names.sort();
    for path in names {
        let name = CString::new(path.as_os_str().as_bytes()).expect("no zero in a path");
        let name = name.as_c_str();
        let mut stat = [0u8; 144];
        let flag = libc::AT_SYMLINK_NOFOLLOW;
        plain!(
            SYS_newfstatat,
            libc::AT_FDCWD,
            name,
            stat.as_mut_ptr(),
            flag
        );
        sandbox.own.normalise(Norm::Stat, &mut stat);
        let shown = path.display();
        line!(text, "{shown}: status {stat:02x?}");
        let mut attributes = [0u8; 1024];
        let len = plain!(
            SYS_llistxattr,
            name,
            attributes.as_mut_ptr(),
            attributes.len()
        );
        let list = &attributes[..len.max(0) as usize];
        for attribute in list.split_inclusive(|&byte| byte == 0) {
            let mut value = [0u8; 256];
            let (key, to) = (attribute.as_ptr(), value.as_mut_ptr());
            let len = plain!(SYS_lgetxattr, name, key, to, value.len());
            let key = String::from_utf8_lossy(attribute);
            line!(text, "{shown}: {key:?} {len} {:x}", hash(&value));
        }
        let Ok(kind) = fs::symlink_metadata(&path).map(|data| data.file_type()) else {
            continue;
        };
        if kind.is_dir() {
            tree(text, sandbox, &path);
        } else if kind.is_symlink() {
            line!(text, "{shown}: to {:?}", fs::read_link(&path).ok());
        } else if kind.is_file() {
            let content = fs::read(&path).map_err(|error| error.kind());
            line!(
                text,
                "{shown}: content {:x?}",
                content.map(|bytes| hash(&bytes))
            );
        }
    }
}

/// Lines of fdinfo that may differ: inode numbers outside the run's tmpfs, mount IDs, process IDs,
/// remaining times, and whether a timer that is due has expired yet.
const VOLATILE: [&str; 9] = [
    "ino:",
    "mnt_id:",
    "eventfd-id:",
    "it_value:",
    "ticks:",
    "Pid:",
    "NSpid:",
    "exe_file",
    "sq_",
];

/// The open descriptors of the process.
pub fn open_descriptors() -> Vec<i32> {
    let Ok(dir) = fs::read_dir("/proc/self/fd") else {
        return Vec::new();
    };
    let mut open: Vec<i32> = dir
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    open.sort_unstable();
    // The descriptor of the directory itself is closed by now.
    open.retain(|&fd| plain!(SYS_fcntl, fd, libc::F_GETFD) >= 0);
    open
}

fn descriptors(text: &mut String, sandbox: &Sandbox) {
    let mut open = open_descriptors();
    line!(text, "descriptors {open:?}");
    // Descriptors from before are shared with the test that has started the run.
    open.retain(|fd| !sandbox.given.contains(fd));
    for &fd in &open {
        let link = fs::read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default();
        let link = link.to_string_lossy().into_owned();
        let kind = match link.split_once(":[") {
            Some((kind, _)) => kind.to_owned(),
            None => link,
        };
        let flags = plain!(SYS_fcntl, fd, libc::F_GETFD);
        line!(text, "descriptor {fd}: {kind} flags {flags}");
        if kind.contains("flexsc") && !kind.starts_with(ROOT) {
            continue;
        }
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
        // epoll lists its files by their addresses in the kernel.
        let mut info: Vec<&str> = info.lines().collect();
        info.sort_unstable();
        for info in info {
            if !VOLATILE.iter().any(|start| info.starts_with(start)) {
                line!(text, "descriptor {fd}: {}", steady_info(info));
            }
        }
    }
    delivered(&open);
    for &fd in &open {
        content(text, fd);
    }
}

/// Removes the text after inode numbers, and the holder and device of a lock.
fn steady_info(info: &str) -> String {
    let info = info.split(" ino:").next().unwrap_or_default();
    if !info.starts_with("lock:") {
        return info.to_owned();
    }
    let parts = info.split_whitespace().enumerate();
    let kept = parts.filter(|(place, _)| ![5, 6].contains(place));
    kept.map(|(_, part)| part).collect::<Vec<_>>().join(" ")
}

/// Waits a moment until TCP has delivered as much as there is room for.
fn delivered(open: &[i32]) {
    let end = Instant::now() + speed::scaled(Duration::from_millis(300));
    let unsent = |&fd: &i32| {
        let (mut protocol, mut len, mut bytes) = (0i32, 4u32, 0i32);
        let (to, size) = (&raw mut protocol, &raw mut len);
        let at = plain!(
            SYS_getsockopt,
            fd,
            libc::SOL_SOCKET,
            libc::SO_PROTOCOL,
            to,
            size
        );
        at == 0
            && protocol == libc::IPPROTO_TCP
            && plain!(SYS_ioctl, fd, libc::TIOCOUTQ, &raw mut bytes) == 0
            && bytes != 0
    };
    while open.iter().any(unsent) && Instant::now() < end {
        sys::yield_now();
    }
}

/// Reads the contents of pipes and sockets.
fn content(text: &mut String, fd: i32) {
    let link = fs::read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default();
    let link = link.to_string_lossy();
    if !link.starts_with("pipe:") && !link.starts_with("socket:") {
        return;
    }
    let flags = plain!(SYS_fcntl, fd, libc::F_GETFL);
    plain!(
        SYS_fcntl,
        fd,
        libc::F_SETFL,
        flags | i64::from(libc::O_NONBLOCK)
    );
    let mut all = Vec::new();
    let end = loop {
        let mut bytes = vec![0u8; 65536];
        match plain!(SYS_read, fd, bytes.as_mut_ptr(), bytes.len()) {
            count @ 1.. => all.extend_from_slice(&bytes[..count as usize]),
            end => break end,
        }
        // A datagram may be empty: that looks like an end, but is not one.
        if all.len() > 1 << 20 {
            break 0;
        }
    };
    line!(
        text,
        "descriptor {fd}: {} bytes {:x}, then {end}",
        all.len(),
        hash(&all)
    );
}

/// System V IPC, without process IDs and times.
fn queues(text: &mut String) {
    for (file, columns) in [("msg", 5), ("sem", 8), ("shm", 4)] {
        let table = fs::read_to_string(format!("/proc/sysvipc/{file}")).unwrap_or_default();
        for row in table.lines().skip(1) {
            let row: Vec<&str> = row.split_whitespace().take(columns).collect();
            line!(text, "{file} {row:?}");
        }
    }
}
