// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dropping a ring.

use std::fmt;
use std::mem;
use std::time::{Duration, Instant};

use super::Ring;
use crate::{Error, Wait};

/// How long a drop waits for cancelled calls.
const DROP_TIMEOUT: Duration = Duration::from_secs(2);

impl Ring {
    fn drop_ready(&mut self) {
        while let Some(done) = self.take_done() {
            drop(done);
        }
    }

    /// Cancels all operations in flight and waits for them.
    fn end_all(&mut self) -> Result<(), Error> {
        let end = Instant::now() + DROP_TIMEOUT;
        loop {
            self.drop_ready();
            self.absorb();
            // Repeated in each round, because a refused operation moves to a helper.
            for index in 0..self.flights.len() as u32 {
                let flight = self.flights[index as usize].as_mut();
                let at = flight.filter(|flight| !flight.cancelled).map(|flight| {
                    flight.cancelled = true;
                    flight.at
                });
                if let Some(at) = at {
                    self.cancel_flight(index, at)?;
                }
            }
            self.drop_ready();
            if self.flights.iter().all(Option::is_none) {
                return Ok(());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::TimedOut);
            }
            match self.wait(Wait::any().timeout(left)) {
                Ok(_) | Err(Error::Interrupted | Error::TimedOut) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Cancels the operations in flight and waits for them, two seconds at most. Submitted
/// operations that were not started are dropped. If a call does not end in this time (a
/// disk may take long), its buffer and its descriptor are leaked.
///
/// To avoid losses, take all results first.
impl Drop for Ring {
    fn drop(&mut self) {
        if !self.in_same_process() {
            // In a forked child nothing is in flight, and the state that the parent's
            // helpers were changing is inconsistent.
            self.helpers.abandon();
            return;
        }
        self.stop_alarm();
        if self.flights.iter().any(Option::is_some) && self.end_all().is_err() {
            // Calls may still use the buffers, so they must not be freed.
            mem::forget(mem::take(&mut self.flights));
        }
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("plain", &self.is_plain())
            .field("capacity", &self.capacity)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
