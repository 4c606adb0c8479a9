// SPDX-License-Identifier: GPL-2.0

//! A table whose entries their owning threads read without a lock.

use super::{
    lock::{Class, Guard, RawLock},
    miscdev::Closed,
    once::OnceTable,
    process::{Caller, Thread},
};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};

/// One slot of the table.
///
/// # Invariants
///
/// `item` is null or from `Arc::into_raw`. `owner` is null then, or the task that entered `item`,
/// from `Thread::into_raw`: so no other task has its address. Both change under the lock only.
struct Slot<T> {
    owner: AtomicPtr<kernel::bindings::task_struct>,
    item: AtomicPtr<T>,
}

/// Slots that are created together. A power of two.
const CHUNK: usize = 256;
const CHUNKS: usize = 64;

/// As many slots as [`CHUNK`].
struct Chunk<T>(KVec<Slot<T>>);

impl<T> Chunk<T> {
    fn new() -> Result<KBox<Self>> {
        let mut slots = KVec::with_capacity(CHUNK, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..CHUNK {
            // INVARIANT: Both null.
            let slot = Slot {
                owner: AtomicPtr::new(ptr::null_mut()),
                item: AtomicPtr::new(ptr::null_mut()),
            };
            slots.push(slot, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(KBox::new(Chunk(slots), GFP_KERNEL_ACCOUNT)?)
    }
}

/// What the lock protects besides the slots.
struct Locked<D> {
    data: D,
    /// All slots before this one are taken.
    free_from: usize,
}

/// The table, with additional data `D` protected by its lock. It grows.
pub(crate) struct OwnedTable<T, D> {
    chunks: OnceTable<Chunk<T>, CHUNKS>,
    /// One more than the highest number in use. Changes under the lock only.
    len: AtomicUsize,
    lock: RawLock<Locked<D>>,
}

// SAFETY: The table hands out shared references and `Arc`s of `T`.
unsafe impl<T: Send + Sync, D: Send> Send for OwnedTable<T, D> {}
// SAFETY: As above.
unsafe impl<T: Send + Sync, D: Send> Sync for OwnedTable<T, D> {}

impl<T, D> OwnedTable<T, D> {
    pub(crate) fn new(data: D) -> Self {
        let locked = Locked { data, free_from: 0 };
        OwnedTable {
            chunks: OnceTable::new(),
            len: AtomicUsize::new(0),
            lock: RawLock::new(locked, Class::Slots),
        }
    }

    /// Returns a number that is higher than all those of items.
    pub(crate) fn len(&self) -> usize {
        // ORDERING: None needed: the lock orders the slots.
        self.len.load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn slot(&self, id: usize) -> Option<&Slot<T>> {
        let chunk = if id < CHUNK {
            self.chunks.first()?
        } else {
            self.chunks.get(id / CHUNK)?
        };
        // The remainder keeps speculation within the chunk.
        chunk.0.get(id % CHUNK)
    }

    /// Calls `f` with the data, under the lock.
    pub(crate) fn data<R>(&self, f: impl FnOnce(&mut D) -> R) -> R {
        f(&mut self.lock.lock().data)
    }

    /// Returns item `id` if the caller has entered it. Takes no lock.
    #[inline(always)]
    pub(crate) fn get_own<'a>(&'a self, id: usize, caller: &'a Caller) -> Option<ArcBorrow<'a, T>> {
        let slot = self.slot(id)?;
        // ORDERING: Pairs with the release in `enter`, though it is the same task.
        let owner = slot.owner.load(Ordering::Acquire);
        if owner != caller.task().as_ptr() {
            return None;
        }
        let item = slot.item.load(Ordering::Relaxed);
        // SAFETY: By the invariant no other task has the owner's address: the caller has entered the
        // item. The borrow borrows the caller too, so that the owner does not call `remove` meanwhile.
        // Other tasks call it only when the owner has begun to exit, which happens outside of
        // requests, and `take` is called when no request is under way. The table itself is the open
        // file's, to which the core has a reference during a request: posted calls may close any
        // descriptor.
        Some(unsafe { ArcBorrow::from_raw(item) })
    }

    /// Returns the item of `slot`, for a caller that holds the lock while it uses the item.
    fn borrow_locked<'a>(
        slot: &Slot<T>,
        _guard: &'a Guard<'_, Locked<D>>,
    ) -> Option<ArcBorrow<'a, T>> {
        let item = slot.item.load(Ordering::Relaxed);
        if item.is_null() {
            return None;
        }
        // SAFETY: By the invariant; the lock is held, so it is not removed meanwhile.
        Some(unsafe { ArcBorrow::from_raw(item) })
    }

    /// Returns item `id`.
    pub(crate) fn get(&self, id: usize) -> Option<Arc<T>> {
        let slot = self.slot(id)?;
        let guard = self.lock.lock();
        Self::borrow_locked(slot, &guard).map(Arc::from)
    }

    /// As [`Self::get`], but only if the item is `wanted`, which is called with the lock held.
    /// An unneeded reference would keep alive an item that has just been removed.
    pub(crate) fn get_if(&self, id: usize, wanted: impl FnOnce(&T) -> bool) -> Option<Arc<T>> {
        let slot = self.slot(id)?;
        let guard = self.lock.lock();
        Self::borrow_locked(slot, &guard)
            .filter(|item| wanted(item))
            .map(Arc::from)
    }

    /// Returns the first free slot and its number, if there is one.
    fn free_slot(&self, guard: &Guard<'_, Locked<D>>) -> Option<(usize, &Slot<T>)> {
        (guard.free_from..CHUNK * CHUNKS)
            .map_while(|id| Some((id, self.slot(id)?)))
            .find(|(_, slot)| slot.item.load(Ordering::Relaxed).is_null())
    }

    /// Returns the number of slots that there are.
    fn capacity(&self) -> usize {
        let is_there = |chunk: &usize| self.chunks.get(*chunk).is_some();
        (0..CHUNKS).take_while(is_there).count() * CHUNK
    }

    /// Makes the table larger than `capacity`, unless another task already has.
    fn grow(&self, capacity: usize) -> Result {
        self.chunks.put(capacity / CHUNK, Chunk::new()?)
    }

    /// Enters an item that belongs to the current task. Fails with `full` if no slot is free, and
    /// with the error of `check`, which gets the slot's number. Before the table grows to a number of
    /// slots, `prepare` is called with it.
    pub(crate) fn enter(
        &self,
        item: &Arc<T>,
        full: Error,
        prepare: impl Fn(usize) -> Result,
        check: impl FnOnce(&mut D, usize) -> Result,
    ) -> Result {
        loop {
            let capacity = self.capacity();
            let mut guard = self.lock.lock();
            if let Some((id, slot)) = self.free_slot(&guard) {
                check(&mut guard.data, id)?;
                guard.free_from = id + 1;
                self.len
                    .store(core::cmp::max(self.len(), id + 1), Ordering::Relaxed);
                // INVARIANT: Both come from `into_raw`, and the owner is the current task.
                let raw = Arc::into_raw(item.clone()).cast_mut();
                slot.item.store(raw, Ordering::Relaxed);
                slot.owner
                    .store(Thread::current().into_raw(), Ordering::Release);
                return Ok(());
            }
            drop(guard);
            if capacity == CHUNK * CHUNKS {
                return Err(full);
            }
            prepare(capacity + CHUNK)?;
            self.grow(capacity)?;
        }
    }

    /// Removes `item` if it is still item `id`, and if the caller is its owner or the owner has
    /// begun to exit. Calls `note` under the lock. Returns true if `item` was removed.
    pub(crate) fn remove(
        &self,
        id: usize,
        item: &Arc<T>,
        caller: &mut Caller,
        note: impl FnOnce(&mut D, &T),
    ) -> bool {
        let Some(slot) = self.slot(id) else {
            return false;
        };
        let mut guard = self.lock.lock();
        // Only the checked item is removed: the number may belong to another item by now.
        if !ptr::eq(slot.item.load(Ordering::Relaxed), &**item) {
            return false;
        }
        let owner = slot.owner.load(Ordering::Relaxed);
        // SAFETY: By the invariant the slot has a reference to the owner as long as the lock is held.
        if owner != caller.task().as_ptr() && !unsafe { Thread::is_task_exiting(owner) } {
            return false;
        }
        let removed = self.take_locked(id, slot, &mut guard);
        note(&mut guard.data, item);
        drop(guard);
        drop(removed);
        true
    }

    /// Removes item `id`, whichever task owns it. `_closed` shows that no task uses
    /// [`Self::get_own`] any more.
    pub(crate) fn take(&self, id: usize, _closed: &Closed) -> Option<Arc<T>> {
        let slot = self.slot(id)?;
        let taken = self.take_locked(id, slot, &mut self.lock.lock());
        taken.map(|(item, _owner)| item)
    }

    /// Takes an item, and the reference to its owner, which are to be dropped without the lock.
    fn take_locked(
        &self,
        id: usize,
        slot: &Slot<T>,
        guard: &mut Guard<'_, Locked<D>>,
    ) -> Option<(Arc<T>, Thread)> {
        let item = slot.item.swap(ptr::null_mut(), Ordering::Relaxed);
        if item.is_null() {
            return None;
        }
        guard.free_from = core::cmp::min(guard.free_from, id);
        let is_free = |slot: &Slot<T>| slot.item.load(Ordering::Relaxed).is_null();
        let mut len = self.len();
        while len != 0 && self.slot(len - 1).is_none_or(is_free) {
            len -= 1;
        }
        self.len.store(len, Ordering::Relaxed);
        let owner = slot.owner.swap(ptr::null_mut(), Ordering::Relaxed);
        // SAFETY: By the invariant from `into_raw`, and not in the table any more.
        let item = unsafe { Arc::from_raw(item) };
        // SAFETY: As above.
        Some((item, unsafe { Thread::from_raw(owner) }))
    }
}

impl<T, D> Drop for OwnedTable<T, D> {
    fn drop(&mut self) {
        for id in 0..self.len() {
            let Some(slot) = self.slot(id) else {
                break;
            };
            let taken = self.take_locked(id, slot, &mut self.lock.lock());
            // Dropped without the lock.
            drop(taken);
        }
    }
}
