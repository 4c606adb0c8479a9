// SPDX-License-Identifier: GPL-2.0

//! How many syscall pages each user has, over all engines: parameter `max_user_pages`.
//!
//! The user is the one who opened the device, by number in the initial namespace.

use crate::sys::{
    file,
    lock::{Class, RawLock},
};
use kernel::prelude::*;
use kernel::rbtree::{RBTree, RBTreeNode};

/// See the module's documentation.
pub(crate) struct Quota {
    /// Pages by user; nobody has none.
    users: RawLock<RBTree<u32, u32>>,
}

impl Quota {
    pub(crate) fn new() -> Self {
        Quota {
            users: RawLock::new(RBTree::new(), Class::Users),
        }
    }

    /// Takes `pages` from what `user` may have; `ENOSPC` where that is not enough.
    pub(crate) fn charge(&self, user: u32, pages: u32) -> Result {
        // Whoever has pages already does not need it: it is freed after the lock.
        let node = RBTreeNode::new(user, pages, GFP_KERNEL_ACCOUNT)?;
        let mut users = self.users.lock();
        let have = users.get(&user).copied().unwrap_or(0);
        let sum = have.checked_add(pages).ok_or(ENOSPC)?;
        let limit = file::max_user_pages();
        if limit != 0 && sum > limit {
            return Err(ENOSPC);
        }
        match users.get_mut(&user) {
            Some(have) => *have = sum,
            None => drop(users.insert(node)),
        }
        Ok(())
    }

    /// Gives `pages` back that were charged to `user`.
    pub(crate) fn uncharge(&self, user: u32, pages: u32) {
        let mut users = self.users.lock();
        let left = match users.get_mut(&user) {
            Some(have) => {
                *have -= pages;
                *have
            }
            None => return,
        };
        let node = if left == 0 {
            users.remove_node(&user)
        } else {
            None
        };
        drop(users);
        drop(node);
    }
}
