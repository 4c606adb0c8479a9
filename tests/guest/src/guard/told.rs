// SPDX-License-Identifier: MIT OR Apache-2.0
//! Security modules are told the same of a posted message as of a plain one.

use std::os::fd::OwnedFd;

use crate::check::{Check, Ret};
use crate::kit::abi::Policy;
use crate::kit::files::socket_pair;
use crate::kit::limits::need_root;
use crate::kit::mode::Mode;
use crate::kit::net::{self, tcp_pair, udp_pair};
use crate::kit::ring::Call;
use crate::kit::sys;
use crate::kit::trace::{Probe, Trace};

tests! { "guard":
    told_lengths => "the length of a message that a security module is told, if the call waits or not";
}

/// What modules were told by calls of one of their functions, for this process.
struct Told<'a> {
    trace: &'a Trace,
    function: &'static str,
    seen: usize,
}

impl Told<'_> {
    /// The lengths since the last time.
    fn lengths(&mut self) -> Check<Vec<i64>> {
        let lines = self.trace.lines(self.function)?;
        let new = lines.iter().skip(self.seen);
        let lengths = new
            .filter_map(|line| line.rsplit_once(" told=")?.1.trim().parse().ok())
            .collect();
        self.seen = lines.len();
        Ok(lengths)
    }
}

const TEXT: &[u8; 5] = b"hello";

fn send(to: &OwnedFd) -> Check {
    let sent = plain!(SYS_sendto, to, TEXT.as_ptr(), TEXT.len(), 0, 0, 0);
    check_ret!("sendto", sent, TEXT.len() as i64);
    Ok(())
}

/// All calls that receive a message into `at`, which has room for `size` bytes of address space.
fn calls(at: u64, size: u64, message: &[u64; 7], part: &[u64; 2]) -> [(i64, [u64; 6]); 4] {
    [
        (libc::SYS_read, [0, at, size, 0, 0, 0]),
        (libc::SYS_readv, [0, part.as_ptr() as u64, 1, 0, 0, 0]),
        (libc::SYS_recvfrom, [0, at, size, 0, 0, 0]),
        (libc::SYS_recvmsg, [0, message.as_ptr() as u64, 0, 0, 0, 0]),
    ]
}

/// Memory with a lot of address space behind it, in which there may be anything.
fn memory() -> Check<u64> {
    const FAR_FROM_THE_END: i64 = 1 << 36;
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    let at = plain!(SYS_mmap, FAR_FROM_THE_END, 4096, rights, flags, -1, 0);
    check_ret!("mmap", at, FAR_FROM_THE_END);
    Ok(at as u64)
}

fn told_lengths() -> Check {
    need_root()?;
    net::loopback_up()?;
    let (receives, sends) = ("security_socket_recvmsg", "security_socket_sendmsg");
    let probes = [
        Probe::new(receives, "told=%dx:s32")?,
        Probe::new(sends, "told=%dx:s32")?,
    ];
    let trace = Trace::idle()?;
    trace.log(&[probes[0].event(), probes[1].event()])?;
    let [mut received, mut sent] = [receives, sends].map(|function| Told {
        trace: &trace,
        function,
        seen: 0,
    });
    let (engine, mut ring) = Mode::Inline.start(1)?;
    // The log is read by thread.
    engine.keep_threads()?;
    let at = memory()?;
    for (kind, (from, to)) in [
        ("unix", socket_pair()?),
        ("TCP", tcp_pair()?),
        ("UDP", udp_pair().map(|(one, two)| (two, one))?),
    ] {
        // Nobody checks that so much memory is there.
        for size in [8, 0x8000_0000u64] {
            let part = [at, size];
            let message = [0, 0, part.as_ptr() as u64, 1, 0, 0, 0];
            for (nr, mut args) in calls(at, size, &message, &part) {
                args[0] = sys::Arg::word(&from);
                let name = format!("call {nr} of {size:#x} bytes, {kind}");
                send(&to)?;
                let want = sys::syscall(nr, args);
                check!(want == TEXT.len() as i64, "{name}: {}", Ret(want));
                let plain = received.lengths()?;
                check_eq!(format!("{name}, plain"), plain.len(), 1);
                for waits in [false, true] {
                    if !waits {
                        send(&to)?;
                    }
                    let slots = ring.post_all(&[Call::new(nr as u16, args)]);
                    if waits {
                        ok!("WAIT", ring.wait(Policy::None));
                        send(&to)?;
                    }
                    check_ret!(name, ring.finish(&slots)?[0].result, want);
                    let posted = received.lengths()?;
                    let same = !posted.is_empty() && posted.iter().all(|told| *told == plain[0]);
                    check!(same, "{name}, waits {waits}: {posted:?}, plain {plain:?}");
                }
            }
        }
        let (at, len) = (TEXT.as_ptr(), TEXT.len());
        for (name, call) in [
            ("write", call!(SYS_write, &to, at, len)),
            ("sendto", call!(SYS_sendto, &to, at, len, 0, 0, 0)),
        ] {
            sent.lengths()?;
            check_ret!(name, ring.result(call)?, len as i64);
            check_eq!(format!("{name}, {kind}"), sent.lengths()?, [len as i64]);
        }
    }
    Ok(())
}
