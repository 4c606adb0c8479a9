// SPDX-License-Identifier: MIT OR Apache-2.0
//! REGISTER and UNREGISTER.

use nix::errno::Errno;

use crate::check::Check;
use crate::kit::abi::{self, PAGE_SIZE, Register};
use crate::kit::engine::Engine;
use crate::kit::files::{BlockedReads, pipe};
use crate::kit::{limits, process, rounds, sys, until};

tests! { "abi":
    open_close => "opening and closing the device many times leaves no reference";
    register_rounds => "registering, calling and unregistering works many times, with all sizes";
    register_together => "several registrations of one thread have distinct numbers and work";
    register_fills_out => "REGISTER describes the mapping: lengths are whole pages";
    register_size => "REGISTER with another structure size is EINVAL";
    register_version => "REGISTER with another ABI version is EPROTO";
    register_flags => "REGISTER with any flag or reserved word set is EINVAL";
    register_pages => "REGISTER of 0 or more than 64 pages is EINVAL";
    register_most_pages => "an engine gives max_pages pages and ENOSPC for one more";
    register_unmapped => "a registration can be removed without having been mapped";
    unregister_unknown => "UNREGISTER of an unknown number is ENOENT";
    unregister_twice => "UNREGISTER of the same number twice is ENOENT";
    unregister_foreign_thread => "UNREGISTER by another thread is EPERM while the owner lives";
    unregister_busy => "UNREGISTER with calls in flight is EBUSY and works afterwards";
    unregister_dead_owner => "UNREGISTER by another thread works when the owner has ended";
}

fn bad_register(
    engine: &Engine,
    what: &str,
    change: impl FnOnce(&mut Register),
    want: Errno,
) -> Check {
    let mut arg = Register::new(1);
    change(&mut arg);
    let ret = sys::ioctl_with(engine.fd(), abi::IOC_REGISTER, &mut arg);
    check_eq!(what, ret, Err(want));
    check_eq!("pages after a refused REGISTER", engine.stats()?.pages, 0);
    Ok(())
}

fn open_close() -> Check {
    let base = process::refcnt();
    for _ in 0..rounds(200) {
        drop(Engine::open()?);
    }
    let some: Vec<Engine> = (0..20).map(|_| Engine::open()).collect::<Check<_>>()?;
    check!(
        process::refcnt() >= base.map(|count| count + 20),
        "open engines hold no reference"
    );
    drop(some);
    process::until_refcnt(base)
}

fn register_rounds() -> Check {
    let engine = Engine::open()?;
    let parent = plain!(SYS_getppid);
    for round in 0..rounds(130) {
        let mut ring = engine.ring(1 + round % abi::MAX_PAGES)?;
        check_ret!("getppid", ring.result(call!(SYS_getppid))?, parent);
        check_eq!(
            "pages",
            engine.stats()?.pages,
            u64::from(1 + round % abi::MAX_PAGES)
        );
        // In turn before and after the mapping is removed.
        if round % 2 == 0 {
            check_eq!("UNREGISTER", ring.unregister(), Ok(0));
        } else {
            let id = ring.id;
            ok!("munmap", ring.unmap());
            check_eq!("UNREGISTER", engine.unregister(id), Ok(0));
        }
        check_eq!("pages", engine.stats()?.pages, 0);
    }
    Ok(())
}

fn register_together() -> Check {
    let engine = Engine::open()?;
    let mut rings = (0..8).map(|_| engine.ring(2)).collect::<Check<Vec<_>>>()?;
    let mut ids: Vec<u32> = rings.iter().map(|ring| ring.id).collect();
    let parent = plain!(SYS_getppid);
    for ring in &mut rings {
        check_ret!("getppid", ring.result(call!(SYS_getppid))?, parent);
    }
    ids.sort_unstable();
    ids.dedup();
    check_eq!("distinct numbers", ids.len(), 8);
    check!(
        ids.iter().all(|&id| id < 64),
        "the numbers are not small: {ids:?}"
    );
    // Removes every second registration. The others go on, and their gaps can be used.
    let mut keep = true;
    rings.retain(|ring| {
        keep = !keep;
        keep || ring.unregister() != Ok(0)
    });
    check_eq!("registrations left", rings.len(), 4);
    rings.extend((0..4).map(|_| engine.ring(1)).collect::<Check<Vec<_>>>()?);
    for ring in &mut rings {
        check_ret!("getppid", ring.result(call!(SYS_getppid))?, parent);
    }
    Ok(())
}

fn register_fills_out() -> Check {
    let engine = Engine::open()?;
    for pages in [1, 2, 31, 33, 64] {
        let out = ok!("REGISTER", engine.register(pages));
        let (ctrl, len) = (out.ctrl_len as usize, out.mmap_len as usize);
        check_eq!("ctrl_len % page size", ctrl % PAGE_SIZE, 0);
        check!(
            ctrl >= pages as usize * size_of::<abi::Ctrl>(),
            "ctrl_len too small: {out:?}"
        );
        check_eq!("mmap_len", len, ctrl + pages as usize * PAGE_SIZE);
        check_eq!(
            "mmap_offset % page size",
            out.mmap_offset as usize % PAGE_SIZE,
            0
        );
        check_eq!(
            "size and pages as given",
            (out.size, out.pages),
            (56, pages)
        );
        check_eq!("UNREGISTER", engine.unregister(out.id), Ok(0));
    }
    Ok(())
}

fn register_size() -> Check {
    let engine = Engine::open()?;
    for size in [0, 1, 8, 48, 55, 57, 64, 4096, u32::MAX] {
        bad_register(
            &engine,
            &format!("size {size}"),
            |arg| arg.size = size,
            Errno::EINVAL,
        )?;
    }
    Ok(())
}

fn register_version() -> Check {
    let engine = Engine::open()?;
    for version in [0, 1, 2, abi::VERSION + 1, 0x100, u32::MAX] {
        bad_register(
            &engine,
            &format!("version {version}"),
            |arg| arg.abi = version,
            Errno::EPROTO,
        )?;
    }
    Ok(())
}

fn register_flags() -> Check {
    let engine = Engine::open()?;
    for bit in 0..32 {
        bad_register(
            &engine,
            &format!("flag {bit}"),
            |arg| arg.flags = 1 << bit,
            Errno::EINVAL,
        )?;
    }
    for word in 0..2 {
        for value in [1, 1 << 63] {
            let set = |arg: &mut Register| arg.reserved[word] = value;
            bad_register(
                &engine,
                &format!("reserved word {word}"),
                set,
                Errno::EINVAL,
            )?;
        }
    }
    Ok(())
}

fn register_pages() -> Check {
    let engine = Engine::open()?;
    for pages in [0, abi::MAX_PAGES + 1, 1 << 16, u32::MAX] {
        bad_register(
            &engine,
            &format!("{pages} pages"),
            |arg| arg.pages = pages,
            Errno::EINVAL,
        )?;
    }
    Ok(())
}

fn register_most_pages() -> Check {
    limits::need_root()?;
    let engine = Engine::open()?;
    let most = limits::module_param("max_pages").unwrap_or(1024);
    let mut given = 0;
    let mut ids = Vec::new();
    while given < most {
        let some = (most - given).min(u64::from(abi::MAX_PAGES)) as u32;
        match engine.register(some) {
            Ok(out) => ids.push(out.id),
            Err(error) => fail!("REGISTER of {some} pages after {given}: {error:?}"),
        }
        given += u64::from(some);
    }
    check_eq!("one page more", engine.register(1), Err(Errno::ENOSPC));
    check_eq!("pages", engine.stats()?.pages, most);
    for id in ids {
        check_eq!("UNREGISTER", engine.unregister(id), Ok(0));
    }
    check!(
        engine.register(1).is_ok(),
        "no page after all were given back"
    );
    Ok(())
}

fn register_unmapped() -> Check {
    let engine = Engine::open()?;
    for _ in 0..rounds(50) {
        let out = ok!("REGISTER", engine.register(3));
        check_eq!("UNREGISTER", engine.unregister(out.id), Ok(0));
    }
    // The end of the engine ends this registration.
    ok!("REGISTER", engine.register(3));
    Ok(())
}

fn unregister_unknown() -> Check {
    let engine = Engine::open()?;
    let out = ok!("REGISTER", engine.register(1));
    for id in [out.id + 1, 63, 64, 1 << 16, u32::MAX] {
        check_eq!(
            format!("UNREGISTER {id}"),
            engine.unregister(id),
            Err(Errno::ENOENT)
        );
    }
    // A number that fits only after truncation must not be taken for another one.
    let wide = (1u64 << 32) | u64::from(out.id);
    let ret = sys::ioctl(engine.fd(), abi::IOC_UNREGISTER, wide);
    check_eq!("UNREGISTER of 2^32 + id", ret, Err(Errno::ENOENT));
    check_eq!("UNREGISTER", engine.unregister(out.id), Ok(0));
    Ok(())
}

fn unregister_twice() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    check_ret!(
        "getpid",
        ring.result(call!(SYS_getpid))?,
        std::process::id()
    );
    check_eq!("first UNREGISTER", ring.unregister(), Ok(0));
    check_eq!("second UNREGISTER", ring.unregister(), Err(Errno::ENOENT));
    Ok(())
}

fn unregister_foreign_thread() -> Check {
    let engine = Engine::open()?;
    let ring = engine.ring(1)?;
    let id = ring.id;
    let ret = std::thread::scope(|scope| scope.spawn(|| engine.unregister(id)).join());
    check_eq!(
        "UNREGISTER by another thread",
        ret.expect("no panic"),
        Err(Errno::EPERM)
    );
    check_eq!("UNREGISTER by the owner", ring.unregister(), Ok(0));
    Ok(())
}

fn unregister_busy() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let (from, to) = pipe()?;
    let reads = BlockedReads::new(&from, 3);
    let slots = ring.post_blocked(&reads.calls())?;
    check_eq!(
        "UNREGISTER with blocked calls",
        ring.unregister(),
        Err(Errno::EBUSY)
    );
    reads.release(&to)?;
    for done in ring.finish(&slots)? {
        check_ret!("read", done.result, 2);
    }
    reads.check()?;
    let mut last = Ok(0);
    until("UNREGISTER after all calls are done", || {
        last = ring.unregister();
        last != Err(Errno::EBUSY)
    })?;
    check_eq!("UNREGISTER", last, Ok(0));
    Ok(())
}

fn unregister_dead_owner() -> Check {
    let engine = Engine::open()?;
    let id = std::thread::scope(|scope| {
        let owner = scope.spawn(|| -> Check<u32> {
            let mut ring = engine.ring(1)?;
            check_ret!(
                "getpid",
                ring.result(call!(SYS_getpid))?,
                std::process::id()
            );
            Ok(ring.id)
        });
        owner.join().expect("no panic")
    })?;
    // join() may return a little before the thread has ended in the kernel.
    let mut last = Ok(0);
    until("UNREGISTER after the owner's end", || {
        last = engine.unregister(id);
        last != Err(Errno::EPERM)
    })?;
    check_eq!("UNREGISTER", last, Ok(0));
    check_eq!("pages", engine.stats()?.pages, 0);
    Ok(())
}
