// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engine's syscall pages as a backend: threads post their calls while others run, and when none is
//! ready the core waits in the engine, which executes what has been posted.

use crate::process;
use crate::sys::engine::{CANCELLED, ENTRIES, Engine, PAGES, WAIT_ANY, WAIT_NONE};
use crate::sys::raw::{self, Errno};
use crate::ult::list::Id;
use crate::ult::nr::{EAGAIN, EBADF, EINTR, ENOTTY};
use crate::ult::pool::{Backend, Call, Helpers, Token};

/// Tokens of helpers are below.
const FIRST: u32 = 1 << 24;

/// One page, as its producer sees it.
#[derive(Clone, Copy)]
struct Page {
    posted: u64,
    reaped: u64,
    users: [u32; ENTRIES],
}

/// What a finished call has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Result(i64),
    /// The engine does not make it.
    Refused,
}

/// Syscall pages.
struct Pages {
    engine: Engine,
    /// Bits of pages on which something is posted and not reaped.
    busy: u32,
    is_rung: bool,
}

/// Calls go to the engine where there is one, and to helper threads otherwise, or if the engine refuses
/// them.
pub(crate) struct Backends {
    helpers: Helpers,
    pages: Option<Pages>,
    table: [Page; PAGES],
    tid: u32,
    in_flight: u32,
    counts: Counts,
}

/// How many calls have been handed over to whom.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) engine: u64,
    pub(crate) helpers: u64,
    pub(crate) refused: u64,
}

impl Backends {
    pub(crate) const fn new() -> Self {
        const PAGE: Page = Page {
            posted: 0,
            reaped: 0,
            users: [0; ENTRIES],
        };
        Backends {
            helpers: Helpers::new(),
            pages: None,
            table: [PAGE; PAGES],
            tid: 0,
            in_flight: 0,
            counts: Counts {
                engine: 0,
                helpers: 0,
                refused: 0,
            },
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Makes the tables, and uses the engine if there is one. Returns why not.
    pub(crate) fn begin(&mut self, tid: u32) -> Result<Result<(), Errno>, Errno> {
        self.helpers.make_room()?;
        self.tid = tid;
        Ok(Engine::new().map(|engine| {
            self.pages = Some(Pages {
                engine,
                busy: 0,
                is_rung: true,
            });
        }))
    }

    pub(crate) fn has_engine(&self) -> bool {
        self.pages.is_some()
    }

    /// Returns true for the library's own descriptor.
    pub(crate) fn has_fd(&self, fd: u64) -> bool {
        let pages = self.pages.as_ref();
        pages.is_some_and(|pages| pages.engine.has_fd(fd))
    }

    /// Hands a call to a helper, whatever else there is.
    pub(crate) fn submit_to_helper(&mut self, id: Id, call: Call) -> Result<Token, Errno> {
        self.counts.helpers += 1;
        self.helpers.submit(id, call)
    }

    /// Has the engine begin with what is posted, without waiting.
    pub(crate) fn flush(&mut self) {
        if let Some(pages) = &mut self.pages {
            if !pages.is_rung {
                pages.is_rung = true;
                pages.engine.wait(WAIT_NONE, None, self.tid);
            }
        }
    }
}

impl Backend for Backends {
    fn submit(&mut self, id: Id, call: Call) -> Result<Token, Errno> {
        let Some(pages) = &mut self.pages else {
            return self.submit_to_helper(id, call);
        };
        let rows = self.table.iter_mut().enumerate();
        let free = |row: &Page| !(row.posted ^ row.reaped);
        let Some((page, row)) = rows.into_iter().find(|(_, row)| free(row) != 0) else {
            return self.submit_to_helper(id, call);
        };
        let bit = free(row).trailing_zeros() as usize;
        let [nr, a, b, c, d, e, f] = call;
        let index = page * ENTRIES + bit;
        let number = u16::try_from(nr).map_err(|_| Errno(EAGAIN as i32))?;
        pages.engine.write(index, number, [a, b, c, d, e, f]);
        row.users[bit] = id.0;
        row.posted ^= 1 << bit;
        pages.engine.ring(page, row.posted, row.reaped);
        pages.busy |= 1 << page;
        pages.is_rung = false;
        self.in_flight += 1;
        self.counts.engine += 1;
        Ok(Token(FIRST + index as u32))
    }

    fn reap(&mut self) -> Option<(Id, Outcome)> {
        if let Some(reaped) = self.helpers.reap() {
            return Some(reaped);
        }
        let pages = self.pages.as_mut()?;
        let mut busy = pages.busy;
        while busy != 0 {
            let page = busy.trailing_zeros() as usize;
            busy &= busy - 1;
            let row = &mut self.table[page];
            let ready = pages.engine.done(page) ^ row.reaped;
            if ready == 0 {
                continue;
            }
            let bit = ready.trailing_zeros() as usize;
            let (result, reason) = pages.engine.result(page * ENTRIES + bit);
            row.reaped ^= 1 << bit;
            // WAIT counts results that are not reaped.
            pages.engine.ring(page, row.posted, row.reaped);
            if row.posted == row.reaped {
                pages.busy &= !(1 << page);
            }
            self.in_flight -= 1;
            let outcome = match reason {
                0 => Outcome::Result(result),
                CANCELLED => Outcome::Result(-EINTR),
                _ => {
                    self.counts.refused += 1;
                    Outcome::Refused
                }
            };
            return Some((Id(row.users[bit]), outcome));
        }
        None
    }

    fn is_busy(&self) -> bool {
        self.in_flight > 0 || self.helpers.is_busy()
    }

    fn events(&self) -> u32 {
        self.helpers.events()
    }

    fn wait(&mut self, seen: u32, deadline: Option<u64>) {
        match &mut self.pages {
            Some(pages) if self.in_flight > 0 => {
                pages.is_rung = true;
                let result = pages.engine.wait(WAIT_ANY, deadline, self.tid);
                // Nobody would ever get the results.
                if result == -EBADF || result == -ENOTTY {
                    process::complain("the program has closed the descriptor of /dev/flexsc");
                    raw::abort();
                }
            }
            _ => self.helpers.wait(seen, deadline),
        }
    }

    fn cancel(&mut self, token: Token) {
        match (&self.pages, token.0.checked_sub(FIRST)) {
            (Some(pages), Some(index)) => pages.engine.cancel(index),
            _ => self.helpers.cancel(token),
        }
    }

    fn forget(&mut self) {
        self.helpers.forget();
        if let Some(pages) = self.pages.take() {
            pages.engine.forget();
        }
        self.in_flight = 0;
    }

    fn renew(&mut self) {
        self.helpers.renew();
    }
}
