// SPDX-License-Identifier: MIT OR Apache-2.0
//! An instance of the kernel's tracing, which is removed when the value is dropped.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Where tracefs is mounted.
const ROOTS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// The events that tell of posted calls. `sys_enter` has their arguments.
const EVENTS: [&str; 5] = [
    "raw_syscalls/sys_enter",
    "flexsc/flexsc_invoke",
    "flexsc/flexsc_block",
    "flexsc/flexsc_park",
    "flexsc/flexsc_complete",
];

/// KiB of each processor's buffer.
const BUFFER: &str = "8192";

/// Logs events until it is dropped.
pub struct Session {
    dir: PathBuf,
    pipe: Option<File>,
    /// What was read and is not yet a whole line.
    rest: Vec<u8>,
}

impl Session {
    /// Starts to log. The events of `sys_enter` are those of all threads but this one, because
    /// only the kernel knows the threads that execute the calls.
    pub fn start() -> Result<Session, String> {
        let root = ROOTS
            .iter()
            .map(Path::new)
            .find(|root| root.join("events").exists());
        let root = root.ok_or(
            "tracefs is not mounted, or this user may not see it: try as root, or \
             mount -t tracefs none /sys/kernel/tracing",
        )?;
        if !root.join("events/flexsc").exists() {
            return Err("the kernel has no events of FlexSC: see flexsc doctor".into());
        }
        let pid = std::process::id();
        let dir = root.join(format!("instances/flexsc-trace.{pid}"));
        fs::create_dir(&dir).map_err(|why| format!("cannot make {}: {why}", dir.display()))?;
        let mut session = Session {
            dir,
            pipe: None,
            rest: Vec::new(),
        };
        session
            .set_up(pid)
            .map_err(|why| format!("cannot set up tracing: {why}"))?;
        Ok(session)
    }

    fn set_up(&mut self, pid: u32) -> io::Result<()> {
        // One clock for all processors.
        self.write("trace_clock", "mono")?;
        self.write("buffer_size_kb", BUFFER)?;
        // Reading the log makes calls, too, which would fill it.
        self.write(
            "events/raw_syscalls/sys_enter/filter",
            &format!("common_pid != {pid}"),
        )?;
        for event in EVENTS {
            self.write(&format!("events/{event}/enable"), "1")?;
        }
        let pipe = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(self.dir.join("trace_pipe"))?;
        self.pipe = Some(pipe);
        Ok(())
    }

    fn write(&self, file: &str, value: &str) -> io::Result<()> {
        fs::write(self.dir.join(file), value)
            .map_err(|why| io::Error::new(why.kind(), format!("{file}: {why}")))
    }

    /// Logs no more events. Those in the log can still be read.
    pub fn stop(&self) -> io::Result<()> {
        self.write("tracing_on", "0")
    }

    /// Reads the lines that are there. Returns false if there were none.
    pub fn read(&mut self, mut line: impl FnMut(&str)) -> io::Result<bool> {
        let Some(pipe) = &mut self.pipe else {
            return Ok(false);
        };
        let mut bytes = [0; 64 << 10];
        let count = match pipe.read(&mut bytes) {
            Ok(count) => count,
            Err(why) if why.kind() == ErrorKind::WouldBlock => 0,
            Err(why) => return Err(why),
        };
        self.rest.extend_from_slice(&bytes[..count]);
        while let Some(at) = self.rest.iter().position(|&byte| byte == b'\n') {
            let whole: Vec<u8> = self.rest.drain(..=at).collect();
            line(&String::from_utf8_lossy(&whole[..at]));
        }
        Ok(count > 0)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // An instance with an open file cannot be removed.
        self.pipe = None;
        let removed = fs::remove_dir(&self.dir);
        if let Err(why) = removed {
            let dir = self.dir.display();
            crate::out::complain(format_args!("cannot remove {dir}: {why}"));
        }
    }
}
