// SPDX-License-Identifier: MIT OR Apache-2.0
//! File systems that do not answer, and a WAIT that they must not hold up.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::check::{Check, skip};
use crate::kit::abi::{Policy, REASON_NONE};
use crate::kit::files::TempDir;
use crate::kit::limits::need_root;
use crate::kit::ring::{Call, Ring, check_done};
use crate::kit::{patience, sys};

/// A file system at a directory, until it is dropped.
pub struct Mount {
    at: PathBuf,
}

impl Mount {
    /// At a new directory in `dir`.
    pub fn new(dir: &TempDir, source: &CStr, kind: &CStr, options: &str) -> Check<Mount> {
        let mount = Mount {
            at: dir.path().join("mount"),
        };
        ok!("mkdir", fs::create_dir(&mount.at));
        let options = CString::new(options).expect("no NUL");
        let at = mount.path("");
        let made = plain!(
            SYS_mount,
            source,
            at.as_c_str(),
            kind,
            0,
            options.as_c_str()
        );
        if made == -i64::from(libc::ENODEV) {
            return skip(format!("needs the file system {}", kind.to_string_lossy()));
        }
        check_ret!("mount", made, 0);
        Ok(mount)
    }

    pub fn path(&self, name: &str) -> CString {
        let path = self.at.join(name);
        CString::new(path.as_os_str().as_bytes()).expect("no NUL")
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        plain!(SYS_umount2, self.path("").as_c_str(), libc::MNT_DETACH);
    }
}

/// A FUSE file system whose daemon reads no request.
pub struct Fuse {
    pub mount: Mount,
    /// Closing it ends all requests.
    daemon: Mutex<Option<OwnedFd>>,
}

// The requests that the daemon answers, as the kernel numbers them.
const FUSE_INIT: u32 = 26;
const FUSE_OPENDIR: u32 = 27;

/// The answer to a request: its header and `words`.
fn answer(daemon: i32, unique: u64, words: &[u32]) -> Check {
    let len = 16 + 4 * words.len() as u32;
    let mut all = vec![len, 0, unique as u32, (unique >> 32) as u32];
    all.extend(words);
    check_ret!("answer", plain!(SYS_write, daemon, all.as_ptr(), len), len);
    Ok(())
}

/// Answers the daemon's requests until it has opened a directory.
fn answer_until_open(daemon: i32) -> Check {
    let mut request = vec![0u64; 0x4000];
    loop {
        let size = size_of_val(request.as_slice());
        let got = plain!(SYS_read, daemon, request.as_mut_ptr(), size);
        check!(got >= 40, "a request: {}", crate::check::Ret(got));
        let (opcode, unique) = ((request[0] >> 32) as u32, request[1]);
        match opcode {
            FUSE_INIT => {
                // Version 7.31, 4,096 bytes at most, times in nanoseconds.
                let mut words = [0; 16];
                words[..7].copy_from_slice(&[7, 31, 0, 0, 0, 4096, 1]);
                answer(daemon, unique, &words)?;
            }
            FUSE_OPENDIR => return answer(daemon, unique, &[1, 0, 0, 0]),
            _ => fail!("request {opcode}"),
        }
    }
}

impl Fuse {
    pub fn new(dir: &TempDir) -> Check<Fuse> {
        need_root()?;
        let Ok(daemon) = sys::open(c"/dev/fuse", libc::O_RDWR, 0) else {
            return skip("needs the file system fuse");
        };
        let fd = daemon.as_raw_fd();
        let options = format!("fd={fd},rootmode=40000,user_id=0,group_id=0");
        Ok(Fuse {
            mount: Mount::new(dir, c"silent", c"fuse", &options)?,
            daemon: Mutex::new(Some(daemon)),
        })
    }

    /// Opens the root directory, for which the daemon answers.
    pub fn open(&self) -> Check<OwnedFd> {
        let daemon = self.daemon.lock().expect("no panic");
        let daemon = daemon.as_ref().expect("a daemon").as_raw_fd();
        let root = self.mount.path("");
        std::thread::scope(|scope| {
            let answers = scope.spawn(move || answer_until_open(daemon));
            let opened = sys::open(&root, libc::O_RDONLY | libc::O_DIRECTORY, 0);
            answers.join().expect("no panic")?;
            Ok(ok!("open", opened))
        })
    }

    pub fn end(&self) {
        drop(self.daemon.lock().expect("no panic").take());
    }
}

/// What a call gets whose daemon has ended.
pub fn is_aborted(result: i64) -> bool {
    let errors = [libc::ENOTCONN, libc::ECONNABORTED];
    errors.iter().any(|&error| result == -i64::from(error))
}

/// Posts `calls` and another call behind them, and waits for one result. If there is none, `release`
/// ends the calls. Returns the slots of `calls`, of which none has ended.
pub fn not_held_up(
    ring: &mut Ring,
    calls: &[Call],
    release: impl Fn() + Sync,
) -> Check<Vec<usize>> {
    let mut all = calls.to_vec();
    all.push(call!(SYS_getpid));
    let mut slots = ring.post_all(&all);
    let other = slots.pop().expect("a slot");
    let returned = AtomicBool::new(false);
    let ready = std::thread::scope(|scope| {
        scope.spawn(|| {
            let limit = Instant::now() + patience();
            while !returned.load(Ordering::Acquire) && Instant::now() < limit {
                std::thread::yield_now();
            }
            if !returned.load(Ordering::Acquire) {
                release();
            }
        });
        let ready = ring.wait(Policy::Any);
        returned.store(true, Ordering::Release);
        ready
    });
    check!(ready.is_ok(), "ANY: {ready:?}");
    for &slot in &slots {
        check!(!ring.is_done(slot), "WAIT was held up until the call ended");
    }
    let pid = std::process::id().into();
    ring.poll_until_done(&[other])?;
    check_done("getpid", ring.reap(other), pid, REASON_NONE)?;
    Ok(slots)
}

/// A file system on a disk, which can be frozen.
pub struct Disk {
    pub mount: Mount,
    device: File,
}

const LOOP_SET_FD: u32 = 0x4c00;
const LOOP_CLR_FD: u32 = 0x4c01;
const LOOP_CTL_GET_FREE: u32 = 0x4c82;
const FIFREEZE: u32 = 0xc004_5877;
const FITHAW: u32 = 0xc004_5878;

impl Disk {
    pub fn new(dir: &TempDir) -> Check<Disk> {
        need_root()?;
        let Ok(control) = File::open("/dev/loop-control") else {
            return skip("needs loop devices");
        };
        let image = dir.path().join("image");
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&image);
        let file = ok!("open", file);
        ok!("ftruncate", file.set_len(4 << 20));
        let mut make = Command::new("busybox");
        make.arg("mke2fs")
            .arg("-F")
            .arg(&image)
            .stdout(Stdio::null());
        check!(
            ok!("busybox", make.status()).success(),
            "busybox mke2fs failed"
        );
        let free = ok!(
            "LOOP_CTL_GET_FREE",
            sys::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE, 0)
        );
        let path = format!("/dev/loop{free}");
        let device = ok!("open", File::options().read(true).write(true).open(&path));
        let set = sys::ioctl(device.as_raw_fd(), LOOP_SET_FD, file.as_raw_fd() as u64);
        ok!("LOOP_SET_FD", set);
        // A device that is open for writing cannot be mounted.
        drop(device);
        let device = ok!("open", File::open(&path));
        let path = CString::new(path).expect("no NUL");
        let disk = Mount::new(dir, &path, c"ext4", "");
        if disk.is_err() {
            let _ = sys::ioctl(device.as_raw_fd(), LOOP_CLR_FD, 0);
        }
        Ok(Disk {
            mount: disk?,
            device,
        })
    }
}

impl Disk {
    /// Freezes the file system until the result is dropped, or thawed.
    pub fn freeze(&self) -> Check<Frozen> {
        let root = self.mount.path("");
        let root = ok!(
            "open",
            sys::open(&root, libc::O_RDONLY | libc::O_CLOEXEC, 0)
        );
        ok!("FIFREEZE", sys::ioctl(root.as_raw_fd(), FIFREEZE, 0));
        Ok(Frozen { root })
    }
}

/// See [`Disk::freeze`].
pub struct Frozen {
    root: OwnedFd,
}

impl Frozen {
    pub fn thaw(&self) {
        let _ = sys::ioctl(self.root.as_raw_fd(), FITHAW, 0);
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.thaw();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Now, or with the last use of the file system.
        let _ = sys::ioctl(self.device.as_raw_fd(), LOOP_CLR_FD, 0);
    }
}
