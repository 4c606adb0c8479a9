// SPDX-License-Identifier: GPL-2.0

//! The role in which a task executes entries. Pure logic, shared with the tests of the host.

/// See the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The thread that posted the entries, in WAIT.
    Owner,
    /// A syscall thread of a pool, in this slot of the pool.
    Worker { pool: u8, slot: u32 },
    /// A poller: a syscall thread of the first pool that polls the doorbells on this CPU.
    Poller { slot: u32, cpu: u32 },
}

impl Role {
    pub(crate) fn is_owner(self) -> bool {
        self == Role::Owner
    }

    /// Returns the slot of a syscall thread in its pool.
    pub(crate) fn slot(self) -> Option<u32> {
        match self {
            Role::Owner => None,
            Role::Worker { slot, .. } | Role::Poller { slot, .. } => Some(slot),
        }
    }

    /// Returns the pool whose entries a syscall thread executes. Owners and pollers have none: they
    /// offload an entry to the pool that the entry names.
    pub(crate) fn pool(self) -> Option<u8> {
        match self {
            Role::Worker { pool, .. } => Some(pool),
            Role::Owner | Role::Poller { .. } => None,
        }
    }
}
