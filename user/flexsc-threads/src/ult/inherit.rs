// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mutexes with priority inheritance. User-level threads have no priorities, so that the word is all
//! there is: the owner's number, and whether others wait.

use crate::sys::{copy, inside};
use crate::ult::nr::{EAGAIN, EDEADLK, EINTR, EPERM, ESRCH, ETIMEDOUT};
use crate::ult::park;
use crate::ult::signals::{self, Delivered};
use crate::ult::waiting::was_interrupted;

const WAITERS: u32 = 0x8000_0000;
const OWNER_DIED: u32 = 0x4000_0000;
const TID: u32 = 0x3fff_ffff;

/// FUTEX_LOCK_PI and FUTEX_TRYLOCK_PI
pub(crate) fn lock(address: u64, is_try: bool, deadline: Option<u64>) -> Result<i64, i64> {
    let tid = inside::with(|core| core.current().tid);
    let mut has_waited = false;
    loop {
        let word = copy::load(address)?;
        let owner = word & TID;
        if owner == tid {
            // `unlock` has handed it over.
            return if has_waited { Ok(0) } else { Err(-EDEADLK) };
        }
        if owner == 0 {
            let new = tid | word & (WAITERS | OWNER_DIED);
            if copy::exchange(address, word, new)? == word {
                return Ok(0);
            }
            continue;
        }
        if is_try {
            return Err(-EAGAIN);
        }
        if inside::with(|core| core.find(owner)).is_none() {
            return Err(-ESRCH);
        }
        if copy::exchange(address, word, word | WAITERS)? != word {
            continue;
        }
        inside::with(|core| {
            let id = core.running;
            core.park();
            core.futexes.add(&mut core.ults, id, address, !0);
            if let Some(deadline) = deadline {
                core.timers.add(&mut core.ults, id, deadline);
            }
        });
        let result = park();
        has_waited = true;
        if was_interrupted() {
            if signals::deliver() == Delivered::Interrupt {
                return Err(-EINTR);
            }
        } else if result == -ETIMEDOUT {
            return Err(-ETIMEDOUT);
        }
    }
}

/// FUTEX_UNLOCK_PI
pub(crate) fn unlock(address: u64) -> Result<i64, i64> {
    let tid = inside::with(|core| core.current().tid);
    let word = copy::load(address)?;
    if word & TID != tid {
        return Err(-EPERM);
    }
    // While the word says that there are waiters, only this call changes it.
    let next = inside::with(|core| {
        let id = core.futexes.take(&mut core.ults, address, !0)?;
        let others = core.futexes.has(&core.ults, address);
        core.unpark(id, 0);
        Some((core.ult(id).tid, others))
    });
    let new = match next {
        None => 0,
        Some((tid, false)) => tid,
        Some((tid, true)) => tid | WAITERS,
    };
    copy::write(address, &new)?;
    Ok(0)
}
