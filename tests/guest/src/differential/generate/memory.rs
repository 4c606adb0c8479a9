// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory: mappings in the arena, and their contents.

use super::{Gen, reg};
use crate::differential::op::{Buf, Op, Ret, Val};

const ANONYMOUS: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;

/// The pages in which all mappings are made.
const PAGES: u64 = 40;

struct Range {
    at: Val,
    pages: u64,
    len: u64,
}

fn range(g: &Gen) -> Range {
    let first = g.below(PAGES);
    let pages = 1 + g.below((PAGES - first).min(8));
    Range {
        at: Val::Mem(first * 4096),
        pages,
        len: pages * 4096,
    }
}

fn map(g: &Gen) -> Op {
    let Range { at, len, .. } = range(g);
    let prot = g.pick(&[3, 3, 3, 1, 0]);
    let shared = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    let file = g.file();
    match g.below(6) {
        0 => op!(SYS_mmap, at, len, prot, shared, -1, 0).ret(Ret::Success),
        1 => {
            let flags = g.pick(&[libc::MAP_SHARED, libc::MAP_PRIVATE]) | libc::MAP_FIXED;
            op!(SYS_mmap, at, len, prot, flags, file, g.pick(&[0, 4096])).ret(Ret::Success)
        }
        2 => {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
            op!(SYS_mmap, at, len, prot, flags, -1, 0).ret(Ret::Success)
        }
        _ => op!(SYS_mmap, at, len, prot, ANONYMOUS, -1, 0).ret(Ret::Success),
    }
}

/// Makes a hole in the arena, sometimes asks about it, and fills it again.
fn unmap(g: &Gen) {
    let Range { at, len, .. } = range(g);
    g.push(op!(SYS_munmap, at, len));
    if g.chance(30) {
        g.push(op!(SYS_mincore, at, len, Buf::out(8)));
    }
    // No other mapping of the process may be placed here.
    let flags = ANONYMOUS | libc::MAP_NORESERVE;
    g.push(op!(SYS_mmap, at, len, 0, flags, -1, 0).ret(Ret::Success));
}

fn act(g: &Gen) -> Op {
    let Range { at, pages, len } = range(g);
    let to = range(g).at;
    let advice = g.pick(&[0, 1, 2, 3, 4, 10, 11, 14, 15, 16, 17, 18, 19, 22, 23, 99]);
    let vectors = || Buf::zeroed(16).field(0, 8, at).u64(8, 700);
    let part = |buf| Buf::vectors(vec![buf]);
    match g.below(16) {
        0 | 1 => op!(SYS_mprotect, at, len, g.pick(&[0, 1, 3, 3])),
        2 => op!(
            SYS_pkey_mprotect,
            at,
            len,
            g.pick(&[1, 3]),
            g.pick(&[-1, 0, 9])
        ),
        3 | 4 => op!(SYS_madvise, at, len, advice),
        // Do not post it together with a call that reads memory and so makes it resident.
        5 => op!(SYS_mincore, at, len, Buf::out(pages as usize)),
        6 => op!(SYS_msync, at, len, g.pick(&[1, 4, 2, 5])),
        7 => op!(SYS_mlock, at, len),
        8 => op!(SYS_mlock2, at, len, g.pick(&[0, 1])),
        9 => op!(SYS_munlock, at, len),
        // Shrinking leaves a hole, which is filled again; growing into a neighbour fails.
        10 => op!(SYS_mremap, at, len, len + 4096, 0).ret(Ret::Success),
        11 => {
            let Val::Mem(from) = at else {
                return op!(SYS_munlock, at, len);
            };
            // In the other part of the arena, which no other call touches.
            let place = Val::Mem((48 + from / 4096 % 4) * 4096);
            op!(SYS_mremap, at, 4096, 4096, 3 | 4, place).ret(Ret::Success)
        }
        12 => op!(
            SYS_process_vm_readv,
            Val::Pid,
            part(Buf::out(700)),
            1,
            vectors(),
            1,
            0
        ),
        13 => {
            let data = g.data(699).sized(700);
            op!(
                SYS_process_vm_writev,
                Val::Pid,
                part(data),
                1,
                vectors(),
                1,
                0
            )
        }
        14 => op!(SYS_remap_file_pages, at, len, 0, g.below(3), 0),
        _ => {
            let file = g.file();
            op!(SYS_read, file, to, 900).if_readable(file)
        }
    }
}

pub fn any(g: &Gen) {
    match g.below(100) {
        0..30 => {
            let op = map(g);
            g.push(op);
        }
        30..40 => unmap(g),
        40..90 => {
            let op = act(g);
            g.push(op);
        }
        90..94 => {
            let id = Val::Reg(reg::SHARED);
            let Range { at, .. } = range(g);
            g.push(op!(SYS_shmat, id, at, 0o40000 | g.pick(&[0, 0o10000])).ret(Ret::Success));
            if g.chance(60) {
                g.push(op!(SYS_shmdt, at));
                let flags = ANONYMOUS | libc::MAP_NORESERVE;
                g.push(op!(SYS_mmap, at, 8192, 0, flags, -1, 0).ret(Ret::Success));
            }
        }
        94..96 => g.push(op!(SYS_brk, 0).ret(Ret::Success).pure()),
        96..98 => {
            let command = g.pick(&[0, 1, 8, 16, 999]);
            // One call registers what another needs, and may sleep before that.
            g.push(op!(SYS_membarrier, command, 0, 0));
        }
        98 => g.push(op!(SYS_mmap, 0, 8192, 3, libc::MAP_ANONYMOUS, -1, 0)),
        _ => g.push(op!(SYS_process_madvise, Val::Reg(reg::PIDFD), 0, 0, 4, 0)),
    }
}
