// SPDX-License-Identifier: MIT OR Apache-2.0
//! A second copy of the ABI in the UAPI header.
//!
//! Shared words are atomics: the kernel and, in the hostile tests, other
//! threads change them at any time.

use std::mem::{align_of, offset_of, size_of};
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64};

pub const VERSION: u32 = 3;
pub const PAGE_SIZE: usize = 4096;
pub const PAGE_ENTRIES: usize = 64;
pub const MAX_PAGES: u32 = 64;

/// `FLEXSC_MAX_IDLE_NS`
pub const MAX_IDLE_NS: u64 = 3_600_000_000_000;
/// `FLEXSC_MAX_ROUNDS`
pub const MAX_ROUNDS: u64 = 1 << 32;

pub const FREE: u8 = 0;
pub const SUBMITTED: u8 = 1;
pub const BUSY: u8 = 2;
pub const DONE: u8 = 3;

pub const REASON_NONE: u8 = 0;
pub const REASON_LIFE: u8 = 1;
pub const REASON_THREAD: u8 = 2;
pub const REASON_GUARDED: u8 = 3;
pub const REASON_CONTEXT: u8 = 4;
pub const REASON_ENTRY: u8 = 5;
pub const REASON_STARVED: u8 = 6;

pub const REASON_CHAIN: u8 = 7;
pub const REASON_CANCELLED: u8 = 8;
pub const REASON_BOUND: u8 = 9;

pub const ENTRY_ASYNC: u8 = 1;
pub const ENTRY_LINK: u8 = 2;
pub const ENTRY_LOOP: u8 = 4;
pub const ENTRY_SUM: u8 = 8;
pub const ENTRY_ALWAYS: u8 = 16;

/// `FLEXSC_TAKE()`: argument `arg` is the result of the entry `back` places before.
pub const fn take(arg: u8, back: u8) -> u8 {
    ((back - 1) << 3) | (arg + 1)
}

pub const CTRL_NEED_WAKEUP: u32 = 1;

/// `struct flexsc_entry`
#[repr(C, align(64))]
pub struct Entry {
    pub nr: AtomicU16,
    pub flags: AtomicU8,
    pub pool: AtomicU8,
    pub take: [AtomicU8; 2],
    pub reason: AtomicU8,
    pub status: AtomicU8,
    pub args: [AtomicU64; 6],
    pub result: AtomicI64,
}

/// `struct flexsc_ctrl`
#[repr(C, align(64))]
pub struct Ctrl {
    pub posted: AtomicU64,
    pub reaped: AtomicU64,
    pub user_reserved: [AtomicU64; 6],
    pub taken: AtomicU64,
    pub done: AtomicU64,
    pub flags: AtomicU32,
    pub kernel_reserved32: AtomicU32,
    pub kernel_reserved: [AtomicU64; 5],
}

/// `struct flexsc_register`
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Register {
    pub size: u32,
    pub abi: u32,
    pub flags: u32,
    pub pages: u32,
    pub id: u32,
    pub ctrl_len: u32,
    pub mmap_offset: u64,
    pub mmap_len: u64,
    pub reserved: [u64; 2],
}

impl Register {
    pub fn new(pages: u32) -> Self {
        Register {
            size: size_of::<Register>() as u32,
            abi: VERSION,
            pages,
            ..Register::default()
        }
    }
}

/// `enum flexsc_policy`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Policy {
    None = 0,
    Any = 1,
    Some = 2,
    All = 3,
    Adaptive = 4,
}

/// `struct flexsc_wait`
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    pub size: u32,
    pub id: u32,
    pub policy: u32,
    pub min: u32,
    pub timeout_ns: u64,
    pub linger_ns: u64,
    pub flags: u32,
    pub reserved: u32,
}

impl Wait {
    pub fn new(id: u32, policy: Policy) -> Self {
        Wait {
            size: size_of::<Wait>() as u32,
            id,
            policy: policy as u32,
            min: 0,
            timeout_ns: 0,
            linger_ns: 0,
            flags: 0,
            reserved: 0,
        }
    }
}

/// The argument of `FLEXSC_IOC_WAIT_FAST`.
pub const fn wait_fast_arg(id: u32, policy: u32, min: u32) -> u64 {
    ((min as u64) << 40) | ((policy as u64) << 32) | id as u64
}

/// `enum flexsc_param_id`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Param {
    PollCpus = 0,
    IdleNs = 1,
    MaxThreads = 2,
    RetireMs = 3,
    ExtraPollers = 4,
    Order = 5,
    LoopMax = 6,
    PolledCpus = 7,
    PoolCpus = 8,
    PoolConcurrency = 9,
    PoolNice = 10,
}

impl Param {
    /// Returns true if the parameter's value is a set of CPUs.
    pub const fn is_cpu_set(self) -> bool {
        matches!(self, Param::PollCpus | Param::PolledCpus | Param::PoolCpus)
    }
}

/// `struct flexsc_param`
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ParamArg {
    pub size: u32,
    pub param: u32,
    pub pool: u32,
    pub len: u32,
    pub value: u64,
}

impl ParamArg {
    pub fn new(param: Param, value: u64) -> Self {
        ParamArg {
            size: size_of::<ParamArg>() as u32,
            param: param as u32,
            pool: 0,
            len: 0,
            value,
        }
    }
}

/// `struct flexsc_stats`
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    pub size: u32,
    pub reserved: u32,
    pub posted: u64,
    pub inline_done: u64,
    pub thread_done: u64,
    pub refused: u64,
    pub handoffs: u64,
    pub kicks: u64,
    pub waits: u64,
    pub sleeps: u64,
    pub idle_polls: u64,
    pub poller_sleeps: u64,
    pub threads: u64,
    pub threads_idle: u64,
    pub threads_created: u64,
    pub threads_retired: u64,
    pub create_failed: u64,
    pub peak_running: u64,
    pub peak_blocked: u64,
    pub pages: u64,
    pub cancels: u64,
    pub chains: u64,
    pub loop_rounds: u64,
    pub pollers: u64,
    pub pollers_recruited: u64,
    pub pollers_released: u64,
    pub pools: u64,
    pub parked: u64,
    pub woken: u64,
    pub woken_in_vain: u64,
    pub passed_on: u64,
    pub timed_out: u64,
}

/// `struct flexsc_pool_stats`
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct PoolStats {
    pub size: u32,
    pub pool: u32,
    pub cpus: u64,
    pub concurrency: u64,
    pub nice: u64,
    pub executed: u64,
    pub handoffs: u64,
    pub threads: u64,
    pub threads_idle: u64,
    pub threads_created: u64,
    pub threads_retired: u64,
    pub create_failed: u64,
    pub peak_running: u64,
    pub peak_blocked: u64,
    pub running: u64,
    pub blocked: u64,
    pub queued: u64,
}

/// `struct flexsc_cancel`
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Cancel {
    pub size: u32,
    pub id: u32,
    pub index: u32,
    pub flags: u32,
}

/// `struct flexsc_eventfd`
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Eventfd {
    pub size: u32,
    pub id: u32,
    pub fd: i32,
    pub flags: u32,
}

const _: () = {
    assert!(size_of::<Entry>() == 64 && align_of::<Entry>() == 64);
    assert!(offset_of!(Entry, args) == 8 && offset_of!(Entry, result) == 56);
    assert!(size_of::<Ctrl>() == 128 && offset_of!(Ctrl, taken) == 64);
    assert!(size_of::<Register>() == 56 && size_of::<Wait>() == 40);
    assert!(
        size_of::<PoolStats>() == 128 && size_of::<Cancel>() == 16 && size_of::<Eventfd>() == 16
    );
    assert!(size_of::<ParamArg>() == 24 && size_of::<Stats>() == 248);
};

/// `flexsc_eventfd.id`: all registrations.
pub const ALL: u32 = u32::MAX;

const WRITE: u32 = 1;
const READ: u32 = 2;

/// `_IOC(direction, 0xDA, nr, size)`
pub const fn ioc(direction: u32, nr: u32, size: usize) -> u32 {
    (direction << 30) | ((size as u32) << 16) | (0xDA << 8) | nr
}

pub const IOC_REGISTER: u32 = ioc(READ | WRITE, 0, size_of::<Register>());
pub const IOC_UNREGISTER: u32 = ioc(0, 1, 0);
pub const IOC_WAIT: u32 = ioc(WRITE, 2, size_of::<Wait>());
pub const IOC_WAIT_FAST: u32 = ioc(0, 3, 0);
pub const IOC_KICK: u32 = ioc(0, 4, 0);
pub const IOC_SET: u32 = ioc(WRITE, 5, size_of::<ParamArg>());
pub const IOC_GET: u32 = ioc(READ | WRITE, 6, size_of::<ParamArg>());
pub const IOC_QUERY: u32 = ioc(READ | WRITE, 7, size_of::<Stats>());
pub const IOC_CANCEL: u32 = ioc(WRITE, 8, size_of::<Cancel>());
pub const IOC_QUERY_POOL: u32 = ioc(READ | WRITE, 9, size_of::<PoolStats>());
pub const IOC_EVENTFD: u32 = ioc(WRITE, 10, size_of::<Eventfd>());

/// Number of flexsc_wait(2).
pub const NR_WAIT: i64 = 548;
