// SPDX-License-Identifier: MIT OR Apache-2.0
//! Descriptor and mapping are closed, in any order and by any thread.

use std::os::fd::AsRawFd;

use nix::errno::Errno;

use super::{Busy, end_in_turn};
use crate::check::Check;
use crate::kit::abi::Policy;
use crate::kit::child::spawn;
use crate::kit::engine::{self, Engine};
use crate::kit::files::socket_pair;
use crate::kit::mode::{Mode, in_modes};
use crate::kit::{chances, process, rounds, scm, sys};

tests! { "life":
    close_in_flight => "close of the descriptor with calls in flight: the mapping keeps the engine";
    unmap_in_flight => "munmap with calls in flight: the descriptor keeps the engine";
    both_in_flight => "munmap and close with calls in flight end them; the process lives on";
    close_by_entry => "an entry closes the engine's own descriptor";
    unmap_by_entry => "an entry unmaps the pages it came from";
    both_by_entries => "entries unmap the pages and close the descriptor";
    unmap_then_close => "munmap first, close later, and the other way round, again and again";
    duplicate_descriptor => "a duplicate of the descriptor keeps the engine alive";
    passed_descriptor => "a process to which the descriptor was passed can do nothing with it";
    holder_survives => "another process still holds the descriptor when its owner dies";
    open_close_by_entries => "entries open and close the device";
}

fn close_in_flight() -> Check {
    let base = process::refcnt();
    for mode in Mode::ALL {
        let Busy {
            engine,
            mut ring,
            reads,
            slots,
            to,
            _from,
        } = Busy::start(mode)?;
        let fd = engine.fd();
        drop(engine);
        check_ret!(
            "the closed descriptor",
            plain!(SYS_fcntl, fd, libc::F_GETFD),
            -libc::EBADF
        );
        reads.release(&to)?;
        ring.poll_until_done(&slots)?;
        for slot in slots {
            check_ret!("read", ring.reap(slot).result, 2);
        }
        reads.check()?;
        drop(ring);
        process::until_tasks(1)?;
        process::until_refcnt(base)?;
    }
    Ok(())
}

fn unmap_in_flight() -> Check {
    for mode in Mode::ALL {
        let Busy {
            engine,
            ring,
            reads,
            to,
            _from,
            ..
        } = Busy::start(mode)?;
        let id = ring.id;
        ok!("munmap", ring.unmap());
        // The registration goes on without its mapping.
        check_eq!("UNREGISTER", engine.unregister(id), Err(Errno::EBUSY));
        let mut other = engine.ring(1)?;
        check_ret!(
            "getpid",
            other.result(call!(SYS_getpid))?,
            std::process::id()
        );
        reads.release(&to)?;
        crate::kit::until("UNREGISTER", || engine.unregister(id) == Ok(0))?;
        reads.check()?;
        drop(other);
        drop(engine);
        process::until_tasks(1)?;
    }
    Ok(())
}

fn both_in_flight() -> Check {
    let base = process::refcnt();
    for mode in Mode::ALL {
        for round in 0..rounds(3) {
            let Busy {
                engine,
                ring,
                reads,
                to,
                _from,
                ..
            } = Busy::start(mode)?;
            if round % 2 == 0 {
                drop(engine);
                ok!("munmap", ring.unmap());
            } else {
                ok!("munmap", ring.unmap());
                drop(engine);
            }
            process::until_tasks(1)?;
            process::until_refcnt(base)?;
            // No call reads any more: the bytes written now stay in the pipe.
            reads.release(&to)?;
            let mut waiting = 0i32;
            let at = std::ptr::from_mut(&mut waiting);
            check_ret!("FIONREAD", plain!(SYS_ioctl, &_from, libc::FIONREAD, at), 0);
            let bytes = 2 * reads.words.len();
            check_eq!("bytes in the pipe", waiting as usize, bytes);
        }
    }
    Ok(())
}

fn close_by_entry() -> Check {
    let base = process::refcnt();
    for mode in Mode::ALL {
        for _ in 0..rounds(3) {
            let (engine, mut ring) = mode.start(1)?;
            let fd = engine.fd();
            let slot = ring.post(call!(SYS_close, fd));
            // If the call was already made, there is no engine left to call.
            match mode {
                Mode::Inline | Mode::Async => drop(ring.wait(Policy::All)),
                Mode::Kick | Mode::Poller => drop(ring.kick()),
            }
            ring.poll_until_done(&[slot])?;
            let result = ring.reap(slot).result;
            check_ret!(format!("close, mode {mode:?}"), result, 0);
            check_eq!(
                "QUERY",
                engine::query(fd).map(|s| s.pages),
                Err(Errno::EBADF)
            );
            std::mem::forget(engine);
            drop(ring);
            process::until_tasks(1)?;
            process::until_refcnt(base)?;
        }
    }
    Ok(())
}

fn unmap_by_entry() -> Check {
    let base = process::refcnt();
    for mode in Mode::ALL {
        for _ in 0..rounds(3) {
            let (engine, mut ring) = mode.start(1)?;
            let id = ring.id;
            let (at, len) = ring.base();
            ring.post(call!(SYS_munmap, at, len));
            if mode == Mode::Inline || mode == Mode::Async {
                // No thread can read the result any more.
                let ret = ring.wait(Policy::All);
                check!(ret.is_ok(), "WAIT without a mapping: {ret:?}");
            } else if mode == Mode::Kick {
                ring.kicked()?;
            }
            ring.leak();
            crate::kit::until("the pages unmapped", || {
                let mut resident = [0u8; 64];
                let out = resident.as_mut_ptr();
                plain!(SYS_mincore, at, len, out) == -i64::from(libc::ENOMEM)
            })?;
            crate::kit::until("UNREGISTER", || engine.unregister(id) == Ok(0))?;
            drop(engine);
            process::until_tasks(1)?;
            process::until_refcnt(base)?;
        }
    }
    Ok(())
}

fn both_by_entries() -> Check {
    let base = process::refcnt();
    for mode in Mode::ALL {
        for round in 0..rounds(4) {
            let (engine, mut ring) = mode.start(1)?;
            let (at, len) = ring.base();
            let (close, unmap) = (call!(SYS_close, engine.fd()), call!(SYS_munmap, at, len));
            let mut calls = vec![call!(SYS_getpid); 10];
            calls.insert(3, if round % 2 == 0 { close } else { unmap });
            calls.insert(7, if round % 2 == 0 { unmap } else { close });
            ring.post_all(&calls);
            let fd = engine.fd();
            // The result of WAIT does not matter: its engine may be gone already.
            match mode {
                Mode::Inline | Mode::Async => drop(ring.wait(Policy::All)),
                Mode::Kick => drop(ring.kick()),
                Mode::Poller => {}
            }
            ring.leak();
            std::mem::forget(engine);
            crate::kit::until("the descriptor closed", || {
                plain!(SYS_fcntl, fd, libc::F_GETFD) == -i64::from(libc::EBADF)
            })?;
            process::until_tasks(1)?;
            process::until_refcnt(base)?;
        }
    }
    Ok(())
}

fn unmap_then_close() -> Check {
    let base = process::refcnt();
    for round in 0..chances(60) {
        let (engine, mut ring) = Mode::ALL[round as usize % 3].start(1 + round % 5)?;
        check_ret!(
            "getpid",
            ring.result(call!(SYS_getpid))?,
            std::process::id()
        );
        end_in_turn(round, engine, ring);
    }
    process::until_tasks(1)?;
    process::until_refcnt(base)
}

fn duplicate_descriptor() -> Check {
    let base = process::refcnt();
    let (engine, mut ring) = Mode::Inline.start(1)?;
    let copy = plain!(SYS_dup, engine.fd()) as i32;
    let copy = Engine::from_fd(sys::own(copy));
    drop(engine);
    check_eq!("pages", copy.stats()?.pages, 1);
    let mut again = copy.ring(1)?;
    check_ret!(
        "getpid",
        again.result(call!(SYS_getpid))?,
        std::process::id()
    );
    // The first ring knows only the closed number.
    check_eq!(
        "WAIT on the closed descriptor",
        ring.wait(Policy::None),
        Err(Errno::EBADF)
    );
    ring.post(call!(SYS_getpid));
    drop((ring, again, copy));
    process::until_tasks(1)?;
    process::until_refcnt(base)
}

fn passed_descriptor() -> Check {
    let (here, there) = socket_pair()?;
    let mut child = spawn(|link| {
        link.ready();
        let engine = Engine::from_fd(scm::receive_fd(&there)?);
        check_eq!(
            "QUERY",
            engine::query(engine.fd()).map(|s| s.pages),
            Err(Errno::EPERM)
        );
        check_eq!(
            "REGISTER",
            engine.register(1).map(|r| r.id),
            Err(Errno::EPERM)
        );
        check_eq!("UNREGISTER", engine.unregister(0), Err(Errno::EPERM));
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let ret = sys::mmap(8192, prot, libc::MAP_SHARED, engine.fd(), 0);
        check_eq!("mmap", ret.map(|_| ()), Err(Errno::EPERM));
        Ok(())
    })?;
    child.wait_ready()?;
    let busy = Busy::start(Mode::Inline)?;
    scm::send_fd(&here, busy.engine.fd())?;
    child.join()?;
    busy.end()
}

fn holder_survives() -> Check {
    let base = process::refcnt();
    for mode in Mode::ALL {
        let (here, there) = socket_pair()?;
        let mut owner = spawn(|link| {
            let mut busy = Busy::start(mode)?;
            busy.call()?;
            scm::send_fd(&there, busy.engine.fd())?;
            link.ready();
            link.wait_go()
        })?;
        owner.wait_ready()?;
        let held = scm::receive_fd(&here)?;
        owner.kill()?;
        let ret = engine::query(held.as_raw_fd()).map(|s| s.pages);
        check_eq!("QUERY on a dead process's engine", ret, Err(Errno::EPERM));
        drop(held);
        process::until_refcnt(base)?;
    }
    Ok(())
}

fn open_close_by_entries() -> Check {
    let base = process::refcnt();
    in_modes(1, |_, ring| {
        let open = call!(SYS_openat, libc::AT_FDCWD, engine::DEVICE, libc::O_RDWR);
        for _ in 0..5 {
            let fds: Vec<i64> = ring.run_all(&[open; 8])?.iter().map(|d| d.result).collect();
            check!(fds.iter().all(|&fd| fd > 2), "open by entries: {fds:?}");
            let another = Engine::from_fd(sys::own(fds[0] as i32));
            let mut inner = another.ring(1)?;
            check_ret!(
                "getpid",
                inner.result(call!(SYS_getpid))?,
                std::process::id()
            );
            for &fd in &fds[1..] {
                check_ret!("close", ring.result(call!(SYS_close, fd))?, 0);
            }
        }
        Ok(())
    })?;
    process::until_tasks(1)?;
    process::until_refcnt(base)
}
