// SPDX-License-Identifier: MIT OR Apache-2.0
//! `flexsc bench`: starts flexsc-bench, which is a program of its own.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::out::complain;

const PROGRAM: &str = "flexsc-bench";

/// Replaces this process by the program: the one beside it, or else that of PATH. Returns only
/// if this fails.
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    let own = env::current_exe().unwrap_or_default();
    let dir = own.parent().unwrap_or(Path::new("/"));
    let beside = dir.join(PROGRAM);
    let program = if beside.is_file() {
        beside
    } else {
        PathBuf::from(PROGRAM)
    };
    let error = Command::new(program).args(args).exec();
    if error.kind() == io::ErrorKind::NotFound {
        complain(format_args!(
            "cannot find {PROGRAM} in {} or in PATH: build it by cargo build --release -p {PROGRAM}",
            dir.display()
        ));
        return ExitCode::from(127);
    }
    complain(format_args!("cannot run {PROGRAM}: {error}"));
    ExitCode::from(126)
}
