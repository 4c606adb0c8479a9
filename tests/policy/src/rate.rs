// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tests the adaptive wait policy with loads whose best fixed setting is known.

use crate::adaptive::{Rate, MOST, SLEEP_NS};

/// Learns from `times` waits, each of which gave `results` with this gap.
fn after(rate: Rate, gap_ns: u64, times: usize) -> Rate {
    (0..times).fold(rate, |rate, _| {
        let results = rate.choose().results;
        rate.learn(results, gap_ns * u64::from(results))
    })
}

#[test]
fn nothing_known_is_waiting_for_one() {
    let choice = Rate::default().choose();
    assert_eq!((choice.results, choice.linger_ns), (1, 0));
}

#[test]
fn slow_results_are_taken_one_by_one() {
    for gap in [SLEEP_NS, 100_000, 1_000_000, u64::MAX / 128] {
        let choice = after(Rate::default(), gap, 20).choose();
        assert_eq!((choice.results, choice.linger_ns), (1, 0), "gap {gap}");
    }
}

#[test]
fn fast_results_are_taken_by_the_page() {
    for gap in [1, 10, 100, SLEEP_NS / u64::from(MOST) - 1] {
        let choice = after(Rate::default(), gap, 40).choose();
        assert_eq!(choice.results, MOST, "gap {gap}");
        assert!(choice.linger_ns > 0);
    }
}

#[test]
fn in_between_the_first_result_waits_about_as_long_as_a_sleep_costs() {
    for gap in [500, 1_000, 2_000, 5_000, 9_000] {
        let choice = after(Rate::default(), gap, 40).choose();
        let waits = u64::from(choice.results) * gap;
        assert!(waits <= SLEEP_NS, "gap {gap}: {choice:?}");
        assert!(waits > SLEEP_NS / 2, "gap {gap}: {choice:?}");
    }
}

#[test]
fn a_load_that_falls_is_followed_within_a_dozen_waits() {
    let fast = after(Rate::default(), 100, 40);
    let slow = after(fast, 1_000_000, 12).choose();
    assert_eq!(slow.results, 1);
    let again = after(after(fast, 1_000_000, 12), 100, 64).choose();
    assert_eq!(again.results, MOST);
}

/// A model: each wait costs `SLEEP_NS`, results come at a fixed gap, and cost and delay
/// count alike.
fn cost(gap_ns: u64, results: u32) -> u64 {
    let n = u64::from(results);
    // Per result: its share of the sleep, and its average delay.
    SLEEP_NS / n + gap_ns * (n - 1) / 2
}

#[test]
fn never_worse_than_a_bad_fixed_number_and_close_to_the_best() {
    for gap in [10, 100, 300, 1_000, 3_000, 10_000, 50_000, 1_000_000] {
        let chosen = cost(gap, after(Rate::default(), gap, 60).choose().results);
        let fixed = || (1..=MOST).map(|n| cost(gap, n));
        let (best, worst) = (fixed().min().unwrap(), fixed().max().unwrap());
        assert!(chosen <= worst, "gap {gap}: {chosen} > {worst}");
        // The best number is about the root of the chosen one: less delay, more sleeps. This
        // bounds how far the choice may be from the best.
        assert!(
            chosen <= best * 5 / 2 + SLEEP_NS / 2,
            "gap {gap}: {chosen}, best {best}"
        );
    }
}
