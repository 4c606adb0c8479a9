// SPDX-License-Identifier: MIT OR Apache-2.0
//! The repeated parts of operations.

/// Implements an operation that makes one call and waits for nothing.
///
/// The first closure makes the call from `&mut self`, the second one the output from `self`
/// and the end.
macro_rules! simple {
    ($type:ident -> $output:ty, |$this:ident| $call:expr, |$taken:pat_param, $end:ident| $result:expr) => {
        impl $crate::ops::private::Sealed for $type {
            fn prepare(&mut self) -> $crate::ops::private::Prepared {
                let $this = self;
                $crate::ops::private::Prepared::new($call)
            }
        }

        impl $crate::ops::Operation for $type {
            type Output = $output;

            fn output(self, $end: $crate::ops::private::End) -> Self::Output {
                let $taken = self;
                $result
            }
        }
    };
}

/// Implements the output of an operation on one buffer: the number of bytes, and the buffer.
macro_rules! counts {
    ($type:ident: $bound:ident) => {
        impl<B: $bound> $crate::ops::Operation for $type<B> {
            type Output = (std::io::Result<usize>, B);

            fn output(self, end: $crate::ops::private::End) -> Self::Output {
                (end.count(), self.buf)
            }
        }
    };
}

pub(super) use {counts, simple};
