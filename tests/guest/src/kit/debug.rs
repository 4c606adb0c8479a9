// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads the files of this process's engines in debugfs.

use std::fs;
use std::path::Path;

use crate::check::{Check, skip};

const ROOT: &str = "/sys/kernel/debug/flexsc";

/// A syscall thread.
#[derive(Debug)]
pub struct Thread {
    pub tid: i32,
    pub pool: u32,
    pub state: String,
}

/// The names of the files of this process's engines.
pub fn files() -> Check<Vec<String>> {
    if !Path::new(ROOT).exists() {
        return skip("needs debugfs at /sys/kernel/debug");
    }
    let prefix = format!("{}-", std::process::id());
    let names = ok!(ROOT, fs::read_dir(ROOT)).flatten();
    Ok(names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(&prefix))
        .collect())
}

/// The debugfs text about this process's only engine.
pub fn text() -> Check<String> {
    let files = files()?;
    check_eq!("engines of this process in debugfs", files.len(), 1);
    Ok(ok!(
        "read",
        fs::read_to_string(Path::new(ROOT).join(&files[0]))
    ))
}

/// The syscall threads of this process's only engine.
pub fn threads() -> Check<Vec<Thread>> {
    let mut threads = Vec::new();
    for line in text()?.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["thread", tid, "pool", pool, state] = words[..] {
            threads.push(Thread {
                tid: ok!("thread", tid.parse()),
                pool: ok!("pool", pool.parse()),
                state: state.to_owned(),
            });
        }
    }
    Ok(threads)
}
