// SPDX-License-Identifier: MIT OR Apache-2.0
//! mmap of the device.

use std::sync::atomic::Ordering;

use libc::{MAP_PRIVATE, MAP_SHARED, PROT_EXEC, PROT_READ, PROT_WRITE};
use nix::errno::Errno;

use crate::check::Check;
use crate::kit::abi::PAGE_SIZE;
use crate::kit::child::in_child;
use crate::kit::engine::Engine;
use crate::kit::ring::Ring;
use crate::kit::{memory, sys};

tests! { "abi":
    mmap_wrong_place => "mmap with another offset or length than REGISTER gave fails";
    mmap_wrong_kind => "mmap fails if it is private, executable or not both readable and writable";
    mmap_twice => "a second mapping is refused or shows the same pages";
    mmap_unregistered => "mmap of a registration that was removed fails";
    mmap_child => "mmap by a forked child is EPERM";
    mapping_not_inherited => "madvise cannot give the pages to a forked child";
    mapping_in_debugger => "/proc/PID/mem reads and writes the pages, as a debugger does";
    mapping_does_not_grow => "mremap cannot enlarge the mapping";
    mapping_starts_zeroed => "fresh pages are all zero, even if their memory was used before";
    memory_outlives_unregister => "pages stay readable and writable after UNREGISTER";
}

const RW: i32 = PROT_READ | PROT_WRITE;

fn refused(what: &str, ret: Result<*mut u8, Errno>, allowed: &[Errno]) -> Check {
    match ret {
        Ok(_) => fail!("{what}: mapped"),
        Err(error) if allowed.contains(&error) => Ok(()),
        Err(error) => fail!("{what}: {error:?}, expected one of {allowed:?}"),
    }
}

fn mmap_wrong_place() -> Check {
    let engine = Engine::open()?;
    let out = ok!("REGISTER", engine.register(2));
    let (len, offset) = (out.mmap_len as usize, out.mmap_offset);
    let page = PAGE_SIZE as u64;
    let offsets = [
        offset + page,
        offset + out.mmap_len,
        offset + (1 << 40),
        u64::MAX << 12,
    ];
    for at in offsets {
        let ret = sys::mmap(len, RW, MAP_SHARED, engine.fd(), at);
        // An offset that overflows never reaches the device.
        refused(
            &format!("offset {at:#x}"),
            ret,
            &[Errno::EINVAL, Errno::EOVERFLOW],
        )?;
    }
    let lengths = [
        PAGE_SIZE,
        len - PAGE_SIZE,
        len + PAGE_SIZE,
        out.ctrl_len as usize,
    ];
    for length in lengths {
        let ret = sys::mmap(length, RW, MAP_SHARED, engine.fd(), offset);
        refused(&format!("length {length}"), ret, &[Errno::EINVAL])?;
    }
    let mut ring = Ring::map(engine.fd(), &out)?;
    check_ret!(
        "getpid",
        ring.result(call!(SYS_getpid))?,
        std::process::id()
    );
    Ok(())
}

fn mmap_wrong_kind() -> Check {
    let engine = Engine::open()?;
    let out = ok!("REGISTER", engine.register(1));
    let kinds = [
        ("private", RW, MAP_PRIVATE),
        ("read-only", PROT_READ, MAP_SHARED),
        ("write-only", PROT_WRITE, MAP_SHARED),
        ("no access", 0, MAP_SHARED),
        ("executable", RW | PROT_EXEC, MAP_SHARED),
    ];
    for (what, prot, flags) in kinds {
        let ret = sys::mmap(
            out.mmap_len as usize,
            prot,
            flags,
            engine.fd(),
            out.mmap_offset,
        );
        refused(what, ret, &[Errno::EINVAL, Errno::EPERM])?;
    }
    Ok(())
}

fn mmap_twice() -> Check {
    let engine = Engine::open()?;
    let out = ok!("REGISTER", engine.register(1));
    let mut ring = Ring::map(engine.fd(), &out)?;
    let second = sys::mmap(
        out.mmap_len as usize,
        RW,
        MAP_SHARED,
        engine.fd(),
        out.mmap_offset,
    );
    match second {
        Ok(at) => {
            let view = Ring::map(engine.fd(), &out)?;
            let slot = ring.post(call!(SYS_getpid));
            let posted = view.ctrl(0).posted.load(Ordering::Acquire);
            check_eq!("doorbell in the other mapping", posted, 1 << slot);
            ok!("munmap", sys::munmap(at, out.mmap_len as usize));
            ok!("munmap", view.unmap());
            check_ret!(
                "getpid",
                ring.finish(&[slot])?[0].result,
                std::process::id()
            );
        }
        Err(error) => check!(
            [Errno::EBUSY, Errno::EINVAL].contains(&error),
            "second mmap: {error:?}"
        ),
    }
    check_ret!(
        "getpid",
        ring.result(call!(SYS_getpid))?,
        std::process::id()
    );
    Ok(())
}

fn mmap_unregistered() -> Check {
    let engine = Engine::open()?;
    let out = ok!("REGISTER", engine.register(1));
    check_eq!("UNREGISTER", engine.unregister(out.id), Ok(0));
    let ret = sys::mmap(
        out.mmap_len as usize,
        RW,
        MAP_SHARED,
        engine.fd(),
        out.mmap_offset,
    );
    refused(
        "mmap after UNREGISTER",
        ret,
        &[Errno::EINVAL, Errno::ENOENT],
    )
}

fn mmap_child() -> Check {
    let engine = Engine::open()?;
    let out = ok!("REGISTER", engine.register(1));
    in_child(|| {
        let ret = sys::mmap(
            out.mmap_len as usize,
            RW,
            MAP_SHARED,
            engine.fd(),
            out.mmap_offset,
        );
        refused("mmap by a child", ret, &[Errno::EPERM])
    })?;
    let mut ring = Ring::map(engine.fd(), &out)?;
    check_ret!(
        "getpid",
        ring.result(call!(SYS_getpid))?,
        std::process::id()
    );
    Ok(())
}

fn mapping_does_not_grow() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let (base, len) = ring.base();
    let ret = plain!(SYS_mremap, base, len, len + PAGE_SIZE, libc::MREMAP_MAYMOVE);
    check!(ret < 0 && ret > -4096, "mremap enlarged the mapping");
    check_ret!(
        "getpid",
        ring.result(call!(SYS_getpid))?,
        std::process::id()
    );
    Ok(())
}

fn mapping_starts_zeroed() -> Check {
    let engine = Engine::open()?;
    for round in 0..4 {
        let ring = engine.ring(8)?;
        let (base, len) = ring.base();
        // The kernel owns the idle flag and may set it from the start.
        let idle = 72 + 8..72 + 12;
        for at in 0..len {
            let byte = memory::peek(base.wrapping_add(at));
            let is_flags = at < 8 * 128 && idle.contains(&(at % 128));
            check!(
                byte == 0 || is_flags,
                "round {round}: byte {at} of fresh pages is {byte:#x}"
            );
        }
        for slot in 0..ring.capacity() {
            ring.stage(
                slot,
                &call!(SYS_getpid, -1i64, -1i64, -1i64, -1i64, -1i64, -1i64),
            );
        }
        check_eq!("UNREGISTER", ring.unregister(), Ok(0));
    }
    Ok(())
}

fn memory_outlives_unregister() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    check_eq!("UNREGISTER", ring.unregister(), Ok(0));
    // A program may go on posting: this does no harm, and nothing is executed.
    let slot = ring.post(call!(SYS_getpid));
    check_eq!(
        "WAIT",
        ring.wait(crate::kit::abi::Policy::None),
        Err(Errno::ENOENT)
    );
    check_eq!("KICK", ring.kick(), Err(Errno::ENOENT));
    check!(
        !ring.is_taken(slot) && !ring.is_done(slot),
        "executed: {}",
        ring.show(slot)
    );
    // The old mapping does not affect a new registration.
    let mut other = engine.ring(1)?;
    check_ret!(
        "getpid",
        other.result(call!(SYS_getpid))?,
        std::process::id()
    );
    check!(!ring.is_done(slot), "executed: {}", ring.show(slot));
    Ok(())
}

fn mapping_not_inherited() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let (at, len) = ring.base();
    for (advice, want) in [
        (libc::MADV_DOFORK, -i64::from(libc::EINVAL)),
        (libc::MADV_DONTFORK, 0),
        (libc::MADV_DOFORK, -i64::from(libc::EINVAL)),
    ] {
        check_ret!("madvise", plain!(SYS_madvise, at, len, advice), want);
    }
    in_child(|| {
        let mut resident = [0u8; 64];
        let ret = plain!(SYS_mincore, at, len, resident.as_mut_ptr());
        check_ret!("mincore in the child", ret, -libc::ENOMEM);
        Ok(())
    })?;
    check_ret!(
        "getpid",
        ring.result(call!(SYS_getpid))?,
        std::process::id()
    );
    Ok(())
}

fn mapping_in_debugger() -> Check {
    let engine = Engine::open()?;
    // Not the first registration, so that the offset in the file matters.
    let _first = engine.ring(1)?;
    let ring = engine.ring(3)?;
    let (at, len) = ring.base();
    let file = ok!("open", sys::open(c"/proc/self/mem", libc::O_RDWR, 0));
    // The whole mapping, a part across pages, the last byte.
    for (offset, size) in [(0, len), (PAGE_SIZE - 3, 7), (len - 1, 1)] {
        let bytes: Vec<u8> = (0..size).map(|i| (i * 7 + offset) as u8 | 1).collect();
        let place = at as u64 + offset as u64;
        let ret = plain!(SYS_pwrite64, &file, bytes.as_ptr(), size, place);
        check_ret!("pwrite64", ret, size as i64);
        for (i, byte) in bytes.iter().enumerate() {
            check_eq!("byte", memory::peek(at.wrapping_add(offset + i)), *byte);
        }
        let mut seen = vec![0u8; size];
        let ret = plain!(SYS_pread64, &file, seen.as_mut_ptr(), size, place);
        check_ret!("pread64", ret, size as i64);
        check!(
            seen == bytes,
            "the bytes read differ from the bytes written"
        );
    }
    let mut seen = [0u8; 1];
    // The second part, after the first one has gone.
    let half = PAGE_SIZE;
    let rest = at.wrapping_add(half);
    memory::fill(rest, 1, 0x5a);
    ok!("munmap", sys::munmap(ring.leak().0, half));
    let ret = plain!(SYS_pread64, &file, seen.as_mut_ptr(), 1, rest as u64);
    check_ret!("pread64", ret, 1);
    check_eq!("byte", seen[0], 0x5a);
    ok!("munmap", sys::munmap(rest, len - half));
    Ok(())
}
