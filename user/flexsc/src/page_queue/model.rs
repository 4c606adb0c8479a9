// SPDX-License-Identifier: MIT OR Apache-2.0
//! All interleavings of program and kernel on one page, under the memory model. The
//! program's half is the [`PageQueue`] that ships; the kernel's half does what
//! `linux/flexsc.h` promises. Loom runs its threads one at a time on a single thread, so
//! `Rc` is sufficient.

#![expect(unsafe_code, reason = "loom's cells")]

use std::rc::Rc;

use loom::cell::UnsafeCell;
use loom::sync::Notify;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use loom::thread;

use super::*;
use crate::calls;
use crate::doorbell::{Flags, NEED_WAKEUP};
use crate::memory::{Ctrl, Request};

struct ModelWord(AtomicU64);

impl Word for ModelWord {
    fn load(&self, order: Ordering) -> u64 {
        self.0.load(order)
    }

    fn store(&self, value: u64, order: Ordering) {
        self.0.store(value, order);
    }
}

struct ModelFlags(AtomicU32);

impl Flags for ModelFlags {
    fn load(&self, order: Ordering) -> u32 {
        self.0.load(order)
    }

    fn fence(&self, order: Ordering) {
        fence(order);
    }
}

/// Flags without the barrier.
struct NoFence(AtomicU32);

impl Flags for NoFence {
    fn load(&self, order: Ordering) -> u32 {
        self.0.load(order)
    }

    fn fence(&self, _: Ordering) {}
}

/// The operations on the flags that only the kernel uses.
trait KernelFlags: Flags + 'static {
    fn new() -> Self;
    fn set(&self, value: u32);
}

impl KernelFlags for ModelFlags {
    fn new() -> Self {
        ModelFlags(AtomicU32::new(0))
    }

    fn set(&self, value: u32) {
        self.0.store(value, Ordering::Relaxed);
    }
}

impl KernelFlags for NoFence {
    fn new() -> Self {
        NoFence(AtomicU32::new(0))
    }

    fn set(&self, value: u32) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// Explores all interleavings with a bounded number of preemptions. A higher bound finds
/// nothing new and takes minutes.
fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(model);
}

const PREEMPTIONS: usize = 4;

/// The number of entries in use. The others are in flight from the start and never finish,
/// so that entries are reused soon.
const USED: usize = 2;
const FIRST: u32 = ENTRIES - USED as u32;
const STUCK: u64 = u64::MAX >> USED;

/// Memory shared by both sides. Loom fails the test if one side touches a cell while the
/// other may.
struct Shared<F> {
    posted: ModelWord,
    reaped: ModelWord,
    taken: ModelWord,
    done: ModelWord,
    flags: F,
    arg: [UnsafeCell<u64>; USED],
    result: [UnsafeCell<u64>; USED],
    kick: Notify,
}

impl<F: KernelFlags> Shared<F> {
    fn new() -> Rc<Self> {
        let model_word = |word| ModelWord(AtomicU64::new(word));
        Rc::new(Shared {
            posted: model_word(0),
            reaped: model_word(0),
            taken: model_word(STUCK),
            done: model_word(0),
            flags: F::new(),
            arg: [UnsafeCell::new(0), UnsafeCell::new(0)],
            result: [UnsafeCell::new(0), UnsafeCell::new(0)],
            kick: Notify::new(),
        })
    }
}

/// The only page of a queue.
struct Page<F> {
    shared: Rc<Shared<F>>,
    /// Only the program uses them.
    cursors: Cursors,
}

impl<F> Page<F> {
    fn new(shared: Rc<Shared<F>>) -> Self {
        Page {
            shared,
            cursors: Cursors::default(),
        }
    }
}

impl<F: KernelFlags> Memory for Page<F> {
    type Word = ModelWord;
    type Flags = F;

    fn in_same_process(&self) -> bool {
        true
    }

    fn cursors(&self) -> &Cursors {
        &self.cursors
    }

    fn pages(&self) -> usize {
        1
    }

    fn set_fill_page(&mut self, _: usize) {}

    fn set_reap_page(&mut self, _: usize) {}

    fn ctrl(&self, _: usize) -> Ctrl<'_, ModelWord, F> {
        Ctrl {
            posted: &self.shared.posted,
            reaped: &self.shared.reaped,
            taken: &self.shared.taken,
            done: &self.shared.done,
            flags: &self.shared.flags,
        }
    }

    fn fill_ctrl(&self) -> Ctrl<'_, ModelWord, F> {
        self.ctrl(0)
    }

    fn reap_ctrl(&self) -> Ctrl<'_, ModelWord, F> {
        self.ctrl(0)
    }

    fn write(&self, place: Place, request: &Request) {
        if let Some(nth) = place.bit().checked_sub(FIRST) {
            // SAFETY: loom checks that the kernel does not read it.
            self.shared.arg[nth as usize].with_mut(|arg| unsafe { *arg = request.args[0] });
        }
    }

    fn take(&self, place: Place) -> Answer {
        let nth = (place.bit() - FIRST) as usize;
        // SAFETY: loom checks that the kernel does not write it.
        let result = self.shared.result[nth].with(|result| unsafe { *result });
        Answer {
            result: result as i64,
            reason: 0,
        }
    }
}

/// The kernel's half, with copies of its own words.
struct Kernel {
    taken: u64,
    done: u64,
}

impl Kernel {
    fn new() -> Self {
        Kernel {
            taken: STUCK,
            done: 0,
        }
    }

    /// Takes and executes the posted entries. Returns their number.
    fn drain<F>(&mut self, shared: &Shared<F>) -> u32 {
        // ORDERING: acquire, pairs with the program's release.
        let posted = shared.posted.0.load(Ordering::Acquire);
        let pending = doorbell::pending(posted, self.taken);
        self.taken ^= pending;
        shared.taken.0.store(self.taken, Ordering::Relaxed);
        for nth in (0..USED).filter(|nth| pending & (1 << (FIRST as usize + nth)) != 0) {
            // SAFETY: loom checks that the program does not write it.
            let arg = shared.arg[nth].with(|arg| unsafe { *arg });
            // SAFETY: loom checks that the program does not touch it.
            shared.result[nth].with_mut(|result| unsafe { *result = arg + 1 });
            self.done ^= 1 << (FIRST as usize + nth);
            // ORDERING: release, pairs with the program's acquire.
            shared.done.0.store(self.done, Ordering::Release);
        }
        pending.count_ones()
    }

    /// Returns true if the kernel may sleep.
    fn may_sleep<F: KernelFlags>(&self, shared: &Shared<F>) -> bool {
        shared.flags.set(NEED_WAKEUP);
        fence(Ordering::SeqCst);
        shared.posted.0.load(Ordering::Acquire) == self.taken
    }
}

/// A kernel that polls until it has executed `count` entries.
fn busy_kernel<F>(shared: &Shared<F>, count: u32) {
    let mut kernel = Kernel::new();
    let mut left = count;
    while left > 0 {
        match kernel.drain(shared) {
            0 => thread::yield_now(),
            some => left -= some,
        }
    }
}

/// A poller that looks, sleeps and is kicked, until it has executed `count` entries.
fn sleeping_kernel<F: KernelFlags>(shared: &Shared<F>, count: u32) {
    let mut kernel = Kernel::new();
    let mut left = count;
    while left > 0 {
        left -= kernel.drain(shared);
        if left > 0 && kernel.may_sleep(shared) {
            // Loom fails the test if the program never kicks.
            shared.kick.wait();
        }
        shared.flags.set(0);
    }
}

struct Program<F: KernelFlags> {
    queue: PageQueue<Page<F>>,
    next: i32,
    shared: Rc<Shared<F>>,
}

impl<F: KernelFlags> Program<F> {
    fn new(shared: &Rc<Shared<F>>) -> Self {
        let mut queue = PageQueue::new(Page::new(Rc::clone(shared)));
        for _ in 0..FIRST {
            queue.stage(&calls::getppid()).unwrap();
        }
        queue.ring();
        Program {
            queue,
            next: 0,
            shared: Rc::clone(shared),
        }
    }

    /// Stages a call with the next number. Returns its slot.
    fn stage(&mut self) -> Slot {
        self.next += 1;
        self.queue.stage(&calls::close(self.next)).unwrap()
    }

    fn kick_if_needed(&self) {
        if self.queue.needs_kick() {
            self.shared.kick.notify();
        }
    }

    /// Takes all available results and returns how many. They arrive in the order of
    /// posting, since no more than one round of entries is in flight.
    fn reap(&mut self, seen: &mut i64) -> u32 {
        let mut count = 0;
        while let Some((_, answer)) = self.queue.poll() {
            *seen += answer.result;
            count += 1;
        }
        count
    }

    /// Waits for `count` results and returns their sum.
    fn reap_all(&mut self, count: u32) -> i64 {
        let (mut left, mut sum) = (count, 0);
        while left > 0 {
            match self.reap(&mut sum) {
                0 => thread::yield_now(),
                some => left -= some,
            }
        }
        sum
    }
}

#[test]
fn entries_and_results_are_never_shared() {
    explore(|| {
        let shared = Shared::<ModelFlags>::new();
        let mut program = Program::new(&shared);
        let theirs = Rc::clone(&shared);
        let kernel = thread::spawn(move || busy_kernel(&theirs, 2));
        program.stage();
        program.stage();
        program.queue.ring();
        assert_eq!(program.reap_all(2), 2 + 3);
        kernel.join().unwrap();
    });
}

#[test]
fn an_entry_is_used_again_only_after_its_result_was_read() {
    explore(|| {
        let shared = Shared::<ModelFlags>::new();
        let mut program = Program::new(&shared);
        let theirs = Rc::clone(&shared);
        let kernel = thread::spawn(move || busy_kernel(&theirs, 3));
        let mut slots = Vec::new();
        for number in 1..=3 {
            slots.push(program.stage());
            program.queue.ring();
            assert_eq!(program.reap_all(1), number + 1);
        }
        // The model must reuse an entry.
        assert_eq!(slots[0], slots[2]);
        kernel.join().unwrap();
    });
}

#[test]
fn a_sleeping_kernel_is_kicked() {
    explore(|| {
        let shared = Shared::<ModelFlags>::new();
        let mut program = Program::new(&shared);
        let theirs = Rc::clone(&shared);
        let kernel = thread::spawn(move || sleeping_kernel(&theirs, 2));
        for _ in 0..2 {
            program.stage();
            program.queue.ring();
            program.kick_if_needed();
        }
        kernel.join().unwrap();
        assert_eq!(program.reap_all(2), 2 + 3);
    });
}

#[test]
fn an_entry_used_again_kicks_as_well() {
    explore(|| {
        let shared = Shared::<ModelFlags>::new();
        let mut program = Program::new(&shared);
        let theirs = Rc::clone(&shared);
        let kernel = thread::spawn(move || sleeping_kernel(&theirs, 3));
        for _ in 0..3 {
            program.stage();
            program.queue.ring();
            program.kick_if_needed();
            program.reap_all(1);
        }
        kernel.join().unwrap();
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn the_model_sees_a_missing_barrier() {
    explore(|| {
        let shared = Shared::<NoFence>::new();
        let mut program = Program::new(&shared);
        let theirs = Rc::clone(&shared);
        let kernel = thread::spawn(move || sleeping_kernel(&theirs, 1));
        program.stage();
        program.queue.ring();
        program.kick_if_needed();
        kernel.join().unwrap();
    });
}
