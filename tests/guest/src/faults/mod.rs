// SPDX-License-Identifier: MIT OR Apache-2.0
//! Failure injection: each operation that can fail fails once.

pub mod calls;
pub mod reclaim;
pub mod threads;

use nix::errno::Errno;

use crate::check::Check;
use crate::kit::engine::Engine;
use crate::kit::ring::Ring;

/// Checks the outcome of a call in which a failure may have been injected.
fn check_outcome<T>(outcome: &Result<T, Errno>, injected: bool, documented: &[Errno]) -> Check {
    match outcome {
        Ok(_) => Ok(()),
        Err(error) if injected && documented.contains(error) => Ok(()),
        Err(error) if injected => fail!("{error:?}, the documented errors are {documented:?}"),
        Err(error) => fail!("{error:?} without any failure"),
    }
}

/// An engine with a registration of one page.
fn one_page() -> Check<(Engine, Ring)> {
    let engine = Engine::open()?;
    let ring = engine.ring(1)?;
    Ok((engine, ring))
}

/// Closes the descriptors that pipe2() returned.
fn close_both(pair: &[i32; 2]) {
    for &fd in pair {
        plain!(SYS_close, fd);
    }
}

/// Prints how many failures were tried, so that a sweep without any shows.
fn swept(what: &str, failures: u32, at_least: u32) -> Check {
    println!("# {what}: {failures} failures injected");
    check!(
        failures >= at_least,
        "{what}: {failures} chances to fail, expected {at_least} or more"
    );
    Ok(())
}

/// Checks that the engine does everything that engines do.
fn check_sound(engine: &Engine, ring: &mut Ring) -> Check {
    let pid = std::process::id();
    for call in [call!(SYS_getpid), call!(SYS_getpid).asynchronous()] {
        for done in ring.run_all(&[call; 4])? {
            check_ret!("getpid after a failure", done.result, pid);
        }
    }
    let mut other = engine.ring(1)?;
    check_ret!("getpid", other.result(call!(SYS_getpid))?, pid);
    check_eq!("UNREGISTER", other.unregister(), Ok(0));
    Ok(())
}
