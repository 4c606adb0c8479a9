// SPDX-License-Identifier: MIT OR Apache-2.0
//! The list of all tests.

use crate::check::Check;

/// One test.
pub struct Test {
    /// `area.behaviour`
    pub name: &'static str,
    /// One sentence: the expected behaviour.
    pub about: &'static str,
    /// The test itself, run in a process of its own.
    pub run: fn() -> Check,
}

/// Makes a module's table of tests: `tests! { "area": function => "what it shows"; … }`.
macro_rules! tests {
    ($area:literal: $($function:ident => $about:literal;)+) => {
        pub const TESTS: &[$crate::registry::Test] = &[$(
            $crate::registry::Test {
                name: concat!($area, ".", stringify!($function)),
                about: $about,
                run: $function,
            },
        )+];
    };
}

/// All tests, in the order in which they are run.
pub fn all() -> impl Iterator<Item = &'static Test> {
    crate::GROUPS.iter().copied().flatten()
}

/// Returns the test of that name.
pub fn find(name: &str) -> Option<&'static Test> {
    all().find(|test| test.name == name)
}
