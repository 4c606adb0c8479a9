// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's own object in memory (vDSO), which tells the time without a trap.

use core::ffi::CStr;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::elf;
use crate::sys::image;

/// clock_gettime(2) in the vDSO; 0: there is none.
static CLOCK_GETTIME: AtomicUsize = AtomicUsize::new(0);

/// Looks for the functions of the vDSO at `base`; 0: there is none.
pub(crate) fn find(base: u64) {
    if let Some(address) = symbol(base, c"__vdso_clock_gettime") {
        CLOCK_GETTIME.store(address, Relaxed);
    }
}

/// Seconds and nanoseconds of a clock; None if only the kernel can tell.
pub(crate) fn clock(clock: u64) -> Option<[u64; 2]> {
    let address = CLOCK_GETTIME.load(Relaxed);
    if address == 0 {
        return None;
    }
    // SAFETY: The address is that of the function, which follows the ABI of C.
    let get: extern "C" fn(i32, *mut [u64; 2]) -> i32 = unsafe { core::mem::transmute(address) };
    let mut time = [0_u64; 2];
    (get(clock as i32, &raw mut time) == 0).then_some(time)
}

/// The address of a function of the object at `base`.
fn symbol(base: u64, wanted: &CStr) -> Option<usize> {
    const DT_STRTAB: u64 = 5;
    const DT_SYMTAB: u64 = 6;
    const LEN: usize = 24;
    let headers = image::headers(base)?;
    // The object's addresses begin with those of its first segment.
    let bias = base.wrapping_sub(headers.segments.first()?.address);
    let dynamic = headers.dynamic?;
    let rows = image::bytes(
        bias.wrapping_add(dynamic.start),
        dynamic.end - dynamic.start,
    );
    let row = |kind| {
        let mut rows = rows.chunks_exact(16);
        let row = rows.find(|row| elf::u64_at(row, 0) == Some(kind))?;
        elf::u64_at(row, 8)
    };
    let (names, symbols) = (row(DT_STRTAB)?, row(DT_SYMTAB)?);
    // The linker puts the names behind the symbols.
    let table = image::bytes(bias.wrapping_add(symbols), names.checked_sub(symbols)?);
    let end = headers.segments.iter().map(|s| s.address + s.len).max()?;
    let names = image::bytes(bias.wrapping_add(names), end.checked_sub(names)?);
    let symbol = table.chunks_exact(LEN).find(|symbol| {
        let name = elf::u32_at(symbol, 0).and_then(|at| names.get(at as usize..));
        name.is_some_and(|name| name.starts_with(wanted.to_bytes_with_nul()))
    })?;
    Some(bias.wrapping_add(elf::u64_at(symbol, 8)?) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::kernel::{self, CLOCK_MONOTONIC};

    #[test]
    fn the_time_is_that_of_the_kernel() {
        let base = own_base();
        if base == 0 {
            return;
        }
        let before = kernel::now(CLOCK_MONOTONIC);
        find(base);
        let [seconds, ns] = clock(CLOCK_MONOTONIC).expect("it has the function");
        let now = seconds * 1_000_000_000 + ns;
        assert!(now >= before && now <= kernel::now(CLOCK_MONOTONIC));
        assert_eq!(symbol(base, c"__vdso_no_such_function"), None);
        // No clock has this number.
        assert_eq!(clock(1000), None);
    }

    /// AT_SYSINFO_EHDR of this process.
    fn own_base() -> u64 {
        let words = std::fs::read("/proc/self/auxv").expect("it is mounted");
        let pairs = words.chunks_exact(16);
        let mut values = pairs.filter(|pair| elf::u64_at(pair, 0) == Some(33));
        values
            .next()
            .and_then(|pair| elf::u64_at(pair, 8))
            .unwrap_or(0)
    }
}
