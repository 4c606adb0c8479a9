// SPDX-License-Identifier: MIT OR Apache-2.0
//! Futures that are dropped while their operation is in flight.

use super::*;

/// Starts a read of a socket that has nothing to read.
fn blocked_read(reactor: &Reactor, near: &Fd) -> (impl Future + Unpin + use<>, Arc<AtomicBool>) {
    let (buf, alive) = Watched::new();
    let mut read = reactor.submit(Read::new(near, buf));
    assert!(poll(&mut read).is_pending());
    (read, alive)
}

#[test]
fn the_buffer_lives_until_the_kernel_has_finished() {
    let reactor = reactor();
    let (near, far) = pair();
    let (read, alive) = blocked_read(&reactor, &near);
    reactor.wait(Wait::none()).unwrap();
    drop(read);
    // The result was not taken, so the kernel may still write.
    assert!(alive.load(Ordering::Relaxed));
    assert_eq!(reactor.in_flight(), 1);
    reactor.wait(Wait::all().timeout(PATIENCE)).unwrap();
    assert!(!alive.load(Ordering::Relaxed));
    assert_eq!(reactor.in_flight(), 0);
    // The cancelled read has taken nothing.
    std::io::Write::write_all(&mut &far, b"later").unwrap();
    let (count, buf) = finish(&reactor, reactor.submit(Read::new(&near, vec![0; 8])));
    assert_eq!(&buf[..count.unwrap()], b"later");
}

#[test]
fn an_operation_that_was_not_started_never_is() {
    let reactor = reactor();
    let (near, _far) = pair();
    let (read, alive) = blocked_read(&reactor, &near);
    drop(read);
    assert_eq!(reactor.wait(Wait::none()), Ok(1));
    assert!(!alive.load(Ordering::Relaxed));
    assert_eq!(reactor.in_flight(), 0);
}

#[test]
fn a_reactor_goes_with_its_last_future() {
    let reactor = reactor();
    let (near, _far) = pair();
    let (read, alive) = blocked_read(&reactor, &near);
    reactor.wait(Wait::none()).unwrap();
    drop(reactor);
    assert!(alive.load(Ordering::Relaxed));
    drop(read);
    assert!(!alive.load(Ordering::Relaxed));
}

#[test]
fn a_connection_that_nobody_takes_is_closed() {
    let path = std::env::temp_dir().join(format!("flexsc-dropped-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let listener = Fd::from(listener);
    let reactor = reactor();
    let mut accept = reactor.submit(Accept4::new(&listener));
    assert!(poll(&mut accept).is_pending());
    reactor.wait(Wait::none()).unwrap();
    let peer = UnixStream::connect(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    reactor.wait(Wait::any().timeout(PATIENCE)).unwrap();
    // The connection is accepted, and the program has not seen it.
    drop(accept);
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let end = std::io::Read::read(&mut &peer, &mut [0; 8]).unwrap();
    assert_eq!(end, 0);
}

#[test]
fn whoever_waits_for_room_gets_that_of_a_dropped_one() {
    let reactor = reactor();
    let (near, _far) = pair();
    let blocked: Vec<_> = (0..64).map(|_| blocked_read(&reactor, &near)).collect();
    assert_eq!(reactor.in_flight(), 64);
    let stat = || Box::pin(reactor.submit(Fstat::new(Fd::cwd())));
    let (mut first, mut second, mut third) = (stat(), stat(), stat());
    for stat in [&mut first, &mut second, &mut third] {
        assert!(poll(stat).is_pending());
        assert!(format!("{stat:?}").contains("waits for room"));
    }
    // One is dropped while it waits, another when it is its turn.
    drop(first);
    drop(blocked);
    reactor.wait(Wait::any().timeout(PATIENCE)).unwrap();
    drop(second);
    finish(&reactor, third).unwrap_err();
    until("the room of all", || {
        reactor.wait(Wait::none()).unwrap();
        reactor.in_flight() == 0
    });
}

/// Reads that lose a race against time, over and over, while bytes arrive: every byte is either
/// read or still there, and no buffer is freed too early.
#[test]
fn races_lose_only_what_a_dropped_read_has_taken() {
    let executor = executor();
    let reactor = executor.reactor().clone();
    let (near, far) = pair();
    let writer = thread::spawn(move || {
        for number in 0..100_u8 {
            std::io::Write::write_all(&mut &far, &[number; 4]).unwrap();
            thread::sleep(Duration::from_micros(u64::from(number) * 7 % 300));
        }
        far.shutdown(Shutdown::Write).unwrap();
    });
    let (mut last, mut races) = (0, 0_u32);
    executor
        .block_on(async {
            loop {
                let time = Duration::from_micros(u64::from(races * 53 % 400));
                races += 1;
                let read = reactor.submit(Read::new(&near, vec![255; 4]));
                match race(read, reactor.submit(Sleep::new(time))).await {
                    Ok((Ok(0), _)) => break,
                    Ok((count, buf)) => {
                        let count = count.unwrap();
                        // The bytes of one write, in their order.
                        assert!(buf[0] >= last && buf[..count].is_sorted(), "{buf:?}");
                        assert!(buf[count..].iter().all(|&byte| byte == 255));
                        last = buf[count - 1];
                    }
                    Err(slept) => slept.unwrap(),
                }
                assert!(races < 1_000_000);
            }
        })
        .unwrap();
    writer.join().unwrap();
}
