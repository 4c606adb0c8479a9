// SPDX-License-Identifier: MIT OR Apache-2.0
//! Deadlines of threads that wait: a heap, the earliest first.

use crate::sys::area::Area;
use crate::ult::core::Ult;
use crate::ult::list::Id;

pub(crate) struct Timers {
    /// Places in the table of threads, as a heap by their deadlines; from 1 on.
    heap: Area<u32>,
    len: usize,
}

impl Timers {
    pub(crate) const fn new() -> Self {
        Timers {
            heap: Area::none(),
            len: 0,
        }
    }

    pub(crate) fn set_room(&mut self, room: Area<u32>) {
        self.heap = room;
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// The earliest deadline, in nanoseconds of the monotonic clock.
    pub(crate) fn first(&self, ults: &[Ult]) -> Option<u64> {
        (self.len > 0).then(|| ults[self.heap[1] as usize].deadline)
    }

    /// Adds a thread that has no deadline yet.
    pub(crate) fn add(&mut self, ults: &mut [Ult], id: Id, deadline: u64) {
        self.len += 1;
        ults[id.0 as usize].deadline = deadline;
        self.put(ults, self.len, id.0);
        self.rise(ults, self.len);
    }

    /// Takes a thread out if it has a deadline.
    pub(crate) fn remove(&mut self, ults: &mut [Ult], id: Id) {
        let place = ults[id.0 as usize].timer as usize;
        if place == 0 {
            return;
        }
        ults[id.0 as usize].timer = 0;
        let last = self.heap[self.len];
        self.len -= 1;
        if place <= self.len {
            self.put(ults, place, last);
            self.rise(ults, place);
            self.sink(ults, ults[last as usize].timer as usize);
        }
    }

    /// Takes out a thread whose deadline has come.
    pub(crate) fn pop(&mut self, ults: &mut [Ult], now: u64) -> Option<Id> {
        if self.first(ults)? > now {
            return None;
        }
        let id = Id(self.heap[1]);
        self.remove(ults, id);
        Some(id)
    }

    fn put(&mut self, ults: &mut [Ult], place: usize, id: u32) {
        self.heap[place] = id;
        ults[id as usize].timer = place as u32;
    }

    fn is_before(&self, ults: &[Ult], a: usize, b: usize) -> bool {
        ults[self.heap[a] as usize].deadline < ults[self.heap[b] as usize].deadline
    }

    fn swap(&mut self, ults: &mut [Ult], a: usize, b: usize) {
        let (in_a, in_b) = (self.heap[a], self.heap[b]);
        self.put(ults, a, in_b);
        self.put(ults, b, in_a);
    }

    fn rise(&mut self, ults: &mut [Ult], mut place: usize) {
        while place > 1 && self.is_before(ults, place, place / 2) {
            self.swap(ults, place, place / 2);
            place /= 2;
        }
    }

    fn sink(&mut self, ults: &mut [Ult], mut place: usize) {
        loop {
            let mut child = 2 * place;
            if child > self.len {
                return;
            }
            if child < self.len && self.is_before(ults, child + 1, child) {
                child += 1;
            }
            if !self.is_before(ults, child, place) {
                return;
            }
            self.swap(ults, child, place);
            place = child;
        }
    }
}
