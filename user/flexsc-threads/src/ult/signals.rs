// SPDX-License-Identifier: MIT OR Apache-2.0
//! Signals: which thread gets one, and with which mask it runs the handler.
//!
//! A signal for the process goes to the running thread if it does not block it, or to the first one
//! that does not. A thread that waits is interrupted. To deliver a signal that has been kept, the
//! thread that gets it sends it to itself: so its handler has a frame that the kernel has made.

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::sys::helpers::{self, CANCEL};
use crate::sys::inside;
use crate::sys::kernel::{self, Action, Info};
use crate::sys::signal::{
    self, Interrupted, SA_NODEFER, SA_ONSTACK, SA_RESETHAND, SA_RESTART, SA_RESTORER, SIGBUS,
    SIGSEGV, TICK,
};
use crate::ult::core::{Core, State};
use crate::ult::list::Id;

pub(crate) const SIG_IGN: u64 = 1;

/// Why the kernel has called the handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Usual,
    /// The interrupted instruction has caused it.
    Fault,
    /// It is time for another thread.
    Tick,
}

/// Signals that no thread has got yet.
pub(crate) struct Pending {
    items: [(Id, Info); Pending::LEN],
    len: usize,
}

/// The tick has come while the library was at work.
pub(crate) static HAS_TICKED: AtomicBool = AtomicBool::new(false);
/// There is a pending signal.
static IS_PENDING: AtomicBool = AtomicBool::new(false);

pub(crate) const fn bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

/// Signals that the kernel must not block, and for which it calls the library's handler.
const NEEDED: u64 = bit(TICK) | bit(CANCEL) | bit(SIGSEGV) | bit(SIGBUS);

impl Pending {
    const LEN: usize = 128;
    /// Below, one signal of a number can be pending; from here on many.
    const REAL_TIME: u32 = 32;

    pub(crate) fn clear(&mut self) {
        self.len = 0;
        IS_PENDING.store(false, Relaxed);
    }

    pub(crate) const fn new() -> Self {
        Pending {
            items: [(Id::NONE, Info([0; 16])); Pending::LEN],
            len: 0,
        }
    }

    /// Adds a signal for a thread, or for the process. What finds no room is lost.
    pub(crate) fn push(&mut self, target: Id, info: &Info) -> bool {
        let signal = info.signal();
        let is_same = |item: &(Id, Info)| item.0 == target && item.1.signal() == signal;
        if signal < Self::REAL_TIME && self.items[..self.len].iter().any(is_same) {
            return true;
        }
        if self.len == Self::LEN {
            return false;
        }
        self.items[self.len] = (target, *info);
        self.len += 1;
        IS_PENDING.store(true, Relaxed);
        true
    }

    /// Takes the oldest signal of a set for a thread.
    pub(crate) fn take(&mut self, id: Id, set: u64) -> Option<Info> {
        let items = self.items[..self.len].iter();
        let index = items.clone().position(|(target, info)| {
            (target.is_none() || *target == id) && bit(info.signal()) & set != 0
        })?;
        let info = self.items[index].1;
        self.items.copy_within(index + 1..self.len, index);
        self.len -= 1;
        IS_PENDING.store(self.len > 0, Relaxed);
        Some(info)
    }

    /// What is pending for a thread.
    pub(crate) fn set(&self, id: Id) -> u64 {
        let items = self.items[..self.len].iter();
        let ours = items.filter(|(target, _)| target.is_none() || *target == id);
        ours.fold(0, |set, (_, info)| set | bit(info.signal()))
    }

    fn is_full_of(&self, id: Id) -> bool {
        self.items[..self.len]
            .iter()
            .any(|(target, _)| *target == id)
    }

    /// Forgets the signals of a thread that has ended.
    pub(crate) fn forget(&mut self, id: Id) {
        while self.is_full_of(id) {
            let index = self.items[..self.len]
                .iter()
                .position(|(target, _)| *target == id);
            if let Some(index) = index {
                self.items.copy_within(index + 1..self.len, index);
                self.len -= 1;
            }
        }
        IS_PENDING.store(self.len > 0, Relaxed);
    }
}

impl Core {
    /// Takes over the actions that the program has set so far.
    pub(crate) fn take_actions(&mut self) {
        for number in 1..=64 {
            let action = kernel::action(number);
            self.actions[number as usize] = action;
            let _ = self.set_kernel_action(number);
        }
    }

    /// Gives the kernel what stands for the program's action.
    fn set_kernel_action(&self, number: u32) -> Result<(), i64> {
        let action = &self.actions[number as usize];
        let mut action = *action;
        // What the library needs, whatever the program does with the signal.
        match number {
            TICK => action.flags |= SA_RESTART,
            CANCEL => {
                // Helpers must not come back through the program's code, which has stubs.
                action.flags &= !(SA_RESTART | SA_RESTORER);
            }
            SIGSEGV | SIGBUS if action.handler <= SIG_IGN => action.flags = SA_ONSTACK,
            _ => {}
        }
        let is_needed = bit(number) & self.needed_signals() != 0;
        let of_kernel = if action.handler > SIG_IGN || is_needed {
            signal::action_of_kernel(&action)
        } else {
            action
        };
        kernel::set_action(number, &of_kernel).map_err(|error| -i64::from(error.0))
    }

    /// Sets an action of the program.
    pub(crate) fn set_action(&mut self, number: u32, action: &Action) -> Result<(), i64> {
        let old = self.actions[number as usize];
        self.actions[number as usize] = *action;
        self.set_kernel_action(number).inspect_err(|_| {
            self.actions[number as usize] = old;
        })
    }

    /// Signals that the kernel gives to the library whatever the program does.
    pub(crate) fn needed_signals(&self) -> u64 {
        NEEDED | self.timers_of_threads.signals()
    }

    /// The kernel blocks what all threads block, except what the library itself needs.
    pub(crate) fn sync_mask(&mut self) {
        let mask = self.masks.all_block() & !self.needed_signals();
        if mask != self.kernel_mask {
            self.kernel_mask = mask;
            kernel::set_mask(mask);
        }
    }

    /// Before another program or process: the kernel blocks what the running thread blocks.
    pub(crate) fn show_mask(&mut self) {
        self.kernel_mask = self.current().mask;
        kernel::set_mask(self.kernel_mask);
    }

    /// Sets the running thread's mask.
    pub(crate) fn set_mask(&mut self, mask: u64) {
        const SIGKILL_SIGSTOP: u64 = (1 << 8) | (1 << 18);
        let mask = mask & !SIGKILL_SIGSTOP;
        let old = self.current().mask;
        if old != mask {
            self.current().mask = mask;
            self.masks.add(mask);
            self.masks.remove(old);
            self.sync_mask();
        }
    }

    /// Takes over what the handler has noted, and finds threads for it.
    pub(crate) fn take_notes(&mut self) {
        if !signal::is_noted() {
            return;
        }
        while let Some(info) = signal::take_note() {
            let target = self.target(&info);
            self.send(target, &info);
        }
    }

    /// The thread for which a signal of the kernel is; none: for the process.
    fn target(&mut self, info: &Info) -> Id {
        let tid = self.timers_of_threads.target(info);
        tid.and_then(|tid| self.find(tid)).unwrap_or(Id::NONE)
    }

    /// A signal for a thread, or for the process. Returns false if there is no room for it.
    pub(crate) fn send(&mut self, target: Id, info: &Info) -> bool {
        let set = bit(info.signal());
        let target = if target.is_none() {
            self.choose(set)
        } else {
            target
        };
        if !self.pending.push(target, info) {
            return false;
        }
        if !target.is_none() {
            let ult = self.ult(target);
            if set & (!ult.mask | ult.wanted) != 0 {
                self.interrupt(target);
            }
        }
        true
    }

    /// The thread that gets a signal for the process; none if all block it.
    fn choose(&mut self, set: u64) -> Id {
        let takes = |ult: &crate::ult::core::Ult| {
            ult.state != State::Free && set & (!ult.mask | ult.wanted) != 0
        };
        let running = self.running;
        if !running.is_none() && takes(self.current()) {
            return running;
        }
        self.ids()
            .find(|id| takes(self.ult(*id)))
            .unwrap_or(Id::NONE)
    }

    /// The next signal that the running thread does not block, and whether its calls go on afterwards.
    fn take_signal(&mut self) -> Option<(Info, bool)> {
        self.take_notes();
        let (id, mask) = (self.running, self.current().mask);
        let info = self.pending.take(id, !mask)?;
        let action = &self.actions[info.signal() as usize];
        Some((
            info,
            action.handler <= SIG_IGN || action.flags & SA_RESTART != 0,
        ))
    }

    /// The running thread is about to run a handler: returns its address, and the mask until then.
    fn begin_handler(&mut self, number: u32) -> (u64, u64) {
        let action = self.actions[number as usize];
        if action.flags & SA_RESETHAND != 0 {
            let _ = self.set_action(number, &Action::default());
        }
        let old = self.current().mask;
        let own = if action.flags & SA_NODEFER == 0 {
            bit(number)
        } else {
            0
        };
        self.set_mask(old | action.mask | own);
        (action.handler, old)
    }
}

/// What the signals that a thread has got mean for the call that they have interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivered {
    Nothing,
    /// Handlers with SA_RESTART only.
    Restart,
    Interrupt,
}

/// Delivers what the running thread does not block. It is outside before and afterwards.
#[inline(never)]
fn deliver_all() -> Delivered {
    let mut delivered = Delivered::Nothing;
    loop {
        inside::enter();
        let (next, tid) = inside::with(|core| (core.take_signal(), core.tid));
        inside::leave();
        let Some((info, restarts)) = next else {
            return delivered;
        };
        delivered = match (delivered, restarts) {
            (Delivered::Interrupt, _) | (_, false) => Delivered::Interrupt,
            _ => Delivered::Restart,
        };
        // The handler runs before this returns.
        let _ = kernel::queue(tid, &info);
    }
}

/// Leaves the library, and delivers what has arrived meanwhile.
pub(crate) fn leave() {
    inside::leave();
    if signal::is_noted() || IS_PENDING.load(Relaxed) {
        deliver_all();
    }
}

/// Delivers signals in the middle of a call.
pub(crate) fn deliver() -> Delivered {
    inside::leave();
    let delivered = deliver_all();
    inside::enter();
    delivered
}

/// The kernel has called the handler, and the library is not at work, or the signal cannot wait.
pub(crate) fn arrived(kind: Kind, number: u32, info: &Info, interrupted: &mut Interrupted) {
    if kind == Kind::Tick {
        if inside::is_inside() {
            HAS_TICKED.store(true, Relaxed);
            // The kernel would go on with the sleep.
            helpers::note_if_asleep();
        } else if !super::is_elsewhere() {
            inside::enter();
            // The call could wait, and the kernel would go on with it.
            let call = interrupted
                .plain_call()
                .filter(|(nr, _)| super::can_hand_over(*nr));
            match call {
                Some((nr, args)) if inside::with(|core| core.may_get_ready()) => {
                    interrupted.end_call(super::blocking::post_to_helper(nr, args));
                }
                _ => {
                    if inside::with(Core::tick) {
                        super::park();
                    }
                }
            }
            leave();
        }
        return;
    }
    if inside::is_inside() {
        // The library itself is at fault: the process ends as if it had no handler.
        let _ = kernel::set_action(number, &Action::default());
        return;
    }
    if super::is_elsewhere() {
        // A child of vfork, whose mask the kernel keeps.
        inside::enter();
        let handler = inside::with(|core| core.actions[number as usize].handler);
        inside::leave();
        if handler > SIG_IGN {
            signal::call_handler(handler, number, info, interrupted);
        }
        return;
    }
    inside::enter();
    let handler = inside::with(|core| {
        let is_blocked = core.current().mask & bit(number) != 0;
        let is_handled = core.actions[number as usize].handler > SIG_IGN;
        match kind {
            Kind::Fault if is_blocked || !is_handled => {
                // The instruction faults again, and the kernel does what it does without a handler.
                let _ = kernel::set_action(number, &Action::default());
                None
            }
            Kind::Usual if is_blocked || core.timers_of_threads.target(info).is_some() => {
                let target = core.target(info);
                core.send(target, info);
                None
            }
            // Sent by another process, and the program does not handle it.
            _ if !is_handled => {
                let is_ignored = core.actions[number as usize].handler == SIG_IGN;
                if !is_ignored {
                    let _ = kernel::set_action(number, &Action::default());
                    let _ = kernel::queue(core.tid, info);
                }
                None
            }
            _ => Some(core.begin_handler(number)),
        }
    });
    inside::leave();
    if let Some((handler, old)) = handler {
        interrupted.set_mask(old);
        signal::call_handler(handler, number, info, interrupted);
        inside::enter();
        inside::with(|core| {
            core.set_mask(interrupted.mask());
            interrupted.set_mask(core.kernel_mask);
            core.installed_stack = interrupted.alternate_stack();
        });
        inside::leave();
    }
    inside::enter();
    leave();
}
