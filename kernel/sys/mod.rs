// SPDX-License-Identifier: GPL-2.0

//! The only code that touches `bindings` and C functions, and the only `unsafe` code of the module;
//! everything above it is safe. One line elsewhere is a promise: see [`hook::Blocking`].

pub(crate) mod abi;
pub(crate) mod arch;
pub(crate) mod area;
mod c;
pub(crate) mod cpus;
pub(crate) mod debugfs;
pub(crate) mod deferred;
pub(crate) mod errno;
pub(crate) mod file;
pub(crate) mod hook;
pub(crate) mod invoke;
pub(crate) mod lines;
pub(crate) mod lock;
pub(crate) mod miscdev;
pub(crate) mod notify;
pub(crate) mod once;
pub(crate) mod owned;
pub(crate) mod params;
pub(crate) mod park;
pub(crate) mod process;
pub(crate) mod row;
pub(crate) mod slot;
pub(crate) mod thread;
pub(crate) mod trace;

use kernel::bindings;

#[cfg(MODULE)]
const fn this_module() -> *mut bindings::module {
    // Contains structs that are empty in some configurations.
    #[allow(improper_ctypes)]
    extern "C" {
        static mut __this_module: bindings::module;
    }
    &raw mut __this_module
}

#[cfg(not(MODULE))]
const fn this_module() -> *mut bindings::module {
    core::ptr::null_mut()
}
