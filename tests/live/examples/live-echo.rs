// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads and writes in a loop through the thin layer, so that a tracer can attach and detach
//! meanwhile: echoes lines from standard input to standard output and ends with the number of
//! plain calls.

use std::os::fd::AsRawFd;

use flexsc::{Engine, Pages, Wait, calls};

/// Executes one call and returns its result.
fn execute(pages: &mut Pages, call: flexsc::Call) -> Result<usize, Box<dyn std::error::Error>> {
    // SAFETY: the memory of the callers' calls lives until this function has their results.
    let slot = unsafe { pages.stage(call) };
    pages.wait(Wait::all())?;
    let done = pages.poll().ok_or("no result")?;
    if Some(done.slot) != slot {
        return Err("the result of another call".into());
    }
    Ok(usize::try_from(done.io()?)?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::open()?;
    let mut pages = engine.register(1)?;
    let (input, output) = (std::io::stdin().as_raw_fd(), std::io::stdout().as_raw_fd());
    let mut line = [0u8; 256];
    loop {
        let read = calls::read(input, line.as_mut_ptr().cast(), line.len());
        let mut rest = &line[..execute(&mut pages, read)?];
        if rest.is_empty() {
            break;
        }
        while !rest.is_empty() {
            let write = calls::write(output, rest.as_ptr().cast(), rest.len());
            rest = &rest[execute(&mut pages, write)?..];
        }
    }
    println!("plain calls: {}", pages.fallbacks());
    Ok(())
}
