// SPDX-License-Identifier: MIT OR Apache-2.0
//! One registration and its mapped syscall pages.
//!
//! Keeps its own copies of `posted` and `reaped`. The buffers that a posted
//! call points to belong to the test, which keeps them until the call is done.
#![expect(unsafe_code, reason = "the mapping is shared with the kernel")]

use std::os::fd::RawFd;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::abi::{self, Ctrl, Entry, PAGE_ENTRIES, PAGE_SIZE, Policy, Register, Wait};
use super::mode::Mode;
use super::{engine, patience, sys};
use crate::check::{Check, Ret};

/// A call to post.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub nr: u16,
    pub flags: u8,
    pub pool: u8,
    pub take: [u8; 2],
    pub args: [u64; 6],
}

impl Call {
    /// Makes a call by its number.
    pub fn new(nr: u16, args: [u64; 6]) -> Self {
        Call {
            nr,
            flags: 0,
            pool: 0,
            take: [0; 2],
            args,
        }
    }

    /// The same call, by a thread of that pool.
    pub fn in_pool(self, pool: u8) -> Self {
        Call { pool, ..self }
    }

    /// The same call, always by a syscall thread.
    pub fn asynchronous(self) -> Self {
        Call {
            flags: self.flags | abi::ENTRY_ASYNC,
            ..self
        }
    }
}

/// A finished call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    pub slot: usize,
    pub result: i64,
    pub reason: u8,
}

/// A registration.
pub struct Ring {
    fd: RawFd,
    /// The registration's number.
    pub id: u32,
    /// How `finish` has calls executed.
    pub mode: Mode,
    base: *mut u8,
    len: usize,
    ctrl_len: usize,
    posted: Vec<u64>,
    reaped: Vec<u64>,
}

impl Ring {
    /// Maps the pages of a registration.
    pub fn map(fd: RawFd, of: &Register) -> Check<Ring> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let len = of.mmap_len as usize;
        let base = ok!(
            "mmap of the pages",
            sys::mmap(len, prot, libc::MAP_SHARED, fd, of.mmap_offset)
        );
        let pages = of.pages as usize;
        check!(
            of.ctrl_len as usize >= pages * size_of::<Ctrl>()
                && len >= of.ctrl_len as usize + pages * PAGE_SIZE,
            "REGISTER gave too little memory: {of:?}"
        );
        Ok(Ring {
            fd,
            id: of.id,
            mode: Mode::Inline,
            base,
            len,
            ctrl_len: of.ctrl_len as usize,
            posted: vec![0; pages],
            reaped: vec![0; pages],
        })
    }

    /// The number of entries.
    pub fn capacity(&self) -> usize {
        self.posted.len() * PAGE_ENTRIES
    }

    /// Address and length of the mapping.
    pub fn base(&self) -> (*mut u8, usize) {
        (self.base, self.len)
    }

    /// The control block of a page.
    pub fn ctrl(&self, page: usize) -> &Ctrl {
        assert!(page < self.posted.len());
        let at = self.base.cast::<Ctrl>().wrapping_add(page);
        // SAFETY: `map` checked that the mapping holds a control block for
        // each page; it is aligned to a page and consists of atomics only.
        unsafe { &*at }
    }

    /// An entry, by its number in the registration.
    pub fn entry(&self, slot: usize) -> &Entry {
        assert!(slot < self.capacity());
        let entries = self.base.wrapping_add(self.ctrl_len).cast::<Entry>();
        // SAFETY: `map` checked that the mapping holds all entries behind
        // `ctrl_len`; entries are aligned and consist of atomics only.
        unsafe { &*entries.wrapping_add(slot) }
    }

    /// Writes an entry, without posting it.
    pub fn stage(&self, slot: usize, call: &Call) {
        let entry = self.entry(slot);
        entry.nr.store(call.nr, Ordering::Relaxed);
        entry.flags.store(call.flags, Ordering::Relaxed);
        entry.pool.store(call.pool, Ordering::Relaxed);
        for (byte, value) in entry.take.iter().zip(call.take) {
            byte.store(value, Ordering::Relaxed);
        }
        for (word, value) in entry.args.iter().zip(call.args) {
            word.store(value, Ordering::Relaxed);
        }
        // Not the result of any call, so that a lost result shows.
        entry.result.store(i64::MIN, Ordering::Relaxed);
        entry.reason.store(0xEE, Ordering::Relaxed);
        entry.status.store(abi::SUBMITTED, Ordering::Relaxed);
    }

    /// Toggles doorbell bits of a page.
    pub fn ring_bell(&mut self, page: usize, bits: u64) {
        self.posted[page] ^= bits;
        // ORDERING: entry first, then the doorbell (UAPI header, "Ordering").
        self.ctrl(page)
            .posted
            .store(self.posted[page], Ordering::Release);
    }

    /// Returns true if a call can be posted in the slot.
    pub fn is_free(&self, slot: usize) -> bool {
        let (page, bit) = (slot / PAGE_ENTRIES, slot % PAGE_ENTRIES);
        ((self.posted[page] ^ self.reaped[page]) >> bit) & 1 == 0
    }

    /// Calls posted and not yet reaped.
    pub fn outstanding(&self) -> usize {
        let pairs = self.posted.iter().zip(&self.reaped);
        pairs.map(|(p, r)| (p ^ r).count_ones() as usize).sum()
    }

    /// Posts a call in a certain slot.
    pub fn post_at(&mut self, slot: usize, call: &Call) {
        assert!(self.is_free(slot), "slot {slot} is not free");
        self.stage(slot, call);
        self.ring_bell(slot / PAGE_ENTRIES, 1 << (slot % PAGE_ENTRIES));
    }

    /// Posts a call in the first free slot.
    pub fn post(&mut self, call: Call) -> usize {
        self.post_all(&[call])[0]
    }

    /// Posts calls in free slots, with one doorbell store for each page.
    pub fn post_all(&mut self, calls: &[Call]) -> Vec<usize> {
        let mut free = (0..self.capacity()).filter(|&slot| self.is_free(slot));
        let slots: Vec<usize> = free.by_ref().take(calls.len()).collect();
        assert_eq!(slots.len(), calls.len(), "not enough free entries");
        let mut bits = vec![0u64; self.posted.len()];
        for (&slot, call) in slots.iter().zip(calls) {
            let call = match self.mode {
                Mode::Async => call.asynchronous(),
                _ => *call,
            };
            self.stage(slot, &call);
            bits[slot / PAGE_ENTRIES] |= 1 << (slot % PAGE_ENTRIES);
        }
        for (page, bits) in bits.into_iter().enumerate() {
            if bits != 0 {
                self.ring_bell(page, bits);
            }
        }
        slots
    }

    /// Returns true if the kernel has accepted the call in this slot.
    pub fn is_taken(&self, slot: usize) -> bool {
        let (page, bit) = (slot / PAGE_ENTRIES, slot % PAGE_ENTRIES);
        let taken = self.ctrl(page).taken.load(Ordering::Acquire);
        ((taken ^ self.posted[page]) >> bit) & 1 == 0
    }

    /// Returns true if the result of this slot is there and not yet reaped.
    pub fn is_done(&self, slot: usize) -> bool {
        let (page, bit) = (slot / PAGE_ENTRIES, slot % PAGE_ENTRIES);
        // ORDERING: the done bit first, then the result.
        let done = self.ctrl(page).done.load(Ordering::Acquire);
        ((done ^ self.reaped[page]) >> bit) & 1 == 1
    }

    /// Reaps a finished slot.
    pub fn reap(&mut self, slot: usize) -> Done {
        assert!(self.is_done(slot), "slot {slot} is not done");
        let entry = self.entry(slot);
        let done = Done {
            slot,
            result: entry.result.load(Ordering::Relaxed),
            reason: entry.reason.load(Ordering::Relaxed),
        };
        entry.status.store(abi::FREE, Ordering::Relaxed);
        let page = slot / PAGE_ENTRIES;
        self.reaped[page] ^= 1 << (slot % PAGE_ENTRIES);
        let reaped = self.reaped[page];
        self.ctrl(page).reaped.store(reaped, Ordering::Release);
        done
    }

    /// Reaps any finished slot.
    pub fn poll(&mut self) -> Option<Done> {
        let slot = (0..self.capacity()).find(|&slot| self.is_done(slot))?;
        Some(self.reap(slot))
    }

    /// WAIT as given.
    pub fn wait_raw(&self, arg: &mut Wait) -> Result<u64, Errno> {
        sys::ioctl_with(self.fd, abi::IOC_WAIT, arg)
    }

    /// WAIT that ends with ETIME after the time of [`patience`].
    pub fn wait(&self, policy: Policy) -> Result<u64, Errno> {
        self.wait_for(policy, 0, patience())
    }

    /// WAIT with `min` results and a time limit.
    pub fn wait_for(&self, policy: Policy, min: u32, limit: Duration) -> Result<u64, Errno> {
        let mut arg = Wait::new(self.id, policy);
        arg.min = min;
        arg.timeout_ns = sys::monotonic_ns() + limit.as_nanos() as u64;
        self.wait_raw(&mut arg)
    }

    /// WAIT_FAST.
    pub fn wait_fast(&self, policy: Policy, min: u32) -> Result<u64, Errno> {
        let arg = abi::wait_fast_arg(self.id, policy as u32, min);
        sys::ioctl(self.fd, abi::IOC_WAIT_FAST, arg)
    }

    /// flexsc_wait(2).
    pub fn wait_call(&self, policy: Policy, min: u32) -> Result<u64, Errno> {
        let arg = abi::wait_fast_arg(self.id, policy as u32, min);
        sys::flexsc_wait(self.fd, arg)
    }

    /// CANCEL of the call in a slot.
    pub fn cancel(&self, slot: usize) -> Result<u64, Errno> {
        engine::cancel(self.fd, self.id, slot)
    }

    /// KICK.
    pub fn kick(&self) -> Result<u64, Errno> {
        sys::ioctl(self.fd, abi::IOC_KICK, u64::from(self.id))
    }

    /// UNREGISTER; the mapping stays.
    pub fn unregister(&self) -> Result<u64, Errno> {
        sys::ioctl(self.fd, abi::IOC_UNREGISTER, u64::from(self.id))
    }

    /// Returns true if the kernel needs a KICK for the calls posted before: no poller is awake.
    pub fn needs_kick(&self) -> bool {
        // ORDERING: the doorbell first, then the flag (UAPI header).
        fence(Ordering::SeqCst);
        (0..self.posted.len())
            .any(|page| self.ctrl(page).flags.load(Ordering::Relaxed) & abi::CTRL_NEED_WAKEUP != 0)
    }

    /// KICK, which must succeed.
    pub fn kicked(&self) -> Check {
        ok!("KICK", self.kick());
        Ok(())
    }

    /// Waits, without any call to the device, until the slots are done.
    pub fn poll_until_done(&self, slots: &[usize]) -> Check {
        let end = Instant::now() + patience();
        for (round, &slot) in slots.iter().enumerate() {
            let mut polls = 0u32;
            while !self.is_done(slot) {
                polls += 1;
                if polls % 256 == 0 {
                    sys::yield_now();
                    if Instant::now() > end {
                        fail!(
                            "result {round} of {} not there: {}",
                            slots.len(),
                            self.show(slot)
                        );
                    }
                }
                std::hint::spin_loop();
            }
        }
        Ok(())
    }

    /// Waits, in the ring's mode, until the slots are done, and reaps them.
    pub fn finish(&mut self, slots: &[usize]) -> Check<Vec<Done>> {
        match self.mode {
            Mode::Inline | Mode::Async => self.wait_until_done(slots)?,
            Mode::Kick => {
                self.kicked()?;
                self.poll_until_done(slots)?;
            }
            Mode::Poller => {
                if self.needs_kick() {
                    self.kicked()?;
                }
                self.poll_until_done(slots)?;
            }
        }
        Ok(slots.iter().map(|&slot| self.reap(slot)).collect())
    }

    fn wait_until_done(&self, slots: &[usize]) -> Check {
        let end = Instant::now() + patience();
        // Results of other slots are not reaped: WAIT must ask for more than their number.
        loop {
            // Count first: if a result comes in between, WAIT asks for that one, and not for the
            // next.
            let there = (0..self.capacity()).filter(|&s| self.is_done(s)).count();
            let Some(&slot) = slots.iter().find(|&&slot| !self.is_done(slot)) else {
                break;
            };
            let waited = if self.outstanding() == slots.len() {
                self.wait(Policy::All)
            } else {
                self.wait_for(Policy::Some, there as u32 + 1, patience())
            };
            match waited {
                Ok(_) | Err(Errno::EINTR) if Instant::now() < end => {}
                other => fail!("WAIT gave {other:?}, and {}", self.show(slot)),
            }
        }
        Ok(())
    }

    /// Posts a call and waits for its result.
    pub fn run(&mut self, call: Call) -> Check<Done> {
        Ok(self.run_all(&[call])?[0])
    }

    /// Posts a call, waits for it and returns its result.
    pub fn result(&mut self, call: Call) -> Check<i64> {
        Ok(self.run(call)?.result)
    }

    /// Posts calls, as many at a time as there are free entries, and waits
    /// for all results. The results are in the order of the calls.
    pub fn run_all(&mut self, calls: &[Call]) -> Check<Vec<Done>> {
        let mut all = Vec::with_capacity(calls.len());
        let room = self.capacity() - self.outstanding();
        for some in calls.chunks(room.max(1)) {
            let slots = self.post_all(some);
            all.extend(self.finish(&slots)?);
        }
        Ok(all)
    }

    /// Waits until the kernel has accepted the calls in these slots.
    pub fn until_taken(&self, slots: &[usize]) -> Check {
        let mut missing = 0;
        super::until("posted entries accepted", || {
            missing = slots
                .iter()
                .copied()
                .find(|&s| !self.is_taken(s))
                .unwrap_or(usize::MAX);
            missing == usize::MAX
        })
        .map_err(|failure| failure.within(self.show(missing.min(self.capacity() - 1))))
    }

    /// Posts calls that block, and waits until syscall threads have taken them.
    pub fn post_blocked(&mut self, calls: &[Call]) -> Check<Vec<usize>> {
        let slots = self.post_all(calls);
        self.kicked()?;
        self.until_taken(&slots)?;
        Ok(slots)
    }

    /// Everything about a slot, for messages.
    pub fn show(&self, slot: usize) -> String {
        let (page, entry) = (slot / PAGE_ENTRIES, self.entry(slot));
        let ctrl = self.ctrl(page);
        format!(
            "entry {slot}: call {} status {} result {} reason {}, page {page}: posted {:x} \
             reaped {:x} taken {:x} done {:x} flags {:x}; {:?}",
            entry.nr.load(Ordering::Relaxed),
            entry.status.load(Ordering::Relaxed),
            Ret(entry.result.load(Ordering::Relaxed)),
            entry.reason.load(Ordering::Relaxed),
            ctrl.posted.load(Ordering::Relaxed),
            ctrl.reaped.load(Ordering::Relaxed),
            ctrl.taken.load(Ordering::Relaxed),
            ctrl.done.load(Ordering::Relaxed),
            ctrl.flags.load(Ordering::Relaxed),
            engine::query(self.fd),
        )
    }

    /// Unmaps the pages; the registration stays.
    pub fn unmap(mut self) -> Result<u64, Errno> {
        let (base, len) = (self.base, self.len);
        self.len = 0;
        sys::munmap(base, len)
    }

    /// Gives up the mapping without unmapping it.
    pub fn leak(mut self) -> (*mut u8, usize) {
        let at = (self.base, self.len);
        self.len = 0;
        at
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.len != 0 {
            let _ = sys::munmap(self.base, self.len);
        }
    }
}

/// A call that the next one waits for.
pub fn linked(call: Call) -> Call {
    Call {
        flags: call.flags | abi::ENTRY_LINK,
        ..call
    }
}

/// Checks result and reason of an entry.
pub fn check_done(what: &str, done: Done, result: i64, reason: u8) -> Check {
    check!(
        done.result == result && done.reason == reason,
        "{what}: {} reason {}, expected {} reason {reason}",
        Ret(done.result),
        done.reason,
        Ret(result)
    );
    Ok(())
}
