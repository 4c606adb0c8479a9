// SPDX-License-Identifier: GPL-2.0

//! FlexSC: exception-less system calls (Soares and Stumm, OSDI'10).
//!
//! A program writes system calls into syscall pages that it shares with the kernel; its own
//! threads, or syscall threads that live in the kernel and belong to it, execute them and write
//! the results back. One function hands a posted call to the kernel: `call_kernel`, in
//! `run/entry.rs`; `call_kernel_in_a_row`, beside it, hands over all plain calls of an owner.
//!
//! | file             | what it owns                                                     |
//! |------------------|------------------------------------------------------------------|
//! | `device`         | `/dev/flexsc`: decoding of ioctl and mmap                        |
//! | `wait`           | WAIT: inline execution, wait policies                            |
//! | `requests`       | REGISTER, KICK, SET, GET: may need a new syscall thread           |
//! | `worker`         | the life of one syscall thread, pollers                          |
//! | `run`            | the batch that a task executes, its hand-off if the task blocks   |
//! | `run::park`      | calls that wait for their file without a thread                  |
//! | `run::entry`     | one entry: `call_kernel`, restarts, its result                   |
//! | `engine`         | all of this for one process; its table of registrations          |
//! | `engine::stats`  | QUERY, QUERY_POOL, fdinfo                                        |
//! | `engine::debug`  | a file in debugfs for each engine                                |
//! | `pool`           | an engine's pools and their threads: which run, which are idle    |
//! | `pages`          | a registration: doorbells, taken, offloaded and done entries      |
//! | `quota`          | the pages of each user and process, and their charges             |
//! | `dispatch`       | decides who executes an entry; has no side effects               |
//! | `policy`         | the table of all system calls                                    |
//! | `defs`           | roles, sets of pools, kinds of order, walks over bits            |
//! | `sys`            | the border to C                                                  |
//!
//! Each file imports only from files below it in this table.

mod defs;
mod device;
mod dispatch;
mod engine;
mod pages;
mod policy;
mod pool;
mod quota;
mod requests;
mod run;
mod sys;
mod wait;
mod worker;

use kernel::{c_str, prelude::*, sync::Arc};

module! {
    type: Flexsc,
    name: "flexsc",
    author: "FlexSC for Linux",
    description: "Exception-less system calls",
    license: "GPL",
}

struct Flexsc {
    // Dropped before `_debug`, the directory of the engines' files.
    _device: Pin<KBox<sys::miscdev::Registration<engine::Engine>>>,
    _debug: sys::debugfs::Dir,
}

impl kernel::Module for Flexsc {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let debug = sys::debugfs::Dir::new();
        let quota = Arc::pin_init(quota::Quota::new(), GFP_KERNEL)?;
        Ok(Flexsc {
            _device: KBox::pin_init(
                sys::miscdev::Registration::register(c_str!("flexsc"), quota),
                GFP_KERNEL,
            )?,
            _debug: debug,
        })
    }
}
