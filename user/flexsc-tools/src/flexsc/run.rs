// SPDX-License-Identifier: MIT OR Apache-2.0
//! `flexsc run`: starts a program under libflexsc_threads.so.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf, absolute};
use std::process::{self, Command, ExitCode};

use nix::unistd::{getegid, geteuid};
use rustix::fs::getxattr;

use crate::out::complain;

const LIBRARY: &str = "libflexsc_threads.so";
/// Names the library.
const LIBRARY_VARIABLE: &str = "FLEXSC_THREADS_LIBRARY";
/// Asks the library for a log.
const LOG_VARIABLE: &str = "FLEXSC_THREADS_LOG";
/// Tells the library what it does with threads.
const MODE_VARIABLE: &str = "FLEXSC_THREADS";
/// The possible places of the library, relative to the directory of this program: installed, or
/// built by cargo.
const PLACES: &[&str] = &[".", "../lib", "../lib/flexsc", "../threads"];

/// Replaces this process by the program. Returns only if that fails.
pub(crate) fn run(
    program: &OsStr,
    args: &[OsString],
    log: Option<&OsStr>,
    user_threads: bool,
) -> ExitCode {
    let failed = |text: String, code| {
        complain(format_args!("{text}"));
        ExitCode::from(code)
    };
    let preload = match library().and_then(preload) {
        Ok(preload) => preload,
        Err(text) => return failed(text, 125),
    };
    let mut command = Command::new(program);
    command.args(args).env("LD_PRELOAD", preload);
    if user_threads {
        command.env(MODE_VARIABLE, "user");
    }
    let log = log.map(absolute_log).or_else(|| env::var_os(LOG_VARIABLE));
    if let Some(log) = log {
        command.env(LOG_VARIABLE, &log);
        if let Some(reason) = find(program).and_then(|path| reason_against(&path)) {
            say_why(&log, reason);
        }
    }
    let error = command.exec();
    let code = if error.kind() == io::ErrorKind::NotFound {
        127
    } else {
        126
    };
    failed(
        format!("cannot run {}: {error}", Path::new(program).display()),
        code,
    )
}

/// The absolute path of the option's log, because the program may change its directory.
fn absolute_log(log: &OsStr) -> OsString {
    if log == "stderr" {
        return log.to_owned();
    }
    absolute(log).map_or_else(|_| log.to_owned(), PathBuf::into_os_string)
}

fn library() -> Result<PathBuf, String> {
    if let Some(path) = env::var_os(LIBRARY_VARIABLE) {
        let path = PathBuf::from(path);
        return absolute(&path)
            .ok()
            .filter(|path| path.is_file())
            .ok_or_else(|| format!("{LIBRARY_VARIABLE} is {}, which is no file", path.display()));
    }
    let own = env::current_exe().map_err(|error| format!("cannot find its own file: {error}"))?;
    let dir = own.parent().unwrap_or(Path::new("/"));
    let found = PLACES
        .iter()
        .map(|place| dir.join(place).join(LIBRARY))
        .find(|path| path.is_file());
    found.ok_or_else(|| {
        format!(
            "cannot find {LIBRARY} near {}: build it by cargo build --profile threads -p flexsc-threads, \
             or name it in {LIBRARY_VARIABLE}",
            dir.display()
        )
    })
}

/// The value of LD_PRELOAD: the library, then the user's own value.
fn preload(library: PathBuf) -> Result<OsString, String> {
    let library = library.into_os_string().into_vec();
    // The dynamic linker has no way to quote them.
    if library.iter().any(|byte| b": \t\n".contains(byte)) {
        let name = String::from_utf8_lossy(&library);
        return Err(format!(
            "the dynamic linker cannot load {name}: its path has a space or a colon"
        ));
    }
    let mut preload = library;
    if let Some(old) = env::var_os("LD_PRELOAD").filter(|old| !old.is_empty()) {
        preload.push(b':');
        preload.extend(old.into_vec());
    }
    Ok(OsString::from_vec(preload))
}

/// The file that the program's name means, as execvp looks for it.
fn find(program: &OsStr) -> Option<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return Some(program.into());
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}

/// Why the library will not be loaded into a program, if this can be seen from outside.
fn reason_against(path: &Path) -> Option<&'static str> {
    let mut start = Vec::new();
    let file = File::open(path).ok()?;
    let metadata = file.metadata().ok()?;
    file.take(4096).read_to_end(&mut start).ok()?;
    if let Some(line) = start.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next()?;
        let mut words = line.split(u8::is_ascii_whitespace);
        let interpreter = words.find(|word| !word.is_empty())?;
        let interpreter = Path::new(OsStr::from_bytes(interpreter));
        // An interpreter that is itself a script is not supported.
        return (interpreter != path)
            .then(|| reason_against(interpreter))
            .flatten();
    }
    if gets_rights(&metadata, path) {
        return Some("it gets rights of its file, so that the dynamic linker loads no library");
    }
    match has_dynamic_linker(&start)? {
        true => None,
        false => Some("it is linked statically, or it is no 64-bit program"),
    }
}

/// Returns true if the kernel puts the program's dynamic linker into secure mode.
fn gets_rights(metadata: &Metadata, path: &Path) -> bool {
    const SET_UID: u32 = 0o4000;
    const SET_GID: u32 = 0o2010;
    let mode = metadata.mode();
    let other_user = mode & SET_UID != 0 && metadata.uid() != geteuid().as_raw();
    let other_group = mode & SET_GID == SET_GID && metadata.gid() != getegid().as_raw();
    let mut value = [0_u8; 64];
    let has_capabilities = getxattr(path, "security.capability", &mut value).is_ok();
    other_user || other_group || has_capabilities && !geteuid().is_root()
}

/// Returns true if an ELF file names a dynamic linker of 64-bit programs; None if the file is
/// not ELF.
fn has_dynamic_linker(start: &[u8]) -> Option<bool> {
    const PT_INTERP: u32 = 3;
    let word = |at: usize| Some(u32::from_le_bytes(start.get(at..at + 4)?.try_into().ok()?));
    if !start.starts_with(b"\x7fELF") {
        return None;
    }
    if !start.starts_with(b"\x7fELF\x02\x01") {
        return Some(false);
    }
    let (table, count) = (word(32)? as usize, word(56)? & 0xffff);
    let kinds = (0..count as usize).map(|row| word(table + row * 56));
    Some(kinds.into_iter().any(|kind| kind == Some(PT_INTERP)))
}

/// Writes a line as the library would.
fn say_why(log: &OsStr, reason: &str) {
    let line = format!(
        "flexsc-threads[{}]: the program runs as it is: {reason}\n",
        process::id()
    );
    // Best effort, like the library's log.
    let _ = if log == "stderr" {
        io::stderr().write_all(line.as_bytes())
    } else {
        let file = File::options().append(true).create(true).open(log);
        file.and_then(|mut file| file.write_all(line.as_bytes()))
    };
}
