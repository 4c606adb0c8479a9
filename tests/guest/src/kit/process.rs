// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads /proc and /sys: processes and the module.

use std::fs;
use std::path::PathBuf;

use super::until;
use crate::check::Check;

/// One thread as /proc shows it.
#[derive(Debug)]
pub struct Task {
    pub tid: i32,
    /// The state's letter in /proc/PID/stat.
    pub state: char,
    pub name: String,
}

/// How many threads the kernel counts in a process; 0 if it has ended.
fn thread_count(pid: i32) -> usize {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix("Threads:"));
    count
        .and_then(|count| count.trim().parse().ok())
        .unwrap_or(0)
}

/// Lists the directories of a process's threads.
///
/// The kernel ends a listing early if the thread that it has reached ends meanwhile: then running
/// threads are missing. So the listing is repeated, but not for ever, until its length is the
/// number of threads before and after it.
fn task_dirs(pid: i32) -> Vec<PathBuf> {
    let list = || -> Vec<PathBuf> {
        let dir = fs::read_dir(format!("/proc/{pid}/task"));
        let entries = dir.into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let mut dirs = Vec::new();
    for _ in 0..100 {
        let before = thread_count(pid);
        dirs = list();
        if before == 0 || [dirs.len(), thread_count(pid)] == [before; 2] {
            break;
        }
    }
    dirs
}

/// The threads of a process, syscall threads included.
pub fn tasks(pid: i32) -> Vec<Task> {
    task_dirs(pid)
        .into_iter()
        .filter_map(|dir| {
            let tid = dir.file_name()?.to_str()?.parse().ok()?;
            let stat = fs::read_to_string(dir.join("stat")).ok()?;
            let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
            Some(Task {
                tid,
                state: rest.trim_start().chars().next()?,
                name: name.to_owned(),
            })
        })
        .collect()
}

/// Waits until this process has this number of threads.
pub fn until_tasks(count: usize) -> Check {
    let pid = std::process::id() as i32;
    let seen = until(&format!("{count} threads in this process"), || {
        tasks(pid).len() == count
    });
    if seen.is_err() {
        print_threads(pid);
    }
    seen
}

/// The module's reference count; `None` if it is not loaded.
pub fn refcnt() -> Option<i64> {
    let text = fs::read_to_string("/sys/module/flexsc/refcnt").ok()?;
    text.trim().parse().ok()
}

/// Waits until the module's reference count is as before, or less.
pub fn until_refcnt(base: Option<i64>) -> Check {
    let mut last = None;
    until("the module's reference count at the baseline", || {
        last = refcnt();
        last <= base
    })
    .map_err(|failure| failure.within(format_args!("reference count {last:?}, was {base:?}")))
}

/// Memory areas of registrations: those that the module has allocated with vmalloc.
pub fn areas() -> usize {
    let text = fs::read_to_string("/proc/vmallocinfo").unwrap_or_default();
    text.lines()
        .filter(|line| line.contains("[flexsc]"))
        .count()
}

/// Kilobytes of this process's memory that are charged to RLIMIT_MEMLOCK, not counting those that
/// it has locked itself.
pub fn pinned_kib() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmPin:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The children of a process that it has not yet waited for.
pub fn children(pid: i32) -> Vec<i32> {
    task_dirs(pid)
        .into_iter()
        .filter_map(|dir| fs::read_to_string(dir.join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// Prints where the threads of a process and of its children are.
pub fn print_threads(pid: i32) {
    let list = tasks(pid);
    println!("# process {pid} has {} threads", list.len());
    for task in list.iter().take(24) {
        let dir = format!("/proc/{pid}/task/{}", task.tid);
        let stack = fs::read_to_string(format!("{dir}/stack")).unwrap_or_default();
        let frames: Vec<&str> = stack
            .lines()
            .filter_map(|line| line.split_whitespace().nth(1))
            .take(10)
            .collect();
        let frames = if frames.is_empty() {
            fs::read_to_string(format!("{dir}/wchan")).unwrap_or_default()
        } else {
            frames.join(" ")
        };
        println!("#   {} {} {}: {frames}", task.tid, task.state, task.name);
    }
    for child in children(pid) {
        print_threads(child);
    }
}
