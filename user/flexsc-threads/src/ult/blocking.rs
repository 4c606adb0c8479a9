// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls that may block: tried first where that is possible without waiting, then handed over.

use crate::sys::raw;
use crate::sys::{copy, inside};
use crate::ult::core::Core;
use crate::ult::nr::*;
use crate::ult::signals::{self, Delivered};
use crate::ult::waiting::{was_interrupted, with_mask};
use crate::ult::{Answer, park};

const MSG_DONTWAIT: u64 = 0x40;
const RWF_NOWAIT: u64 = 8;
/// The file's own position, for preadv2.
const HERE: u64 = u64::MAX;

/// Makes a call at once.
pub(crate) fn plain(nr: u64, args: [u64; 6]) -> i64 {
    raw::call_of_program(nr, args) as i64
}

/// Hands a call over and waits for its result. `restarts`: the kernel would go on with it after a
/// handler with SA_RESTART.
pub(crate) fn post(nr: u64, args: [u64; 6], restarts: bool) -> i64 {
    // Signals that wait in the kernel reach threads of the process only, not those of the engine.
    hand_over(nr, args, restarts, nr == RT_SIGTIMEDWAIT)
}

/// As `post`, but the engine would make the call on the core's own thread of the kernel.
pub(crate) fn post_to_helper(nr: u64, args: [u64; 6]) -> i64 {
    hand_over(nr, args, true, true)
}

fn hand_over(nr: u64, args: [u64; 6], restarts: bool, mut to_helper: bool) -> i64 {
    let [a, b, c, d, e, f] = args;
    loop {
        if inside::with(|core| core.submit([nr, a, b, c, d, e, f], to_helper)).is_err() {
            // Nobody else can make it: all threads wait for this one.
            signals::leave();
            let result = plain(nr, args);
            inside::enter();
            return result;
        }
        let result = park();
        if inside::with(|core| core.current().is_refused) {
            to_helper = true;
            continue;
        }
        if !was_interrupted() || result != -EINTR {
            return result;
        }
        match signals::deliver() {
            Delivered::Interrupt => return -EINTR,
            Delivered::Restart if !restarts => return -EINTR,
            // Not for a handler, but for sigwait.
            Delivered::Nothing if inside::with(|core| core.current().wanted != 0) => return -EINTR,
            _ => {}
        }
    }
}

/// Returns true if calls on a descriptor do not block.
fn is_non_blocking(fd: u64) -> bool {
    const F_GETFL: u64 = 3;
    const O_NONBLOCK: i64 = 0o4000;
    let flags = plain(FCNTL, [fd, F_GETFL, 0, 0, 0, 0]);
    // A bad descriptor is an error at once.
    flags < 0 || flags & O_NONBLOCK != 0
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileKind {
    /// On a disk: waits are short, and not a matter of other threads.
    Stored,
    Other,
}

fn kind_of_mode(mode: u64) -> FileKind {
    match mode as u32 & 0o170_000 {
        0o100_000 | 0o040_000 | 0o060_000 => FileKind::Stored,
        _ => FileKind::Other,
    }
}

fn kind_of(fd: u64) -> FileKind {
    let mut stat = [0_u64; 18];
    let result = plain(FSTAT, [fd, stat.as_mut_ptr() as u64, 0, 0, 0, 0]);
    if result < 0 {
        // The call itself says what is wrong.
        return FileKind::Stored;
    }
    kind_of_mode(stat[3])
}

/// Goes on after a try that would have waited.
fn after_try(nr: u64, args: [u64; 6]) -> i64 {
    if is_non_blocking(args[0]) {
        return -EAGAIN;
    }
    post(nr, args, true)
}

/// Goes on where a try is not possible.
fn without_try(nr: u64, args: [u64; 6]) -> i64 {
    if is_non_blocking(args[0]) {
        return plain(nr, args);
    }
    post(nr, args, true)
}

/// Notes whether a descriptor is a socket, so that the next try begins with the right call.
fn note_socket(fd: u64, is_socket: bool) {
    inside::with(|core| {
        if let Some(place) = core.no_socket.get_mut(fd as usize) {
            *place = !is_socket;
        }
    });
}

fn may_be_socket(fd: u64) -> bool {
    inside::with(|core| !core.no_socket.get(fd as usize).is_some_and(|no| *no))
}

/// read(2)
fn read(args: [u64; 6]) -> i64 {
    let [fd, buffer, len, ..] = args;
    if len == 0 {
        return plain(READ, args);
    }
    if may_be_socket(fd) {
        match plain(RECVFROM, [fd, buffer, len, MSG_DONTWAIT, 0, 0]) {
            result if result == -EAGAIN => return after_try(READ, args),
            result if result != -ENOTSOCK => return result,
            _ => note_socket(fd, false),
        }
    }
    let piece = [buffer, len];
    let at = piece.as_ptr() as u64;
    match plain(PREADV2, [fd, at, 1, HERE, HERE, RWF_NOWAIT]) {
        // A part of a file is in memory: the rest comes from the disk.
        result if result > 0 && (result as u64) < len && kind_of(fd) == FileKind::Stored => {
            let done = result as u64;
            let rest = plain(READ, [fd, buffer + done, len - done, 0, 0, 0]);
            result + rest.max(0)
        }
        result if result == -EAGAIN || is_no_try(result) => {
            note_socket(fd, true);
            if kind_of(fd) == FileKind::Stored {
                plain(READ, args)
            } else if result == -EAGAIN {
                after_try(READ, args)
            } else {
                without_try(READ, args)
            }
        }
        result => result,
    }
}

/// Returns true if the kernel cannot try to read or write the file.
fn is_no_try(result: i64) -> bool {
    result == -EOPNOTSUPP || result == -EINVAL
}

/// write(2)
fn write(args: [u64; 6]) -> i64 {
    let [fd, buffer, len, ..] = args;
    if len == 0 {
        return plain(WRITE, args);
    }
    if may_be_socket(fd) {
        match plain(SENDTO, [fd, buffer, len, MSG_DONTWAIT, 0, 0]) {
            result if result == -EAGAIN => return after_send(WRITE, args),
            result if result > 0 && (result as u64) < len => {
                return rest_of_send(WRITE, args, result);
            }
            result if result != -ENOTSOCK => return result,
            _ => note_socket(fd, false),
        }
    }
    if kind_of(fd) == FileKind::Stored {
        return plain(WRITE, args);
    }
    let piece = [buffer, len];
    let at = piece.as_ptr() as u64;
    match plain(PWRITEV2, [fd, at, 1, HERE, HERE, RWF_NOWAIT]) {
        result if result > 0 && (result as u64) < len => rest_of_send(WRITE, args, result),
        result if result == -EAGAIN => after_send(WRITE, args),
        result if is_no_try(result) => broken_pipe(WRITE, args, without_try(WRITE, args)),
        result => result,
    }
}

/// Hands over what is left of a call that has sent a part. Its second and third argument are address and
/// length.
fn rest_of_send(nr: u64, args: [u64; 6], done: i64) -> i64 {
    let [fd, buffer, len, flags, address, address_len] = args;
    if is_non_blocking(fd) {
        return done;
    }
    let sent = done as u64;
    let rest = [fd, buffer + sent, len - sent, flags, address, address_len];
    done + after_send(nr, rest).max(0)
}

/// Hands over a call that sends.
fn after_send(nr: u64, args: [u64; 6]) -> i64 {
    broken_pipe(nr, args, after_try(nr, args))
}

/// The signal of a broken pipe reaches helpers only: here it is for the thread that has asked.
fn broken_pipe(nr: u64, args: [u64; 6], result: i64) -> i64 {
    const MSG_NOSIGNAL: u64 = 0x4000;
    const SIGPIPE: u32 = 13;
    let flags = match nr {
        SENDTO => args[3],
        SENDMSG => args[2],
        _ => 0,
    };
    if result == -EPIPE && flags & MSG_NOSIGNAL == 0 {
        inside::with(|core| core.send_to_running(SIGPIPE));
    }
    result
}

/// sendto(2)
fn send_to(args: [u64; 6]) -> i64 {
    let [fd, buffer, len, flags, address, address_len] = args;
    let tried = [fd, buffer, len, flags | MSG_DONTWAIT, address, address_len];
    match plain(SENDTO, tried) {
        result if result == -EAGAIN => after_send(SENDTO, args),
        result if result >= 0 && (result as u64) < len => rest_of_send(SENDTO, args, result),
        result => result,
    }
}

/// A call whose argument `place` has flags like recv(2).
fn receive(nr: u64, args: [u64; 6], place: usize) -> i64 {
    const MSG_WAITALL: u64 = 0x100;
    if args[place] & MSG_WAITALL != 0 {
        return without_try(nr, args);
    }
    let mut tried = args;
    tried[place] |= MSG_DONTWAIT;
    match plain(nr, tried) {
        result if result == -EAGAIN => after_try(nr, args),
        result => result,
    }
}

/// Calls that cannot be tried: they go on at once only if the descriptor does not block.
fn by_flags(nr: u64, args: [u64; 6], fd: u64, restarts: bool) -> Answer {
    if is_non_blocking(fd) {
        Answer::Plain
    } else {
        Answer::Is(post(nr, args, restarts))
    }
}

fn vectored(nr: u64, args: [u64; 6]) -> Answer {
    if is_non_blocking(args[0]) || kind_of(args[0]) == FileKind::Stored {
        return Answer::Plain;
    }
    let result = post(nr, args, true);
    Answer::Is(match nr {
        READV => result,
        _ => broken_pipe(nr, args, result),
    })
}

/// poll(2), ppoll(2), epoll_wait(2) and so on: looks, then waits with the program's mask.
fn poll(nr: u64, args: [u64; 6]) -> i64 {
    let zero = [0_u64; 2];
    let zero = zero.as_ptr() as u64;
    // The tried call, and the mask's argument if there can be one.
    let (tried, mask) = match nr {
        POLL => ([args[0], args[1], 0, 0, 0, 0], None),
        PPOLL => ([args[0], args[1], zero, 0, 0, 0], Some(3)),
        EPOLL_WAIT => ([args[0], args[1], args[2], 0, 0, 0], None),
        EPOLL_PWAIT => ([args[0], args[1], args[2], 0, 0, 8], Some(4)),
        _ => ([args[0], args[1], args[2], zero, 0, 8], Some(4)),
    };
    let found = plain(nr, tried);
    if found != 0 {
        return found;
    }
    wait_with_mask(nr, args, mask)
}

/// Waits in a call whose argument `mask` is the address of a mask, or 0.
fn wait_with_mask(nr: u64, mut args: [u64; 6], mask: Option<usize>) -> i64 {
    let address = mask.map_or(0, |place| args[place]);
    if address == 0 {
        return post(nr, args, false);
    }
    let mask_place = mask.unwrap_or(0);
    args[mask_place] = 0;
    match copy::read::<u64>(address) {
        Ok(mask) => with_mask(mask, || {
            interrupt_if_pending();
            post(nr, args, false)
        }),
        Err(error) => error,
    }
}

/// With the new mask something may be there already.
fn interrupt_if_pending() {
    signals::deliver();
}

/// select(2) and pselect6(2) change their sets, so that they cannot be tried.
fn select(nr: u64, args: [u64; 6]) -> Answer {
    if args[4] != 0 {
        match copy::read::<[u64; 2]>(args[4]) {
            Ok([0, 0]) | Err(_) => return Answer::Plain,
            Ok(_) => {}
        }
    }
    if nr == SELECT || args[5] == 0 {
        return Answer::Is(post(nr, args, false));
    }
    // The address and the size of the mask.
    let Ok([mask, _]) = copy::read::<[u64; 2]>(args[5]) else {
        return Answer::Plain;
    };
    let mut args = args;
    args[5] = 0;
    if mask == 0 {
        return Answer::Is(post(nr, args, false));
    }
    match copy::read::<u64>(mask) {
        Ok(mask) => Answer::Is(with_mask(mask, || {
            interrupt_if_pending();
            post(nr, args, false)
        })),
        Err(error) => Answer::Is(error),
    }
}

/// What becomes of a call that may block; all others are made plainly.
pub(crate) fn call(nr: u64, args: [u64; 6]) -> Answer {
    const F_SETLKW: u64 = 7;
    const F_OFD_SETLKW: u64 = 38;
    const LOCK_NB: u64 = 4;
    const WNOHANG: u64 = 1;
    const SPLICE_F_NONBLOCK: u64 = 2;
    const IPC_NOWAIT: u64 = 0o4000;
    const MS_SYNC: u64 = 4;
    const IORING_ENTER_GETEVENTS: u64 = 1;
    let post_if = |waits: bool, restarts: bool| {
        if waits {
            Answer::Is(post(nr, args, restarts))
        } else {
            Answer::Plain
        }
    };
    let (has_engine, is_alone) = inside::with(|core| (core.backend.has_engine(), core.is_alone()));
    // The engine tries by itself, but a call alone is cheaper plainly, if a socket tells whether it would
    // wait.
    let is_cheap = match nr {
        READ | WRITE => is_alone && may_be_socket(args[0]),
        _ => is_alone,
    };
    if has_engine && !is_cheap {
        match nr {
            READ | READV | ACCEPT | ACCEPT4 | CONNECT => return Answer::Is(post(nr, args, true)),
            RECVFROM if args[3] & MSG_DONTWAIT == 0 => return Answer::Is(post(nr, args, true)),
            RECVMSG if args[2] & MSG_DONTWAIT == 0 => return Answer::Is(post(nr, args, true)),
            WRITE | WRITEV | SENDTO | SENDMSG => {
                return Answer::Is(broken_pipe(nr, args, post(nr, args, true)));
            }
            _ => {}
        }
    }
    match nr {
        READ => Answer::Is(read(args)),
        WRITE => Answer::Is(write(args)),
        READV | WRITEV => vectored(nr, args),
        RECVFROM if args[3] & MSG_DONTWAIT == 0 => Answer::Is(receive(nr, args, 3)),
        RECVMSG if args[2] & MSG_DONTWAIT == 0 => Answer::Is(receive(nr, args, 2)),
        SENDTO if args[3] & MSG_DONTWAIT == 0 => Answer::Is(send_to(args)),
        SENDMSG if args[2] & MSG_DONTWAIT == 0 => {
            if is_non_blocking(args[0]) {
                Answer::Plain
            } else {
                Answer::Is(broken_pipe(nr, args, post(nr, args, true)))
            }
        }
        RECVMMSG | SENDMMSG if args[3] & MSG_DONTWAIT == 0 => by_flags(nr, args, args[0], true),
        ACCEPT | ACCEPT4 | CONNECT => by_flags(nr, args, args[0], true),
        SENDFILE => by_flags(nr, args, args[0], true),
        POLL if args[2] == 0 => Answer::Plain,
        EPOLL_WAIT | EPOLL_PWAIT if args[3] == 0 => Answer::Plain,
        POLL | PPOLL | EPOLL_WAIT | EPOLL_PWAIT | EPOLL_PWAIT2 => Answer::Is(poll(nr, args)),
        SELECT | PSELECT6 => select(nr, args),
        WAIT4 => post_if(args[2] & WNOHANG == 0, true),
        WAITID => post_if(args[3] & WNOHANG == 0, true),
        FLOCK => post_if(args[1] & LOCK_NB == 0, true),
        FCNTL => post_if(matches!(args[1], F_SETLKW | F_OFD_SETLKW), true),
        MSGSND => post_if(args[3] & IPC_NOWAIT == 0, false),
        MSGRCV => post_if(args[4] & IPC_NOWAIT == 0, false),
        SPLICE => post_if(args[5] & SPLICE_F_NONBLOCK == 0, true),
        TEE | VMSPLICE => post_if(args[3] & SPLICE_F_NONBLOCK == 0, true),
        MSYNC => post_if(args[2] & MS_SYNC != 0, true),
        IO_URING_ENTER => post_if(args[2] > 0 && args[3] & IORING_ENTER_GETEVENTS != 0, false),
        SEMOP | SEMTIMEDOP | FSYNC | FDATASYNC | SYNC | SYNCFS | SYNC_FILE_RANGE => {
            Answer::Is(post(nr, args, false))
        }
        MQ_TIMEDSEND | MQ_TIMEDRECEIVE => by_flags(nr, args, args[0], true),
        _ => Answer::Plain,
    }
}

impl Core {
    /// A signal that the running thread has caused.
    fn send_to_running(&mut self, signal: u32) {
        let info = crate::sys::kernel::Info::new(signal, 0, self.pid, 0);
        let id = self.running;
        self.send(id, &info);
    }
}
