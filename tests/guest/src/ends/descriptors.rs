// SPDX-License-Identifier: MIT OR Apache-2.0
//! The descriptor and the mapping are closed while the process lives on.

use std::os::fd::AsRawFd;

use nix::errno::Errno;

use super::state::{Flight, Load, State};
use super::{in_every_state, in_states, stay};
use crate::check::Check;
use crate::kit::abi::Policy;
use crate::kit::child::{Child, Link};
use crate::kit::engine::{self, Engine};
use crate::kit::files::socket_pair;
use crate::kit::mode::Mode;
use crate::kit::{process, scm, sys, until};

tests! { "ends":
    close_then_unmap => "the descriptor is closed, then the pages are unmapped";
    unmap_then_close => "the pages are unmapped, then the descriptor is closed";
    close_by_entries => "entries unmap the pages and close the descriptor they came through";
    close_duplicate => "the last descriptor is a duplicate that another thread closes";
    close_by_other_process => "the last descriptor is one that was passed to another process";
    kill_while_passed => "kill -9 while another process holds the descriptor";
    owner_thread_ends => "the owning thread ends, and the process goes on";
    end_well => "all calls end by themselves: without this, no other ending would prove anything";
}

/// The engine lives on without this reference, because its threads exist.
fn check_alive(what: &str) -> Check {
    let tasks = process::tasks(std::process::id() as i32).len();
    check!(tasks > 1, "{what}: only one thread is left");
    Ok(())
}

fn close_then_unmap() -> Check {
    let inside = |flight: Flight, _: &Link| {
        let mut parts = flight.into_parts();
        parts.close()?;
        check_alive("closed, but mapped")?;
        parts.unmap()?;
        parts.stop_threads()?;
        parts.gone()
    };
    in_every_state(|life| life.run(inside, Child::join))
}

fn unmap_then_close() -> Check {
    let inside = |flight: Flight, _: &Link| {
        let mut parts = flight.into_parts();
        parts.unmap()?;
        check_alive("unmapped, but open")?;
        parts.stop_threads()?;
        parts.close()?;
        parts.gone()
    };
    in_every_state(|life| life.run(inside, Child::join))
}

fn close_by_entries() -> Check {
    let inside = |mut flight: Flight, _: &Link| {
        let mut calls = vec![call!(SYS_close, flight.engine.fd())];
        let unmap = |(at, len)| call!(SYS_munmap, at, len);
        calls.extend(flight.mappings().into_iter().map(unmap));
        if flight.state.load == Load::Queued {
            // Otherwise no thread would execute the close and the munmap.
            flight.stock.release()?;
        }
        flight.ring.post_all(&calls);
        // The result does not matter: the engine may be gone already.
        match flight.state.mode {
            Mode::Inline => drop(flight.ring.wait(Policy::None)),
            Mode::Async | Mode::Kick | Mode::Poller => drop(flight.ring.kick()),
        }
        let mut parts = flight.into_parts();
        until("the descriptor closed by an entry", || {
            plain!(SYS_fcntl, parts.fd, libc::F_GETFD) == -i64::from(libc::EBADF)
        })?;
        for &(at, len) in &parts.mappings {
            until("the pages unmapped by an entry", || {
                let mut resident = [0u8; 64];
                plain!(SYS_mincore, at, len, resident.as_mut_ptr()) == -i64::from(libc::ENOMEM)
            })?;
        }
        parts.stop_threads()?;
        parts.gone()
    };
    in_every_state(|life| life.run(inside, Child::join))
}

fn close_duplicate() -> Check {
    let inside = |flight: Flight, _: &Link| {
        let mut parts = flight.into_parts();
        let copy = plain!(SYS_dup, parts.fd);
        parts.close()?;
        parts.unmap()?;
        parts.stop_threads()?;
        check_alive("a duplicate is open")?;
        let closed = std::thread::spawn(move || plain!(SYS_close, copy));
        check_ret!("close", closed.join().expect("no panic"), 0);
        parts.gone()
    };
    in_every_state(|life| life.run(inside, Child::join))
}

fn close_by_other_process() -> Check {
    in_every_state(|life| {
        let (here, there) = socket_pair()?;
        let inside = |flight: Flight, link: &Link| {
            let mut parts = flight.into_parts();
            scm::send_fd(&there, parts.fd)?;
            parts.close()?;
            parts.unmap()?;
            parts.stop_threads()?;
            check_alive("another process has the descriptor")?;
            link.ready();
            // Keeps the buffers of the calls until no thread executes them any more.
            parts.gone()
        };
        life.run(inside, |mut child| {
            let held = scm::receive_fd(&here)?;
            child.wait_ready()?;
            let refused = engine::query(held.as_raw_fd()).map(|stats| stats.pages);
            check_eq!("QUERY by another process", refused, Err(Errno::EPERM));
            drop(held);
            child.join()
        })
    })
}

fn kill_while_passed() -> Check {
    in_every_state(|life| {
        let (here, there) = socket_pair()?;
        let inside = |flight: Flight, link: &Link| {
            scm::send_fd(&there, flight.engine.fd())?;
            stay(flight, link)
        };
        life.run(inside, |child| {
            let held = scm::receive_fd(&here)?;
            child.kill()?;
            let refused = engine::query(held.as_raw_fd()).map(|stats| stats.pages);
            check_eq!(
                "QUERY on a dead process's engine",
                refused,
                Err(Errno::EPERM)
            );
            Ok(())
        })
    })
}

fn owner_thread_ends() -> Check {
    let inside = |mut flight: Flight, _: &Link| {
        let Some(owner) = flight.owner.take() else {
            return flight.end();
        };
        let (id, (at, len)) = (owner.id(), owner.mapping());
        owner.stop()?;
        // Calls that have begun end normally, and the rest of the engine is not affected.
        let engine = Engine::from_fd(sys::own(plain!(SYS_dup, flight.engine.fd()) as i32));
        flight.stock.release()?;
        until("UNREGISTER after the owner's end", || {
            engine.unregister(id) == Ok(0)
        })?;
        ok!("munmap", sys::munmap(at, len));
        drop(engine);
        flight.end()
    };
    in_states(State::has_owner, |life| life.run(inside, Child::join))
}

fn end_well() -> Check {
    in_every_state(|life| life.run(|flight, _| flight.end(), Child::join))
}
