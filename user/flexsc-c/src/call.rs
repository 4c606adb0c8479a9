// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls to be submitted, and their conversion to the crate's calls.

use std::ffi::{c_int, c_uint, c_void};

use flexsc::Call;

/// The call is executed by a syscall thread, never by the waiting one.
pub const FLEXSC_CALL_ASYNC: u32 = 1;
/// The next call starts when this one has succeeded.
pub const FLEXSC_CALL_LINK: u32 = 2;
/// In a chain: the call is made even if an earlier one has failed.
pub const FLEXSC_CALL_ALWAYS: u32 = 4;

/// A call to be submitted. flexsc_prep_read() and similar functions fill it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct flexsc_call {
    /// The number of the system call, SYS_...
    pub nr: i32,
    /// FLEXSC_CALL_...
    pub flags: u32,
    /// The pool that executes the call.
    pub pool: u8,
    /// The number of arguments that results replace: see flexsc_call_take().
    pub takes: u8,
    /// Which arguments.
    pub take_arg: [u8; 2],
    /// The calls whose results are used, counted backwards.
    pub take_back: [u8; 2],
    #[doc(hidden)]
    pub reserved: [u8; 2],
    /// The arguments, sign-extended.
    pub args: [u64; 6],
    /// Returned with the result.
    pub user_data: u64,
}

impl flexsc_call {
    pub(crate) fn set(&mut self, nr: libc::c_long, args: [u64; 6]) {
        let user_data = self.user_data;
        *self = flexsc_call {
            nr: nr as i32,
            args,
            user_data,
            ..flexsc_call::default()
        };
    }

    pub(crate) fn is_linked(&self) -> bool {
        self.flags & FLEXSC_CALL_LINK != 0
    }

    pub(crate) fn is_always(&self) -> bool {
        self.flags & FLEXSC_CALL_ALWAYS != 0
    }

    /// Returns the crate's call, or `None` if the call is malformed.
    pub(crate) fn to_call(self) -> Option<Call> {
        const KNOWN: u32 = FLEXSC_CALL_ASYNC | FLEXSC_CALL_LINK | FLEXSC_CALL_ALWAYS;
        let is_valid = (0..=i32::from(u16::MAX)).contains(&self.nr)
            && self.flags & !KNOWN == 0
            && usize::from(self.takes) <= self.take_arg.len();
        if !is_valid {
            return None;
        }
        let mut call = Call::new(self.nr.into(), self.args).pool(self.pool);
        if self.flags & FLEXSC_CALL_ASYNC != 0 {
            call = call.asynchronous();
        }
        for nth in 0..usize::from(self.takes) {
            let (arg, back) = (self.take_arg[nth], self.take_back[nth]);
            if !is_take(arg.into(), back.into()) {
                return None;
            }
            call = call.take(arg, back);
        }
        Some(call)
    }
}

fn is_take(arg: c_uint, back: c_uint) -> bool {
    arg < 6 && (1..=32).contains(&back)
}

/// Sets the number that is returned with the result of the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_call_set_data64(call: *mut flexsc_call, data: u64) {
    // SAFETY: the caller's promise.
    unsafe { (*call).user_data = data };
}

/// Like flexsc_call_set_data64(), for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_call_set_data(call: *mut flexsc_call, data: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { (*call).user_data = data.expose_provenance() as u64 };
}

/// Adds FLEXSC_CALL_... flags.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_call_set_flags(call: *mut flexsc_call, flags: u32) {
    // SAFETY: the caller's promise.
    unsafe { (*call).flags |= flags };
}

/// Has the call executed by this pool.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_call_set_pool(call: *mut flexsc_call, pool: u8) {
    // SAFETY: the caller's promise.
    unsafe { (*call).pool = pool };
}

/// In a chain: replaces argument arg (0 to 5) by the result of the call back (1 to 32) positions
/// before this one. Returns 0, or -EINVAL if there is no such argument or position, or two
/// arguments are replaced already.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_call_take(
    call: *mut flexsc_call,
    arg: c_uint,
    back: c_uint,
) -> c_int {
    // SAFETY: the caller's promise.
    let call = unsafe { &mut *call };
    let nth = usize::from(call.takes);
    if !is_take(arg, back) || nth >= call.take_arg.len() {
        return -libc::EINVAL;
    }
    call.take_arg[nth] = arg as u8;
    call.take_back[nth] = back as u8;
    call.takes += 1;
    0
}
