// SPDX-License-Identifier: MIT OR Apache-2.0
//! Measures in a separate process, free of leftovers from other measurements. For example,
//! io_uring's workers share the file table and thus make each lookup more expensive.

use std::fs::File;
use std::io::{self, Read, Write};
use std::panic::{self, AssertUnwindSafe};

use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork, pipe};

/// Returns the result of `measure` in a forked child.
///
/// # Errors
///
/// Those of `measure` as text, a failure to create the child, and the child's sudden end.
pub fn apart(measure: impl FnOnce() -> io::Result<f64>) -> io::Result<f64> {
    let (from, to) = pipe()?;
    // SAFETY: this program has one thread when it measures; the child ends below.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop(from);
            let said = match panic::catch_unwind(AssertUnwindSafe(measure)) {
                Ok(Ok(value)) => value.to_bits().to_string(),
                Ok(Err(why)) => why.to_string(),
                Err(_) => "a panic".into(),
            };
            let sent = File::from(to).write_all(said.as_bytes());
            // SAFETY: ends this process, which shares its buffers with its parent.
            unsafe { libc::_exit(i32::from(sent.is_err())) }
        }
        ForkResult::Parent { child } => {
            drop(to);
            let mut said = String::new();
            let read = File::from(from).read_to_string(&mut said);
            waitpid(child, None)?;
            read?;
            match said.parse() {
                Ok(bits) => Ok(f64::from_bits(bits)),
                Err(_) if said.is_empty() => Err(io::Error::other("the process died")),
                Err(_) => Err(io::Error::other(said)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The test process has more threads, but the child only writes to a pipe.
    #[test]
    fn a_value_an_error_and_an_end_come_back() {
        assert_eq!(apart(|| Ok(0.1)).unwrap(), 0.1);
        assert!(apart(|| Ok(f64::NAN)).unwrap().is_nan());
        let why = apart(|| Err(io::Error::other("why"))).unwrap_err();
        assert_eq!(why.to_string(), "why");
        // SAFETY: ends the child.
        let why = apart(|| unsafe { libc::_exit(7) }).unwrap_err();
        assert_eq!(why.to_string(), "the process died");
    }
}
