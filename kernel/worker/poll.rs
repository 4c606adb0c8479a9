// SPDX-License-Identifier: GPL-2.0

//! A poller: a syscall thread that polls the doorbells on one CPU.
//!
//! An idle round takes no lock and reads no clock. A round that finds something reads no clock
//! either. Once in [`ROUNDS_PER_LOOK`] idle rounds the poller checks the clock and its CPU.

use super::{Life, Worker};
use crate::{
    defs::Role,
    engine::Known,
    pages::Pages,
    pool::backlog::Streak,
    run::End,
    sys::{process, trace},
};
use kernel::prelude::*;
use kernel::sync::Arc;

/// Idle rounds of polling between two checks of the clock and the CPUs.
const ROUNDS_PER_LOOK: u64 = 64;

/// How long a poller waits before it tries again to create a spare thread.
const SPARE_RETRY_NS: u64 = 1_000_000;

/// How a round over the queue and all doorbells ended.
enum Round {
    Busy,
    Idle,
    /// The thread blocked in a call, and another one polls now.
    HandedOff,
    /// The thread must end.
    Dying,
}

/// Why a thread stopped polling.
#[derive(PartialEq, Eq)]
pub(super) enum Polled {
    /// The CPU should no longer be polled, or is offline.
    GivenUp,
    /// The thread failed to begin polling the CPU, and does not retry at once.
    Failed,
    /// Another thread polls now.
    HandedOff,
    /// The thread must end.
    MustEnd,
}

/// What a poller remembers from round to round.
struct Watch {
    /// Registrations to poll. None while the thread executes entries: see [`Engine::known_on`].
    ///
    /// [`Engine::known_on`]: crate::engine::Engine::known_on
    list: Option<KBox<Known>>,
    /// Generation of the engine's table from which the list was made.
    seen: u32,
    /// Generation of the pool's settings applied last.
    applied: u32,
    /// Idle rounds since the last sleep.
    idle: u64,
    /// The time when the idle rounds began: that of the first check of the clock after their
    /// beginning.
    idle_since: Option<u64>,
    busy: Streak,
    /// The time when the creation of a spare failed.
    no_spare_at: Option<u64>,
}

impl Watch {
    fn known(&self) -> &[Arc<Pages>] {
        self.list.as_ref().map_or(&[], |list| list.as_slice())
    }
}

/// Polling.
impl Worker {
    /// Polls the doorbells on `cpu` until there is a reason to stop.
    pub(super) fn poll_cpu(&self, cpu: u32, life: &mut Life) -> Polled {
        let pool = self.pool();
        let polled = if process::run_on(cpu) {
            self.poll(cpu, life)
        } else {
            Polled::Failed
        };
        if polled != Polled::HandedOff {
            pool.release(cpu);
            if !pool.end_polling(self.slot, cpu) {
                self.engine.as_arc_borrow().poll_no_more();
            }
        }
        polled
    }

    /// Returns the registrations to poll from now on, whose programs no longer need to call KICK,
    /// and the generation of the table.
    fn known(&self) -> Option<(u32, KBox<Known>)> {
        let seen = self.engine.generation();
        let known = self.engine.snapshot().ok()?;
        for pages in known.iter() {
            pages.set_need_wakeup(false);
        }
        Some((seen, KBox::new(known, GFP_KERNEL_ACCOUNT).ok()?))
    }

    fn watch(&self, cpu: u32) -> Option<Watch> {
        // A thread that blocked in a call has left its list there.
        drop(self.engine.known_on(cpu).take());
        let (seen, list) = self.known()?;
        Some(Watch {
            list: Some(list),
            seen,
            applied: self.pool().settings.generation(),
            idle: 0,
            idle_since: None,
            busy: Streak::default(),
            no_spare_at: None,
        })
    }

    fn poll(&self, cpu: u32, life: &mut Life) -> Polled {
        let Some(mut watch) = self.watch(cpu) else {
            return Polled::Failed;
        };
        loop {
            if process::resched_and_check_signal() && life.thread.signal() {
                return Polled::MustEnd;
            }
            if self.must_give_up(cpu, &mut watch) {
                return Polled::GivenUp;
            }
            if watch.no_spare_at.is_none() && !self.pool().has_spare() {
                match watch.known().first() {
                    Some(pages) => self.adopt(life, pages),
                    None => _ = self.keep_up(life),
                }
                if !self.provide_spare(&life.served) {
                    continue;
                }
                if !self.pool().has_spare() {
                    watch.no_spare_at = Some(process::now_ns());
                }
            }
            match self.poll_round(cpu, &mut watch, life) {
                Round::Busy if process::is_on(cpu) => self.was_busy(&mut watch),
                Round::Busy => return Polled::GivenUp,
                Round::Idle => {
                    process::relax();
                    if !self.was_idle(cpu, &mut watch, life) {
                        return Polled::GivenUp;
                    }
                }
                Round::HandedOff => return Polled::HandedOff,
                Round::Dying => return Polled::MustEnd,
            }
        }
    }

    /// Applies changes of other tasks. Returns true if the thread must no longer poll here.
    fn must_give_up(&self, cpu: u32, watch: &mut Watch) -> bool {
        let pool = self.pool();
        if pool.is_stopping() || !pool.wants_poller(cpu) {
            return true;
        }
        if self.engine.generation() != watch.seen || watch.list.is_none() {
            match self.known() {
                Some((seen, list)) => (watch.seen, watch.list) = (seen, Some(list)),
                None => return true,
            }
        }
        let applied = pool.settings.generation();
        if applied != watch.applied {
            watch.applied = applied;
            self.renice();
        }
        false
    }

    fn was_busy(&self, watch: &mut Watch) {
        watch.idle_since = None;
        if watch.busy.was_busy() && self.pool().note_backlog(true) {
            self.engine.recruit();
        }
    }

    /// After an idle round: sleeps if the idle time is over. Returns false to give the CPU up.
    fn was_idle(&self, cpu: u32, watch: &mut Watch, life: &Life) -> bool {
        let engine = &self.engine;
        watch.busy.was_idle();
        watch.idle = watch.idle.wrapping_add(1);
        let idle_ns = engine.idle_ns();
        if idle_ns != 0 && watch.idle % ROUNDS_PER_LOOK != 0 {
            return true;
        }
        if !process::is_on(cpu) {
            return false;
        }
        self.keep_up(life);
        let now = process::now_ns();
        if watch
            .no_spare_at
            .is_some_and(|at| now.saturating_sub(at) > SPARE_RETRY_NS)
        {
            // Creating a spare may succeed now.
            watch.no_spare_at = None;
        }
        if now.saturating_sub(*watch.idle_since.get_or_insert(now)) < idle_ns {
            return true;
        }
        self.pool().note_backlog(false);
        if self.pool().release(cpu) {
            return false;
        }
        self.sleep(cpu, watch, life);
        true
    }

    /// Sleeps until there is something to do.
    fn sleep(&self, cpu: u32, watch: &mut Watch, life: &Life) {
        let rounds = core::mem::take(&mut watch.idle);
        let ask_for_kicks = || {
            for pages in watch.known() {
                pages.set_need_wakeup(true);
            }
            // ORDERING: Pairs with the program's barrier between posting and reading the flag.
            process::full_barrier();
        };
        self.pool()
            .sleep_as_poller(self.slot, cpu, rounds, ask_for_kicks, || {
                watch.known().iter().any(|pages| pages.any_pending())
                    || self.engine.generation() != watch.seen
                    || self.is_behind(life)
            });
        self.keep_up(life);
        for pages in watch.known() {
            pages.set_need_wakeup(false);
        }
        watch.idle_since = None;
    }

    /// Executes the entries that the poller found. Returns how the round ended, if it did.
    fn execute_found(
        &self,
        (cpu, life): (u32, &Life),
        watch: &mut Watch,
        pages: &Arc<Pages>,
        found: (u32, u64),
    ) -> Option<Round> {
        let role = Role::Poller {
            slot: self.slot,
            cpu,
        };
        let slot = self.engine.known_on(cpu);
        drop(watch.list.take().and_then(|list| slot.put(list)));
        let end = self.execute((life.thread, role), pages, found);
        if end == End::HandedOff {
            // The list stays in its slot for the thread that polls now.
            return Some(Round::HandedOff);
        }
        watch.list = slot.take();
        match end {
            End::Dying => Some(Round::Dying),
            // The signal that interrupted one call must not interrupt the next.
            End::Signal if Self::must_end(life.thread) => Some(Round::Dying),
            _ => None,
        }
    }

    /// Checks the queue and all doorbells once.
    fn poll_round(&self, cpu: u32, watch: &mut Watch, life: &mut Life) -> Round {
        let mut any = false;
        // One page from the queue per round: a queue that is always refilled must not keep the
        // poller from the doorbells.
        if let Some(pages) = self.pool().try_dequeue() {
            any = true;
            self.adopt(life, &pages);
            if let Some(found) = self.take(&pages) {
                if let Some(end) = self.execute_found((cpu, &*life), watch, &pages, found) {
                    return end;
                }
            }
        }
        let mut at = 0;
        while let Some(pages) = watch.known().get(at) {
            at += 1;
            let Some(first) = pages.first_pending() else {
                continue;
            };
            // The list is put away during the call, and this registration may end.
            let pages = pages.clone();
            for page in first..pages.len() {
                let bits = pages.claim(page);
                if bits == 0 {
                    continue;
                }
                any = true;
                self.adopt(life, &pages);
                trace::post(pages.owner(), pages.id(), page, bits);
                if let Some(end) = self.execute_found((cpu, &*life), watch, &pages, (page, bits)) {
                    return end;
                }
            }
        }
        if any {
            Round::Busy
        } else {
            Round::Idle
        }
    }
}
