// SPDX-License-Identifier: GPL-2.0

//! A pool's queue of registrations with offloaded entries: a ring that has room for all of them,
//! because the scheduler's hook adds to it.

use crate::pages::Pages;
use kernel::prelude::*;
use kernel::sync::Arc;

/// See the module's documentation.
pub(super) struct Queue {
    ring: KVVec<Option<Arc<Pages>>>,
    head: usize,
    len: u32,
}

impl Queue {
    pub(super) fn new(capacity: usize) -> Result<Self> {
        let mut ring = KVVec::with_capacity(capacity, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..capacity {
            ring.push(None, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(Queue {
            ring,
            head: 0,
            len: 0,
        })
    }

    pub(super) fn len(&self) -> u32 {
        self.len
    }

    pub(super) fn capacity(&self) -> usize {
        self.ring.len()
    }

    /// Moves the queue into `larger`, which is empty and becomes the old one.
    pub(super) fn move_to(&mut self, larger: &mut Queue) {
        while let Some(pages) = self.pop() {
            let moved = larger.push(pages);
            debug_assert!(moved);
        }
        core::mem::swap(self, larger);
    }

    /// Returns the index in the ring of the `i`th registration of the queue.
    fn at(&self, i: u32) -> usize {
        self.head.wrapping_add(i as usize) % core::cmp::max(self.ring.len(), 1)
    }

    /// Adds `pages` at the tail. Returns false if there is no room, which cannot happen: the queue
    /// has room for each registration that has not ended, and no registration is in it twice.
    pub(super) fn push(&mut self, pages: Arc<Pages>) -> bool {
        let tail = self.at(self.len);
        match self.ring.get_mut(tail) {
            Some(free) if free.is_none() => *free = Some(pages),
            _ => return false,
        }
        self.len = self.len.wrapping_add(1);
        true
    }

    /// Takes the registration at the head.
    pub(super) fn pop(&mut self) -> Option<Arc<Pages>> {
        let len = self.len.checked_sub(1)?;
        let pages = self.ring.get_mut(self.head)?.take();
        self.head = self.at(1);
        self.len = len;
        pages
    }

    /// Removes `pages`, wherever they are in the queue.
    pub(super) fn remove(&mut self, pages: &Pages) -> Option<Arc<Pages>> {
        let is_it = |i: u32| match self.ring.get(self.at(i)) {
            Some(Some(queued)) => core::ptr::eq(&**queued, pages),
            _ => false,
        };
        let found = (0..self.len).find(|i| is_it(*i))?;
        let at = self.at(found);
        let pages = self.ring.get_mut(at)?.take();
        for i in found.wrapping_add(1)..self.len {
            let (from, to) = (self.at(i), self.at(i.wrapping_sub(1)));
            self.ring.swap(from, to);
        }
        self.len = self.len.wrapping_sub(1);
        pages
    }

    /// Checks what holds whenever the pool's lock is free, see `table/invariants.rs`.
    pub(super) fn check_bounds(&self) {
        debug_assert!(self.len as usize <= self.ring.len());
        debug_assert!(self.ring.is_empty() || self.head < self.ring.len());
    }

    /// As [`Self::check_bounds`], but checks the whole queue.
    pub(super) fn check_all(&self) {
        for i in 0..self.len {
            debug_assert!(self.ring.get(self.at(i)).is_some_and(Option::is_some));
        }
        if (self.len as usize) < self.ring.len() {
            let free = self.ring.get(self.at(self.len));
            debug_assert!(free.is_some_and(Option::is_none));
        }
    }
}
