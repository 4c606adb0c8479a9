// SPDX-License-Identifier: MIT OR Apache-2.0
//! A program that uses threads as Rust programs do. The tests compare its output with and
//! without the library.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::panic;
use std::process::Command;
use std::sync::{Arc, Barrier, Condvar, Mutex, OnceLock, RwLock, mpsc};
use std::thread;
use std::time::Duration;

struct Noisy(mpsc::Sender<u32>, u32);

impl Drop for Noisy {
    fn drop(&mut self) {
        self.0.send(self.1).expect("the receiver waits");
    }
}

thread_local! {
    static LAST: RefCell<Option<Noisy>> = const { RefCell::new(None) };
}

fn destructors() {
    let (send, receive) = mpsc::channel();
    let threads: Vec<_> = (1..=10)
        .map(|number| {
            let send = send.clone();
            thread::spawn(move || LAST.set(Some(Noisy(send, number))))
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    drop(send);
    println!("destructors: {}", receive.iter().sum::<u32>());
}

fn panics() {
    panic::set_hook(Box::new(|_| {}));
    let thread = thread::spawn(|| -> u32 { panic!("planted") });
    let error = thread.join().expect_err("it panics");
    println!("panic: {:?}", error.downcast_ref::<&str>());
    let _ = panic::take_hook();
}

fn locks() {
    static ONCE: OnceLock<u32> = OnceLock::new();
    let (pair, lock) = (Arc::new((Mutex::new(0), Condvar::new())), RwLock::new(0));
    let barrier = Barrier::new(8);
    thread::scope(|scope| {
        for number in 0..8 {
            let (pair, lock, barrier) = (&pair, &lock, &barrier);
            scope.spawn(move || {
                barrier.wait();
                ONCE.get_or_init(|| 7);
                for _ in 0..1000 {
                    *lock.write().expect("no panic") += 1;
                }
                let mut turn = pair.0.lock().expect("no panic");
                while *turn != number {
                    turn = pair.1.wait(turn).expect("no panic");
                }
                *turn += 1;
                pair.1.notify_all();
            });
        }
    });
    println!(
        "locks: {:?} {:?} {:?}",
        pair.0.lock(),
        lock.read(),
        ONCE.get()
    );
}

fn network() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = thread::spawn(move || -> std::io::Result<u32> {
        let mut sum = 0;
        for stream in listener.incoming().take(5) {
            let mut byte = [0];
            let mut stream = stream?;
            stream.read_exact(&mut byte)?;
            stream.write_all(&[byte[0] * 2])?;
            sum += u32::from(byte[0]);
        }
        Ok(sum)
    });
    for number in 1..=5 {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.write_all(&[number])?;
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        println!("answer: {}", byte[0]);
    }
    println!("server: {:?}", server.join().expect("no panic"));
    Ok(())
}

fn main() -> std::io::Result<()> {
    destructors();
    panics();
    locks();
    network()?;
    let output = Command::new("echo").arg("a child").output()?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    let sleeper = thread::spawn(|| thread::park_timeout(Duration::from_millis(5)));
    sleeper.thread().unpark();
    sleeper.join().expect("no panic");
    thread::sleep(Duration::from_millis(1));
    Ok(())
}
