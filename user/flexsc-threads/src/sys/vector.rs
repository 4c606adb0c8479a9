// SPDX-License-Identifier: MIT OR Apache-2.0
//! Searches in machine code, sixteen bytes at a time: the C library has 1.4 MB of it.

use core::arch::x86_64::{
    __m128i, _mm_and_si128, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_or_si128,
    _mm_set1_epi8,
};

const STEP: usize = 16;

/// Calls `found` with each offset of `pair` in `bytes`.
pub(crate) fn pairs(bytes: &[u8], pair: [u8; 2], mut found: impl FnMut(usize)) {
    let (first, second) = (splat(pair[0]), splat(pair[1]));
    let rest = steps(
        bytes,
        |here, next| and(equal(here, first), equal(next, second)),
        &mut found,
    );
    for (at, window) in bytes.windows(2).enumerate().skip(rest) {
        if window == pair {
            found(at);
        }
    }
}

/// Calls `found` with each offset that may be the last byte of the opcode of a jump or call with a
/// 32-bit displacement.
pub(crate) fn far_jumps(bytes: &[u8], mut found: impl FnMut(usize)) {
    // jcc has two bytes: 0f, 80 to 8f. jmp and call have one: e8, e9.
    let (escape, jcc, jcc_bits) = (splat(0x0f), splat(0x80), splat(0xf0));
    let (call, call_bits) = (splat(0xe8), splat(0xfe));
    let rest = steps(
        bytes,
        |here, next| {
            let jcc = and(equal(here, escape), equal(and(next, jcc_bits), jcc));
            or(jcc, equal(and(next, call_bits), call))
        },
        |at| found(at + 1),
    );
    for (at, window) in bytes.windows(2).enumerate().skip(rest) {
        let is_jcc = window[0] == 0x0f && window[1] & 0xf0 == 0x80;
        if is_jcc || window[1] & 0xfe == 0xe8 {
            found(at + 1);
        }
    }
}

/// Calls `found` with each offset for which `matches` sets a bit, given the bytes at the offset and
/// the bytes behind them. Returns the first offset that was not examined.
fn steps(
    bytes: &[u8],
    matches: impl Fn(__m128i, __m128i) -> __m128i,
    mut found: impl FnMut(usize),
) -> usize {
    let mut at = 0;
    while bytes.len() - at > STEP {
        let here = load(&bytes[at..at + STEP]);
        let next = load(&bytes[at + 1..=at + STEP]);
        let mut hits = mask(matches(here, next));
        while hits != 0 {
            found(at + hits.trailing_zeros() as usize);
            hits &= hits - 1;
        }
        at += STEP;
    }
    at
}

fn load(bytes: &[u8]) -> __m128i {
    assert!(bytes.len() == STEP);
    // SAFETY: The load reads the 16 bytes, at any alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

fn splat(byte: u8) -> __m128i {
    // SAFETY: x86-64 has SSE2.
    unsafe { _mm_set1_epi8(byte as i8) }
}

fn equal(a: __m128i, b: __m128i) -> __m128i {
    // SAFETY: x86-64 has SSE2.
    unsafe { _mm_cmpeq_epi8(a, b) }
}

fn and(a: __m128i, b: __m128i) -> __m128i {
    // SAFETY: x86-64 has SSE2.
    unsafe { _mm_and_si128(a, b) }
}

fn or(a: __m128i, b: __m128i) -> __m128i {
    // SAFETY: x86-64 has SSE2.
    unsafe { _mm_or_si128(a, b) }
}

fn mask(bytes: __m128i) -> u32 {
    // SAFETY: x86-64 has SSE2.
    unsafe { _mm_movemask_epi8(bytes) as u32 }
}
