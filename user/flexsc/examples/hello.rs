// SPDX-License-Identifier: MIT OR Apache-2.0
//! Posts two system calls, waits once, prints both results.
use flexsc::{Engine, Error, Wait, calls};

fn main() -> Result<(), Error> {
    let engine = Engine::open()?;
    let mut pages = engine.register(1)?;

    let text = b"hello from a syscall page\n";
    // SAFETY: getppid() touches no memory.
    let who = unsafe { pages.stage(calls::getppid()) };
    // SAFETY: `text` lives longer than the call.
    let write = unsafe { pages.stage(calls::write(1, text.as_ptr().cast(), text.len())) };

    pages.wait(Wait::all())?;
    while let Some(done) = pages.poll() {
        if Some(done.slot) == who {
            println!("getppid() = {:?}", done.io());
        } else if Some(done.slot) == write {
            println!("write()   = {:?}", done.io());
        }
    }
    Ok(())
}
