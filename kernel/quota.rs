// SPDX-License-Identifier: GPL-2.0

//! Limits the memory of registrations of each user in all engines together (parameter
//! `max_user_pages`), and each process (RLIMIT_MEMLOCK).
//!
//! The user is the opener of the device, by id in the initial user namespace. A charge lasts
//! as long as the memory. When a registration ends, its memory may be freed a little later because
//! a syscall thread still uses it. So a charge that would fail waits for such memory, see
//! [`Quota::charge`].
//!
//! The mutex is taken while an address space is locked (munmap). No other lock is taken inside it.

use crate::sys::{
    params,
    process::{self, Process},
};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use kernel::prelude::*;
use kernel::rbtree::{RBTree, RBTreeNode};
use kernel::sync::{new_condvar, new_mutex, Arc, CondVar, CondVarTimeoutResult, Mutex};
use kernel::time::msecs_to_jiffies;

/// The longest time that a charge waits for memory that is about to be freed.
const LONGEST_MS: u32 = 2_000;

/// A holder of memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Holder {
    User(u32),
    Process(usize),
}

/// Syscall pages of a holder. A holder without pages is not in the tree.
#[derive(Clone, Copy, Default)]
struct Held {
    pages: u64,
    /// How many of these belong to registrations that are neither registered nor mapped any more.
    ending: u64,
}

/// See the module's documentation.
#[pin_data(PinnedDrop)]
pub(crate) struct Quota {
    #[pin]
    held: Mutex<RBTree<Holder, Held>>,
    /// Signalled when ending memory was freed.
    #[pin]
    freed: CondVar,
}

/// The user and the process to which all registrations of an engine are charged.
pub(crate) struct Account {
    quota: Arc<Quota>,
    /// The user who opened the engine.
    user: u32,
    process: Process,
    /// Syscall pages that are charged now; [`Account::drop`] checks that none are left.
    pages: AtomicU64,
}

/// A charge for some syscall pages and for the memory that they need. Dropping it uncharges both.
pub(crate) struct Charge {
    account: Arc<Account>,
    pages: u32,
    pinned: usize,
    /// Set once the charge counts as ending, by the task that ends the last use.
    ending: AtomicBool,
}

impl Quota {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Quota {
            held <- new_mutex!(RBTree::new(), "flexsc_quota"),
            freed <- new_condvar!("flexsc_freed"),
        })
    }

    /// Charges `pages` syscall pages, and `pinned` pages of memory for them. Fails with `ENOSPC` or
    /// `ENOMEM` at the limits.
    ///
    /// At a limit, waits for a bounded time for memory of the same user or process that is about to
    /// be freed. A signal ends the wait, and the caller's call is restarted.
    fn charge(&self, account: &Account, pages: u32, pinned: usize) -> Result {
        let holders = account.holders();
        // A holder with pages needs no node; the spare node is freed after unlocking.
        let mut nodes = [None, None];
        for (node, holder) in nodes.iter_mut().zip(holders) {
            *node = Some(RBTreeNode::new(
                holder,
                Held::default(),
                GFP_KERNEL_ACCOUNT,
            )?);
        }
        let mut left = msecs_to_jiffies(LONGEST_MS);
        let mut held = self.held.lock();
        loop {
            let now = holders.map(|holder| held.get(&holder).copied().unwrap_or_default());
            let error = match account.check(now[0], pages, pinned) {
                Ok(()) => break,
                Err(e) => e,
            };
            if now.iter().all(|held| held.ending == 0) {
                return Err(error);
            }
            match self.freed.wait_interruptible_timeout(&mut held, left) {
                CondVarTimeoutResult::Woken { jiffies } => left = jiffies,
                CondVarTimeoutResult::Timeout => return Err(error),
                CondVarTimeoutResult::Signal { .. } => return Err(ERESTARTNOINTR),
            }
        }
        for (node, holder) in nodes.iter_mut().zip(holders) {
            if held.get(&holder).is_none() {
                if let Some(node) = node.take() {
                    held.insert(node);
                }
            }
            if let Some(held) = held.get_mut(&holder) {
                held.pages = held.pages.wrapping_add(pages.into());
            }
        }
        account.pages.fetch_add(pages.into(), Ordering::Relaxed);
        Ok(())
    }

    fn uncharge(&self, charge: &Charge) {
        let account = &charge.account;
        let pages = u64::from(charge.pages);
        let ending = charge.ending.load(Ordering::Relaxed);
        let mut empty = [None, None];
        let mut held = self.held.lock();
        account.process.uncharge_pinned(charge.pinned);
        let charged = account.pages.fetch_sub(pages, Ordering::Relaxed);
        debug_assert!(charged >= pages, "more given back than was charged");
        for (empty, holder) in empty.iter_mut().zip(account.holders()) {
            let Some(of) = held.get_mut(&holder) else {
                debug_assert!(false, "a charge of a holder of nothing");
                continue;
            };
            of.check();
            debug_assert!(of.pages >= pages, "a holder of less than its charge");
            debug_assert!(!ending || of.ending >= pages, "ending, and not counted so");
            of.pages = of.pages.saturating_sub(pages);
            if ending {
                of.ending = of.ending.saturating_sub(pages);
            }
            of.check();
            if of.pages == 0 {
                *empty = held.remove_node(&holder);
            }
        }
        drop(held);
        if ending {
            self.freed.notify_all();
        }
    }

    fn ends(&self, account: &Account, pages: u32) {
        let mut held = self.held.lock();
        for holder in account.holders() {
            if let Some(of) = held.get_mut(&holder) {
                of.ending = of.ending.wrapping_add(pages.into());
                of.check();
            }
        }
    }
}

#[pinned_drop]
impl PinnedDrop for Quota {
    fn drop(self: Pin<&mut Self>) {
        // Every charge holds the quota.
        debug_assert!(self.held.lock().iter().next().is_none(), "charges are left");
    }
}

impl Held {
    /// Checks what must hold before and after each change, with CONFIG_RUST_DEBUG_ASSERTIONS.
    fn check(&self) {
        debug_assert!(self.ending <= self.pages, "more is ending than there is");
        debug_assert!(self.pages <= u64::MAX / 2, "less than nothing is held");
    }
}

impl Account {
    /// Creates an account of the current process and its user.
    pub(crate) fn current(quota: Arc<Quota>) -> Result<Self> {
        Ok(Account {
            quota,
            user: process::current_user(),
            process: Process::current()?,
            pages: AtomicU64::new(0),
        })
    }

    fn holders(&self) -> [Holder; 2] {
        [
            Holder::User(self.user),
            Holder::Process(self.process.number()),
        ]
    }

    /// Charges `pinned` pages of memory to the process. Fails with `ENOSPC` if `pages` more syscall
    /// pages would exceed the limit of the user, with `ENOMEM` at the limit of the process.
    fn check(&self, user: Held, pages: u32, pinned: usize) -> Result {
        let limit = u64::from(params::max_user_pages());
        if limit != 0 && user.pages.saturating_add(pages.into()) > limit {
            return Err(ENOSPC);
        }
        self.process.charge_pinned(pinned)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        // Every charge of the engine holds the account, so no charge is left.
        debug_assert!(
            *self.pages.get_mut() == 0,
            "an engine has ended with charges"
        );
    }
}

impl Charge {
    /// See [`Quota::charge`].
    pub(crate) fn new(account: Arc<Account>, pages: u32, pinned: usize) -> Result<Self> {
        account.quota.charge(&account, pages, pinned)?;
        Ok(Charge {
            account,
            pages,
            pinned,
            ending: AtomicBool::new(false),
        })
    }

    /// Notes that the memory is neither registered nor mapped any more: it is freed once no task
    /// executes any of its entries. Must be called once.
    pub(crate) fn ends(&self) {
        self.account.quota.ends(&self.account, self.pages);
        self.ending.store(true, Ordering::Relaxed);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.quota.uncharge(self);
    }
}
