// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations of the safe layer. On a machine with the module the kernel executes them from
//! syscall pages, elsewhere the ring makes plain calls; the results must be the same.

use std::ffi::CString;
use std::fmt::Debug;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use flexsc::ops::Operation;
use flexsc::{Done, Engine, Reason, Ring, Wait};

mod events;
mod files;
mod limits;
mod memory;
mod messages;
mod moving;
mod names;
mod pools;
mod raw;
mod sockets;
mod timers;
mod walking;
mod with_file;

/// No operation of these tests takes that long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A ring, on an engine if there is one.
fn ring() -> Ring {
    let ring = Ring::open(1).unwrap();
    assert_eq!(ring.is_plain(), Engine::open().is_err());
    ring
}

/// Executes one operation.
fn done<O: Operation + Debug>(ring: &mut Ring, operation: O) -> Done {
    let before = ring.plain_calls();
    ring.submit(operation, 77).unwrap();
    ring.wait(Wait::all().timeout(PATIENCE)).unwrap();
    let done = ring.next().unwrap();
    assert_eq!((done.token, done.reason), (77, Reason::None));
    assert!(done.is::<O>() && !done.is::<Wrong>());
    // With an engine, no call is made plainly.
    assert_eq!(ring.plain_calls() > before, ring.is_plain());
    done
}

/// Executes one operation and returns its output.
fn run<O: Operation + Debug>(ring: &mut Ring, operation: O) -> O::Output {
    done(ring, operation).output::<O>()
}

/// No test has this type.
type Wrong = flexsc::ops::Read<Box<[u8; 12345]>>;

#[track_caller]
fn assert_errno<T: Debug>(result: io::Result<T>, errno: i32) {
    assert_eq!(result.unwrap_err().raw_os_error(), Some(errno));
}

/// Checks the end of a call that was cancelled while it waited, or on a busy machine before it
/// started.
#[track_caller]
fn assert_cancelled<T: Debug>(result: io::Result<T>) {
    let errno = result.unwrap_err().raw_os_error();
    let both = [Some(libc::EINTR), Some(libc::ECANCELED)];
    assert!(both.contains(&errno), "{errno:?}");
}

/// A directory that is removed when the value is dropped.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("flexsc-ops-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        TempDir(path)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The path of a name in it, for operations.
    fn path(&self, name: &str) -> CString {
        c_path(&self.join(name))
    }
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
