// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random call numbers and arguments, chosen so that many calls have an effect.

use crate::hostile::leaks::mark;
use crate::kit::{Random, abi, memory, sys};

/// The number of bytes that arguments point to.
pub const ARENA: usize = 512 * 1024;
/// The size of the unmapped areas on both sides of these bytes.
const GUARD: usize = 16 << 20;

/// The numbers of the kernel's table of calls are below this one.
const NUMBERS: u64 = 470;

/// Calls that end, stop or cripple the program that makes them. Gentle programs leave these out, to
/// get further.
const WILD: [i64; 24] = [
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_send_signal,
    libc::SYS_close_range,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_brk,
    libc::SYS_ptrace,
    libc::SYS_seccomp,
    libc::SYS_prctl,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_setrlimit,
    libc::SYS_prlimit64,
    libc::SYS_setpgid,
    libc::SYS_arch_prctl,
    libc::SYS_rseq,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_pkey_mprotect,
];

/// Calls that do a lot with these descriptors and addresses.
const FRUITFUL: [i64; 29] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_ioctl,
    libc::SYS_mmap,
    libc::SYS_poll,
    libc::SYS_futex,
    libc::SYS_socket,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_pipe2,
    libc::SYS_eventfd2,
    libc::SYS_epoll_ctl,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_fcntl,
    libc::SYS_lseek,
    libc::SYS_clock_gettime,
    libc::SYS_nanosleep,
    libc::SYS_splice,
    libc::SYS_ftruncate,
    libc::SYS_madvise,
];

const PATHS: [&[u8]; 8] = [
    b"/dev/flexsc\0",
    b"/proc/self/fdinfo/3\0",
    b"/proc/self/maps\0",
    b".\0",
    b"a\0",
    b"b/c\0",
    b"/dev/zero\0",
    b"\0",
];

/// How one program behaves.
#[derive(Clone, Copy)]
pub struct Manner {
    /// The program makes calls that may end it.
    pub wild: bool,
    /// The program uses syscall pages as buffers of its calls, so that anything may be in them.
    pub muddled: bool,
    /// The program makes calls that sleep for long.
    pub sleepy: bool,
}

impl Manner {
    /// Returns true if only the kernel and the program's own threads write to its syscall pages:
    /// otherwise a word found there proves nothing. Wild calls make holes, in which pages and
    /// buffers of other threads may end up.
    pub fn is_tidy(self) -> bool {
        !self.wild && !self.muddled
    }
}

impl Manner {
    pub fn new(random: &mut Random) -> Self {
        Manner {
            wild: random.below(3) == 0,
            muddled: random.below(4) == 0,
            sleepy: random.below(3) == 0,
        }
    }
}

/// Values from which arguments are made.
#[derive(Clone, Copy)]
pub struct Values {
    pub manner: Manner,
    arena: usize,
    /// The number of descriptors, which start at 0.
    fds: u64,
    /// Syscall pages, as buffers.
    pages: usize,
    pages_len: usize,
}

impl Values {
    /// Maps the arena between its guards.
    pub fn new(manner: Manner, fds: u64) -> Option<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let around = sys::mmap(ARENA + 2 * GUARD, libc::PROT_NONE, flags, -1, 0).ok()?;
        let arena = around as usize + GUARD;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        (plain!(SYS_mprotect, arena, ARENA, prot) == 0).then_some(Values {
            manner,
            arena,
            fds,
            pages: 0,
            pages_len: 0,
        })
    }

    /// The same with other syscall pages.
    pub fn with_pages(self, base: usize, len: usize) -> Self {
        Values {
            pages: base,
            pages_len: len,
            ..self
        }
    }

    /// Puts something sensible where most addresses point to: small numbers, addresses, times
    /// below a millisecond, paths.
    pub fn fill(&self, random: &mut Random) {
        for at in (0..ARENA).step_by(64 * 8 + random.below(8) as usize * 8) {
            let word = match random.below(6) {
                0 => self.address(random),
                1 => random.below(4096),
                2 => random.below(1_000_000),
                3 => random.below(self.fds),
                _ => 0,
            };
            memory::store((self.arena + at) as *mut u8, word);
        }
        for (index, path) in PATHS.iter().enumerate() {
            for (offset, &byte) in path.iter().enumerate() {
                memory::store((self.path(index as u64) + offset as u64) as *mut u8, byte);
            }
        }
    }

    /// The part that may be made slow. Programs themselves do not read it.
    pub fn slow_part(&self) -> (usize, usize) {
        const LEN: usize = 64 * 1024;
        (self.arena + ARENA - LEN, LEN)
    }

    fn path(&self, index: u64) -> u64 {
        self.arena as u64 + 4096 + index * 64
    }

    fn address(&self, random: &mut Random) -> u64 {
        if self.manner.muddled && self.pages != 0 && random.below(4) == 0 {
            return self.pages as u64 + random.below(self.pages_len as u64);
        }
        let offset = random.below(ARENA as u64);
        match random.below(4) {
            0 => self.arena as u64 + offset,
            1 => self.arena as u64 + (offset & !4095),
            2 => self.path(random.below(PATHS.len() as u64)),
            _ => self.arena as u64 + (offset & !7),
        }
    }

    /// Any word; [`mark`] marks words that look like a kernel address.
    pub fn word(&self, random: &mut Random) -> u64 {
        mark(random.word())
    }

    /// An argument.
    pub fn argument(&self, random: &mut Random) -> u64 {
        match random.below(24) {
            0..=3 => random.below(16),
            4..=7 => random.below(self.fds),
            8..=13 => self.address(random),
            14 => random.below(0x1_0000),
            15 => 1 << random.below(32),
            16 => random.word() as u32 as u64,
            17 => {
                [-1, -2, libc::AT_FDCWD as i64, i64::MIN, 4096, 64][random.below(6) as usize] as u64
            }
            18 => mark(0xffff_8880_0000_0000 | (random.word() >> 24)),
            19 => mark(0xffff_ffff_8000_0000 | (random.word() >> 34)),
            20 => self.word(random),
            21 => u64::from(ioctl_number(random)),
            22 => std::process::id().into(),
            _ => 0,
        }
    }

    /// The number of a call.
    pub fn number(&self, random: &mut Random) -> u16 {
        loop {
            let nr = match random.below(32) {
                0 => random.word() as u16,
                1 => 512 + random.below(40) as u16,
                2..=11 => FRUITFUL[random.below(FRUITFUL.len() as u64) as usize] as u16,
                _ => random.below(NUMBERS) as u16,
            };
            if self.manner.wild || !WILD.contains(&i64::from(nr)) {
                return nr;
            }
        }
    }

    /// Adapts a call's arguments so that the call mostly does not keep a thread for long.
    pub fn soften(&self, nr: u16, args: &mut [u64; 6]) {
        if !self.manner.wild {
            match i64::from(nr) {
                // A mapping at a fixed address may fall on anything that the program needs.
                libc::SYS_mmap => args[3] &= !(libc::MAP_FIXED as u64),
                libc::SYS_shmat => args[1] = 0,
                _ => {}
            }
        }
        if self.manner.sleepy {
            return;
        }
        match i64::from(nr) {
            // The timeout in milliseconds.
            libc::SYS_poll => args[2] &= 1,
            libc::SYS_epoll_wait | libc::SYS_epoll_pwait => args[3] &= 1,
            libc::SYS_wait4 => args[2] |= libc::WNOHANG as u64,
            libc::SYS_waitid => args[3] |= libc::WNOHANG as u64,
            _ => {}
        }
    }
}

fn ioctl_number(random: &mut Random) -> u32 {
    let all = [
        abi::IOC_REGISTER,
        abi::IOC_UNREGISTER,
        abi::IOC_WAIT,
        abi::IOC_WAIT_FAST,
        abi::IOC_KICK,
        abi::IOC_SET,
        abi::IOC_GET,
        abi::IOC_QUERY,
        abi::IOC_CANCEL,
        abi::IOC_QUERY_POOL,
        libc::FIONBIO as u32,
        libc::FIONREAD as u32,
    ];
    all[random.below(all.len() as u64) as usize]
}
