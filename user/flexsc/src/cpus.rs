// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sets of CPUs.

use std::fmt;

/// A set of CPUs, of any length.
///
/// ```
/// let cpus = flexsc::CpuSet::from_iter([1, 130]);
/// assert!(cpus.contains(130));
/// assert_eq!(cpus.iter().collect::<Vec<_>>(), [1, 130]);
/// assert_eq!(cpus.to_string(), "1,130");
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct CpuSet {
    /// One bit for each CPU, as in sched_setaffinity(2). The last byte is not 0.
    bytes: Vec<u8>,
}

impl CpuSet {
    /// The empty set.
    #[must_use]
    pub const fn new() -> CpuSet {
        CpuSet { bytes: Vec::new() }
    }

    /// Adds a CPU.
    pub fn insert(&mut self, cpu: u16) {
        let byte = usize::from(cpu / 8);
        if self.bytes.len() <= byte {
            self.bytes.resize(byte + 1, 0);
        }
        self.bytes[byte] |= 1 << (cpu % 8);
    }

    /// Returns true if the CPU is in the set.
    #[must_use]
    pub fn contains(&self, cpu: u16) -> bool {
        let byte = self.bytes.get(usize::from(cpu / 8));
        byte.is_some_and(|byte| byte & (1 << (cpu % 8)) != 0)
    }

    /// Returns true if no CPU is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The CPUs in the set, in order.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        let bits = self.bytes.len() * 8;
        (0..=u16::MAX).take(bits).filter(|&cpu| self.contains(cpu))
    }

    /// The set as the kernel reads it, at least one byte.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        if self.bytes.is_empty() {
            &[0]
        } else {
            &self.bytes
        }
    }

    /// A set that the kernel has written.
    pub(crate) fn from_bytes(bytes: &[u8]) -> CpuSet {
        let len = bytes
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(0, |last| last + 1);
        CpuSet {
            bytes: bytes[..len].to_vec(),
        }
    }
}

impl FromIterator<u16> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u16>>(cpus: I) -> CpuSet {
        let mut set = CpuSet::new();
        for cpu in cpus {
            set.insert(cpu);
        }
        set
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, cpu) in self.iter().enumerate() {
            if n != 0 {
                f.write_str(",")?;
            }
            write!(f, "{cpu}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_have_any_length() {
        for cpu in [0, 7, 8, 63, 64, 8191, u16::MAX] {
            let set = CpuSet::from_iter([cpu]);
            assert_eq!(set.iter().collect::<Vec<_>>(), [cpu]);
            assert_eq!(set.as_bytes().len(), usize::from(cpu / 8) + 1);
            assert!(!set.contains(cpu ^ 1) && !set.is_empty());
        }
    }

    #[test]
    fn what_the_kernel_writes_is_the_same_set() {
        let set = CpuSet::from_iter([3, 64]);
        let mut bytes = set.as_bytes().to_vec();
        bytes.resize(1024, 0);
        assert_eq!(CpuSet::from_bytes(&bytes), set);
        assert_eq!(CpuSet::from_bytes(&[0; 8]), CpuSet::new());
        assert_eq!(CpuSet::new().as_bytes(), [0]);
        assert_eq!(format!("{set:?} {set}"), "{3, 64} 3,64");
    }
}
