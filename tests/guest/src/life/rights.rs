// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rights, filters and tables that change after the registration.

use std::ffi::CString;
use std::fs;
use std::sync::Barrier;

use crate::check::{Check, Ret};
use crate::kit::abi::{Policy, REASON_CONTEXT, REASON_GUARDED, REASON_NONE};
use crate::kit::child::{in_child, spawn};
use crate::kit::files::{BlockedReads, TempDir, pipe};
use crate::kit::limits::{NOBODY, drop_rights, need_root};
use crate::kit::mode::Mode;
use crate::kit::ring::{Call, Done, Ring};
use crate::kit::{rounds, seccomp, sys};

tests! { "rights":
    setuid_followed => "after setuid calls run with the new rights, in every mode";
    setfsuid_followed => "setfsuid decides for which user a file access is checked, both ways";
    thread_credentials => "threads with different rights use one engine: each has its own rights";
    filter_followed => "a seccomp filter installed after REGISTER refuses the call";
    filter_before => "a seccomp filter installed before the device is opened refuses the call";
    filter_of_posted => "calls posted before a filter and executed after it are refused";
    filter_of_thread => "a filter of one thread holds for that thread's calls only";
    filter_all_threads => "a filter that a thread installs for all (TSYNC) holds for all";
    filter_beside_blocked => "calls that blocked before a filter came end; no new ones start";
    traced => "calls of a process whose system calls are traced are refused";
    own_files => "after unshare(CLONE_FILES) calls use the new table or are refused";
    own_directory => "after unshare(CLONE_FS) calls use the new directory or are refused";
}

struct Secret {
    _dir: TempDir,
    path: CString,
}

/// A file that only root can open, in a directory that all users can open.
fn secret() -> Check<Secret> {
    need_root()?;
    let dir = TempDir::new()?;
    let path = dir.join("secret");
    let flags = libc::O_CREAT | libc::O_WRONLY;
    drop(ok!("create", sys::open(&path, flags, 0o600)));
    let open_to_all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    ok!("chmod", fs::set_permissions(dir.path(), open_to_all));
    Ok(Secret { _dir: dir, path })
}

fn open_call(secret: &Secret) -> Call {
    call!(
        SYS_openat,
        libc::AT_FDCWD,
        secret.path.as_c_str(),
        libc::O_RDONLY | libc::O_CLOEXEC
    )
}

fn check_opens(done: Done) -> Check {
    check!(
        done.result > 2,
        "open of the root-only file: {}",
        Ret(done.result)
    );
    drop(sys::own(done.result as i32));
    Ok(())
}

fn check_refused_open(done: Done) -> Check {
    check_ret!(
        "open of the root-only file without rights",
        done.result,
        -libc::EACCES
    );
    Ok(())
}

fn in_each_mode(test: impl Fn(Mode) -> Check) -> Check {
    for mode in Mode::ALL {
        in_child(|| test(mode)).map_err(|failure| failure.within(format_args!("mode {mode:?}")))?;
    }
    Ok(())
}

fn setuid_followed() -> Check {
    let secret = secret()?;
    in_each_mode(|mode| {
        let (_engine, mut ring) = mode.start(1)?;
        for done in ring.run_all(&[open_call(&secret); 20])? {
            check_opens(done)?;
        }
        ok!("dropping rights", drop_rights());
        check_ret!(
            "plain open",
            sys::syscall(libc::SYS_openat, open_call(&secret).args),
            -libc::EACCES
        );
        for done in ring.run_all(&[open_call(&secret); 20])? {
            check_refused_open(done)?;
        }
        for nr in [
            libc::SYS_getuid,
            libc::SYS_geteuid,
            libc::SYS_getgid,
            libc::SYS_getegid,
        ] {
            check_ret!("id", ring.result(Call::new(nr as u16, [0; 6]))?, NOBODY);
        }
        check_ret!(
            "kill of process 1",
            ring.result(call!(SYS_kill, 1, 0))?,
            -libc::EPERM
        );
        Ok(())
    })
}

fn setfsuid_followed() -> Check {
    let secret = secret()?;
    in_each_mode(|mode| {
        let (_engine, mut ring) = mode.start(1)?;
        for _ in 0..10 {
            check_opens(ring.run(open_call(&secret))?)?;
            plain!(SYS_setfsuid, NOBODY);
            check_refused_open(ring.run(open_call(&secret))?)?;
            plain!(SYS_setfsuid, 0);
        }
        Ok(())
    })
}

fn thread_credentials() -> Check {
    let secret = secret()?;
    for mode in Mode::ALL {
        let (engine, mut ring) = mode.start(1)?;
        let turn = Barrier::new(2);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| -> Check {
                let mut ring = engine.ring(1)?;
                ring.mode = mode;
                ok!("dropping rights", drop_rights());
                turn.wait();
                for _ in 0..rounds(30) {
                    for done in ring.run_all(&[open_call(&secret); 4])? {
                        check_refused_open(done)?;
                    }
                }
                check_ret!("geteuid", ring.result(call!(SYS_geteuid))?, NOBODY);
                Ok(())
            });
            turn.wait();
            for _ in 0..rounds(30) {
                for done in ring.run_all(&[open_call(&secret); 4])? {
                    check_opens(done)?;
                }
            }
            check_ret!("geteuid", ring.result(call!(SYS_geteuid))?, 0);
            other.join().expect("no panic")
        })
        .map_err(|failure| failure.within(format_args!("mode {mode:?}")))?;
    }
    Ok(())
}

fn check_guarded(done: Done) -> Check {
    check!(
        done.result == -i64::from(libc::EOPNOTSUPP) && done.reason == REASON_GUARDED,
        "filtered call: {} reason {}, expected {} reason {REASON_GUARDED}",
        Ret(done.result),
        done.reason,
        Ret(-i64::from(libc::EOPNOTSUPP))
    );
    Ok(())
}

/// Tries to make a directory, which the filter forbids.
fn check_filtered(ring: &mut Ring, dir: &TempDir) -> Check {
    let path = dir.join("filtered");
    let call = call!(SYS_mkdirat, libc::AT_FDCWD, path.as_c_str(), 0o700);
    let plain = sys::syscall(libc::SYS_mkdirat, call.args);
    check_ret!("plain mkdirat", plain, -seccomp::FILTERED);
    for done in ring.run_all(&[call, call.asynchronous(), call])? {
        check_guarded(done)?;
    }
    check!(
        !dir.path().join("filtered").exists(),
        "the filtered call has made a directory"
    );
    Ok(())
}

fn filter_followed() -> Check {
    let dir = TempDir::new()?;
    in_each_mode(|mode| {
        let (_engine, mut ring) = mode.start(1)?;
        let path = dir.join(format!("before {mode:?}"));
        let call = call!(SYS_mkdirat, libc::AT_FDCWD, path.as_c_str(), 0o700);
        check_ret!("mkdirat before the filter", ring.result(call)?, 0);
        ok!("seccomp", seccomp::refuse(libc::SYS_mkdirat, false));
        for _ in 0..10 {
            check_filtered(&mut ring, &dir)?;
        }
        Ok(())
    })
}

fn filter_before() -> Check {
    let dir = TempDir::new()?;
    in_each_mode(|mode| {
        ok!("seccomp", seccomp::refuse(libc::SYS_mkdirat, false));
        let (_engine, mut ring) = mode.start(1)?;
        check_filtered(&mut ring, &dir)
    })
}

fn filter_of_posted() -> Check {
    let dir = TempDir::new()?;
    let path = dir.join("filtered");
    // A poller may take the calls before the filter is installed.
    for mode in [Mode::Inline, Mode::Async, Mode::Kick] {
        in_child(|| {
            let (_engine, mut ring) = mode.start(1)?;
            let call = call!(SYS_mkdirat, libc::AT_FDCWD, path.as_c_str(), 0o700);
            let slots = ring.post_all(&[call; 8]);
            ok!("seccomp", seccomp::refuse(libc::SYS_mkdirat, false));
            for done in ring.finish(&slots)? {
                check_guarded(done)?;
            }
            Ok(())
        })?;
        check!(
            !dir.path().join("filtered").exists(),
            "mode {mode:?}: a filtered call was made"
        );
    }
    Ok(())
}

fn filter_of_thread() -> Check {
    let dir = TempDir::new()?;
    in_each_mode(|mode| {
        let (engine, mut ring) = mode.start(1)?;
        let turn = Barrier::new(2);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| -> Check {
                let mut ring = engine.ring(1)?;
                ring.mode = mode;
                ok!("seccomp", seccomp::refuse(libc::SYS_mkdirat, false));
                turn.wait();
                (0..rounds(20)).try_for_each(|_| check_filtered(&mut ring, &dir))
            });
            turn.wait();
            for _ in 0..rounds(40) {
                // Threads that were created under the filter are there too.
                for done in ring.run_all(&[call!(SYS_getppid); 4])? {
                    check_eq!("reason", done.reason, REASON_NONE);
                    check_ret!("getppid", done.result, plain!(SYS_getppid));
                }
            }
            other.join().expect("no panic")
        })
    })
}

fn filter_all_threads() -> Check {
    let dir = TempDir::new()?;
    in_each_mode(|mode| {
        let (engine, mut ring) = mode.start(1)?;
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                let mut ring = engine.ring(1)?;
                ring.mode = mode;
                ok!("seccomp", seccomp::refuse(libc::SYS_mkdirat, true));
                check_filtered(&mut ring, &dir)
            });
            other.join().expect("no panic")
        })?;
        check_filtered(&mut ring, &dir)
    })
}

fn filter_beside_blocked() -> Check {
    let dir = TempDir::new()?;
    in_each_mode(|mode| {
        let (_engine, mut ring) = mode.start(1)?;
        let (from, to) = pipe()?;
        let reads = BlockedReads::new(&from, 20);
        let slots = ring.post_blocked(&reads.calls())?;
        ok!("seccomp", seccomp::refuse(libc::SYS_mkdirat, false));
        check_filtered(&mut ring, &dir)?;
        reads.release(&to)?;
        for done in ring.finish(&slots)? {
            check_eq!("reason", done.reason, REASON_NONE);
            check_ret!("read", done.result, 2);
        }
        Ok(())
    })
}

fn traced() -> Check {
    for mode in [Mode::Inline, Mode::Async, Mode::Kick] {
        let child = spawn(|link| {
            let (_engine, mut ring) = mode.start(1)?;
            check_ret!(
                "getppid",
                ring.result(call!(SYS_getppid))?,
                plain!(SYS_getppid)
            );
            link.ready();
            link.wait_go()?;
            for done in ring.run_all(&[call!(SYS_getppid); 5])? {
                check_guarded(done)?;
            }
            Ok(())
        })?;
        child
            .join_traced()
            .map_err(|failure| failure.within(format_args!("mode {mode:?}")))?;
    }
    Ok(())
}

fn own_files() -> Check {
    in_each_mode(|mode| {
        let (_engine, mut ring) = mode.start(1)?;
        let open = call!(SYS_openat, libc::AT_FDCWD, c"/dev/zero", libc::O_RDONLY);
        check_opens(ring.run(open)?)?;
        check_ret!("unshare", plain!(SYS_unshare, libc::CLONE_FILES), 0);
        for _ in 0..10 {
            let done = ring.run(open)?;
            if done.reason == REASON_NONE {
                let plain = plain!(SYS_fcntl, done.result, libc::F_GETFD);
                check_ret!("the new descriptor in the owner's table", plain, 0);
                plain!(SYS_close, done.result);
            } else {
                check_eq!("reason", done.reason, REASON_CONTEXT);
                check_ret!("openat", done.result, -libc::EOPNOTSUPP);
            }
        }
        Ok(())
    })
}

fn own_directory() -> Check {
    in_each_mode(|mode| {
        let (_engine, mut ring) = mode.start(1)?;
        check_ret!("unshare", plain!(SYS_unshare, libc::CLONE_FS), 0);
        check_ret!("plain chdir", plain!(SYS_chdir, c"/dev"), 0);
        for _ in 0..10 {
            let mut name = [0u8; 64];
            let done = ring.run(call!(SYS_getcwd, name.as_mut_ptr(), name.len()))?;
            if done.reason == REASON_NONE {
                check_ret!("getcwd", done.result, 5);
                check_eq!("directory", &name[..4], b"/dev");
            } else {
                check_eq!("reason", done.reason, REASON_CONTEXT);
                check_ret!("getcwd", done.result, -libc::EOPNOTSUPP);
            }
        }
        check_eq!("ALL", ring.wait(Policy::All), Ok(0));
        Ok(())
    })
}
