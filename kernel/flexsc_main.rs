// SPDX-License-Identifier: GPL-2.0

//! FlexSC: exception-less system calls (Soares and Stumm, OSDI'10).
//!
//! A program writes system calls into syscall pages that it shares with the kernel; its own
//! threads, or syscall threads that live in the kernel and belong to it, execute them and write
//! the results back. Every posted call reaches the kernel in one place: `call_kernel`, in
//! `run/entry.rs`.
//!
//! | file          | what it owns                                                    |
//! |---------------|-----------------------------------------------------------------|
//! | `device`      | `/dev/flexsc`: decoding of ioctl and mmap                       |
//! | `defs`        | roles, sets of pools, kinds of order, walks over bits           |
//! | `debug`       | a file in debugfs for each engine                               |
//! | `engine`      | all of this for one process; its table of registrations         |
//! | `params`      | SET and GET                                                     |
//! | `stats`       | QUERY, QUERY_POOL, fdinfo                                       |
//! | `pages`       | a registration: doorbells, what is taken, offloaded and done    |
//! | `pools`       | the pools of an engine                                          |
//! | `pool`        | the syscall threads of a pool: who works, idles, is blocked     |
//! | `quota`       | how many pages each user and process has; what they are charged |
//! | `worker`      | the life of one syscall thread, polling kernel cores            |
//! | `wait`        | WAIT: inline execution, wait policies                           |
//! | `dispatch`    | decides who executes an entry; has no side effects              |
//! | `run`         | the batch that a task executes, and its hand-off when it blocks |
//! | `run::entry`  | one entry: `call_kernel`, restarts, its result                  |
//! | `policy`      | the table of all system calls                                   |
//! | `sys`         | the border to C                                                 |

mod debug;
mod defs;
mod device;
mod dispatch;
mod engine;
mod pages;
mod params;
mod policy;
mod pool;
mod pools;
mod quota;
mod run;
mod stats;
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
    // Gone before the directory of its engines' files.
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
