// SPDX-License-Identifier: MIT OR Apache-2.0
//! The queue: getting calls, submitting them, and taking their results.

use std::collections::VecDeque;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};
use std::{io, ptr};

use flexsc::ops::{Raw, RawChain};
use flexsc::{Chain, Done, Engine, Error, Reason, Ring, Wait};
use libc::timespec;

use crate::call::flexsc_call;

/// Make plain calls even if there is an engine.
pub const FLEXSC_QUEUE_PLAIN: u32 = 1;
/// Fail if there is no engine.
pub const FLEXSC_QUEUE_ENGINE: u32 = 2;

/// Calls in one syscall page.
const PER_PAGE: usize = 64;

/// A queue of calls. It belongs to the thread that created it.
pub struct flexsc_queue {
    ring: Ring,
    engine: Option<Engine>,
    /// Calls that the program has got but not submitted, then free ones.
    calls: Box<[flexsc_call]>,
    got: usize,
    results: VecDeque<flexsc_result>,
    /// Chains in flight.
    chains: usize,
}

/// The result of a call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flexsc_result {
    /// The user data of the call.
    pub user_data: u64,
    /// The return value of the call, -errno on failure.
    pub result: i64,
    /// Why the kernel did not execute the call as it was posted, or 0: see flexsc_strreason().
    pub reason: u32,
    #[doc(hidden)]
    pub reserved: u32,
}

/// The code of a reason, as in linux/flexsc.h.
fn code(reason: Reason) -> u32 {
    (0..=u8::MAX)
        .find(|&raw| Reason::from_raw(raw) == reason)
        .map_or(0, u32::from)
}

fn negative(error: &Error) -> c_int {
    -error.errno()
}

fn number(result: &io::Result<i64>) -> i64 {
    match result {
        Ok(number) => *number,
        Err(error) => -i64::from(error.raw_os_error().unwrap_or(libc::EIO)),
    }
}

impl flexsc_queue {
    fn open(calls: usize, flags: u32) -> Result<Self, Error> {
        let pages = calls.div_ceil(PER_PAGE) as u32;
        let (mut engine, mut ring) = (None, None);
        if flags & FLEXSC_QUEUE_PLAIN == 0 {
            let opened = Engine::open().and_then(|engine| Ok((engine.register(pages)?, engine)));
            match opened {
                Ok((pages, opened)) => {
                    ring = Some(Ring::new(pages).map_err(|(_, error)| error)?);
                    engine = Some(opened);
                }
                Err(error) if error.is_absent() && flags & FLEXSC_QUEUE_ENGINE == 0 => {}
                Err(error) => return Err(error),
            }
        }
        let ring = match ring {
            Some(ring) => ring,
            None => Ring::plain(pages)?,
        };
        Ok(flexsc_queue {
            ring,
            engine,
            calls: vec![flexsc_call::default(); pages as usize * PER_PAGE].into(),
            got: 0,
            results: VecDeque::new(),
            chains: 0,
        })
    }

    pub(crate) fn engine(&self) -> Option<&Engine> {
        self.engine.as_ref()
    }

    /// Submits the calls that the program has got.
    fn submit(&mut self) -> c_int {
        let mut at = 0;
        while at < self.got {
            let rest = &self.calls[at..self.got];
            let linked = rest.iter().take_while(|call| call.is_linked()).count();
            let len = (linked + 1).min(rest.len());
            let taken = if len == 1 {
                self.submit_one(self.calls[at])
            } else {
                let calls = self.calls[at..at + len].to_vec();
                self.submit_chain(&calls)
            };
            if !taken {
                break;
            }
            at += len;
        }
        self.calls.copy_within(at..self.got, 0);
        self.got -= at;
        at as c_int
    }

    /// Submits a call. Returns false if there is no room.
    fn submit_one(&mut self, call: flexsc_call) -> bool {
        let data = call.user_data;
        // A single call takes no result.
        let Some(made) = call.to_call().filter(|_| call.takes == 0) else {
            self.refuse(data);
            return true;
        };
        // SAFETY: the program has promised that the call is valid until its result is taken.
        let raw = unsafe { Raw::new(made, data) };
        self.ring.submit(raw, data).is_ok()
    }

    fn submit_chain(&mut self, calls: &[flexsc_call]) -> bool {
        let data: Vec<u64> = calls.iter().map(|call| call.user_data).collect();
        let chain = calls.iter().try_fold(Chain::new(), |chain, call| {
            let made = call.to_call()?;
            Some(if call.is_always() {
                chain.then_always(made)
            } else {
                chain.then(made)
            })
        });
        let first = data[0];
        // SAFETY: as in `submit_one`, for each call.
        let chain = chain.and_then(|chain| unsafe { RawChain::new(chain, data.clone()) }.ok());
        let Some(chain) = chain else {
            data.into_iter().for_each(|data| self.refuse(data));
            return true;
        };
        let taken = self.ring.submit(chain, first).is_ok();
        self.chains += usize::from(taken);
        taken
    }

    /// Answers a call that is malformed.
    fn refuse(&mut self, user_data: u64) {
        self.results.push_back(flexsc_result {
            user_data,
            result: -i64::from(libc::EINVAL),
            reason: code(Reason::Entry),
            reserved: 0,
        });
    }

    /// Moves the available results to `results`.
    fn absorb(&mut self) {
        while let Some(done) = self.ring.next() {
            self.add(done);
        }
    }

    fn add(&mut self, done: Done) {
        let reason = code(done.reason);
        let one = |user_data, result: &io::Result<i64>, reason| flexsc_result {
            user_data,
            result: number(result),
            reason,
            reserved: 0,
        };
        if done.is::<Raw<u64>>() {
            let (result, data) = done.output::<Raw<u64>>();
            self.results.push_back(one(data, &result, reason));
            return;
        }
        self.chains -= 1;
        let (results, data) = done.output::<RawChain<Vec<u64>>>();
        for (nth, ((result, made), data)) in results.iter().zip(data).enumerate() {
            let reason = match (made, nth) {
                (false, 1..) => code(Reason::Chain),
                (true, 1..) => 0,
                _ => reason,
            };
            self.results.push_back(one(data, result, reason));
        }
    }

    /// Waits until there are `min` results. Returns how many there are, or -errno.
    fn wait(&mut self, min: u32, timeout: Option<Duration>) -> c_int {
        let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let more = (min as usize).saturating_sub(self.results.len()) as u32;
            let wait = match (more, self.chains) {
                (0, _) => Wait::none(),
                (more, 0) => Wait::some(more),
                // A chain is one operation, and has several results.
                _ => Wait::any(),
            };
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let waited = self.ring.wait(left.map_or(wait, |left| wait.timeout(left)));
            self.absorb();
            match waited {
                _ if self.results.len() >= min as usize => return self.results.len() as c_int,
                Ok(_) => {}
                Err(error) => return negative(&error),
            }
        }
    }

    fn free(&self) -> usize {
        let used = self.got + self.results.len();
        self.ring.free().min(self.calls.len()).saturating_sub(used)
    }
}

/// Creates a queue with room for this many calls, up to 4096. Stores it, and returns 0 or
/// -errno. Without an engine the queue makes plain calls, unless flags contain
/// FLEXSC_QUEUE_ENGINE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_queue_init(
    calls: c_uint,
    queue: *mut *mut flexsc_queue,
    flags: u32,
) -> c_int {
    if calls == 0 || flags & !(FLEXSC_QUEUE_PLAIN | FLEXSC_QUEUE_ENGINE) != 0 {
        return -libc::EINVAL;
    }
    match flexsc_queue::open(calls as usize, flags) {
        Ok(made) => {
            // SAFETY: the caller's promise.
            unsafe { queue.write(Box::into_raw(Box::new(made))) };
            0
        }
        Err(error) => negative(&error),
    }
}

/// Ends a queue. Cancels the calls in flight and waits for them, two seconds at most. Does
/// nothing if the queue is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_queue_exit(queue: *mut flexsc_queue) {
    if !queue.is_null() {
        // SAFETY: the caller's promise: this is a queue, and it is not used again.
        drop(unsafe { Box::from_raw(queue) });
    }
}

/// Returns a descriptor that is readable while there are results, for poll(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_queue_fd(queue: *const flexsc_queue) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { &*queue }.ring.as_fd().as_raw_fd()
}

/// Returns true if the queue makes plain calls: there is no engine, or it refuses calls.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_queue_is_plain(queue: *const flexsc_queue) -> bool {
    // SAFETY: the caller's promise.
    unsafe { &*queue }.ring.is_plain()
}

/// Returns the number of plain calls that were made.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_plain_calls(queue: *const flexsc_queue) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { &*queue }.ring.plain_calls()
}

/// Returns the number of calls that flexsc_get_call() can return now.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_queue_space(queue: *const flexsc_queue) -> c_uint {
    // SAFETY: the caller's promise.
    unsafe { &*queue }.free() as c_uint
}

/// Returns a call to prepare, which is submitted with the next flexsc_submit() or wait; NULL if
/// there is no room. It is valid until then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_get_call(queue: *mut flexsc_queue) -> *mut flexsc_call {
    // SAFETY: the caller's promise.
    let queue = unsafe { &mut *queue };
    if queue.free() == 0 {
        return ptr::null_mut();
    }
    queue.got += 1;
    let call = &mut queue.calls[queue.got - 1];
    *call = flexsc_call::default();
    call.set(-1, [0; 6]);
    call
}

/// Submits the calls that the program has got. Returns their number. With an engine this makes
/// no trap.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_submit(queue: *mut flexsc_queue) -> c_int {
    // SAFETY: the caller's promise.
    let queue = unsafe { &mut *queue };
    let submitted = queue.submit();
    queue.ring.ring();
    submitted
}

/// Submits the calls that the program has got, executes them, and waits until there are min
/// results. Returns the number of results, or -errno.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_submit_and_wait(queue: *mut flexsc_queue, min: c_uint) -> c_int {
    // SAFETY: the caller's promise.
    let queue = unsafe { &mut *queue };
    queue.submit();
    queue.wait(min, None)
}

/// Like flexsc_submit_and_wait(), but returns -ETIME after this time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_submit_and_wait_timeout(
    queue: *mut flexsc_queue,
    min: c_uint,
    timeout: *const timespec,
) -> c_int {
    // SAFETY: the caller's promise.
    let queue = unsafe { &mut *queue };
    // SAFETY: the caller's promise.
    let timeout = unsafe { timeout.as_ref() };
    let Ok(timeout) = timeout.map(duration).transpose() else {
        return -libc::EINVAL;
    };
    queue.submit();
    queue.wait(min, timeout)
}

fn duration(time: &timespec) -> Result<Duration, ()> {
    let seconds = u64::try_from(time.tv_sec).map_err(drop)?;
    let nanos = u32::try_from(time.tv_nsec).map_err(drop)?;
    if nanos >= 1_000_000_000 {
        return Err(());
    }
    Ok(Duration::new(seconds, nanos))
}

/// Stores a pointer to the next result, and returns 0; -EAGAIN if there is none. The result is
/// not taken until flexsc_seen().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_peek(
    queue: *mut flexsc_queue,
    result: *mut *mut flexsc_result,
) -> c_int {
    // SAFETY: the caller's promise.
    let queue = unsafe { &mut *queue };
    if queue.results.is_empty() {
        queue.absorb();
    }
    let (next, code) = match queue.results.front_mut() {
        Some(next) => (ptr::from_mut(next), 0),
        None => (ptr::null_mut(), -libc::EAGAIN),
    };
    // SAFETY: the caller's promise.
    unsafe { result.write(next) };
    code
}

/// Submits the calls that the program has got, waits for a result, and stores a pointer to it, as
/// flexsc_peek() does. Returns 0 or -errno.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_wait_result(
    queue: *mut flexsc_queue,
    result: *mut *mut flexsc_result,
) -> c_int {
    {
        // SAFETY: the caller's promise.
        let queue = unsafe { &mut *queue };
        queue.submit();
        if queue.results.is_empty() {
            let waited = queue.wait(1, None);
            if waited < 0 {
                return waited;
            }
        }
    }
    // SAFETY: the caller's promise.
    unsafe { flexsc_peek(queue, result) }
}

/// Takes the result that flexsc_peek() or flexsc_wait_result() has stored, and frees its
/// memory and its place in the queue.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_seen(queue: *mut flexsc_queue, result: *mut flexsc_result) {
    // SAFETY: the caller's promise.
    let queue = unsafe { &mut *queue };
    if queue
        .results
        .front()
        .is_some_and(|next| ptr::eq(next, result))
    {
        queue.results.pop_front();
    }
}

/// Returns the user data of a result as a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_result_get_data(result: *const flexsc_result) -> *mut c_void {
    // SAFETY: the caller's promise.
    let data = unsafe { (*result).user_data };
    ptr::with_exposed_provenance_mut(data as usize)
}

/// Cancels all calls that were submitted with this user data; for a chain, the user data of its
/// first call counts. Returns 1 if an unfinished call was found, 0 if none, or -errno.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_cancel(queue: *mut flexsc_queue, user_data: u64) -> c_int {
    // SAFETY: the caller's promise.
    match unsafe { &mut *queue }.ring.cancel(user_data) {
        Ok(found) => c_int::from(found),
        Err(error) => negative(&error),
    }
}

/// Returns a sentence about a reason.
#[unsafe(no_mangle)]
pub extern "C" fn flexsc_strreason(reason: u32) -> *const c_char {
    let text: &CStr = match u8::try_from(reason).map(Reason::from_raw) {
        Ok(Reason::None) => c"executed",
        Ok(Reason::Life) => c"the call begins, ends or replaces a thread or process",
        Ok(Reason::Thread) => c"the call acts on the calling thread's own state",
        Ok(Reason::Guarded) => {
            c"seccomp, ptrace or syscall user dispatch controls this thread's calls"
        }
        Ok(Reason::Context) => c"the thread does not share files or namespaces with its process",
        Ok(Reason::Entry) => {
            c"the call has an unknown number, flag or pool, or its chain is malformed"
        }
        Ok(Reason::Starved) => c"no syscall thread could be created",
        Ok(Reason::Chain) => c"an earlier call of its chain failed",
        Ok(Reason::Cancelled) => c"the call was cancelled before it started",
        Ok(Reason::Bound) => c"executed; the loop ended because it reached its maximum",
        _ => c"this library does not know the reason",
    };
    text.as_ptr()
}
