// SPDX-License-Identifier: MIT OR Apache-2.0
//! Posted calls have the identity of their process, and act on it.

use std::ffi::CString;
use std::os::fd::AsRawFd;

use crate::check::Check;
use crate::kit::abi::{REASON_NONE, REASON_THREAD};
use crate::kit::files::{TempDir, memory_file};
use crate::kit::mode::in_modes;
use crate::kit::ring::Call;
use crate::kit::{memory, sys};

tests! { "calls":
    getppid_batch => "64 getppid in a batch give the parent, round after round";
    identity => "pid, parent, users, groups, session are those of the process, in every mode";
    thread_identity => "gettid is the owner's or refused, never a syscall thread's";
    second_thread_identity => "calls of a second thread have its identity";
    change_directory => "chdir through an entry moves the process; entries follow a plain chdir";
    change_umask => "umask through an entry is the process's";
    limits_and_names => "rlimits, uname and sysinfo are the process's";
    memory_map => "mmap, mprotect, madvise and munmap through entries act on the process";
    memory_that_faults => "memory whose access would end the program is EFAULT, as in plain calls";
    program_break => "brk through an entry is the process's";
    descriptors => "descriptors of entries and of plain calls are the same";
}

fn getppid_batch() -> Check {
    let parent = plain!(SYS_getppid);
    in_modes(1, |_, ring| {
        for _ in 0..20 {
            for done in ring.run_all(&[call!(SYS_getppid); 64])? {
                check_ret!("getppid", done.result, parent);
                check_eq!("reason", done.reason, REASON_NONE);
            }
        }
        Ok(())
    })
}

fn identity_calls() -> [Call; 10] {
    [
        call!(SYS_getpid),
        call!(SYS_getppid),
        call!(SYS_getuid),
        call!(SYS_geteuid),
        call!(SYS_getgid),
        call!(SYS_getegid),
        call!(SYS_getpgrp),
        call!(SYS_getpgid, 0),
        call!(SYS_getsid, 0),
        call!(SYS_getpriority, libc::PRIO_PROCESS, std::process::id()),
    ]
}

fn identity() -> Check {
    in_modes(1, |_, ring| {
        let calls = identity_calls();
        for (call, done) in calls.iter().zip(ring.run_all(&calls)?) {
            let want = sys::syscall(call.nr.into(), call.args);
            check_ret!(format!("call {}", call.nr), done.result, want);
        }
        Ok(())
    })
}

fn check_gettid(done: crate::kit::ring::Done, tid: i32) -> Check {
    let refused = done.result == -i64::from(libc::EOPNOTSUPP) && done.reason == REASON_THREAD;
    check!(
        refused || done.result == i64::from(tid),
        "gettid: {done:?}, expected {tid} or a refusal"
    );
    Ok(())
}

fn thread_identity() -> Check {
    in_modes(1, |_, ring| {
        for done in ring.run_all(&[call!(SYS_gettid); 16])? {
            check_gettid(done, sys::gettid())?;
        }
        Ok(())
    })
}

fn second_thread_identity() -> Check {
    let work = || {
        in_modes(1, |_, ring| {
            for done in ring.run_all(&[call!(SYS_gettid); 4])? {
                check_gettid(done, sys::gettid())?;
            }
            check_ret!(
                "getpid",
                ring.result(call!(SYS_getpid))?,
                std::process::id()
            );
            Ok(())
        })
    };
    std::thread::scope(|scope| scope.spawn(work).join().expect("no panic"))
}

fn current_directory() -> String {
    let path = std::env::current_dir().unwrap_or_default();
    path.to_string_lossy().into_owned()
}

fn change_directory() -> Check {
    let dir = TempDir::new()?;
    ok!("mkdir", std::fs::create_dir(dir.path().join("inner")));
    let inner = dir.path().join("inner").to_string_lossy().into_owned();
    let inner_path = CString::new(inner.clone()).expect("no zero byte");
    let root = c"/";
    in_modes(1, |_, ring| {
        check_ret!(
            "chdir",
            ring.result(call!(SYS_chdir, inner_path.as_c_str()))?,
            0
        );
        check_eq!("directory after chdir", current_directory(), inner);
        let mut name = [0u8; 256];
        let result = ring.result(call!(SYS_getcwd, name.as_mut_ptr(), name.len()))?;
        check_ret!("getcwd", result, inner.len() as i64 + 1);
        check_eq!("getcwd", &name[..inner.len()], inner.as_bytes());
        check_ret!("plain chdir", plain!(SYS_chdir, root), 0);
        let result = ring.result(call!(SYS_getcwd, name.as_mut_ptr(), name.len()))?;
        check_ret!("getcwd after plain chdir", result, 2);
        // A relative path in an entry starts at the process's directory.
        ok!("chdir", std::env::set_current_dir(dir.path()));
        let access = call!(SYS_faccessat, libc::AT_FDCWD, c"inner", libc::F_OK);
        check_ret!("faccessat", ring.result(access)?, 0);
        ok!("chdir", std::env::set_current_dir("/"));
        check_ret!("faccessat elsewhere", ring.result(access)?, -libc::ENOENT);
        Ok(())
    })
}

fn change_umask() -> Check {
    in_modes(1, |_, ring| {
        plain!(SYS_umask, 0o022);
        check_ret!("umask", ring.result(call!(SYS_umask, 0o027))?, 0o022);
        check_ret!("plain umask", plain!(SYS_umask, 0o077), 0o027);
        check_ret!("umask", ring.result(call!(SYS_umask, 0o022))?, 0o077);
        Ok(())
    })
}

fn limits_and_names() -> Check {
    in_modes(1, |_, ring| {
        let (mut got, mut want) = ([0u64; 2], [0u64; 2]);
        for resource in [libc::RLIMIT_NOFILE, libc::RLIMIT_STACK, libc::RLIMIT_NPROC] {
            let call = call!(SYS_prlimit64, 0, resource, 0, got.as_mut_ptr());
            check_ret!("prlimit", ring.result(call)?, 0);
            plain!(SYS_prlimit64, 0, resource, 0, want.as_mut_ptr());
            check_eq!(format!("limit {resource}"), got, want);
        }
        let (mut got, mut want) = ([0u8; 390], [1u8; 390]);
        check_ret!("uname", ring.result(call!(SYS_uname, got.as_mut_ptr()))?, 0);
        plain!(SYS_uname, want.as_mut_ptr());
        check!(got == want, "uname differs");
        // A limit that an entry sets is the process's.
        let mut old = [0u64; 2];
        plain!(SYS_prlimit64, 0, libc::RLIMIT_NOFILE, 0, old.as_mut_ptr());
        let new = [old[0] - 1, old[1]];
        let set = call!(SYS_prlimit64, 0, libc::RLIMIT_NOFILE, new.as_ptr(), 0);
        check_ret!("prlimit", ring.result(set)?, 0);
        let mut now = [0u64; 2];
        plain!(
            SYS_prlimit64,
            0,
            libc::RLIMIT_NOFILE,
            old.as_ptr(),
            now.as_mut_ptr()
        );
        check_eq!("limit set by an entry", now, new);
        Ok(())
    })
}

fn memory_map() -> Check {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    in_modes(1, |_, ring| {
        let at = ring.result(call!(SYS_mmap, 0, 65536, prot, flags, -1, 0))?;
        check!(at > 4096, "mmap: {}", crate::check::Ret(at));
        let bytes = at as u64 as *mut u8;
        let page = |index: usize| bytes.wrapping_add(index * 4096);
        memory::fill(bytes, 65536, 0x5a);
        check_eq!("byte in the mapping", memory::peek(page(15)), 0x5a);
        let result = ring.result(call!(SYS_madvise, page(3), 4096, libc::MADV_DONTNEED))?;
        check_ret!("madvise", result, 0);
        check_eq!("byte after madvise", memory::peek(page(3)), 0);
        let result = ring.result(call!(SYS_mprotect, page(4), 4096, libc::PROT_READ))?;
        check_ret!("mprotect", result, 0);
        let zero = ok!("open", sys::open(c"/dev/zero", libc::O_RDONLY, 0));
        let result = plain!(SYS_read, &zero, page(4), 8);
        check_ret!("read into the protected page", result, -libc::EFAULT);
        check_ret!("munmap", ring.result(call!(SYS_munmap, bytes, 65536))?, 0);
        let result = plain!(SYS_read, &zero, bytes, 8);
        check_ret!("read into unmapped memory", result, -libc::EFAULT);
        Ok(())
    })
}

fn memory_that_faults() -> Check {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    in_modes(1, |_, ring| {
        let zero = ok!("open", sys::open(c"/dev/zero", libc::O_RDONLY, 0));
        let file = memory_file()?;
        check_ret!("ftruncate", plain!(SYS_ftruncate, &file, 4096), 0);
        let fd = file.as_raw_fd();
        let shared = ok!("mmap", sys::mmap(8192, prot, libc::MAP_SHARED, fd, 0));
        let none = ok!("mmap", sys::mmap(4096, libc::PROT_NONE, private, -1, 0));
        // An access by the program itself would give SIGBUS, SIGSEGV and SIGSEGV.
        for at in [
            shared.wrapping_add(4096),
            none,
            std::ptr::without_provenance_mut(8),
        ] {
            for call in [
                call!(SYS_read, &zero, at, 8),
                call!(SYS_getrandom, at, 8, 0),
                call!(SYS_write, &file, at, 8),
                call!(SYS_clock_gettime, 1, at),
                call!(SYS_access, at, 0),
            ] {
                let args = call.args;
                let plain = sys::syscall(i64::from(call.nr), args);
                check_ret!("plain call", plain, -libc::EFAULT);
                check_ret!("posted call", ring.result(call)?, plain);
            }
        }
        ok!("munmap", sys::munmap(shared, 8192));
        ok!("munmap", sys::munmap(none, 4096));
        Ok(())
    })
}

fn program_break() -> Check {
    in_modes(1, |_, ring| {
        let plain = plain!(SYS_brk, 0);
        check_ret!("brk(0)", ring.result(call!(SYS_brk, 0))?, plain);
        Ok(())
    })
}

fn descriptors() -> Check {
    in_modes(1, |_, ring| {
        let open = call!(
            SYS_openat,
            libc::AT_FDCWD,
            c"/dev/zero",
            libc::O_RDONLY | libc::O_CLOEXEC
        );
        let fd = ring.result(open)?;
        check!(fd > 2, "openat: {}", crate::check::Ret(fd));
        let mut bytes = [1u8; 16];
        check_ret!(
            "plain read",
            plain!(SYS_read, fd, bytes.as_mut_ptr(), 16),
            16
        );
        check_eq!("bytes", bytes, [0; 16]);
        check_ret!("close", ring.result(call!(SYS_close, fd))?, 0);
        check_ret!("plain close again", plain!(SYS_close, fd), -libc::EBADF);
        let file = ok!("open", sys::open(c"/dev/zero", libc::O_RDONLY, 0));
        let copy = ring.result(call!(SYS_fcntl, &file, libc::F_DUPFD_CLOEXEC, 100))?;
        check_ret!("dup by an entry", copy, 100);
        check_ret!("plain close", plain!(SYS_close, copy), 0);
        let result = ring.result(call!(SYS_fcntl, file.as_raw_fd(), libc::F_GETFD))?;
        check_ret!("F_GETFD", result, libc::FD_CLOEXEC);
        Ok(())
    })
}
