// SPDX-License-Identifier: MIT OR Apache-2.0
//! The properties that all calls of the device share, and the errors of WAIT and QUERY.

use nix::errno::Errno;

use crate::check::Check;
use crate::kit::abi::{self, Param, ParamArg, Policy, Register, Stats, Wait, ioc, wait_fast_arg};
use crate::kit::child::in_child;
use crate::kit::engine::{self, Engine};
use crate::kit::{memory, sys};

tests! { "abi":
    ioctl_unknown => "unknown ioctls are ENOTTY";
    ioctl_child => "every ioctl by a forked child is EPERM";
    ioctl_bad_pointer => "ioctls with bad addresses are EFAULT and leave nothing behind";
    ioctl_odd_address => "ioctls take structures at odd addresses";
    file_operations => "read and write on the device fail";
    wait_unknown => "WAIT, WAIT_FAST and KICK of an unknown number are ENOENT";
    wait_foreign_thread => "WAIT by a thread that does not own the registration is EPERM";
    wait_bad => "WAIT with a bad policy or size and WAIT_FAST with a bad policy are EINVAL";
    kick_foreign_thread => "KICK by another thread of the process works";
    query_sizes => "QUERY fills in the fields that both sides know and reports the kernel's size";
    query_bad => "QUERY with a size below its head or with a reserved word set is EINVAL";
    query_counts => "QUERY counts the calls posted, executed and refused, the kicks and the waits";
}

const ALL_IOCTLS: [u32; 8] = [
    abi::IOC_REGISTER,
    abi::IOC_UNREGISTER,
    abi::IOC_WAIT,
    abi::IOC_WAIT_FAST,
    abi::IOC_KICK,
    abi::IOC_SET,
    abi::IOC_GET,
    abi::IOC_QUERY,
];

fn ioctl_unknown() -> Check {
    let engine = Engine::open()?;
    let mut unknown: Vec<u32> = (8..256).map(|nr| ioc(0, nr, 0)).collect();
    unknown.extend([ioc(3, 0, 55), ioc(1, 0, 56), ioc(2, 2, 32), ioc(0, 7, 0)]);
    unknown.extend(ALL_IOCTLS.map(|request| request ^ 0x0100));
    for request in unknown {
        let ret = sys::ioctl(engine.fd(), request, 0);
        check_eq!(format!("ioctl {request:#x}"), ret, Err(Errno::ENOTTY));
    }
    Ok(())
}

fn ioctl_child() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let id = ring.id;
    in_child(|| {
        let fd = engine.fd();
        let mut register = Register::new(1);
        let mut wait = Wait::new(id, Policy::None);
        let mut param = ParamArg::new(Param::IdleNs, 1000);
        let number = u64::from(id);
        let results = [
            (
                "REGISTER",
                sys::ioctl_with(fd, abi::IOC_REGISTER, &mut register),
            ),
            ("UNREGISTER", engine.unregister(id)),
            ("WAIT", sys::ioctl_with(fd, abi::IOC_WAIT, &mut wait)),
            (
                "WAIT_FAST",
                sys::ioctl(fd, abi::IOC_WAIT_FAST, wait_fast_arg(id, 0, 0)),
            ),
            ("KICK", sys::ioctl(fd, abi::IOC_KICK, number)),
            ("SET", sys::ioctl_with(fd, abi::IOC_SET, &mut param)),
            ("GET", sys::ioctl_with(fd, abi::IOC_GET, &mut param)),
            ("QUERY", engine::query(fd).map(|_| 0)),
        ];
        for (what, ret) in results {
            check_eq!(what, ret, Err(Errno::EPERM));
        }
        Ok(())
    })?;
    check_ret!(
        "getpid",
        ring.result(call!(SYS_getpid))?,
        std::process::id()
    );
    Ok(())
}

fn ioctl_bad_pointer() -> Check {
    let engine = Engine::open()?;
    let with_pointer = [
        abi::IOC_REGISTER,
        abi::IOC_WAIT,
        abi::IOC_SET,
        abi::IOC_GET,
        abi::IOC_QUERY,
    ];
    let addresses = [
        0,
        4096 - 8,
        0x7fff_ffff_f000,
        0xffff_8880_0000_0000,
        u64::MAX - 7,
    ];
    for request in with_pointer {
        for at in addresses {
            let ret = sys::ioctl(engine.fd(), request, at);
            check_eq!(
                format!("ioctl {request:#x} at {at:#x}"),
                ret,
                Err(Errno::EFAULT)
            );
        }
    }
    // A structure that can be read but not written.
    let page = memory::pages(4096)?;
    memory::store(page, Register::new(1));
    check_ret!(
        "mprotect",
        plain!(SYS_mprotect, page, 4096, libc::PROT_READ),
        0
    );
    for _ in 0..20 {
        let ret = sys::ioctl(engine.fd(), abi::IOC_REGISTER, page as u64);
        check_eq!("REGISTER that cannot answer", ret, Err(Errno::EFAULT));
    }
    check_eq!("pages after failed registrations", engine.stats()?.pages, 0);
    let ring = engine.ring(1)?;
    check_eq!("number after failed registrations", ring.id, 0);
    Ok(())
}

fn ioctl_odd_address() -> Check {
    let engine = Engine::open()?;
    let at = memory::pages(4096)?.wrapping_add(1);
    memory::store(at, Register::new(1));
    let ret = sys::ioctl(engine.fd(), abi::IOC_REGISTER, at as u64);
    check_eq!("REGISTER", ret, Ok(0));
    check_eq!("pages", engine.stats()?.pages, 1);
    memory::store(at, Wait::new(0, Policy::None));
    check_eq!(
        "WAIT",
        sys::ioctl(engine.fd(), abi::IOC_WAIT, at as u64),
        Ok(0)
    );
    check_eq!("UNREGISTER", engine.unregister(0), Ok(0));
    Ok(())
}

fn file_operations() -> Check {
    let engine = Engine::open()?;
    let mut byte = 0u8;
    let at = std::ptr::from_mut(&mut byte);
    check_ret!("read", plain!(SYS_read, engine.fd(), at, 1), -libc::EINVAL);
    check_ret!(
        "write",
        plain!(SYS_write, engine.fd(), at, 1),
        -libc::EINVAL
    );
    Ok(())
}

fn wait_unknown() -> Check {
    let engine = Engine::open()?;
    let ring = engine.ring(1)?;
    for id in [ring.id + 1, 63, 64, 0xffff] {
        let mut arg = Wait::new(id, Policy::None);
        check_eq!(
            format!("WAIT {id}"),
            ring.wait_raw(&mut arg),
            Err(Errno::ENOENT)
        );
        let fast = wait_fast_arg(id, 0, 0);
        let ret = sys::ioctl(engine.fd(), abi::IOC_WAIT_FAST, fast);
        check_eq!(format!("WAIT_FAST {id}"), ret, Err(Errno::ENOENT));
        let ret = sys::ioctl(engine.fd(), abi::IOC_KICK, u64::from(id));
        check_eq!(format!("KICK {id}"), ret, Err(Errno::ENOENT));
    }
    let mut arg = Wait::new(u32::MAX, Policy::None);
    check_eq!("WAIT 2^32-1", ring.wait_raw(&mut arg), Err(Errno::ENOENT));
    Ok(())
}

fn wait_foreign_thread() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let slot = ring.post(call!(SYS_getpid));
    let (fd, id) = (engine.fd(), ring.id);
    let (slow, fast) = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut arg = Wait::new(id, Policy::Any);
            (
                sys::ioctl_with(fd, abi::IOC_WAIT, &mut arg),
                sys::ioctl(fd, abi::IOC_WAIT_FAST, wait_fast_arg(id, 1, 0)),
            )
        });
        other.join().expect("no panic")
    });
    check_eq!("WAIT by another thread", slow, Err(Errno::EPERM));
    check_eq!("WAIT_FAST by another thread", fast, Err(Errno::EPERM));
    check!(
        !ring.is_done(slot),
        "another thread's WAIT executed the call"
    );
    check_ret!(
        "getpid",
        ring.finish(&[slot])?[0].result,
        std::process::id()
    );
    Ok(())
}

fn wait_bad() -> Check {
    let engine = Engine::open()?;
    let ring = engine.ring(1)?;
    for policy in [5, 6, 255, u32::MAX] {
        let mut arg = Wait::new(ring.id, Policy::None);
        arg.policy = policy;
        check_eq!(
            format!("policy {policy}"),
            ring.wait_raw(&mut arg),
            Err(Errno::EINVAL)
        );
    }
    for size in [0, 8, 32, 39, 41, 48, u32::MAX] {
        let mut arg = Wait::new(ring.id, Policy::None);
        arg.size = size;
        check_eq!(
            format!("size {size}"),
            ring.wait_raw(&mut arg),
            Err(Errno::EINVAL)
        );
    }
    for (flags, reserved) in [(1, 0), (1 << 31, 0), (0, 1)] {
        let mut arg = Wait::new(ring.id, Policy::None);
        (arg.flags, arg.reserved) = (flags, reserved);
        check_eq!(
            format!("flags {flags}, reserved {reserved}"),
            ring.wait_raw(&mut arg),
            Err(Errno::EINVAL)
        );
    }
    let fast = |arg| sys::ioctl(engine.fd(), abi::IOC_WAIT_FAST, arg);
    for policy in 5..256 {
        let ret = fast(wait_fast_arg(ring.id, policy, 0));
        check_eq!(
            format!("WAIT_FAST policy {policy}"),
            ret,
            Err(Errno::EINVAL)
        );
    }
    for bit in 9..32 {
        let ret = fast(wait_fast_arg(ring.id | (1 << bit), 0, 0));
        check_eq!(format!("WAIT_FAST bit {bit}"), ret, Err(Errno::ENOENT));
    }
    check_eq!("WAIT_FAST", fast(wait_fast_arg(ring.id, 0, 0)), Ok(0));
    Ok(())
}

fn kick_foreign_thread() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let slot = ring.post(call!(SYS_getpid));
    let (fd, id) = (engine.fd(), u64::from(ring.id));
    let ret = std::thread::scope(|scope| {
        let other = scope.spawn(|| sys::ioctl(fd, abi::IOC_KICK, id));
        other.join().expect("no panic")
    });
    check_eq!("KICK by another thread", ret, Ok(0));
    ring.poll_until_done(&[slot])?;
    check_ret!("getpid", ring.reap(slot).result, std::process::id());
    Ok(())
}

fn query_sizes() -> Check {
    let engine = Engine::open()?;
    let _registered = ok!("REGISTER", engine.register(5));
    let full = size_of::<Stats>();
    let mut long = [0xAAu8; 512];
    for size in [8, 12, 16, 24, full - 1, full, full + 1, full + 64, 500] {
        long.fill(0xAA);
        long[..4].copy_from_slice(&(size as u32).to_ne_bytes());
        long[4..8].fill(0);
        let ret = sys::ioctl(engine.fd(), abi::IOC_QUERY, long.as_mut_ptr() as u64);
        check_eq!(format!("QUERY of {size} bytes"), ret, Ok(0));
        let told = u32::from_ne_bytes([long[0], long[1], long[2], long[3]]);
        check!(
            told as usize >= full,
            "QUERY reports size {told}, expected at least {full}"
        );
        let end = size.min(told as usize);
        check!(
            long[end..].iter().all(|&byte| byte == 0xAA),
            "QUERY of {size} bytes wrote beyond byte {end}"
        );
        if end >= full {
            let at = std::mem::offset_of!(Stats, pages);
            let pages = u64::from_ne_bytes(long[at..at + 8].try_into().expect("8 bytes"));
            check_eq!("pages", pages, 5);
        }
    }
    Ok(())
}

fn query_bad() -> Check {
    let engine = Engine::open()?;
    for size in [0, 1, 4, 7] {
        let mut stats = Stats {
            size,
            ..Stats::default()
        };
        let ret = sys::ioctl_with(engine.fd(), abi::IOC_QUERY, &mut stats);
        check_eq!(format!("QUERY of {size} bytes"), ret, Err(Errno::EINVAL));
    }
    let mut stats = Stats {
        size: size_of::<Stats>() as u32,
        reserved: 1,
        ..Stats::default()
    };
    let ret = sys::ioctl_with(engine.fd(), abi::IOC_QUERY, &mut stats);
    check_eq!("QUERY with a reserved word", ret, Err(Errno::EINVAL));
    Ok(())
}

fn query_counts() -> Check {
    let engine = Engine::open()?;
    let mut ring = engine.ring(1)?;
    let at_start = engine.stats()?;
    check_eq!("posted at the start", at_start.posted, 0);
    ring.run_all(&[call!(SYS_getpid); 40])?;
    ring.run_all(&[call!(SYS_getpid).asynchronous(); 20])?;
    ring.run_all(&[call!(SYS_vfork); 4])?;
    ring.kicked()?;
    let stats = engine.stats()?;
    check_eq!("posted", stats.posted, 64);
    check_eq!("inline", stats.inline_done, 40);
    check_eq!("by threads", stats.thread_done, 20);
    check_eq!("refused", stats.refused, 4);
    check_eq!("kicks", stats.kicks, 1);
    check!(
        stats.waits >= 3,
        "waits: {}, expected 3 or more",
        stats.waits
    );
    check!(
        stats.threads >= 1,
        "threads: {}, expected 1 or more",
        stats.threads
    );
    check_eq!("pages", stats.pages, 1);
    Ok(())
}
