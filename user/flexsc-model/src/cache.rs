// SPDX-License-Identifier: MIT OR Apache-2.0
//! A set-associative cache that replaces the least recently used line of a set.

/// The first of the lines that [`Cache::prime`] puts in.
const PRIMED: u64 = 1 << 63;

/// A cache. A line is a number; its set is the line modulo the number of sets.
#[derive(Clone, Debug)]
pub struct Cache {
    /// Lines of one set after the other, in a set the last used first. 0 is an empty place;
    /// otherwise it is the line plus one.
    places: Vec<u64>,
    ways: usize,
    mask: u64,
    /// Lines of [`Cache::prime`] that others have replaced.
    evicted: u64,
}

impl Cache {
    /// Makes an empty cache.
    ///
    /// # Panics
    ///
    /// The number of sets is not a power of two, or there is no way. [`crate::params`] checks both.
    #[must_use]
    pub fn new(sets: usize, ways: usize) -> Cache {
        assert!(sets.is_power_of_two() && ways > 0);
        Cache {
            places: vec![0; sets * ways],
            ways,
            mask: sets as u64 - 1,
            evicted: 0,
        }
    }

    /// Uses a line. Returns true if it was there.
    pub fn touch(&mut self, line: u64) -> bool {
        self.touch_tagged(line, line)
    }

    /// Uses what the tag names, in the set of `index`. Tags stay below 2^63.
    pub fn touch_tagged(&mut self, index: u64, tag: u64) -> bool {
        let first = (index & self.mask) as usize * self.ways;
        let set = &mut self.places[first..first + self.ways];
        let stored = tag + 1;
        if set[0] == stored {
            return true;
        }
        let found = set.iter().position(|place| *place == stored);
        let last = found.unwrap_or(self.ways - 1);
        if set[last] >= PRIMED {
            self.evicted += u64::from(found.is_none());
        }
        set.copy_within(..last, 1);
        set[0] = stored;
        found.is_some()
    }

    /// Fills all places with lines that nobody uses, and begins to count those that get lost.
    pub fn prime(&mut self) {
        self.places.fill(PRIMED);
        self.evicted = 0;
    }

    /// Returns how many lines of [`Cache::prime`] have been replaced since.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Removes all entries whose tag does not satisfy `keep`.
    pub fn retain(&mut self, keep: impl Fn(u64) -> bool) {
        for set in self.places.chunks_mut(self.ways) {
            let mut kept = 0;
            for at in 0..set.len() {
                if set[at] >= PRIMED || set[at] != 0 && keep(set[at] - 1) {
                    set[kept] = set[at];
                    kept += 1;
                }
            }
            set[kept..].fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn misses(cache: &mut Cache, lines: impl IntoIterator<Item = u64>) -> usize {
        lines.into_iter().filter(|line| !cache.touch(*line)).count()
    }

    #[test]
    fn what_fits_misses_once() {
        let mut cache = Cache::new(64, 8);
        assert_eq!(misses(&mut cache, 0..512), 512);
        assert_eq!(misses(&mut cache, 0..512), 0);
    }

    #[test]
    fn a_loop_over_one_line_too_many_always_misses_in_its_set() {
        let mut cache = Cache::new(64, 8);
        let turn = || (0..513).map(|line| line * 64 % (64 * 9));
        misses(&mut cache, turn());
        // Nine lines in a set of eight ways: the least recently used one is always the next.
        assert_eq!(misses(&mut cache, turn()), 513);
        let mut cache = Cache::new(64, 8);
        misses(&mut cache, 0..513);
        assert_eq!(misses(&mut cache, 0..513), 9);
    }

    #[test]
    fn a_stride_of_the_sets_uses_one_set() {
        let mut cache = Cache::new(64, 8);
        let turn = || (0..8).map(|way| way * 64);
        assert_eq!(misses(&mut cache, turn()), 8);
        assert_eq!(misses(&mut cache, turn()), 0);
        assert_eq!(misses(&mut cache, [8 * 64]), 1);
        // The first line was the oldest.
        assert_eq!(misses(&mut cache, [64]), 0);
        assert_eq!(misses(&mut cache, [0]), 1);
    }

    #[test]
    fn the_last_used_line_stays() {
        let mut cache = Cache::new(1, 2);
        misses(&mut cache, [1, 2, 1, 3]);
        assert!(cache.touch(1) && !cache.touch(2));
    }

    #[test]
    fn primed_lines_are_counted_once_each() {
        let mut cache = Cache::new(4, 2);
        cache.prime();
        assert_eq!(misses(&mut cache, [0, 0, 4, 1]), 3);
        assert_eq!(cache.evicted(), 3);
        // Set 0 is full of ours.
        assert_eq!(misses(&mut cache, [8, 12]), 2);
        assert_eq!(cache.evicted(), 3);
        cache.prime();
        assert_eq!(cache.evicted(), 0);
        assert!(!cache.touch(0));
    }

    #[test]
    fn some_entries_can_be_removed() {
        let mut cache = Cache::new(1, 4);
        misses(&mut cache, [1, 2, 3]);
        cache.retain(|line| line != 2);
        assert!(cache.touch(1) && cache.touch(3) && !cache.touch(2));
    }
}
