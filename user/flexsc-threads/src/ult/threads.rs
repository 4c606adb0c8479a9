// SPDX-License-Identifier: MIT OR Apache-2.0
//! The beginning and the end of user-level threads, and what belongs to each of them.

use crate::handler::Verdict;
use crate::sys::entry::Frame;
use crate::sys::{copy, inside, kernel, raw, switch};
use crate::ult::core::{Core, SS_DISABLE, next_tid};
use crate::ult::nr::{CLONE, EAGAIN, EINVAL, ENOMEM, EXIT_GROUP};
use crate::ult::{park, signals};

const CLONE_VM: u64 = 0x100;
const CLONE_VFORK: u64 = 0x4000;
const CLONE_PARENT_SETTID: u64 = 0x10_0000;
const CLONE_CHILD_CLEARTID: u64 = 0x20_0000;
const CLONE_CHILD_SETTID: u64 = 0x100_0000;
const CLONE_SETTLS: u64 = 0x8_0000;
/// What makes a thread of this process: memory, file system, files, handlers, group.
const THREAD: u64 = CLONE_VM | 0x200 | 0x400 | 0x800 | 0x1_0000;
/// What a user-level thread can be made with.
const KNOWN: u64 = THREAD
    | 0x4_0000
    | CLONE_SETTLS
    | CLONE_PARENT_SETTID
    | CLONE_CHILD_CLEARTID
    | CLONE_CHILD_SETTID
    | 0x40_0000;

/// What a call asks for.
pub(crate) struct Clone {
    flags: u64,
    stack: u64,
    parent_tid: u64,
    child_tid: u64,
    tls: u64,
}

/// What becomes of a call that makes threads or processes.
pub(crate) enum Making {
    Thread(Clone),
    /// A process with memory of its own, on the same stack: like fork.
    Process,
    /// Shares the memory while its parent waits.
    Vfork,
    /// Shares the memory and runs beside us.
    Beside,
    Failure(i64),
}

impl Clone {
    /// What the call in `frame` makes.
    pub(crate) fn of(frame: &Frame) -> Making {
        let args = &frame.args;
        let clone = if frame.rax == CLONE {
            Clone {
                flags: args[0],
                stack: args[1],
                parent_tid: args[2],
                child_tid: args[3],
                tls: args[4],
            }
        } else {
            // flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls
            if args[1] < 64 {
                return Making::Failure(-EINVAL);
            }
            match copy::read::<[u64; 8]>(args[0]) {
                Ok(words) => Clone {
                    flags: words[0],
                    stack: if words[5] == 0 {
                        0
                    } else {
                        words[5].wrapping_add(words[6])
                    },
                    parent_tid: words[3],
                    child_tid: words[2],
                    tls: words[7],
                },
                Err(error) => return Making::Failure(error),
            }
        };
        if clone.flags & THREAD == THREAD && clone.flags & !KNOWN == 0 && clone.stack != 0 {
            Making::Thread(clone)
        } else if clone.flags & CLONE_VM == 0 && clone.stack == 0 {
            Making::Process
        } else if clone.flags & CLONE_VFORK != 0 || clone.flags & CLONE_VM == 0 {
            Making::Vfork
        } else {
            Making::Beside
        }
    }

    /// Makes a user-level thread; the running one goes on.
    pub(crate) fn make(&self, frame: &mut Frame) -> Verdict {
        let fs = if self.flags & CLONE_SETTLS != 0 {
            self.tls
        } else {
            switch::fs_base()
        };
        let context = match inside::prepare(frame, self.stack, fs) {
            Ok(context) => context,
            Err(_) => {
                frame.rax = -ENOMEM as u64;
                return Verdict::Done;
            }
        };
        let made = inside::with(|core| {
            let mask = core.current().mask;
            let id = core.add()?;
            core.next_tid = next_tid(core.next_tid);
            let tid = core.next_tid;
            let ult = core.ult(id);
            ult.context = context;
            ult.tid = tid;
            ult.mask = mask;
            ult.alternate_stack = [0, SS_DISABLE, 0];
            if self.flags & CLONE_CHILD_CLEARTID != 0 {
                ult.clear_tid = self.child_tid;
            }
            core.masks.add(mask);
            core.make_ready(id);
            Some(tid)
        });
        let Some(tid) = made else {
            frame.rax = -EAGAIN as u64;
            return Verdict::Done;
        };
        if self.flags & CLONE_PARENT_SETTID != 0 {
            let _ = copy::write(self.parent_tid, &tid);
        }
        if self.flags & CLONE_CHILD_SETTID != 0 {
            let _ = copy::write(self.child_tid, &tid);
        }
        frame.rax = u64::from(tid);
        Verdict::Begin
    }
}

#[inline(never)]
/// Makes a process with memory of its own. In the child, the running thread is the only one.
pub(crate) fn fork(frame: &mut Frame) -> Verdict {
    // The child begins with the mask that its thread has.
    inside::with(Core::show_mask);
    let result = raw::call_of_program(frame.rax, frame.args);
    inside::with(|core| {
        if result == 0 {
            core.begin_child();
        } else {
            core.sync_mask();
        }
    });
    frame.rax = result;
    Verdict::Done
}

/// Runs another program with the running thread's mask.
pub(crate) fn execute(frame: &mut Frame) -> Verdict {
    inside::with(Core::show_mask);
    let result = raw::call_of_program(frame.rax, frame.args);
    inside::with(Core::sync_mask);
    frame.rax = result;
    Verdict::Done
}

/// Ends the running thread.
pub(crate) fn exit(status: u64) -> ! {
    let (robust, clear_tid, tid, is_last) = inside::with(|core| {
        let is_last = core.live == 1;
        let ult = core.current();
        (ult.robust, ult.clear_tid, ult.tid, is_last)
    });
    release_robust(robust, tid);
    if is_last {
        raw::call_of_program(EXIT_GROUP, [status, 0, 0, 0, 0, 0]);
    }
    inside::with(|core| {
        let id = core.running;
        core.pending.forget(id);
        if clear_tid != 0 && copy::write(clear_tid, &0_u32).is_ok() {
            core.wake(clear_tid, 1, !0);
        }
        core.end_running();
    });
    // From here on the stack belongs to nobody, but nothing else runs before this has left it.
    park();
    raw::abort()
}

/// A new thread's first step, on its own stack.
pub(crate) fn begin() {
    inside::with(Core::came_back);
    signals::leave();
}

/// Marks the robust mutexes that an ending thread holds, as the kernel does.
fn release_robust((head, len): (u64, u64), tid: u32) {
    const HEAD: u64 = 24;
    /// As many as the kernel looks at.
    const MOST: usize = 2048;
    if head == 0 || len != HEAD {
        return;
    }
    // The first element, the distance from an element to its word, the one in the works.
    let Ok([first, offset, pending]) = copy::read::<[u64; 3]>(head) else {
        return;
    };
    let mut entry = first;
    for _ in 0..MOST {
        let next = copy::read::<u64>(entry & !1);
        if entry & !1 == head {
            break;
        }
        if entry != pending {
            release_word((entry & !1).wrapping_add(offset), tid);
        }
        match next {
            Ok(next) => entry = next,
            Err(_) => return,
        }
    }
    if pending != 0 {
        release_word((pending & !1).wrapping_add(offset), tid);
    }
}

fn release_word(address: u64, tid: u32) {
    const WAITERS: u32 = 0x8000_0000;
    const OWNER_DIED: u32 = 0x4000_0000;
    const TID: u32 = 0x3fff_ffff;
    let Ok(mut word) = copy::load(address) else {
        return;
    };
    while word & TID == tid {
        match copy::exchange(address, word, word & WAITERS | OWNER_DIED) {
            Ok(old) if old == word => {
                if word & WAITERS != 0 {
                    inside::with(|core| core.wake(address, 1, !0));
                    kernel::wake_shared(address, 1);
                }
                return;
            }
            Ok(other) => word = other,
            Err(_) => return,
        }
    }
}
