// SPDX-License-Identifier: MIT OR Apache-2.0
//! The objects that the dynamic linker has loaded, read from its list in memory.

use alloc::vec::Vec;
use core::ffi::CStr;
use core::ops::Range;
use core::slice;

use crate::elf::{Headers, Segment};

/// The kernel's information about the program.
#[derive(Clone, Copy)]
pub(crate) struct Program {
    /// Address and number of its program headers.
    pub(crate) headers: (u64, usize),
    /// Address of the kernel's own object; 0 if there is none.
    pub(crate) vdso: u64,
    /// Programs may read and write the FS base themselves.
    pub(crate) has_fsgsbase: bool,
}

/// A loaded object.
pub(crate) struct Loaded {
    /// The difference to the addresses in its file.
    pub(crate) base: u64,
    /// Empty for the program itself.
    pub(crate) name: &'static CStr,
    pub(crate) headers: Headers,
}

/// `struct r_debug` of `<link.h>`; `next` exists from version 2 on.
#[repr(C)]
struct Debug {
    version: i32,
    objects: *const LinkMap,
    _brk: u64,
    _state: i32,
    _base: u64,
    next: *const Debug,
}

/// The public part of `struct link_map`.
#[repr(C)]
struct LinkMap {
    base: u64,
    name: *const core::ffi::c_char,
    dynamic: u64,
    next: *const LinkMap,
    _previous: u64,
}

/// All objects of all namespaces, except the kernel's; None if the program has no dynamic linker.
///
/// No thread may be loading or unloading objects.
pub(crate) fn loaded(program: &Program) -> Option<Vec<Loaded>> {
    const PHDR_LEN: usize = 56;
    // SAFETY: The kernel or the dynamic linker has stored the address and number of the headers.
    let table = unsafe { slice(program.headers.0, program.headers.1 * PHDR_LEN) };
    let own = Headers::of_table(table);
    let base = program.headers.0.wrapping_sub(own.own?);
    let mut debug = debug(base, own.dynamic.clone()?)?;
    let mut own = Some(own);
    let mut all = Vec::new();
    loop {
        // SAFETY: The dynamic linker keeps its structures, and is not changing them now.
        let Debug {
            version,
            objects,
            next,
            ..
        } = unsafe { &*debug };
        let mut object = *objects;
        while !object.is_null() {
            // SAFETY: As above.
            let map = unsafe { &*object };
            object = map.next;
            // The program comes first, and its headers need not be at its beginning.
            let headers = match own.take() {
                Some(own) => Some(own),
                None if map.base == program.vdso => None,
                None => headers(map.base),
            };
            if let Some(headers) = headers {
                all.push(Loaded {
                    base: map.base,
                    name: name(map),
                    headers,
                });
            }
        }
        if *version < 2 || next.is_null() {
            return Some(all);
        }
        debug = *next;
    }
}

/// The dynamic linker's `struct r_debug`, of which the program's dynamic section has the address.
fn debug(base: u64, dynamic: Range<u64>) -> Option<*const Debug> {
    const DT_DEBUG: u64 = 21;
    let len = (dynamic.end - dynamic.start) as usize;
    // SAFETY: The dynamic section is loaded.
    let bytes = unsafe { slice(base.wrapping_add(dynamic.start), len) };
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or_default());
    let mut rows = bytes.chunks_exact(16);
    let row = rows.find(|row| word(&row[..8]) == DT_DEBUG)?;
    let address = word(&row[8..]);
    (address != 0).then_some(address as *const Debug)
}

/// The headers of an object that begins with those of its file.
pub(crate) fn headers(base: u64) -> Option<Headers> {
    const PAGE: usize = 4096;
    if base == 0 {
        return None;
    }
    // SAFETY: The dynamic linker keeps an object's first page mapped.
    Headers::of_file(unsafe { slice(base, PAGE) })
}

fn name(map: &LinkMap) -> &'static CStr {
    if map.name.is_null() {
        return c"";
    }
    // SAFETY: The dynamic linker's names end with a zero. A name that is freed with its object
    // is used only while no object is unloaded.
    unsafe { CStr::from_ptr(map.name) }
}

/// The bytes of a segment that is not written to.
pub(crate) fn segment(base: u64, segment: &Segment) -> &'static [u8] {
    // SAFETY: The segment is mapped. Plans are finished, and hold no reference to the code, before
    // the code is changed.
    unsafe { slice(base.wrapping_add(segment.address), segment.len as usize) }
}

/// The bytes of an object that stays, such as the kernel's own.
pub(crate) fn bytes(address: u64, len: u64) -> &'static [u8] {
    // SAFETY: The object's own tables say that they are there.
    unsafe { slice(address, len as usize) }
}

/// # Safety
///
/// The memory is mapped and constant as long as the slice is used.
unsafe fn slice(address: u64, len: usize) -> &'static [u8] {
    // SAFETY: The caller's promise.
    unsafe { slice::from_raw_parts(address as *const u8, len) }
}
