// SPDX-License-Identifier: MIT OR Apache-2.0
//! Limits of the module: pages of an engine and of a user, threads, registrations.

use std::fs;

use nix::errno::Errno;

use crate::check::{Check, Ret};
use crate::kit::abi::{Param, Policy};
use crate::kit::child::{in_child, spawn};
use crate::kit::engine::Engine;
use crate::kit::files::{BlockedReads, pipe};
use crate::kit::limits::{NOBODY, need_root, set_limit};
use crate::kit::{process, rounds, sys};

tests! { "life":
    user_pages => "max_user_pages counts over all engines and processes of a user, and exactly";
    user_pages_freed => "the user's pages are given back by UNREGISTER, close, exec and kill";
    user_pages_mapped => "pages that UNREGISTER left mapped count for the user until munmap";
    user_pages_changed => "REGISTER obeys a change of max_user_pages at once; 0 means no limit";
    engine_pages_changed => "a change of max_pages at run time holds for open engines";
    threads_changed => "a change of max_threads at run time holds for open engines";
    most_registrations => "an engine has as many registrations as max_pages allows, and ENOSPC for one more";
    memory_lock_privileged => "CAP_IPC_LOCK exempts from RLIMIT_MEMLOCK, as for mlock";
}

/// A parameter of the module, restored when this is dropped.
pub struct Parameter {
    path: String,
    old: String,
    owner: u32,
}

impl Parameter {
    pub fn get(name: &str) -> Check<Parameter> {
        need_root()?;
        let path = format!("/sys/module/flexsc/parameters/{name}");
        let old = ok!("parameter", fs::read_to_string(&path));
        let owner = std::process::id();
        Ok(Parameter { path, old, owner })
    }

    pub fn set(&self, value: u32) -> Check {
        ok!("parameter", fs::write(&self.path, value.to_string()));
        Ok(())
    }
}

impl Drop for Parameter {
    fn drop(&mut self) {
        if self.owner == std::process::id() {
            let _ = fs::write(&self.path, &self.old);
        }
    }
}

/// Becomes a user without privileges and without a limit on locked memory.
fn become_user(user: u32) -> Check {
    let enough = set_limit(libc::RLIMIT_MEMLOCK, 64 << 20);
    ok!("RLIMIT_MEMLOCK", enough);
    check_ret!("setresgid", plain!(SYS_setresgid, user, user, user), 0);
    check_ret!("setresuid", plain!(SYS_setresuid, user, user, user), 0);
    Ok(())
}

fn register(engine: &Engine, pages: u32) -> Result<u32, Errno> {
    engine.register(pages).map(|registered| registered.id)
}

fn user_pages() -> Check {
    let limit = Parameter::get("max_user_pages")?;
    limit.set(100)?;
    let base = process::refcnt();
    in_child(|| {
        become_user(NOBODY)?;
        let (one, two) = (Engine::open()?, Engine::open()?);
        ok!("REGISTER of 64", register(&one, 64));
        check_eq!(
            "REGISTER of 64 more",
            register(&two, 64),
            Err(Errno::ENOSPC)
        );
        let last = ok!("REGISTER of 35 more", register(&two, 35));
        // Another process of the same user.
        in_child(|| {
            let engine = Engine::open()?;
            check_eq!("REGISTER of 2", register(&engine, 2), Err(Errno::ENOSPC));
            ok!("REGISTER of the last one", register(&engine, 1));
            check_eq!(
                "REGISTER of one more",
                register(&engine, 1),
                Err(Errno::ENOSPC)
            );
            Ok(())
        })?;
        // The engine of the process that has ended gives its page back.
        ok!("REGISTER of one more", register(&one, 1));
        check_eq!("UNREGISTER", two.unregister(last), Ok(0));
        ok!("REGISTER of 35 again", register(&one, 35));
        check_eq!(
            "REGISTER of one more",
            register(&two, 1),
            Err(Errno::ENOSPC)
        );
        Ok(())
    })?;
    in_child(|| {
        let engine = Engine::open()?;
        become_user(NOBODY)?;
        // The opener of the engine is charged, not the registering user: root still has all its own
        // pages.
        ok!("REGISTER by root's engine", register(&engine, 64));
        Ok(())
    })?;
    process::until_refcnt(base)?;
    in_child(|| {
        become_user(NOBODY + 1)?;
        let engine = Engine::open()?;
        ok!("REGISTER by another user", register(&engine, 64));
        Ok(())
    })
}

fn user_pages_freed() -> Check {
    let limit = Parameter::get("max_user_pages")?;
    limit.set(64)?;
    let base = process::refcnt();
    for round in 0..rounds(3) {
        let mut child = spawn(|link| {
            become_user(NOBODY)?;
            let engine = Engine::open()?;
            for _ in 0..20 {
                let id = ok!("REGISTER of all", register(&engine, 64));
                check_eq!("UNREGISTER", engine.unregister(id), Ok(0));
            }
            // Nothing is counted for a REGISTER that fails later.
            let soft = |bytes: u64| {
                let limit = [bytes, 64 << 20];
                plain!(SYS_prlimit64, 0, libc::RLIMIT_MEMLOCK, limit.as_ptr(), 0)
            };
            for _ in 0..3 {
                check_ret!("prlimit64", soft(4096), 0);
                check_eq!("REGISTER", register(&engine, 64), Err(Errno::ENOMEM));
                check_ret!("prlimit64", soft(64 << 20), 0);
            }
            ok!("REGISTER of all", register(&engine, 64));
            link.ready();
            Ok(())
        })?;
        child.wait_ready()?;
        child.join()?;
        process::until_refcnt(base)?;
        // The process is killed with all pages mapped and a call in flight.
        let mut child = spawn(|link| {
            become_user(NOBODY)?;
            let engine = Engine::open()?;
            let mut ring = engine.ring(64)?;
            let (from, _to) = pipe()?;
            let reads = BlockedReads::new(&from, 10);
            ring.post_blocked(&reads.calls())?;
            link.ready();
            loop {
                let _ = ring.wait(Policy::All);
            }
        })?;
        child
            .wait_ready()
            .map_err(|failure| failure.within(format_args!("round {round}")))?;
        child.kill()?;
        process::until_refcnt(base)?;
    }
    Ok(())
}

fn user_pages_mapped() -> Check {
    let limit = Parameter::get("max_user_pages")?;
    limit.set(64)?;
    let base = process::refcnt();
    for round in 0..rounds(3) {
        let mut child = spawn(|link| {
            become_user(NOBODY)?;
            let (one, two) = (Engine::open()?, Engine::open()?);
            let (at, len) = ok!("mapping", one.leave_mapped(64));
            check_eq!("REGISTER", register(&two, 1), Err(Errno::ENOSPC));
            check_eq!("munmap", sys::munmap(at, len), Ok(0));
            // The end of the process or of its program also ends the mapping.
            ok!("mapping", two.leave_mapped(64));
            check_eq!("REGISTER", register(&one, 1), Err(Errno::ENOSPC));
            link.ready();
            link.wait_go()
        })?;
        child.wait_ready()?;
        if round % 2 == 0 {
            child.signal(libc::SIGKILL);
        } else {
            child.go();
        }
        child.end()?;
        process::until_refcnt(base)?;
    }
    in_child(|| {
        become_user(NOBODY)?;
        ok!("REGISTER of all", register(&Engine::open()?, 64));
        Ok(())
    })
}

fn user_pages_changed() -> Check {
    let limit = Parameter::get("max_user_pages")?;
    limit.set(10)?;
    let engine = Engine::open()?;
    let first = ok!("REGISTER of 10", register(&engine, 10));
    check_eq!(
        "REGISTER of one more",
        register(&engine, 1),
        Err(Errno::ENOSPC)
    );
    limit.set(11)?;
    ok!("REGISTER of one more", register(&engine, 1));
    // Existing registrations stay.
    limit.set(1)?;
    check_eq!("REGISTER", register(&engine, 1), Err(Errno::ENOSPC));
    check_eq!("pages", engine.stats()?.pages, 11);
    check_eq!("UNREGISTER", engine.unregister(first), Ok(0));
    check_eq!("REGISTER", register(&engine, 1), Err(Errno::ENOSPC));
    limit.set(0)?;
    for _ in 0..8 {
        ok!("REGISTER without a limit", register(&engine, 64));
    }
    Ok(())
}

fn engine_pages_changed() -> Check {
    let limit = Parameter::get("max_pages")?;
    let engine = Engine::open()?;
    limit.set(5)?;
    let id = ok!("REGISTER of 5", register(&engine, 5));
    check_eq!(
        "REGISTER of one more",
        register(&engine, 1),
        Err(Errno::ENOSPC)
    );
    limit.set(7)?;
    ok!("REGISTER of 2 more", register(&engine, 2));
    limit.set(3)?;
    check_eq!("UNREGISTER", engine.unregister(id), Ok(0));
    check_eq!("REGISTER of 2", register(&engine, 2), Err(Errno::ENOSPC));
    ok!("REGISTER of 1", register(&engine, 1));
    Ok(())
}

fn threads_changed() -> Check {
    let limit = Parameter::get("max_threads")?;
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    limit.set(3)?;
    check_eq!("MAX_THREADS", engine.get(Param::MaxThreads)?, 3);
    let (from, to) = pipe()?;
    let reads = BlockedReads::new(&from, 20);
    let slots = ring.post_all(&reads.calls());
    ok!("WAIT", ring.wait(Policy::None));
    reads.release(&to)?;
    let mut starved = 0;
    for done in ring.finish(&slots)? {
        match done.result {
            2 => {}
            ret if ret == -i64::from(libc::EAGAIN) => starved += 1,
            ret => fail!("read: {}", Ret(ret)),
        }
    }
    let stats = engine.stats()?;
    check!(stats.threads <= 3, "threads: {stats:?}, starved {starved}");
    limit.set(64)?;
    let reads = BlockedReads::new(&from, 20);
    // Reads the bytes that are left, which would satisfy the next reads too early.
    let mut rest = [0u8; 64];
    plain!(SYS_fcntl, &from, libc::F_SETFL, libc::O_NONBLOCK);
    plain!(SYS_read, &from, rest.as_mut_ptr(), rest.len());
    plain!(SYS_fcntl, &from, libc::F_SETFL, 0);
    let slots = ring.post_blocked(&reads.calls())?;
    reads.release(&to)?;
    for done in ring.finish(&slots)? {
        check_ret!("read", done.result, 2);
    }
    Ok(())
}

fn most_registrations() -> Check {
    // More than an engine makes room for at a time.
    const MOST: u32 = 700;
    let (pages, user_pages) = (
        Parameter::get("max_pages")?,
        Parameter::get("max_user_pages")?,
    );
    pages.set(MOST)?;
    user_pages.set(2 * MOST)?;
    let engine = Engine::open()?;
    let mut ids = Vec::new();
    for _ in 0..MOST {
        ids.push(ok!("REGISTER", register(&engine, 1)));
    }
    check_eq!("one more", register(&engine, 1), Err(Errno::ENOSPC));
    ids.sort_unstable();
    ids.dedup();
    check_eq!("different numbers", ids.len(), MOST as usize);
    // Numbers that are free are given again, the lowest first.
    for id in [ids[600], ids[100], ids[300]] {
        check_eq!("UNREGISTER", engine.unregister(id), Ok(0));
    }
    for id in [ids[100], ids[300], ids[600]] {
        check_eq!("REGISTER", register(&engine, 1), Ok(id));
    }
    Ok(())
}

fn memory_lock_privileged() -> Check {
    in_child(|| {
        need_root()?;
        ok!("setrlimit", set_limit(libc::RLIMIT_MEMLOCK, 0));
        let engine = Engine::open()?;
        let id = ok!("REGISTER with CAP_IPC_LOCK", register(&engine, 64));
        check_eq!("UNREGISTER", engine.unregister(id), Ok(0));
        // The same program without the capability.
        ok!("dropping rights", crate::kit::limits::drop_rights());
        check_eq!("REGISTER", register(&engine, 1), Err(Errno::ENOMEM));
        Ok(())
    })
}
