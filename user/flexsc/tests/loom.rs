// SPDX-License-Identifier: MIT OR Apache-2.0
//! All interleavings of program and kernel on one page, under the memory model:
//! the program's half is the crate's own source, the kernel's half is what
//! `linux/flexsc.h` promises. Loom runs its threads one at a time on a single
//! thread of ours, so that `Rc` will do.

use std::rc::Rc;

use flexsc::doorbell::{self, Flags, NEED_WAKEUP, Producer, Word};
use loom::cell::UnsafeCell;
use loom::sync::Notify;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use loom::thread;

struct Bell(AtomicU64);

impl Word for Bell {
    fn load(&self, order: Ordering) -> u64 {
        self.0.load(order)
    }

    fn store(&self, value: u64, order: Ordering) {
        self.0.store(value, order);
    }
}

struct FlagWord(AtomicU32);

impl Flags for FlagWord {
    fn load(&self, order: Ordering) -> u32 {
        self.0.load(order)
    }

    fn fence(&self, order: Ordering) {
        fence(order);
    }
}

/// All interleavings with at most so many switches at a moment of loom's own
/// choosing: more find nothing new and take minutes.
fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(model);
}

const PREEMPTIONS: usize = 4;

/// What both sides share. Loom fails the test where one side touches a cell
/// while the other may.
struct Shared {
    posted: Bell,
    reaped: Bell,
    taken: Bell,
    done: Bell,
    flags: FlagWord,
    arg: [UnsafeCell<u64>; 2],
    result: [UnsafeCell<u64>; 2],
    kick: Notify,
}

impl Shared {
    fn new() -> Self {
        let bell = || Bell(AtomicU64::new(0));
        Shared {
            posted: bell(),
            reaped: bell(),
            taken: bell(),
            done: bell(),
            flags: FlagWord(AtomicU32::new(0)),
            arg: [UnsafeCell::new(0), UnsafeCell::new(0)],
            result: [UnsafeCell::new(0), UnsafeCell::new(0)],
            kick: Notify::new(),
        }
    }
}

/// The kernel's half: its own copies of its words.
#[derive(Default)]
struct Kernel {
    taken: u64,
    done: u64,
}

impl Kernel {
    /// Takes and executes what is posted; says how much that was.
    fn drain(&mut self, shared: &Shared) -> u32 {
        // ORDERING: acquire, pairs with the program's release.
        let pending = doorbell::pending(shared.posted.load(Ordering::Acquire), self.taken);
        self.taken ^= pending;
        shared.taken.store(self.taken, Ordering::Relaxed);
        for bit in (0..2).filter(|bit| pending & (1 << bit) != 0) {
            // SAFETY: loom checks that nobody writes it.
            let arg = shared.arg[bit].with(|arg| unsafe { *arg });
            // SAFETY: loom checks that nobody else touches it.
            shared.result[bit].with_mut(|result| unsafe { *result = arg + 1 });
            self.done ^= 1 << bit;
            // ORDERING: release, pairs with the program's acquire.
            shared.done.store(self.done, Ordering::Release);
        }
        pending.count_ones()
    }

    /// Before it sleeps: says whether it may.
    fn may_sleep(&self, shared: &Shared) -> bool {
        shared.flags.0.store(NEED_WAKEUP, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        shared.posted.load(Ordering::Acquire) == self.taken
    }
}

struct Program {
    page: Producer,
    next: u64,
    shared: Rc<Shared>,
}

impl Program {
    fn new(shared: &Rc<Shared>) -> Self {
        Program {
            page: Producer::new(0),
            next: 0,
            shared: Rc::clone(shared),
        }
    }

    fn stage(&mut self) {
        let bit = self.page.stage(&self.shared.reaped).unwrap() as usize;
        self.next += 10;
        let value = self.next + bit as u64;
        // SAFETY: loom checks that the kernel does not read it.
        self.shared.arg[bit].with_mut(|arg| unsafe { *arg = value });
    }

    fn ring(&mut self) {
        self.page.poster.ring(&self.shared.posted);
    }

    fn needs_kick(&self) -> bool {
        doorbell::needs_kick(
            self.page.poster.rung(),
            &self.shared.taken,
            &self.shared.flags,
        )
    }

    /// Takes all results that are there; says how many.
    fn reap(&mut self) -> u32 {
        let rung = self.page.poster.rung();
        let seen = self.page.reaper.look(&self.shared.done, rung).count_ones();
        while let Some(bit) = self.page.reaper.reap() {
            // SAFETY: loom checks that the kernel does not write it.
            let result = self.shared.result[bit as usize].with(|result| unsafe { *result });
            assert_eq!(result % 10, u64::from(bit) + 1);
        }
        self.page.tell(&self.shared.reaped);
        seen
    }

    fn reap_all(&mut self, count: u32) {
        let mut left = count;
        while left > 0 {
            match self.reap() {
                0 => thread::yield_now(),
                some => left -= some,
            }
        }
    }
}

#[test]
fn entries_and_results_are_never_shared() {
    explore(|| {
        let shared = Rc::new(Shared::new());
        let theirs = Rc::clone(&shared);
        let kernel = thread::spawn(move || {
            let mut kernel = Kernel::default();
            let mut left = 2;
            while left > 0 {
                match kernel.drain(&theirs) {
                    0 => thread::yield_now(),
                    some => left -= some,
                }
            }
        });
        let mut program = Program::new(&shared);
        program.stage();
        program.stage();
        program.ring();
        program.reap_all(2);
        kernel.join().unwrap();
    });
}

#[test]
fn an_entry_is_reused_only_after_its_result_was_read() {
    explore(|| {
        let shared = Rc::new(Shared::new());
        let theirs = Rc::clone(&shared);
        let kernel = thread::spawn(move || {
            let mut kernel = Kernel::default();
            let mut left = 2;
            while left > 0 {
                match kernel.drain(&theirs) {
                    0 => thread::yield_now(),
                    some => left -= some,
                }
            }
        });
        let mut program = Program::new(&shared);
        for _ in 0..2 {
            program.stage();
            program.ring();
            program.reap_all(1);
        }
        kernel.join().unwrap();
    });
}

/// A kernel core that looks, sleeps and is kicked, until it has executed `count`.
fn sleeping_kernel(shared: &Shared, count: u32) {
    let mut kernel = Kernel::default();
    let mut left = count;
    while left > 0 {
        left -= kernel.drain(shared);
        if left > 0 && kernel.may_sleep(shared) {
            // Loom fails the test where nobody ever comes.
            shared.kick.wait();
        }
        shared.flags.0.store(0, Ordering::Relaxed);
    }
}

#[test]
fn a_sleeping_kernel_is_kicked() {
    explore(|| {
        let shared = Rc::new(Shared::new());
        let theirs = Rc::clone(&shared);
        let kernel = thread::spawn(move || sleeping_kernel(&theirs, 2));
        let mut program = Program::new(&shared);
        for _ in 0..2 {
            program.stage();
            program.ring();
            if program.needs_kick() {
                shared.kick.notify();
            }
        }
        kernel.join().unwrap();
        assert_eq!(program.reap(), 2);
    });
}

#[test]
fn a_reused_entry_kicks_as_well() {
    explore(|| {
        let shared = Rc::new(Shared::new());
        let theirs = Rc::clone(&shared);
        let kernel = thread::spawn(move || sleeping_kernel(&theirs, 2));
        let mut program = Program::new(&shared);
        for _ in 0..2 {
            program.stage();
            program.ring();
            if program.needs_kick() {
                shared.kick.notify();
            }
            program.reap_all(1);
        }
        kernel.join().unwrap();
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn the_model_sees_a_missing_barrier() {
    /// Leaves the barrier out.
    struct NoFence<'a>(&'a FlagWord);

    impl Flags for NoFence<'_> {
        fn load(&self, order: Ordering) -> u32 {
            self.0.load(order)
        }

        fn fence(&self, _: Ordering) {}
    }

    explore(|| {
        let shared = Rc::new(Shared::new());
        let theirs = Rc::clone(&shared);
        let kernel = thread::spawn(move || sleeping_kernel(&theirs, 1));
        let mut program = Program::new(&shared);
        program.stage();
        program.ring();
        if doorbell::needs_kick(
            program.page.poster.rung(),
            &shared.taken,
            &NoFence(&shared.flags),
        ) {
            shared.kick.notify();
        }
        kernel.join().unwrap();
    });
}
