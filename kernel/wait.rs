// SPDX-License-Identifier: GPL-2.0

//! WAIT: the owner executes its entries inline, then sleeps until its wait policy is satisfied.

mod adaptive;

use self::adaptive::Rate;
use crate::{
    engine::Engine,
    pages::{Count, Pages},
    run::{self, End},
    sys::{
        errno,
        process::{self, Current},
    },
    worker::Worker,
};
use kernel::prelude::*;
use kernel::sync::ArcBorrow;
use kernel::uapi;

/// A wait policy. Times are in nanoseconds; `timeout` is on the host's CLOCK_MONOTONIC.
#[derive(Clone, Copy)]
pub(crate) struct Policy {
    need: Need,
    timeout: Option<u64>,
    linger: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    None,
    Some(u32),
    All,
    /// As `Some`, but at most as many as can still come.
    AtMost(u32),
    /// To be replaced by `AtMost`.
    Adaptive,
}

impl Policy {
    #[inline(always)]
    pub(crate) fn new(policy: u32, min: u32, timeout_ns: u64, linger_ns: u64) -> Result<Self> {
        let need = match policy {
            uapi::flexsc_policy_FLEXSC_WAIT_NONE => Need::None,
            uapi::flexsc_policy_FLEXSC_WAIT_ANY => Need::Some(1),
            uapi::flexsc_policy_FLEXSC_WAIT_SOME => Need::Some(core::cmp::max(min, 1)),
            uapi::flexsc_policy_FLEXSC_WAIT_ALL => Need::All,
            uapi::flexsc_policy_FLEXSC_WAIT_ADAPTIVE => Need::Adaptive,
            _ => return Err(EINVAL),
        };
        let is_some = policy == uapi::flexsc_policy_FLEXSC_WAIT_SOME;
        if !is_some && (min != 0 || linger_ns != 0) {
            return Err(EINVAL);
        }
        Ok(Policy {
            need,
            timeout: (timeout_ns != 0).then(|| process::monotonic_to_host(timeout_ns)),
            linger: (linger_ns != 0).then_some(linger_ns),
        })
    }

    fn untimed(need: Need) -> Self {
        Policy {
            need,
            timeout: None,
            linger: None,
        }
    }

    fn missing(&self, count: Count) -> u32 {
        self.need.missing(count)
    }
}

impl Need {
    /// Returns how many more results are needed, given `count`.
    #[inline(always)]
    fn missing(self, count: Count) -> u32 {
        match self {
            Need::None => 0,
            Need::Some(n) => n.saturating_sub(count.ready),
            Need::All => count.unfinished,
            Need::AtMost(n) => {
                let can_come = count.ready.saturating_add(count.unfinished);
                core::cmp::min(n, core::cmp::max(can_come, 1)).saturating_sub(count.ready)
            }
            Need::Adaptive => 0,
        }
    }
}

/// If no thread can run the queued entries of a pool: creates one or fails the entries with STARVED.
///
/// Returns false if the owner must handle a signal first.
fn spawn_or_fail_starved(engine: ArcBorrow<'_, Engine>, pages: &Pages) -> bool {
    for pool in engine.pools.set().iter() {
        if !engine.pools.is_starved(pool) {
            continue;
        }
        match Worker::spawn(engine, pool, pages.owner()) {
            // A signal interrupted the creation; no limit was reached.
            Err(EINTR) if process::signal_pending() => return false,
            Err(_) if engine.pools.is_stuck(pool) => pages.fail_starved(pool),
            _ => (),
        }
    }
    true
}

/// WAIT by the task `current`, the owner of `pages`. Returns the number of ready results.
pub(crate) fn wait(
    engine: ArcBorrow<'_, Engine>,
    pages: ArcBorrow<'_, Pages>,
    current: Current,
    policy: &Policy,
) -> Result<u32> {
    attend(pages);
    let answer = if policy.need == Need::Adaptive {
        wait_adaptive(engine, pages, current, *policy)
    } else {
        wait_at_once(engine, pages, current, policy)
    };
    leave(engine, pages, current);
    answer
}

/// As [`wait`], for a policy without times, which in the common case stays in registers.
#[inline(always)]
pub(crate) fn wait_untimed(
    engine: ArcBorrow<'_, Engine>,
    pages: ArcBorrow<'_, Pages>,
    current: Current,
    policy: Policy,
) -> Result<u32> {
    let need = policy.need;
    if need == Need::Adaptive {
        return wait(engine, pages, current, &Policy::untimed(need));
    }
    attend(pages);
    pages.count_wait();
    let signal = run::execute_posted_inline(&engine, pages, current) == End::Signal;
    let answer = match at_once(pages, need) {
        Some(ready) => Ok(ready),
        None => wait_untimed_long(engine, pages, current, need, signal),
    };
    leave(engine, pages, current);
    answer
}

/// The owner begins a WAIT: from now on it executes parked calls that become ready.
#[inline(always)]
fn attend(pages: ArcBorrow<'_, Pages>) {
    if pages.has_parked() {
        pages.attend_ready();
    }
}

/// The owner ends its WAIT.
#[inline(always)]
fn leave(engine: ArcBorrow<'_, Engine>, pages: ArcBorrow<'_, Pages>, current: Current) {
    if pages.has_parked() {
        leave_parked(engine, pages, current);
    }
}

#[inline(never)]
fn leave_parked(engine: ArcBorrow<'_, Engine>, pages: ArcBorrow<'_, Pages>, current: Current) {
    // Executed here, so that no thread needs to execute the calls that are already ready.
    if pages.has_ready() && !process::signal_pending() {
        run::execute_posted(&engine, pages, current);
    }
    pages.leave_wait();
}

fn wait_at_once(
    engine: ArcBorrow<'_, Engine>,
    pages: ArcBorrow<'_, Pages>,
    current: Current,
    policy: &Policy,
) -> Result<u32> {
    pages.count_wait();
    let signal = run::execute_posted(&engine, pages, current) == End::Signal;
    match at_once(pages, policy.need) {
        Some(ready) => Ok(ready),
        None => wait_long(engine, pages, current, *policy, signal),
    }
}

#[inline(never)]
fn wait_untimed_long(
    engine: ArcBorrow<'_, Engine>,
    pages: ArcBorrow<'_, Pages>,
    current: Current,
    need: Need,
    signal: bool,
) -> Result<u32> {
    wait_long(engine, pages, current, Policy::untimed(need), signal)
}

/// WAIT with the policy ADAPTIVE.
#[inline(never)]
fn wait_adaptive(
    engine: ArcBorrow<'_, Engine>,
    pages: ArcBorrow<'_, Pages>,
    current: Current,
    policy: Policy,
) -> Result<u32> {
    let (rate, since) = pages.rate();
    let rate = Rate::from_raw(rate);
    let choice = rate.choose();
    let now = Policy {
        need: Need::AtMost(choice.results),
        timeout: policy.timeout,
        linger: (choice.linger_ns != 0).then_some(choice.linger_ns),
    };
    let ready = wait_at_once(engine, pages, current, &now)?;
    let at = process::now_ns();
    let rate = if since == 0 {
        rate
    } else {
        rate.learn(ready, at.saturating_sub(since))
    };
    pages.set_rate(rate.to_raw(), at);
    Ok(ready)
}

/// Returns the number of ready results if it satisfies `need`.
#[inline(always)]
fn at_once(pages: ArcBorrow<'_, Pages>, need: Need) -> Option<u32> {
    let count = pages.count();
    (need.missing(count) == 0).then_some(count.ready)
}

/// Continues a WAIT whose policy is not satisfied by the entries that were executed at once.
#[inline(never)]
fn wait_long(
    engine: ArcBorrow<'_, Engine>,
    pages: ArcBorrow<'_, Pages>,
    current: Current,
    policy: Policy,
    mut signal: bool,
) -> Result<u32> {
    let mut linger_until = None;
    loop {
        let count = pages.count();
        if let Some(answer) = answer(&policy, count, signal, linger_until.is_some()) {
            return answer;
        }
        let now = process::now_ns();
        if policy.timeout.is_some_and(|t| t <= now) {
            return Err(errno::etime());
        }
        if let Some(linger) = policy.linger {
            if count.ready != 0 {
                let until = *linger_until.get_or_insert(now.saturating_add(linger));
                if until <= now {
                    return Ok(count.ready);
                }
            }
        }
        sleep(engine, &pages, &policy, linger_until);
        signal = run::execute_posted(&engine, pages, current) == End::Signal;
    }
}

/// Returns the result of WAIT if it depends on no time, `None` if WAIT continues. `lingers` is
/// true once the time of `linger` has begun.
fn answer(policy: &Policy, count: Count, signal: bool, lingers: bool) -> Option<Result<u32>> {
    if policy.missing(count) == 0 {
        return Some(Ok(count.ready));
    }
    if signal || process::signal_pending() {
        // The time of `linger` is relative: it would begin anew with each restart.
        return Some(Err(if policy.linger.is_some() && count.ready != 0 {
            ERESTARTNOHAND
        } else {
            ERESTARTSYS
        }));
    }
    // The policy may need more results than can come.
    let can_come = count.ready + count.unfinished;
    match policy.need {
        Need::AtMost(_) if can_come == 0 => Some(Err(errno::edeadlk())),
        Need::Some(n) if can_come < n && !lingers => match policy.linger {
            Some(_) if count.unfinished != 0 => None,
            Some(_) if count.ready != 0 => Some(Ok(count.ready)),
            _ => Some(Err(errno::edeadlk())),
        },
        _ => None,
    }
}

/// Sleeps until there are enough results or the owner has other work.
fn sleep(engine: ArcBorrow<'_, Engine>, pages: &Pages, policy: &Policy, linger_until: Option<u64>) {
    if !spawn_or_fail_starved(engine, pages) {
        return;
    }
    engine.look_for_backlog(Some(pages));
    process::sleep_prepare();
    let sleeps = pages.sleep_for(|count| {
        // The first result starts the time of `linger`, so it must wake the owner.
        let missing = policy.missing(count);
        if policy.linger.is_some() && linger_until.is_none() {
            core::cmp::min(missing, if count.ready == 0 { 1 } else { 0 })
        } else {
            missing
        }
    });
    if !sleeps {
        process::sleep_cancel();
        return;
    }
    match [policy.timeout, linger_until].into_iter().flatten().min() {
        Some(when) => {
            process::sleep_until(when);
        }
        None => {
            process::sleep(None);
        }
    }
    pages.awake();
}
