// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the parts that need no process to patch: with the C library of this machine, and with
//! planted code.

use std::path::{Path, PathBuf};
use std::vec::Vec;
use std::{env, fs, println};

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic};

use crate::calls::{self, Class};
use crate::elf::{Bounds, Headers, Segment};
use crate::flow::is_direct;
use crate::object;
use crate::plan::{Object, Reason, Site, Which, plan};
use crate::stub;
use crate::sys::vector::{far_jumps, pairs};
use crate::window::{JUMP, Window};

/// The addresses of planted code and of its stubs.
const CODE: u64 = 0x7000_0000_0000;
const STUBS: u64 = CODE + 0x1000_0000;
const ENTRY: u64 = STUBS - 0x4000;

/// `.eh_frame_hdr` of one function, at CODE - 64.
fn bounds() -> Vec<u8> {
    let mut section = [1, 0x1b, 3, 0x3b, 0, 0, 0, 0, 1, 0, 0, 0].to_vec();
    section.extend(64_i32.to_le_bytes());
    section.extend([0; 4]);
    section
}

/// Plans the only site of some code.
fn plan_one<R>(code: &[u8], work: impl FnOnce(&Object<'_>, &Site) -> R) -> R {
    let section = bounds();
    let object = Object {
        address: CODE,
        code,
        bounds: Bounds::new(&section, CODE - 64),
        constants: Vec::new(),
    };
    let sites = plan(&object, Which::All, |_| false);
    assert_eq!(sites.len(), 1, "{sites:?}");
    work(&object, &sites[0])
}

/// Start and length of the window, and whether the syscall stays.
fn window(code: &[u8]) -> Result<(u64, u64, bool), Reason> {
    plan_one(code, |_, site| {
        let window = site.fate.clone()?;
        let start = window.start();
        Ok((start - CODE, window.end() - start, window.is_in_place))
    })
}

/// `mov eax, 110; syscall; ret`
const USUAL: &[u8] = &[0xb8, 110, 0, 0, 0, 0x0f, 5, 0xc3];

#[test]
fn a_window_in_front_leaves_the_syscall_in_place() {
    assert_eq!(window(USUAL), Ok((0, 5, true)));
    // nop; mov rax, 15; syscall; ret
    let wide = [0x90, 0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 5, 0xc3];
    assert_eq!(window(&wide), Ok((1, 7, true)));
}

#[test]
fn a_window_contains_the_syscall_if_there_is_no_room_in_front() {
    // mov eax, edx; syscall; mov rbx, rax; ret
    let code = [0x89, 0xd0, 0x0f, 5, 0x48, 0x89, 0xc3, 0xc3];
    assert_eq!(window(&code), Ok((2, 5, false)));
    // call; mov eax, edx; syscall; ret: three bytes too few.
    let code = [0xe8, 0, 0, 0, 0, 0x89, 0xd0, 0x0f, 5, 0xc3];
    assert_eq!(window(&code), Err(Reason::NoWindow));
    // sub rsp, 8; syscall; ret: an instruction that changes the stack pointer stays.
    let code = [0x48, 0x83, 0xec, 8, 0x0f, 5, 0xc3];
    assert_eq!(window(&code), Err(Reason::NoWindow));
}

#[test]
fn nothing_may_jump_into_a_window() {
    // USUAL, then: jmp to the syscall.
    let short = [USUAL, &[0xeb, 0xfb]].concat();
    assert_eq!(window(&short), Err(Reason::NoWindow));
    let far = [USUAL, &[0xe9, 0xf8, 0xff, 0xff, 0xff]].concat();
    assert_eq!(window(&far), Err(Reason::NoWindow));
    // To the beginning of the window: no harm.
    let beginning = [USUAL, &[0xeb, 0xf6]].concat();
    assert_eq!(window(&beginning), Ok((0, 5, true)));
}

#[test]
fn bytes_within_an_instruction_are_no_site() {
    // mov eax, 0x050f; ret
    let code = [0xb8, 0x0f, 5, 0, 0, 0xc3];
    let section = bounds();
    let mut object = Object {
        address: CODE,
        code: &code,
        bounds: Bounds::new(&section, CODE - 64),
        constants: Vec::new(),
    };
    assert!(plan(&object, Which::All, |_| false).is_empty());
    // Without bounds the jumps are unknown.
    object.bounds = None;
    let sites = plan(&object, Which::All, |_| false);
    assert_eq!(sites[0].fate.clone().err(), Some(Reason::NoBounds));
}

/// The instructions of a stub, with their addresses.
fn decode(code: &[u8], address: u64) -> Vec<Instruction> {
    Decoder::with_ip(64, code, address, DecoderOptions::NONE)
        .into_iter()
        .collect()
}

#[test]
fn a_stub_enters_and_returns() {
    plan_one(USUAL, |object, site| {
        let window = site.fate.as_ref().expect("a window");
        let (code, start) = stub::stub(object, window, STUBS, ENTRY).expect("a stub");
        assert_eq!(start, STUBS + 35);
        let code = decode(&code[35..stub::RESUME], start);
        let targets: Vec<u64> = code
            .iter()
            .filter(|instruction| is_direct(instruction))
            .map(Instruction::near_branch_target)
            .collect();
        // The targets: the entry; the site's syscall; the address behind it.
        assert_eq!(targets, [ENTRY, CODE + 5, CODE + 7]);
        let (jump, len) = stub::jump(window, start).expect("near enough");
        let jump = decode(&jump[..len], CODE);
        assert_eq!((jump.len(), jump[0].near_branch_target()), (1, start));
    });
}

#[test]
fn a_moved_instruction_reads_the_same_memory() {
    // mov eax, [rip + 0x100]; syscall; ret
    let code = [0x8b, 0x05, 0, 1, 0, 0, 0x0f, 5, 0xc3];
    plan_one(&code, |object, site| {
        let window = site.fate.as_ref().expect("a window");
        let (code, start) = stub::stub(object, window, STUBS, ENTRY).expect("a stub");
        let moved = decode(&code[34..40], start)[0];
        assert_eq!(moved.ip_rel_memory_address(), CODE + 6 + 0x100);
    });
}

#[test]
fn a_site_that_is_too_far_is_refused() {
    plan_one(USUAL, |object, site| {
        let window = site.fate.as_ref().expect("a window");
        let far = stub::stub(object, window, STUBS + (1 << 32), ENTRY + (1 << 32));
        assert_eq!(far.err(), Some(Reason::TooFar));
    });
}

/// glibc 2.41 decides by the address of this site whether a thread is in a call.
#[test]
fn the_cancellation_point_of_glibc_2_41_makes_its_own_calls() {
    // mov r8, [rsp + 8]; mov r9, [rsp + 16]; mov [rsp + 8], r11; syscall; ret
    let code = [
        0x4c, 0x8b, 0x44, 0x24, 8, 0x4c, 0x8b, 0x4c, 0x24, 16, 0x4c, 0x89, 0x5c, 0x24, 8, 0x0f, 5,
        0xc3,
    ];
    let flags = |code: &[u8]| {
        plan_one(code, |object, site| {
            let window = site.fate.as_ref().expect("a window");
            assert!(window.is_in_place);
            stub::stub(object, window, STUBS, ENTRY).expect("a stub").0[stub::FLAGS]
        })
    };
    assert_eq!(flags(&code), stub::AT_SITE);
    assert_eq!(flags(USUAL), 0);
}

#[test]
fn quick_searches_find_what_slow_ones_find() {
    let mut state = 1_u64;
    let mut bytes = [0_u8; 5000];
    for byte in &mut bytes {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        // Few values, so that pairs are frequent.
        *byte = [0x0f, 0x05, 0x84, 0xe8, 0xe9, 0x90, 0x8f, 0x7f][(state >> 61) as usize];
    }
    for len in (0..70).chain([4990, 5000]) {
        let bytes = &bytes[..len];
        let (mut quick, mut quick_jumps) = (Vec::new(), Vec::new());
        pairs(bytes, [0x0f, 0x05], |at| quick.push(at));
        far_jumps(bytes, |at| quick_jumps.push(at));
        let pairs = || bytes.windows(2).enumerate();
        let slow = pairs().filter(|(_, pair)| pair == &[0x0f, 0x05]);
        let slow: Vec<usize> = slow.map(|(at, _)| at).collect();
        assert_eq!(quick, slow);
        let slow = pairs().filter(|(_, pair)| {
            pair[0] == 0x0f && pair[1] & 0xf0 == 0x80 || pair[1] & 0xfe == 0xe8
        });
        let slow: Vec<usize> = slow.map(|(at, _)| at + 1).collect();
        assert_eq!(quick_jumps, slow);
    }
}

/// The C library and the dynamic linker that this test uses.
fn libraries() -> Vec<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").expect("the test lives");
    let mut paths: Vec<PathBuf> = maps
        .lines()
        .filter(|line| line.contains(" r-xp "))
        .filter_map(|line| line.split_whitespace().nth(5))
        .filter(|path| path.contains("/libc.so") || path.contains("/ld-"))
        .map(PathBuf::from)
        .collect();
    paths.dedup();
    paths
}

#[test]
fn the_c_library_is_patched_completely_and_nothing_jumps_into_a_window() {
    let libraries = libraries();
    assert_eq!(libraries.len(), 2, "{libraries:?}");
    for path in libraries {
        let file = fs::read(&path).expect("it is mapped");
        let headers = Headers::of_file(&file).expect("an object");
        let bytes = |segment: &Segment| {
            let start = segment.offset as usize;
            file.get(start..start + segment.len as usize)
        };
        let segments = headers.segments.iter();
        let code = segments.clone().find(|segment| segment.is_executable());
        let code = code.expect("it has code");
        let object = object::object(&headers, CODE, code, &bytes).expect("an object");
        let sites = plan(&object, Which::All, |_| false);
        let windows: Vec<&Window> = sites
            .iter()
            .filter_map(|site| site.fate.as_ref().ok())
            .collect();
        println!("{}: {} sites", path.display(), sites.len());
        assert!(sites.len() >= 40);
        assert_eq!(windows.len(), sites.len(), "{}", path.display());
        // All instructions, decoded without regard to functions.
        let all = decode(object.code, object.address);
        let syscalls = all
            .iter()
            .filter(|next| next.mnemonic() == Mnemonic::Syscall);
        assert_eq!(syscalls.count(), sites.len());
        for pair in windows.windows(2) {
            assert!(pair[0].end() <= pair[1].start());
        }
        for window in &windows {
            assert!(window.end() - window.start() >= JUMP as u64);
        }
        for jump in all.iter().filter(|next| is_direct(next)) {
            let target = jump.near_branch_target();
            let next = windows.partition_point(|window| window.start() < target);
            let hit = windows[..next]
                .last()
                .filter(|window| target < window.end());
            assert!(hit.is_none(), "{:#x} jumps into {hit:?}", jump.ip());
        }
    }
}

/// The table of the kernel that FLEXSC_KERNEL_TBL names, or that of a kernel in the cache.
fn kernel_table() -> Option<PathBuf> {
    const TABLE: &str = "arch/x86/entry/syscalls/syscall_64.tbl";
    if let Some(path) = env::var_os("FLEXSC_KERNEL_TBL") {
        return Some(path.into());
    }
    let cache = Path::new(&env::var_os("HOME")?).join(".cache/flexsc/src");
    let kernels = fs::read_dir(cache).ok()?.flatten();
    kernels
        .map(|kernel| kernel.path().join(TABLE))
        .find(|path| path.is_file())
}

#[test]
fn every_call_of_the_kernel_has_a_row() {
    let Some(path) = kernel_table() else {
        println!("SKIPPED: there is no table of the kernel");
        return;
    };
    let text = fs::read_to_string(path).expect("it is a file");
    let mut count = 0;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [nr, "common" | "64", name, ..] = words[..] else {
            continue;
        };
        let nr: u64 = nr.parse().expect("a number");
        let row = calls::NAMES.iter().find(|(row, _)| *row == nr);
        assert_eq!(row.map(|(_, name)| *name), Some(name), "{nr}");
        assert_ne!(calls::class(nr), Class::Unknown, "{name}");
        count += 1;
    }
    assert!(count > 350, "only {count} calls");
    for unknown in [calls::NAMES.len() as u64 + 100, 549, 1000, u64::MAX] {
        assert_eq!(calls::class(unknown), Class::Unknown);
    }
}
