// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls about what belongs to a thread: its number, mask, signals, alternate stack, name.

use crate::calls;
use crate::sys::entry::Frame;
use crate::sys::kernel::{Action, Info};
use crate::sys::{copy, inside, raw};
use crate::ult::blocking::{plain, post};
use crate::ult::core::{Core, SS_DISABLE};
use crate::ult::list::Id;
use crate::ult::nr::*;
use crate::ult::signals::bit;
use crate::ult::{Answer, park, waiting};

/// The calls of class EMULATE.
pub(crate) fn call(nr: u64, frame: &mut Frame) -> Answer {
    debug_assert!(calls::class(nr) == calls::Class::Emulate);
    let args = frame.args;
    Answer::Is(match nr {
        FUTEX => return waiting::futex(&args),
        SCHED_YIELD => {
            if inside::with(Core::give_way) {
                park();
                0
            } else {
                return Answer::Plain;
            }
        }
        NANOSLEEP | CLOCK_NANOSLEEP => waiting::sleep(nr, &args),
        GETTID => inside::with(|core| i64::from(core.current().tid)),
        SET_TID_ADDRESS => inside::with(|core| {
            core.current().clear_tid = args[0];
            i64::from(core.current().tid)
        }),
        SET_ROBUST_LIST => inside::with(|core| {
            core.current().robust = (args[0], args[1]);
            // The first thread's list is the kernel's too: for what happens when the process dies.
            if core.running == Id::MAIN {
                return plain(nr, args);
            }
            0
        }),
        GET_ROBUST_LIST => robust_list(args).unwrap_or_else(|error| error),
        // The kernel knows one thread. The C library does without.
        RSEQ => 0,
        RT_SIGACTION => action(args).unwrap_or_else(|error| error),
        RT_SIGPROCMASK => mask(args).unwrap_or_else(|error| error),
        RT_SIGPENDING => pending(args).unwrap_or_else(|error| error),
        RT_SIGTIMEDWAIT => sigwait(args),
        RT_SIGSUSPEND => match copy::read::<u64>(args[0]) {
            Ok(mask) => waiting::with_mask(mask, waiting::pause),
            Err(error) => error,
        },
        PAUSE => waiting::pause(),
        SIGALTSTACK => {
            let sp = core::ptr::from_ref(frame) as u64;
            alternate_stack(args, sp).unwrap_or_else(|error| error)
        }
        TKILL => kill(args[0], args[1], -6, None),
        TGKILL if args[0] == u64::from(raw::getpid()) => kill(args[1], args[2], -6, None),
        RT_TGSIGQUEUEINFO if args[0] == u64::from(raw::getpid()) => {
            match copy::read::<Info>(args[3]) {
                Ok(info) => kill(args[1], args[2], 0, Some(info)),
                Err(error) => error,
            }
        }
        _ => return Answer::Plain,
    })
}

fn robust_list(args: [u64; 6]) -> Result<i64, i64> {
    let found = inside::with(|core| {
        let id = match args[0] as u32 {
            0 => Some(core.running),
            tid => core.find(tid),
        };
        id.map(|id| core.ult(id).robust)
    });
    let Some((head, len)) = found else {
        return Ok(plain(GET_ROBUST_LIST, args));
    };
    copy::write(args[1], &head)?;
    copy::write(args[2], &len)?;
    Ok(0)
}

fn check_size(size: u64) -> Result<(), i64> {
    if size == 8 { Ok(()) } else { Err(-EINVAL) }
}

fn action(args: [u64; 6]) -> Result<i64, i64> {
    const SIGKILL: u32 = 9;
    const SIGSTOP: u32 = 19;
    check_size(args[3])?;
    let signal = args[0] as u32;
    let is_valid = (1..=64).contains(&signal);
    if !is_valid || args[1] != 0 && matches!(signal, SIGKILL | SIGSTOP) {
        return Err(-EINVAL);
    }
    let new = match args[1] {
        0 => None,
        at => Some(copy::read::<Action>(at)?),
    };
    let old = inside::with(|core| core.actions[signal as usize]);
    if let Some(new) = new {
        inside::with(|core| core.set_action(signal, &new))?;
    }
    if args[2] != 0 {
        copy::write(args[2], &old)?;
    }
    Ok(0)
}

fn mask(args: [u64; 6]) -> Result<i64, i64> {
    check_size(args[3])?;
    let old = inside::with(|core| core.current().mask);
    if args[1] != 0 {
        let set = copy::read::<u64>(args[1])?;
        let new = match args[0] {
            0 => old | set,
            1 => old & !set,
            2 => set,
            _ => return Err(-EINVAL),
        };
        inside::with(|core| core.set_mask(new));
    }
    if args[2] != 0 {
        copy::write(args[2], &old)?;
    }
    Ok(0)
}

fn pending(args: [u64; 6]) -> Result<i64, i64> {
    if args[1] > 8 {
        return Err(-EINVAL);
    }
    let mut of_kernel = 0_u64;
    let at = &raw mut of_kernel as u64;
    plain(RT_SIGPENDING, [at, 8, 0, 0, 0, 0]);
    let ours = inside::with(|core| {
        core.take_notes();
        let id = core.running;
        core.pending.set(id) & core.current().mask
    });
    copy::write(args[0], &(of_kernel | ours))?;
    Ok(0)
}

/// rt_sigtimedwait(2): signals that every thread blocks are pending in the kernel, where a helper waits
/// for them. Those for this thread alone are pending here.
fn sigwait(args: [u64; 6]) -> i64 {
    let set = match check_size(args[3]).and_then(|()| copy::read::<u64>(args[0])) {
        Ok(set) => set,
        Err(error) => return error,
    };
    let take = |wanted: u64| {
        inside::with(|core| {
            core.current().wanted = wanted;
            core.take_notes();
            let id = core.running;
            core.pending.take(id, set)
        })
    };
    // What comes to the library's handler is not for the helper.
    let of_kernel = set & !inside::with(|core| core.needed_signals());
    let mut posted = args;
    posted[0] = &raw const of_kernel as u64;
    let result = match take(set) {
        Some(info) => Ok(info),
        None => Err(post(RT_SIGTIMEDWAIT, posted, false)),
    };
    let later = take(0);
    let info = match (result, later) {
        (Ok(info), _) => info,
        (Err(error), Some(info)) if error == -EINTR || error == -EAGAIN => info,
        (Err(result), _) => return result,
    };
    if args[1] != 0 {
        if let Err(error) = copy::write(args[1], &info) {
            return error;
        }
    }
    i64::from(info.signal())
}

fn alternate_stack(args: [u64; 6], sp: u64) -> Result<i64, i64> {
    const SS_ONSTACK: u64 = 1;
    const SS_AUTODISARM: u64 = 1 << 31;
    const EPERM: i64 = 1;
    const MINSIGSTKSZ: u64 = 2048;
    let old = inside::with(|core| core.current().alternate_stack);
    let is_on_it = old[1] & SS_AUTODISARM == 0 && sp.wrapping_sub(old[0]) < old[2];
    let new = match args[0] {
        0 => None,
        at => Some(copy::read::<[u64; 3]>(at)?),
    };
    if let Some([start, flags, len]) = new {
        let flags = flags & u64::from(u32::MAX);
        if is_on_it {
            return Err(-EPERM);
        }
        let stack = match flags & !SS_AUTODISARM {
            SS_DISABLE => [0, SS_DISABLE, 0],
            0 | SS_ONSTACK if len < MINSIGSTKSZ => return Err(-ENOMEM),
            0 | SS_ONSTACK => [start, flags & SS_AUTODISARM, len],
            _ => return Err(-EINVAL),
        };
        inside::with(|core| {
            core.current().alternate_stack = stack;
            core.came_back();
        });
    }
    if args[1] != 0 {
        let shown = [old[0], if is_on_it { SS_ONSTACK } else { old[1] }, old[2]];
        copy::write(args[1], &shown)?;
    }
    Ok(0)
}

/// A signal for one thread of the program.
fn kill(tid: u64, signal: u64, code: i32, info: Option<Info>) -> i64 {
    if signal > 64 {
        return -EINVAL;
    }
    inside::with(|core| {
        let Some(id) = core.find(tid as u32) else {
            return -ESRCH;
        };
        if signal == 0 {
            return 0;
        }
        let uid = plain(calls::GETUID, [0; 6]) as u64;
        let mut info = info.unwrap_or(Info::new(signal as u32, code, core.pid, 0));
        if code != 0 {
            info.0[2] |= uid << 32;
        }
        info.0[0] = signal;
        let is_blocked_by_all = core.kernel_mask & bit(signal as u32) != 0;
        if id == core.running && is_blocked_by_all {
            // Pending in the kernel, so that signalfd sees it.
            return plain(
                RT_SIGQUEUEINFO,
                [u64::from(core.pid), signal, info.0.as_ptr() as u64, 0, 0, 0],
            );
        }
        if core.send(id, &info) { 0 } else { -EAGAIN }
    })
}

/// Replaces the number of a user-level thread by that of the kernel's thread. Returns false if there is
/// no such thread.
pub(crate) fn translate(nr: u64, args: &mut [u64; 6]) -> bool {
    const PRIO_PROCESS: u64 = 0;
    let place = match nr {
        SCHED_SETPARAM
        | SCHED_GETPARAM
        | SCHED_SETSCHEDULER
        | SCHED_GETSCHEDULER
        | SCHED_RR_GET_INTERVAL
        | SCHED_SETAFFINITY
        | SCHED_GETAFFINITY
        | SCHED_SETATTR
        | SCHED_GETATTR => 0,
        GETPRIORITY | SETPRIORITY if args[0] == PRIO_PROCESS => 1,
        _ => return true,
    };
    const FIRST: u64 = 1 << 22;
    if args[place] < FIRST {
        return true;
    }
    let found = inside::with(|core| core.find(args[place] as u32).map(|_| core.tid));
    match found {
        Some(tid) => {
            args[place] = u64::from(tid);
            true
        }
        None => false,
    }
}

/// prctl(2): names of threads. The first thread's is the process's.
pub(crate) fn name(args: &[u64; 6]) -> Option<i64> {
    const PR_SET_NAME: u64 = 15;
    const PR_GET_NAME: u64 = 16;
    let is_main = inside::with(|core| core.running == Id::MAIN);
    let result = match args[0] {
        PR_SET_NAME if !is_main => copy::read::<[u8; 16]>(args[1]).map(|mut name| {
            name[15] = 0;
            inside::with(|core| core.current().name = name);
        }),
        PR_GET_NAME if !is_main => {
            let name = inside::with(|core| core.current().name);
            if name[0] == 0 {
                return None;
            }
            copy::write(args[1], &name)
        }
        _ => return None,
    };
    Some(result.map_or_else(|error| error, |()| 0))
}
