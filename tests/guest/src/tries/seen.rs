// SPDX-License-Identifier: MIT OR Apache-2.0
//! A call that was tried looks the same to others as a plain one.

use std::fs;

use super::{How, Scene, own, send, with_data};
use crate::check::Check;
use crate::kit::abi::{REASON_GUARDED, REASON_NONE};
use crate::kit::child::in_child;
use crate::kit::files::{pipe, socket_pair};
use crate::kit::mode::{Mode, in_modes};
use crate::kit::ring::{Call, Ring, check_done};
use crate::kit::seccomp::{self, Action};
use crate::kit::sys;

tests! { "tries":
    watched => "inotify reports the accesses that it reports of plain calls, and no others";
    accounted => "/proc/self/io counts calls and bytes like those of plain calls, waiting or not";
    filtered => "a filtered call is tried only if the filter allows it: else the data stays there";
}

/// The events that a watcher of the pipe's inode was told, as a list of masks.
fn masks(watch: &std::os::fd::OwnedFd) -> Vec<u32> {
    let mut masks = Vec::new();
    let mut bytes = [0u32; 256];
    loop {
        let len = size_of_val(&bytes);
        let got = plain!(SYS_read, watch, bytes.as_mut_ptr(), len);
        if got <= 0 {
            return masks;
        }
        // Watch, mask, cookie, and no name.
        masks.extend(bytes[..got as usize / 4].chunks(4).map(|event| event[1]));
    }
}

/// The calls whose traces are compared: one that takes and one that gives.
fn calls(scene: &mut Scene, other: &mut Scene, how: How) -> [Call; 2] {
    [scene.take(how, 16, 0), other.give(how, 8, 0)]
}

fn watched_by(how: How, mut run: impl FnMut(Call) -> Check<i64>) -> Check<Vec<u32>> {
    let (from, to) = pipe()?;
    let flags = libc::IN_CLOEXEC | libc::IN_NONBLOCK;
    let watch = own("inotify_init1", plain!(SYS_inotify_init1, flags))?;
    send(&to, 5)?;
    let fd = sys::Arg::word(&from);
    let path = std::ffi::CString::new(format!("/proc/self/fd/{fd}")).expect("no zero");
    let mask = libc::IN_ACCESS | libc::IN_MODIFY;
    let added = plain!(SYS_inotify_add_watch, &watch, path.as_c_str(), mask);
    check!(added > 0, "inotify_add_watch: {}", crate::check::Ret(added));
    let (mut scene, mut other) = (Scene::new([from]), Scene::new([to]));
    for (call, want) in calls(&mut scene, &mut other, how).into_iter().zip([5, 8]) {
        check_ret!("read or write", run(call)?, want);
    }
    // Reads at the end of the pipe, which some calls report and others do not.
    check_ret!("read", run(scene.take(how, 16, 0))?, 8);
    other.fds.clear();
    check_ret!("read at the end", run(scene.take(how, 16, 0))?, 0);
    Ok(masks(&watch))
}

fn watched() -> Check {
    for how in How::FILE {
        let plain = |call: Call| Ok(sys::syscall(call.nr.into(), call.args));
        let want = watched_by(how, plain)?;
        check!(!want.is_empty(), "a plain call is not seen");
        in_modes(1, |_, ring| {
            let got = watched_by(how, |call| ring.result(call))?;
            check_eq!(format!("{how:?}"), got, want);
            Ok(())
        })?;
    }
    Ok(())
}

/// `rchar`, `wchar`, `syscr`, `syscw`, and the length of the text with them, which one call reads.
fn account() -> Check<([u64; 4], u64)> {
    let file = ok!(
        "/proc/self/io",
        sys::open(c"/proc/self/io", libc::O_RDONLY, 0)
    );
    let mut text = [0u8; 1024];
    let len = plain!(SYS_read, &file, text.as_mut_ptr(), text.len());
    check!(len > 0, "read: {}", crate::check::Ret(len));
    let mut counts = [0; 4];
    for (line, count) in String::from_utf8_lossy(&text).lines().zip(&mut counts) {
        let value = line.split(": ").nth(1).unwrap_or_default();
        *count = ok!(line, value.parse());
    }
    Ok((counts, len as u64))
}

/// Returns the counts that `act` adds to the account.
pub fn added(act: impl FnOnce() -> Check) -> Check<[u64; 4]> {
    let (before, len) = account()?;
    act()?;
    let (after, _) = account()?;
    let mut added: [u64; 4] = std::array::from_fn(|n| after[n] - before[n]);
    // Reading the account has been one more call.
    added[0] -= len;
    added[2] -= 1;
    Ok(added)
}

pub const ACCOUNT: &str = "rchar, wchar, syscr, syscw";

fn accounted() -> Check {
    if fs::metadata("/proc/self/io").is_err() {
        return crate::check::skip("needs CONFIG_TASK_IO_ACCOUNTING");
    }
    for how in How::ALL {
        let scenes = || -> Check<[Scene; 2]> {
            let (one, two) = socket_pair()?;
            send(&two, 5)?;
            Ok([Scene::new([one]), Scene::new([two])])
        };
        let [mut scene, mut other] = scenes()?;
        let want = added(|| {
            for call in calls(&mut scene, &mut other, how) {
                let result = sys::syscall(call.nr.into(), call.args);
                check!(result > 0, "plain call: {result}");
            }
            Ok(())
        })?;
        in_modes(1, |_, ring| {
            // Threads are created, and their files read, before the measurement.
            ring.result(call!(SYS_getppid))?;
            let [mut scene, mut other] = scenes()?;
            let calls = calls(&mut scene, &mut other, how);
            let got = added(|| {
                for (call, want) in calls.into_iter().zip([5, 8]) {
                    check_ret!("posted call", ring.result(call)?, want);
                }
                Ok(())
            })?;
            check_eq!(ACCOUNT, got, want);
            if ring.mode == Mode::Inline {
                accounted_waiting(ring, how)?;
            }
            Ok(())
        })
        .map_err(|f| f.within(format!("{how:?}")))?;
    }
    Ok(())
}

/// A call that was tried in vain counts once.
fn accounted_waiting(ring: &mut Ring, how: How) -> Check {
    let (one, two) = socket_pair()?;
    let mut scene = Scene::new([one]);
    let call = scene.take(how, 16, 0);
    let got = added(|| {
        let slots = ring.post_all(&[call, call!(SYS_getppid)]);
        ring.finish(&slots[1..])?;
        let sent = plain!(SYS_sendto, &two, b"hello".as_ptr(), 5, 0, 0, 0);
        check_ret!("sendto", sent, 5);
        check_ret!("posted call", ring.finish(&slots[..1])?[0].result, 5);
        Ok(())
    })?;
    let counts = u64::from(How::FILE.contains(&how));
    check_eq!(ACCOUNT, got, [5 * counts, 0, counts, 0]);
    Ok(())
}

fn filtered() -> Check {
    for how in [How::Plain, How::Socket] {
        in_child(|| {
            let (_engine, mut ring) = Mode::Inline.start(1)?;
            let mut scene = with_data(socket_pair()?)?;
            let call = scene.take(how, 16, 0);
            let unfiltered = ring.run(call)?;
            check_done("before the filter", unfiltered, 5, REASON_NONE)?;
            let (nr, refused) = (i64::from(call.nr), -i64::from(libc::EOPNOTSUPP));
            for (action, result, reason) in [
                (Action::Allow, 4, REASON_NONE),
                (Action::Log, refused, REASON_GUARDED),
            ] {
                send(&scene.fds[1], 4)?;
                ok!("seccomp", seccomp::install(nr, action, false));
                check_done("filtered", ring.run(call)?, result, reason)?;
            }
            check_ret!("plain", sys::syscall(nr, call.args), 4);
            Ok(())
        })?;
    }
    Ok(())
}
