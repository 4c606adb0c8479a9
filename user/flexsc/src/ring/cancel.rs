// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cancelling operations of a ring, wherever they are.

use super::job::Answer;
use super::{At, Ring};
use crate::{Error, Slots};
#[cfg(doc)]
use crate::{Pages, Reason};

impl Ring {
    /// Ends an operation as a signal would: with EINTR or a partial result; with
    /// ECANCELED and [`Reason::Cancelled`] if it has not started; with its own result if
    /// the cancellation comes too late. The result arrives as usual. If several operations
    /// have this token, all of them are cancelled. Returns true if one was found
    /// unfinished.
    ///
    /// A plain call can be interrupted only while it waits for its file to become ready.
    ///
    /// # Errors
    ///
    /// Those of [`Pages::cancel`].
    pub fn cancel(&mut self, token: u64) -> Result<bool, Error> {
        if !self.in_same_process() {
            return Err(Error::NotTheOwner);
        }
        let mut found = false;
        for index in 0..self.flights.len() as u32 {
            let flight = self.flights[index as usize].as_ref();
            if let Some(at) = flight.filter(|flight| flight.token == token).map(|f| f.at) {
                found |= self.cancel_flight(index, at)?;
            }
        }
        Ok(found)
    }

    /// Cancels the operation of this flight, whose result was not taken.
    pub(crate) fn cancel_at(&mut self, index: u32) -> Result<bool, Error> {
        if !self.in_same_process() {
            return Err(Error::NotTheOwner);
        }
        match self.flights[index as usize]
            .as_ref()
            .map(|flight| flight.at)
        {
            Some(at) => self.cancel_flight(index, at),
            None => Ok(false),
        }
    }

    pub(super) fn cancel_flight(&mut self, index: u32, at: At) -> Result<bool, Error> {
        match at {
            At::Submitted => {
                self.submitted.retain(|&other| other != index);
                self.finish(index, Answer::cancelled());
                self.show();
                Ok(true)
            }
            At::Posted(slots) => self.cancel_posted(slots),
            At::Helper => Ok(self.helpers.cancel(index)),
            At::Ended => Ok(false),
        }
    }

    /// Cancels posted calls; of a chain all but the last one, which cleans up.
    fn cancel_posted(&self, slots: Slots) -> Result<bool, Error> {
        let Some(pages) = &self.pages else {
            return Ok(false);
        };
        let mut found = false;
        for slot in slots.iter().take(slots.len().max(2) - 1) {
            found |= pages.cancel(slot)?;
        }
        Ok(found)
    }
}
