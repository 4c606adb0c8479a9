// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who makes the calls that may block, so that the core goes on with other threads.

use crate::sys::area::Area;
use crate::sys::helpers::{self, Helper};
use crate::sys::raw::Errno;
use crate::ult::list::Id;
use crate::ult::pages::Outcome;

/// Number and arguments of a call.
pub(crate) type Call = [u64; 7];

/// A call that has been submitted and is not reaped yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Token(pub(crate) u32);

impl Token {
    pub(crate) const NONE: Token = Token(0);
}

/// The way of blocking calls: they are submitted, and their results reaped in any order.
pub(crate) trait Backend {
    /// Hands over a call. On an error nobody makes it.
    fn submit(&mut self, id: Id, call: Call) -> Result<Token, Errno>;
    /// Takes a result.
    fn reap(&mut self) -> Option<(Id, Outcome)>;
    /// Returns true if a call is not reaped yet.
    fn is_busy(&self) -> bool;
    /// The state before a look at what there is to do; see `wait`.
    fn events(&self) -> u32;
    /// Sleeps until something has happened since `events` gave `seen`, or until the deadline, in
    /// nanoseconds of the monotonic clock.
    fn wait(&mut self, seen: u32, deadline: Option<u64>);
    /// Interrupts a call. It is reaped as usual; a result that is there already wins over EINTR.
    fn cancel(&mut self, token: Token);
    /// Forgets everything: this is a new process, and nothing of it continues here.
    fn forget(&mut self);
    /// Later calls are made with the identity and the attributes that the core's thread has now.
    fn renew(&mut self);
}

/// Helper threads, one for each call that waits at the same time.
pub(crate) struct Helpers {
    table: Area<Helper>,
    /// For each helper: its user, or the next idle one.
    users: Area<u32>,
    /// Bits of each helper.
    flags: Area<u32>,
    idle: u32,
    used: u32,
    /// Those that are done and not reaped: an index, plus 1.
    done: u32,
    /// Calls that are not reaped yet.
    busy: u32,
}

/// The helper ends after its call: it may still get a signal, or has an old identity.
const ENDS: u32 = 1;

const MOST: usize = 1 << 16;

impl Helpers {
    pub(crate) const fn new() -> Self {
        Helpers {
            table: Area::none(),
            users: Area::none(),
            flags: Area::none(),
            idle: 0,
            used: 0,
            done: 0,
            busy: 0,
        }
    }

    pub(crate) fn make_room(&mut self) -> Result<(), Errno> {
        self.table = Area::new(MOST)?;
        self.users = Area::new(MOST)?;
        self.flags = Area::new(MOST)?;
        Ok(())
    }

    /// An idle helper, or a new one.
    fn take(&mut self) -> Result<u32, Errno> {
        if self.idle != 0 {
            let index = self.idle - 1;
            self.idle = self.users[index as usize];
            return Ok(index);
        }
        const EAGAIN: i32 = 11;
        // Places of helpers that have ended.
        let free = (0..self.used).find(|index| self.table[*index as usize].is_free());
        let index = free.unwrap_or(self.used);
        let helper = self.table.get(index as usize).ok_or(Errno(EAGAIN))?;
        helper.start(index)?;
        self.flags[index as usize] = 0;
        self.used = self.used.max(index + 1);
        Ok(index)
    }
}

impl Backend for Helpers {
    fn submit(&mut self, id: Id, call: Call) -> Result<Token, Errno> {
        let index = self.take()?;
        self.users[index as usize] = id.0;
        self.table[index as usize].give(call);
        self.busy += 1;
        Ok(Token(index + 1))
    }

    fn reap(&mut self) -> Option<(Id, Outcome)> {
        if self.done == 0 {
            self.done = helpers::take_done();
        }
        let index = self.done.checked_sub(1)?;
        let helper = &self.table[index as usize];
        self.done = helper.next();
        self.busy -= 1;
        let result = helper.result();
        let id = Id(self.users[index as usize]);
        if self.flags[index as usize] & ENDS != 0 {
            helper.end();
        } else {
            self.users[index as usize] = self.idle;
            self.idle = index + 1;
        }
        Some((id, Outcome::Result(result)))
    }

    fn is_busy(&self) -> bool {
        self.busy > 0
    }

    fn events(&self) -> u32 {
        helpers::events()
    }

    fn wait(&mut self, seen: u32, deadline: Option<u64>) {
        helpers::sleep(seen, deadline);
    }

    fn cancel(&mut self, token: Token) {
        let index = token.0 as usize - 1;
        // The signal may come late, into a call of somebody else.
        self.flags[index] |= ENDS;
        self.table[index].cancel();
    }

    fn forget(&mut self) {
        for index in 0..self.used as usize {
            self.table[index].forget();
        }
        self.idle = 0;
        self.done = 0;
        self.busy = 0;
        helpers::forget_done();
    }

    fn renew(&mut self) {
        while self.idle != 0 {
            let index = self.idle - 1;
            self.idle = self.users[index as usize];
            self.table[index as usize].end();
        }
        for index in 0..self.used as usize {
            self.flags[index] |= ENDS;
        }
    }
}
