// SPDX-License-Identifier: MIT OR Apache-2.0
//! Queues of user-level threads, linked through the table of threads.

use crate::ult::core::Ult;

/// A place in the table of threads; 0: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Id(pub(crate) u32);

impl Id {
    pub(crate) const NONE: Id = Id(0);
    /// The program's first thread, or the one that forked this process.
    pub(crate) const MAIN: Id = Id(1);

    pub(crate) fn is_none(self) -> bool {
        self == Id::NONE
    }
}

/// Neighbours in the queue that a thread is in. It is in one at most.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Links {
    next: Id,
    previous: Id,
}

/// A queue: first in, first out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct List {
    head: Id,
    tail: Id,
}

impl List {
    pub(crate) const EMPTY: List = List {
        head: Id::NONE,
        tail: Id::NONE,
    };

    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    pub(crate) fn first(&self) -> Id {
        self.head
    }

    /// The thread behind another one.
    pub(crate) fn after(ults: &[Ult], id: Id) -> Id {
        ults[id.0 as usize].links.next
    }

    pub(crate) fn push(&mut self, ults: &mut [Ult], id: Id) {
        ults[id.0 as usize].links = Links {
            next: Id::NONE,
            previous: self.tail,
        };
        if self.tail.is_none() {
            self.head = id;
        } else {
            ults[self.tail.0 as usize].links.next = id;
        }
        self.tail = id;
    }

    pub(crate) fn remove(&mut self, ults: &mut [Ult], id: Id) {
        let Links { next, previous } = ults[id.0 as usize].links;
        if previous.is_none() {
            self.head = next;
        } else {
            ults[previous.0 as usize].links.next = next;
        }
        if next.is_none() {
            self.tail = previous;
        } else {
            ults[next.0 as usize].links.previous = previous;
        }
    }

    pub(crate) fn pop(&mut self, ults: &mut [Ult]) -> Option<Id> {
        if self.is_empty() {
            return None;
        }
        let id = self.head;
        self.remove(ults, id);
        Some(id)
    }
}
