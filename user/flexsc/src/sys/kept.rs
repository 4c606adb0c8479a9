// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keeps an operation of any type while the kernel uses its memory.

#![expect(unsafe_code, reason = "a value without its type")]

use std::any::{TypeId, type_name};
use std::fmt;
use std::mem::{self, MaybeUninit};
use std::ptr;

use crate::ops::private::{End, Prepared, Sealed};

/// Most operations are smaller.
const WORDS: usize = 14;

type Place = MaybeUninit<[usize; WORDS]>;

/// An operation. Small ones need no allocation.
///
/// A call in flight points to memory of the operation's fields, such as the content of a
/// `Box`. The compiler may assume that nothing accesses the content of a `Box` while the
/// `Box` is moved. It assumes nothing about a `MaybeUninit`, so the value may be moved while
/// the call is in flight.
///
/// # Invariants
///
/// `place` holds a value of the type that `table` was made for, or a pointer to one that
/// was a `Box`: see [`Of`]. With [`TAKEN`], it holds nothing.
pub(crate) struct Kept {
    place: Place,
    table: &'static Table,
}

/// The operations on a value whose type is erased.
struct Table {
    type_id: fn() -> TypeId,
    name: fn() -> &'static str,
    drop: unsafe fn(&mut Place),
    prepare: unsafe fn(&mut Place) -> Prepared,
    settle: unsafe fn(&mut Place, &End),
    take_vec: unsafe fn(&mut Place) -> Vec<u8>,
}

/// The functions of a value that was taken.
static TAKEN: Table = Table {
    type_id: TypeId::of::<()>,
    name: || "taken",
    drop: |_| (),
    prepare: |_| unreachable!("the operation was taken"),
    settle: |_, _| (),
    take_vec: |_| Vec::new(),
};

/// The functions for operations of one type.
struct Of<T>(T);

impl<T: Sealed> Of<T> {
    const INLINE: bool =
        size_of::<T>() <= size_of::<Place>() && align_of::<T>() <= align_of::<Place>();

    const TABLE: &'static Table = &Table {
        type_id: TypeId::of::<T>,
        name: type_name::<T>,
        drop: |place| {
            // SAFETY: the caller's promise. The value is not used again.
            drop(unsafe { Self::take(place) });
        },
        prepare: |place| {
            // SAFETY: the caller's promise.
            unsafe { Self::get(place) }.prepare()
        },
        settle: |place, end| {
            // SAFETY: the caller's promise.
            unsafe { Self::get(place) }.settle(end);
        },
        take_vec: |place| {
            // SAFETY: the caller's promise.
            let vec = unsafe { Self::get(place) }.vec();
            vec.map(mem::take).unwrap_or_default()
        },
    };

    fn put(value: T) -> Place {
        let mut place = Place::uninit();
        if Self::INLINE {
            // SAFETY: the place is large enough and aligned.
            unsafe { place.as_mut_ptr().cast::<T>().write(value) };
        } else {
            let value = Box::into_raw(Box::new(value));
            // SAFETY: a pointer fits.
            unsafe { place.as_mut_ptr().cast::<*mut T>().write(value) };
        }
        place
    }

    /// # Safety
    ///
    /// The place was made by [`Of::put`] for the same type, and not taken.
    unsafe fn get(place: &mut Place) -> &mut T {
        let value = if Self::INLINE {
            place.as_mut_ptr().cast::<T>()
        } else {
            // SAFETY: the caller's promise; it holds a pointer.
            unsafe { place.as_mut_ptr().cast::<*mut T>().read() }
        };
        // SAFETY: the value is valid, and borrowed as long as its place.
        unsafe { &mut *value }
    }

    /// # Safety
    ///
    /// As for [`Of::get`], and the place is not used again.
    unsafe fn take(place: &mut Place) -> T {
        if Self::INLINE {
            // SAFETY: the caller's promise.
            return unsafe { place.as_mut_ptr().cast::<T>().read() };
        }
        // SAFETY: the caller's promise; it holds a pointer.
        let value = unsafe { place.as_mut_ptr().cast::<*mut T>().read() };
        // SAFETY: it was a `Box`, and becomes one again only here.
        *unsafe { Box::from_raw(value) }
    }
}

// SAFETY: operations are `Send`.
unsafe impl Send for Kept {}
// SAFETY: nothing can be done with a shared reference, except to ask for the type.
unsafe impl Sync for Kept {}

impl Kept {
    pub(crate) fn new<T: Sealed>(operation: T) -> Self {
        Kept {
            place: Of::put(operation),
            table: Of::<T>::TABLE,
        }
    }

    /// Makes the calls of the operation, which point to its memory. This memory must
    /// not be used until the calls have finished.
    #[inline]
    pub(crate) fn prepare(&mut self) -> Prepared {
        // SAFETY: by the invariant the table belongs to the value.
        unsafe { (self.table.prepare)(&mut self.place) }
    }

    /// Adapts the operation to its end.
    #[inline]
    pub(crate) fn settle(&mut self, end: &End) {
        // SAFETY: by the invariant the table belongs to the value.
        unsafe { (self.table.settle)(&mut self.place, end) };
    }

    /// Takes the buffer out of the operation if this is a `Vec<u8>`.
    pub(crate) fn take_vec(&mut self) -> Vec<u8> {
        // SAFETY: by the invariant the table belongs to the value.
        unsafe { (self.table.take_vec)(&mut self.place) }
    }

    /// Returns true if it is an operation of this type.
    pub(crate) fn is<T: Sealed>(&self) -> bool {
        ptr::eq(self.table, Of::<T>::TABLE) || (self.table.type_id)() == TypeId::of::<T>()
    }

    /// Returns the operation.
    ///
    /// # Panics
    ///
    /// Panics if it is of another type.
    #[track_caller]
    pub(crate) fn take<T: Sealed>(self) -> T {
        let mut kept = self;
        kept.take_out()
    }

    /// As [`take`](Self::take), and leaves nothing.
    #[track_caller]
    pub(crate) fn take_out<T: Sealed>(&mut self) -> T {
        if !self.is::<T>() {
            let (is, wanted) = ((self.table.name)(), type_name::<T>());
            panic!("the operation is a {is}, not a {wanted}");
        }
        self.table = &TAKEN;
        // SAFETY: it had this type. With the new table, nothing uses the value again.
        unsafe { Of::<T>::take(&mut self.place) }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // SAFETY: by the invariant the table belongs to the value, which is not used again.
        unsafe { (self.table.drop)(&mut self.place) };
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str((self.table.name)())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls;
    use crate::sys::plain;
    use std::sync::Arc;

    /// Its call would write to the memory of the `Box`.
    struct Boxed<const N: usize> {
        content: Box<u64>,
        alive: Arc<()>,
        padding: [u64; N],
    }

    impl<const N: usize> Sealed for Boxed<N> {
        fn prepare(&mut self) -> Prepared {
            let to = (&raw mut *self.content).cast();
            Prepared::new(calls::read(-1, to, 8))
        }
    }

    fn boxed<const N: usize>(alive: &Arc<()>) -> Kept {
        Kept::new(Boxed {
            content: Box::new(1),
            alive: Arc::clone(alive),
            padding: [7; N],
        })
    }

    fn lives<const N: usize>() {
        let alive = Arc::new(());
        drop(boxed::<N>(&alive));
        assert_eq!(Arc::strong_count(&alive), 1);
        let mut kept = boxed::<N>(&alive);
        let address = kept.prepare().first().args()[1] as usize;
        // The value moves while something else writes to its memory.
        let mut moved = vec![kept];
        let to = std::ptr::with_exposed_provenance_mut::<u64>(address);
        // SAFETY: the address is that of the content, which nothing else uses now.
        unsafe { to.write(2) };
        kept = moved.remove(0);
        assert!(kept.is::<Boxed<N>>() && !kept.is::<Boxed<99>>());
        let value = kept.take::<Boxed<N>>();
        assert_eq!((*value.content, value.padding), (2, [7; N]));
        assert_eq!(Arc::strong_count(&value.alive), 2);
        drop(value);
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[test]
    fn small_values_keep_what_they_own() {
        const { assert!(Of::<Boxed<0>>::INLINE && Of::<Boxed<12>>::INLINE) };
        lives::<0>();
        lives::<12>();
    }

    #[test]
    fn large_values_keep_what_they_own() {
        const { assert!(!Of::<Boxed<13>>::INLINE) };
        lives::<13>();
        lives::<100>();
    }

    #[test]
    fn another_type_is_no_value() {
        let alive = Arc::new(());
        let kept = boxed::<1>(&alive);
        let other = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            kept.take::<Boxed<2>>();
        }));
        assert!(other.is_err());
        // It was dropped, not leaked.
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[test]
    fn a_number_that_is_no_descriptor_is_none() {
        // SAFETY: the number is not a descriptor.
        assert!(unsafe { plain::own(-9) }.is_none());
    }
}
