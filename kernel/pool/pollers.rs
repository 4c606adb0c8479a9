// SPDX-License-Identifier: GPL-2.0

//! The CPUs that a pool's threads poll.

/// See the module's documentation.
pub(super) struct Pollers {
    /// CPUs with a poller, asleep or not.
    cpus: u64,
    /// CPUs in `cpus` whose poller sleeps.
    asleep: u64,
    /// The slot of the poller of each CPU in `cpus`.
    slots: [u32; u64::BITS as usize],
    /// True if programs may believe that a poller is awake: one has cleared NEED_WAKEUP, and the
    /// last one has not set it again.
    is_believed: bool,
}

impl Pollers {
    pub(super) fn new() -> Self {
        Pollers {
            cpus: 0,
            asleep: 0,
            slots: [0; u64::BITS as usize],
            is_believed: false,
        }
    }

    /// Returns the CPUs with a poller, asleep or not.
    pub(super) fn cpus(&self) -> u64 {
        self.cpus
    }

    /// Returns the slot of the poller of `cpu`, if there is one.
    pub(super) fn slot(&self, cpu: u32) -> Option<u32> {
        let slot = *self.slots.get(cpu as usize)?;
        (self.cpus & (1 << cpu) != 0).then_some(slot)
    }

    /// Notes that the thread in `slot` polls `cpu` from now on.
    pub(super) fn begin(&mut self, slot: u32, cpu: u32) {
        if let Some(poller) = self.slots.get_mut(cpu as usize) {
            *poller = slot;
            self.cpus |= 1 << cpu;
        }
    }

    /// Notes that no thread polls `cpu` from now on.
    pub(super) fn end(&mut self, cpu: u32) {
        self.cpus &= !(1 << cpu);
    }

    pub(super) fn set_asleep(&mut self, cpu: u32, asleep: bool) {
        if asleep {
            self.asleep |= 1 << cpu;
        } else {
            self.asleep &= !(1 << cpu);
        }
    }

    /// Returns one of `cpus` whose poller sleeps, if the pollers of all `cpus` do.
    pub(super) fn one_to_wake(&self, cpus: u64) -> Option<u32> {
        let polled = self.cpus & cpus;
        (polled != 0 && polled & !self.asleep == 0).then(|| polled.trailing_zeros())
    }

    /// Notes that a thread polls, and that programs will see this.
    pub(super) fn set_believed(&mut self) {
        self.is_believed = true;
    }

    /// Returns true, once, if programs believe that a poller is awake.
    pub(super) fn take_believed(&mut self) -> bool {
        core::mem::take(&mut self.is_believed)
    }
}
