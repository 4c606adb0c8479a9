// SPDX-License-Identifier: MIT OR Apache-2.0
//! Objects as the planner sees them, from memory or from their files, and the memory that plans need.

use alloc::vec::Vec;

use iced_x86::{Decoder, DecoderOptions};

use crate::elf::{Bounds, Headers, Segment};
use crate::plan::Object;
use crate::sys::entry;
use crate::sys::image::Loaded;

/// The bytes of a segment.
pub(crate) type Bytes<'f, 'a> = &'f dyn Fn(&Segment) -> Option<&'a [u8]>;

/// Memory for the decoder's tables.
pub(crate) const DECODER_MEMORY: usize = 1 << 20;
/// A list of objects: about a kilobyte each.
pub(crate) const LIST_MEMORY: usize = 16 << 20;
/// A plan of a small object.
const PLAN_MEMORY: usize = 64 << 20;

/// Memory for a plan of a segment. Unused memory costs nothing.
pub(crate) fn memory(segment: &Segment) -> usize {
    PLAN_MEMORY + segment.len as usize
}

/// Makes the decoder's tables, in the present area.
pub(crate) fn warm_up() {
    let _ = Decoder::new(64, &[], DecoderOptions::NONE);
}

/// Returns true for this library.
pub(crate) fn is_ours(object: &Loaded) -> bool {
    let segments = object.headers.segments.iter();
    let mut addresses = segments.map(|segment| {
        let start = object.base.wrapping_add(segment.address);
        start..start + segment.len
    });
    addresses.any(|range| range.contains(&entry::entry()))
}

/// The object with this executable segment; None if `bytes` does not have it.
pub(crate) fn object<'a>(
    headers: &Headers,
    base: u64,
    segment: &Segment,
    bytes: Bytes<'_, 'a>,
) -> Option<Object<'a>> {
    let constant = |segment: &Segment| Some((base.wrapping_add(segment.address), bytes(segment)?));
    let segments = headers.segments.iter();
    let constants: Vec<(u64, &[u8])> = segments
        .filter(|segment| segment.is_constant())
        .filter_map(constant)
        .collect();
    let mut object = Object {
        address: base.wrapping_add(segment.address),
        code: bytes(segment)?,
        bounds: None,
        constants,
    };
    object.bounds = headers.bounds.as_ref().and_then(|range| {
        let address = base.wrapping_add(range.start);
        Bounds::new(object.constants(address)?, address)
    });
    Some(object)
}
