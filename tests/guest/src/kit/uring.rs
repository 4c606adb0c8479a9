// SPDX-License-Identifier: MIT OR Apache-2.0
//! As much of io_uring as makes the kernel start a worker for this process.

use std::os::fd::{AsRawFd, OwnedFd};

use super::memory::store;
use super::{process, sys, until};
use crate::check::{Check, Ret, skip};

const OFFSET_OF_ENTRIES: u64 = 0x1000_0000;
const ENTRY_SIZE: usize = 64;
const NOP: u8 = 0;
/// `IOSQE_ASYNC`: a worker executes the request.
const ASYNC: u8 = 1 << 4;
/// `IORING_ENTER_GETEVENTS`
const GET_EVENTS: u32 = 1;

/// The words of `struct io_uring_params`, and the places of those that are needed here.
const PARAMS: usize = 30;
const ENTRIES: usize = 0;
const TAIL: usize = 11;
const ARRAY: usize = 16;

/// A ring whose only request was executed by a worker.
pub struct Uring {
    _fd: OwnedFd,
    /// The worker, which is idle.
    pub worker: i32,
}

impl Uring {
    pub fn with_worker() -> Check<Uring> {
        let mut params = [0u32; PARAMS];
        let fd = plain!(SYS_io_uring_setup, 1, params.as_mut_ptr());
        if fd == -i64::from(libc::ENOSYS) || fd == -i64::from(libc::EPERM) {
            return skip("needs io_uring");
        }
        check!(fd >= 0, "io_uring_setup: {}", Ret(fd));
        let fd = sys::own(fd as i32);
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        let entries = params[ENTRIES] as usize;
        let map = |len: usize, offset: u64| {
            sys::mmap(len, rights, libc::MAP_SHARED, fd.as_raw_fd(), offset)
        };
        let ring = ok!("the ring", map(params[ARRAY] as usize + 4 * entries, 0));
        let request = ok!("the entries", map(ENTRY_SIZE * entries, OFFSET_OF_ENTRIES));
        store(request, [NOP, ASYNC]);
        store(ring.wrapping_add(params[ARRAY] as usize), 0u32);
        store(ring.wrapping_add(params[TAIL] as usize), 1u32);
        let entered = plain!(SYS_io_uring_enter, &fd, 1, 1, GET_EVENTS, 0, 0);
        check_ret!("io_uring_enter", entered, 1);
        let mut worker = 0;
        until("an idle worker of io_uring", || {
            let tasks = process::tasks(std::process::id() as i32);
            let idle = tasks
                .iter()
                .find(|task| task.name.starts_with("iou-wrk-") && task.state == 'S');
            worker = idle.map_or(0, |task| task.tid);
            worker != 0
        })?;
        Ok(Uring { _fd: fd, worker })
    }
}
