// SPDX-License-Identifier: MIT OR Apache-2.0

//! The text of docs/syscalls.md.

use crate::{classes, policy::Class, Row, IOCTLS, ROWS};
use std::fmt::Write;

const HEAD: &str = "\
<!-- SPDX-License-Identifier: MIT OR Apache-2.0 -->
<!-- Made by: cargo run -q -p flexsc-policy-tests > docs/syscalls.md (a test compares) -->

# Which system calls go through a page

The module's policy has a row for every system call of x86-64 in Linux 6.12. A row gives the call's class, which for
some calls depends on the arguments. The rows are in `kernel/policy/table.rs`, the rules for arguments in
`kernel/policy.rs`, the commands of ioctl in `kernel/policy/ioctl.rs`.

A program must not be able to tell from a result that another thread has executed its call. If the owner of a page
executes an entry in WAIT, the result is right for every call that does not begin, end or replace a thread. A syscall
thread shares the owner's address space, files, working directory, umask, signal handlers, process ids, limits,
namespaces and semaphore undo list, and adopts its credentials and other
[attributes](security.md#what-a-call-reads-about-its-caller) before each call.
If a file asks for the calling thread (signalfd, `/proc/thread-self`, a terminal, cgroups), it gets the owner. A syscall
thread has its own thread id, signal mask, pending signals, priority, CPUs, memory policy and processor state.

## Classes

| class | meaning | owner in WAIT | syscall thread |
|---|---|---|---|
| inline | the result is the same on any thread, and the call waits for no event | executes it | executes it |
| by file | as inline, but a file may keep the call waiting | executes it if no file of the call \
can wait, or if the call need not wait now; otherwise passes it to a syscall thread | executes it |
| may block | the result is the same on any thread, and the call may wait for an unbounded time | passes it to a \
syscall thread, but poll, ppoll and the two sleeps wait [without one](scheduling.md#same-core-the-default) | executes \
it |
| own thread | only the owner gets the right result | executes it | refuses it: THREAD |
| refused (LIFE) | the call begins, ends or replaces a thread or process | refuses it | refuses it |
| refused (THREAD) | the call acts on the calling thread and may wait, or on its registers | refuses it | \
refuses it |

*By file*: a file can keep a call waiting if it has a `poll` operation (pipe, socket, terminal, eventfd, FUSE) and
O_NONBLOCK is not set. Regular files, directories and block devices of ordinary file systems have none, because disks
always answer.

The owner first tries whether a read, readv, write, writev, accept, accept4, recvfrom, recvmsg, sendto or sendmsg
can complete without waiting. The result and the signals are those of a plain call, and LSMs, fsnotify and
`/proc/PID/io` see the same. The following calls go to a syscall thread without a try:

- Calls on files that do not support a try: named FIFOs, terminals, devices. Sockets, pipe(2), eventfd,
  timerfd, signalfd, userfaultfd, tun, tap and `/dev/random` do.
- Receiving with MSG_WAITALL or SO_RCVLOWAT, which may wait for more data, and receiving from a socket that is not
  a unix, internet, netlink or packet socket.
- Sending to sockets other than unix, TCP, UDP and raw ones, with zero-copy or MSG_OOB, and with control messages on TCP.
- Sending that could stop halfway, if it cannot be [parked](scheduling.md#same-core-the-default) either: more than PIPE_BUF
  bytes to a pipe; more than 32 KiB or half of SO_SNDBUF to a unix stream; more than 16 KiB to a TCP socket, or more than
  its send buffer has room for. A call that can be parked is sent in parts.
- Writes to an eventfd, reads of a file for which fanotify asks for permission, and calls of zero bytes.
- All calls while audit or system call tracepoints watch the owner.

*Syscall thread* stands for every execution outside WAIT: after KICK, on a poller, of an entry with
FLEXSC_ENTRY_ASYNC, and of the entries behind an inline call that has blocked. A syscall thread refuses an *own thread*
entry. There is one exception: if the owner has claimed the entry in WAIT, without ASYNC or a pool, and it has reached a
syscall thread by chance, the thread gives it back. The owner executes it in this WAIT or the next one, and poll()
reports it.

A refused entry has the result -EOPNOTSUPP and a reason in `reason`: make the call plainly. EOPNOTSUPP with reason 0 is
the call's own result. A number without a call gives -ENOSYS. Two other reasons do not depend on the policy: GUARDED
and CONTEXT, see [the ABI](abi.md#results).

*Inline* and *own thread* calls may still sleep: for the disk, or for a lock in the kernel. The entries behind such a
call are then handed over, but WAIT itself returns only after the call, whatever its policy and timeout are. So the
kernel refuses calls that act on the calling thread and may wait for long, with reason THREAD: a plain call delays
only itself. Nothing bounds the sleep of a call on a path or a file on FUSE, autofs, NFS or a frozen file system:
such calls go to syscall threads before they wait. Where the kernel cannot tell, as below an overlay, only the calls
after one that has slept for long do so ([scheduling](scheduling.md)). If not even the first may delay WAIT, set ASYNC.

## Special cases

- **Opening waits.** Opening a FIFO waits for its peer: a syscall thread does that. Opening a modem waits for its
  carrier, opening a file under a lease for its holder. That is inline nevertheless, for speed. If such a file is
  possible and the program relies on WAIT to return, set FLEXSC_ENTRY_ASYNC.
- **ioctl.** A driver may do anything with a command, and wait for any time (TIOCMIWAIT, BINDER_WRITE_READ,
  KVM_RUN, FIFREEZE). So only these commands are executed, which return soon for the files they are meant for; all
  others are refused with THREAD. Inline: @INLINE@.
  Own thread: @OWN@.
  The module's own commands are of this class too, and fail with EBUSY; but WAIT is refused.
- **Positional I/O.** pread64, pwrite64, preadv and pwritev are inline whatever the file is: pipes, sockets,
  terminals and events have no position and fail with ESPIPE at once. The few drivers that have both a position and a
  wait (`/dev/kmsg`) block the owner in WAIT, and the entries behind are handed over. Set FLEXSC_ENTRY_ASYNC for these.
- **Files that ask for the caller.** `/proc/thread-self` is the owner, even on a syscall thread; so is a task number of 0
  written to `cgroup.threads`. A signalfd shows read, poll and epoll the signals of the process and those sent to the
  owner's thread. Writes to `loginuid` and `attr/*` in the owner's directory of `/proc` set its credentials, so a syscall
  thread refuses them with THREAD.
- **Background jobs.** A background job that reads from its terminal gets SIGTTIN unless the owner blocks or ignores
  it. If the job has a handler without SA_RESTART, the call ends with EINTR. The same holds for writes and SIGTTOU. The
  signal goes to any thread of the process that takes it.
- **Memory protection keys.** The rights of a key are in a register of each thread. As long as a process has a key
  allocated (pkey_alloc(2)), syscall threads refuse all its calls with CONTEXT; the owner in WAIT executes inline calls.
  Rights set for unallocated keys are not noticed.
- **Where memory comes from.** Memory policy and CPU set of the executing thread decide from which node a call's
  pages come. No result shows this.
- **Observers.** Tracepoints, audit, perf and fanotify with FAN_REPORT_TID see the executing thread; so does a
  userfaultfd that reports threads. The process id is the owner's.
- **More than one thread.** A process with an engine has syscall threads, so calls that require a single thread fail as
  in any threaded process: unshare(CLONE_NEWUSER), setns to a user namespace.

";

/// The names of the ioctl commands of this class, in lines of a list's item.
fn ioctls(class: Class) -> String {
    const WIDTH: usize = 100;
    let mut lines = vec![String::new()];
    for (name, _) in IOCTLS.iter().filter(|(_, of)| *of == class) {
        let full = lines
            .last()
            .is_some_and(|line| line.len() + name.len() + 2 > WIDTH);
        if full {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            let comma = if line.is_empty() { "" } else { " " };
            let _ = write!(line, "{comma}{name},");
        }
    }
    let text = lines.join("\n  ");
    format!("\n  {}", text.trim_end_matches(','))
}

fn class_cell(row: &Row) -> String {
    classes(row.rule).join(" / ")
}

fn summary(out: &mut String) {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for row in ROWS {
        let cell = class_cell(row);
        match counts.iter_mut().find(|(class, _)| *class == cell) {
            Some((_, count)) => *count += 1,
            None => counts.push((cell, 1)),
        }
    }
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));

    let _ = writeln!(out, "| calls | class |\n|--:|---|");
    for (class, count) in counts {
        let _ = writeln!(out, "| {count} | {class} |");
    }
}

/// The whole document.
pub(crate) fn document() -> String {
    let mut out = HEAD
        .replace(" @INLINE@", &ioctls(Class::Inline))
        .replace(" @OWN@", &ioctls(Class::OwnThread));

    let _ = writeln!(
        out,
        "## All {} calls\n\nIf a call has several classes, the arguments decide; the usual class comes \
         first.\n\"The caller\" is the thread that executes the call.\n",
        ROWS.len()
    );
    summary(&mut out);

    let _ = writeln!(out, "\n| nr | name | class | reason |\n|--:|---|---|---|");
    for row in ROWS {
        let Row { nr, name, why, .. } = row;
        // An underscore at both ends of a word would be read as emphasis.
        let why = why.replace("__", "\\_\\_");
        let _ = writeln!(out, "| {nr} | `{name}` | {} | {why} |", class_cell(row));
    }

    let gaps = ROWS
        .windows(2)
        .filter(|pair| pair[1].nr > pair[0].nr + 1)
        .map(|pair| format!("{} to {}", pair[0].nr + 1, pair[1].nr - 1))
        .collect::<Vec<_>>()
        .join(", ");
    let last = ROWS.last().map_or(0, |row| row.nr);
    let _ = writeln!(
        out,
        "\nThese numbers have no call: {gaps}, and all above {last}, including those of x32 (512 to 547)."
    );
    out
}
