// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages of the program: one sentence for each problem.

use std::fmt::Display;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;

/// Writes a line to standard error, if possible.
pub fn complain(what: &dyn Display) {
    let _ = writeln!(io::stderr(), "flexsc-copy: {what}");
}

/// Writes a line to standard output.
pub fn say(line: &dyn Display) -> Result<(), String> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(|why| format!("cannot write to the standard output: {}", io_error(&why)))
}

/// Formats a path on one line, whatever bytes it contains.
pub fn shown(path: &[u8]) -> String {
    let mut out = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for char in chunk.valid().chars() {
            if char.is_control() || char == '\\' {
                out.extend(char.escape_default());
            } else {
                out.push(char);
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// Like [`shown`], for a path of the command line.
pub fn shown_path(path: &Path) -> String {
    shown(path.as_os_str().as_bytes())
}

/// Describes an errno, and what to do about it unless that is obvious.
pub fn reason(errno: Errno) -> String {
    let hint = match errno {
        Errno::EMFILE => "; raise the limit (ulimit -n) or lower --in-flight",
        Errno::ENFILE => "; close other programs or raise fs.file-max",
        Errno::EAGAIN => "; another program holds it, try again",
        Errno::ESTALE => "; try again",
        _ => "",
    };
    format!("{}{hint}", errno.desc())
}

/// Like [`reason`], for an error of the standard library.
pub fn io_error(why: &io::Error) -> String {
    match why.raw_os_error() {
        Some(raw) => reason(Errno::from_raw(raw)),
        None => why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_takes_one_line() {
        assert_eq!(shown("a b/ä".as_bytes()), "a b/ä");
        assert_eq!(shown(b"a\nb\x1b[1m"), "a\\nb\\u{1b}[1m");
        assert_eq!(shown(b"\xff\xfe"), "\\xff\\xfe");
        assert_eq!(shown(b"a\\n"), "a\\\\n");
    }
}
