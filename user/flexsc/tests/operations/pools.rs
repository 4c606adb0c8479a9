// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations that the threads of a pool execute.

use std::fs::File;

use flexsc::ops::{Fstat, InPool, OFlag, OpenAt, Operation, Read};
use flexsc::{Engine, Fd, PoolParam, Ring, Wait};

use super::{TempDir, assert_errno, ring, run};

#[test]
fn threads_of_the_pool_execute_it() {
    let Ok(engine) = Engine::open() else {
        let (count, _) = run(&mut ring(), zeros().in_pool(1));
        assert_eq!(count.unwrap(), 4);
        return;
    };
    engine.set_pool(1, PoolParam::Concurrency, 1).unwrap();
    let mut ring = Ring::new(engine.register(1).unwrap()).unwrap_or_else(|(_, error)| {
        panic!("{error}");
    });
    let executed = || engine.stats().unwrap();
    let before = executed();
    let (count, buf) = run(&mut ring, zeros().in_pool(1));
    assert_eq!((count.unwrap(), buf), (4, vec![0; 4]));
    let between = executed();
    assert_eq!(between.inline_done - before.inline_done, 0);
    run(&mut ring, zeros()).0.unwrap();
    assert_eq!(executed().inline_done - between.inline_done, 1);
}

#[test]
fn a_chain_goes_to_the_pool_as_a_whole() {
    let Ok(engine) = Engine::open() else { return };
    engine.set_pool(1, PoolParam::Concurrency, 1).unwrap();
    let mut ring = Ring::new(engine.register(1).unwrap()).unwrap_or_else(|(_, error)| {
        panic!("{error}");
    });
    let dir = TempDir::new();
    std::fs::write(dir.join("file"), "text").unwrap();
    let before = engine.stats().unwrap();
    let open = OpenAt::new(Fd::cwd(), dir.path("file"), OFlag::O_RDONLY);
    let then = (
        Fstat::new(Fd::opened()),
        Read::new(Fd::opened(), vec![0; 16]),
    );
    let (opened, _path, (stat, (count, _))) = run(&mut ring, open.then(then).in_pool(1));
    opened.unwrap();
    assert_eq!((stat.unwrap().st_size, count.unwrap()), (4, 4));
    assert_eq!(engine.stats().unwrap().inline_done - before.inline_done, 0);
}

#[test]
fn a_pool_that_does_not_exist_is_an_error() {
    let Ok(engine) = Engine::open() else { return };
    let mut ring = Ring::new(engine.register(1).unwrap()).unwrap_or_else(|(_, error)| {
        panic!("{error}");
    });
    ring.submit(zeros().in_pool(9), 0).unwrap();
    ring.wait(Wait::all()).unwrap();
    let done = ring.next().unwrap();
    let (count, buf) = done.output::<InPool<Read>>();
    assert_errno(count, libc::EINVAL);
    assert_eq!(buf.capacity(), 4);
}

fn zeros() -> Read {
    let zero: Fd = File::open("/dev/zero").unwrap().into();
    Read::new(&zero, vec![0; 4])
}
