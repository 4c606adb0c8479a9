// SPDX-License-Identifier: MIT OR Apache-2.0
//! Everything at once: several processes, each with several threads that own pages, random calls,
//! waits and settings, and a random end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::check::{Check, Failure, Ret};
use crate::ends::baseline::Baseline;
use crate::ends::state::gone;
use crate::kit::abi::{Param, Policy, REASON_NONE, Wait};
use crate::kit::child::{Child, End, Link, spawn};
use crate::kit::engine::Engine;
use crate::kit::files::pipe;
use crate::kit::limits::poller_cpu;
use crate::kit::mode::Mode;
use crate::kit::ring::{Call, Done, Ring};
use crate::kit::{Random, chances, patience, sys};
use crate::life::exec::execute;

tests! { "soak":
    mixed => "processes, threads, pages, calls, policies, settings and endings at random";
}

/// How a process of the soak test ends.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// All calls end, and everything is given back.
    Well,
    /// The threads end with calls in flight. Mappings and descriptor are closed, the process stays.
    Leave,
    Exit,
    Exec,
    Kill,
    Terminate,
    StopAndKill,
}

const ENDINGS: [Ending; 7] = [
    Ending::Well,
    Ending::Leave,
    Ending::Exit,
    Ending::Exec,
    Ending::Kill,
    Ending::Terminate,
    Ending::StopAndKill,
];

/// The result that a posted call must have.
#[derive(Clone, Copy, Debug)]
enum Expect {
    Exactly(i64),
    Word,
    Descriptor,
}

/// The pages of one thread and the calls posted there.
struct Member {
    ring: Ring,
    random: Random,
    posted: Vec<Option<Expect>>,
    words: Vec<AtomicU16>,
    /// Words that blocked reads wait for.
    owed: u16,
    from: std::os::fd::OwnedFd,
    to: std::os::fd::OwnedFd,
    zeros: *mut u8,
    nap: Box<[i64; 2]>,
}

const ZEROS: usize = 32 * 1024;

impl Member {
    fn new(engine: &Engine, mut random: Random) -> Check<Member> {
        let mut ring = engine.ring(1 + random.below(2) as u32)?;
        ring.mode = Mode::ALL[random.below(3) as usize];
        let (from, to) = pipe()?;
        Ok(Member {
            posted: vec![None; ring.capacity()],
            words: (0..ring.capacity()).map(|_| AtomicU16::new(0)).collect(),
            owed: 0,
            from,
            to,
            zeros: crate::kit::memory::pages(ZEROS)?,
            nap: Box::new([0, 1_000_000]),
            ring,
            random,
        })
    }

    fn call(&mut self, slot: usize) -> (Call, Expect) {
        match self.random.below(8) {
            0 => {
                self.owed += 1;
                let word = self.words[slot].as_ptr();
                (call!(SYS_read, &self.from, word, 2), Expect::Word)
            }
            1 => (
                call!(SYS_nanosleep, self.nap.as_ptr(), 0),
                Expect::Exactly(0),
            ),
            2 => {
                let open = call!(SYS_openat, libc::AT_FDCWD, c"/dev/zero", libc::O_CLOEXEC);
                (open, Expect::Descriptor)
            }
            3 => {
                let fill = call!(SYS_getrandom, self.zeros, ZEROS, 0);
                (fill, Expect::Exactly(ZEROS as i64))
            }
            4 => (
                call!(SYS_close, -1),
                Expect::Exactly(-i64::from(libc::EBADF)),
            ),
            5 => (
                call!(SYS_exit, 0),
                Expect::Exactly(-i64::from(libc::EOPNOTSUPP)),
            ),
            _ => {
                let pid = i64::from(std::process::id());
                (call!(SYS_getpid), Expect::Exactly(pid))
            }
        }
    }

    fn post_some(&mut self) {
        let count = 1 + self.random.below(24) as usize;
        let free: Vec<usize> = (0..self.posted.len())
            .filter(|&slot| self.ring.is_free(slot))
            .take(count)
            .collect();
        let mut bits = vec![0u64; self.posted.len() / 64];
        for slot in free {
            let (mut call, expect) = self.call(slot);
            match self.random.below(8) {
                0 | 1 => call = call.asynchronous(),
                2 | 3 => call = call.in_pool(self.random.below(3) as u8),
                _ => {}
            }
            self.ring.stage(slot, &call);
            self.posted[slot] = Some(expect);
            bits[slot / 64] |= 1 << (slot % 64);
        }
        for (page, bits) in bits.into_iter().enumerate() {
            self.ring.ring_bell(page, bits);
        }
    }

    fn check(&mut self, done: Done) -> Check {
        let Some(expect) = self.posted[done.slot].take() else {
            fail!("a result for an entry that was not posted: {done:?}");
        };
        let good = match expect {
            Expect::Exactly(want) => done.result == want,
            Expect::Word => done.result == 2,
            Expect::Descriptor => done.reason == REASON_NONE && plain!(SYS_close, done.result) == 0,
        };
        check!(
            good,
            "{} reason {}, expected {expect:?}; {}",
            Ret(done.result),
            done.reason,
            self.ring.show(done.slot)
        );
        Ok(())
    }

    fn reap(&mut self) -> Check {
        while let Some(done) = self.ring.poll() {
            self.check(done)?;
        }
        Ok(())
    }

    fn wait_somehow(&mut self) -> Check {
        let mut arg = Wait::new(self.ring.id, Policy::Any);
        arg.timeout_ns = sys::monotonic_ns() + self.random.below(4_000_000);
        match self.random.below(6) {
            0 => {
                self.ring.kicked()?;
                return Ok(());
            }
            1 => arg.policy = Policy::None as u32,
            2 => arg.policy = Policy::All as u32,
            3 => {
                arg.policy = Policy::Some as u32;
                arg.min = 1 + self.random.below(12) as u32;
                arg.linger_ns = 1 + self.random.below(1_000_000);
            }
            4 => {
                let _ = self.ring.wait_fast(Policy::None, 0);
                return Ok(());
            }
            _ => {}
        }
        match self.ring.wait_raw(&mut arg) {
            Ok(_) | Err(Errno::ETIME | Errno::EDEADLK | Errno::EINTR) => Ok(()),
            Err(error) => fail!("WAIT {arg:?}: {error:?}"),
        }
    }

    fn pay(&mut self) -> Check {
        let count = std::mem::take(&mut self.owed);
        crate::kit::files::write_all(&self.to, &vec![1; usize::from(count) * 2])
    }

    fn step(&mut self) -> Check {
        self.post_some();
        self.wait_somehow()?;
        if self.random.below(3) == 0 {
            self.pay()?;
        }
        self.reap()
    }

    /// Lets all calls end, and checks them.
    fn finish(mut self) -> Check {
        self.pay()?;
        let slots: Vec<usize> = (0..self.posted.len())
            .filter(|&slot| self.posted[slot].is_some())
            .collect();
        // Less than the time for which the other processes wait for this one.
        let end = Instant::now() + patience() / 2;
        while let Some(&slot) = slots.iter().find(|&&slot| !self.ring.is_done(slot)) {
            let got = self.ring.wait_for(Policy::All, 0, patience() / 10);
            check!(
                matches!(got, Ok(_) | Err(Errno::ETIME)) && Instant::now() < end,
                "ALL gave {got:?}, and {}",
                self.ring.show(slot)
            );
        }
        self.reap()?;
        check_eq!("UNREGISTER", self.ring.unregister(), Ok(0));
        Ok(())
    }

    fn run(mut self, end: &AtomicBool, well: bool) -> Check {
        while !end.load(Ordering::Relaxed) {
            self.step()?;
        }
        if well {
            return self.finish();
        }
        // The buffers of the calls in flight must stay, the mapping goes.
        let Member {
            ring,
            words,
            from,
            to,
            nap,
            ..
        } = self;
        std::mem::forget((words, from, to, nap));
        drop(ring);
        Ok(())
    }
}

/// Changes settings while everything runs.
fn shake(engine: &Engine, random: &mut Random) -> Check {
    match random.below(7) {
        0 => engine.set(Param::PollCpus, 1 << poller_cpu()),
        1 => engine.set(Param::PollCpus, 0),
        2 => engine.set(Param::IdleNs, random.below(2_000_000)),
        3 => engine.set(Param::RetireMs, 1 + random.below(50)),
        4 => engine.set(Param::Order, random.below(3)),
        5 => engine.set_pool(2, Param::PoolConcurrency, 1 + random.below(3) as i64),
        _ => engine.stats().map(|_| ()),
    }
}

fn threads_until(
    engine: &Arc<Engine>,
    random: &mut Random,
    life: Duration,
    well: bool,
    during: impl Fn() -> Check,
) -> Check {
    let end = AtomicBool::new(false);
    let count = 2 + random.below(3);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|_| {
                let (random, end) = (random.split(), &end);
                scope.spawn(move || {
                    Member::new(engine, random).and_then(|member| member.run(end, well))
                })
            })
            .collect();
        let until = Instant::now() + life;
        let mut outcome = Ok(());
        while outcome.is_ok() && Instant::now() < until {
            outcome = shake(engine, random);
            std::thread::sleep(Duration::from_millis(2));
            if threads.iter().any(|thread| thread.is_finished()) {
                break;
            }
        }
        outcome = outcome.and_then(|()| during());
        end.store(true, Ordering::Relaxed);
        let ends = threads.into_iter().map(|t| t.join().expect("no panic"));
        ends.fold(outcome, Result::and)
    })
}

fn member_process(ending: Ending, mut random: Random, link: &Link) -> Check {
    let engine = Arc::new(Engine::open()?);
    engine.set_pool(1, Param::PoolNice, 3)?;
    engine.set_pool(2, Param::PoolConcurrency, 1)?;
    link.ready();
    let life = Duration::from_millis(10 + random.below(80));
    let fd = engine.fd();
    let well = matches!(ending, Ending::Well);
    threads_until(&engine, &mut random, life, well, || match ending {
        Ending::Exit => sys::exit_now(23),
        Ending::Exec => execute(fd),
        Ending::Kill | Ending::Terminate | Ending::StopAndKill => link.wait_go(),
        Ending::Well | Ending::Leave => Ok(()),
    })?;
    drop(engine);
    gone()
}

fn signalled(mut child: Child, signal: i32) -> Check {
    child.signal(signal);
    let want = End::Signal {
        signal,
        core: false,
    };
    check_eq!("end of the process", child.end()?, want);
    Ok(())
}

fn end(ending: Ending, mut child: Child, random: &mut Random) -> Check {
    child.wait_ready()?;
    match ending {
        Ending::Well | Ending::Leave | Ending::Exec => return child.join(),
        Ending::Exit => {
            check_eq!("end of the process", child.end()?, End::Exit(23));
            return Ok(());
        }
        _ => {}
    }
    std::thread::sleep(Duration::from_micros(random.below(60_000)));
    match ending {
        Ending::Terminate => signalled(child, libc::SIGTERM),
        Ending::StopAndKill => {
            crate::life::stopped::stop(&child)?;
            child.kill()
        }
        _ => child.kill(),
    }
}

fn mixed() -> Check {
    let mut random = Random::new();
    let base = Baseline::take()?;
    let mut lives = 0;
    for round in 0..chances(8) {
        let mut children = Vec::new();
        for _ in 0..3 {
            let ending = ENDINGS[random.below(ENDINGS.len() as u64) as usize];
            let theirs = random.split();
            children.push((
                ending,
                spawn(move |link| member_process(ending, theirs, link))?,
            ));
        }
        for (ending, child) in children {
            end(ending, child, &mut random).map_err(|failure: Failure| {
                failure.within(format_args!("round {round}, {ending:?}"))
            })?;
            lives += 1;
        }
        base.until_exact()?;
    }
    println!("# lives: {lives}");
    base.until_restored(lives)
}
