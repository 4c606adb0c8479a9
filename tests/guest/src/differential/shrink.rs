// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shortens a failing sequence by leaving out calls, as long as the sequence still fails.
//!
//! Zeller's and Hildebrandt's delta debugging (*Simplifying and isolating failure-inducing input*,
//! 2002), complements only.

use std::time::Instant;

use crate::check::Check;

/// The shortest failing part of `all` that is found before `end`.
pub fn shrink<T: Clone>(
    all: Vec<T>,
    end: Instant,
    mut fails: impl FnMut(&[T]) -> Check<bool>,
) -> Check<Vec<T>> {
    let mut kept = all;
    let mut size = kept.len().div_ceil(2);
    while size != 0 && kept.len() > 1 {
        let mut shorter = false;
        let mut from = 0;
        while from < kept.len() {
            if Instant::now() > end {
                return Ok(kept);
            }
            let to = (from + size).min(kept.len());
            let rest = [&kept[..from], &kept[to..]].concat();
            if !rest.is_empty() && fails(&rest)? {
                kept = rest;
                shorter = true;
            } else {
                from = to;
            }
        }
        if size == 1 && !shorter {
            break;
        }
        size = (size / 2).max(1);
    }
    Ok(kept)
}
