// SPDX-License-Identifier: MIT OR Apache-2.0
//! The speed of the machine. Time limits are for a machine for which `speed.sh` prints 100.

use std::process::Command;
use std::time::Duration;

/// The most by which limits are scaled, in percent: longer limits make no sense on any machine.
const MOST: u32 = 1000;

fn percent(text: &str) -> u32 {
    text.trim().parse().map_or(100, |n: u32| n.clamp(100, MOST))
}

/// Returns how slow the machine was when the tests began, in percent; at least 100.
pub fn slow() -> u32 {
    std::env::var("FLEXSC_TEST_SLOW").map_or(100, |text| percent(&text))
}

/// As [`slow`], but measured now, which takes half a second: the host may have other work by now.
pub fn slow_now() -> u32 {
    let Some(script) = std::env::var_os("FLEXSC_TEST_SPEED") else {
        return slow();
    };
    let output = Command::new("sh").arg(script).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    percent(&String::from_utf8_lossy(&text)).max(slow())
}

/// Scales a time that is long enough on a machine of the usual speed to this one.
pub fn scaled(usual: Duration) -> Duration {
    usual * slow() / 100
}

/// Returns true if `took` is within the limit `usual` of a machine of the usual speed. If not, the
/// machine's speed is measured again.
pub fn is_within(took: Duration, usual: Duration) -> bool {
    took < scaled(usual) || took < usual * slow_now() / 100
}
