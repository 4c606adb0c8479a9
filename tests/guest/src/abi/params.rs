// SPDX-License-Identifier: MIT OR Apache-2.0
//! SET and GET.

use nix::errno::Errno;

use crate::check::Check;
use crate::kit::abi::{self, Param, ParamArg};
use crate::kit::engine::Engine;
use crate::kit::limits::poller_cpu;
use crate::kit::sys;

tests! { "abi":
    params_roundtrip => "GET returns the value that SET has set, for each parameter of each engine";
    params_defaults => "a new engine does not poll and may have many threads";
    params_beyond => "IDLE_NS and LOOP_MAX beyond their bounds are EINVAL and change nothing";
    params_bad => "SET and GET with unknown parameters, pools, sizes, reserved words are EINVAL";
    params_bad_cpus => "SET refuses sets of CPUs that do not exist, and takes sets of any length";
}

fn params_roundtrip() -> Check {
    let engine = Engine::open()?;
    let other = Engine::open()?;
    let _registered = ok!("REGISTER", engine.register(1));
    let default = other.get(Param::RetireMs)?;
    let polled = 1 << poller_cpu();
    let values = [
        (Param::IdleNs, 0),
        (Param::IdleNs, 123_456),
        (Param::IdleNs, 1_000_000),
        (Param::IdleNs, abi::MAX_IDLE_NS),
        (Param::LoopMax, 1),
        (Param::LoopMax, abi::MAX_ROUNDS),
        (Param::MaxThreads, 7),
        (Param::MaxThreads, 100),
        (Param::RetireMs, 50),
        (Param::RetireMs, 2000),
        (Param::PollCpus, polled),
        (Param::PollCpus, 0),
    ];
    for (param, value) in values {
        engine.set(param, value)?;
        check_eq!(format!("GET {param:?}"), engine.get(param)?, value);
    }
    check_eq!(
        "RETIRE_MS of another engine",
        other.get(Param::RetireMs)?,
        default
    );
    Ok(())
}

fn params_defaults() -> Check {
    let engine = Engine::open()?;
    check_eq!("POLL_CPUS", engine.get(Param::PollCpus)?, 0);
    let threads = engine.get(Param::MaxThreads)?;
    check!(
        threads >= 4096,
        "MAX_THREADS is {threads}, expected 4096 or more"
    );
    Ok(())
}

fn params_beyond() -> Check {
    let engine = Engine::open()?;
    for (param, most) in [
        (Param::IdleNs, abi::MAX_IDLE_NS),
        (Param::LoopMax, abi::MAX_ROUNDS),
    ] {
        let before = engine.get(param)?;
        for value in [most + 1, 1 << 63, u64::MAX] {
            check_eq!(
                format!("SET {param:?} {value}"),
                engine.try_set(param, value),
                Err(Errno::EINVAL)
            );
        }
        check_eq!(format!("GET {param:?}"), engine.get(param)?, before);
    }
    Ok(())
}

fn params_bad() -> Check {
    let engine = Engine::open()?;
    let good = ParamArg::new(Param::IdleNs, 1000);
    let mut bad: Vec<(String, ParamArg)> = Vec::new();
    for param in [11, 64, u32::MAX] {
        bad.push((format!("parameter {param}"), ParamArg { param, ..good }));
    }
    for pool in [1, 8, u32::MAX] {
        bad.push((format!("pool {pool}"), ParamArg { pool, ..good }));
    }
    for size in [0, 16, 23, 25, 32, u32::MAX] {
        bad.push((format!("size {size}"), ParamArg { size, ..good }));
    }
    bad.push(("len".into(), ParamArg { len: 1, ..good }));
    let no_set = ParamArg::new(Param::PollCpus, 0);
    for len in [0, 8193, u32::MAX] {
        bad.push((format!("CPUs of {len} bytes"), ParamArg { len, ..no_set }));
    }
    for (what, arg) in bad {
        for (name, request) in [("SET", abi::IOC_SET), ("GET", abi::IOC_GET)] {
            let ret = sys::ioctl_with(engine.fd(), request, &mut { arg });
            check_eq!(format!("{name} with {what}"), ret, Err(Errno::EINVAL));
        }
    }
    Ok(())
}

fn params_bad_cpus() -> Check {
    let engine = Engine::open()?;
    // No test machine has 64 CPUs.
    let ret = engine.try_set(Param::PollCpus, 1 << 63);
    check_eq!("SET POLL_CPUS to CPU 63", ret, Err(Errno::EINVAL));
    check_eq!("POLL_CPUS", engine.get(Param::PollCpus)?, 0);
    check_eq!(
        "SET POLLED_CPUS",
        engine.try_set(Param::PolledCpus, 0),
        Err(Errno::EINVAL)
    );
    // Sets of any length, most of which could name CPUs that no machine has.
    let mut set = [0u8; 1024];
    let mut arg = ParamArg::new(Param::PollCpus, 0);
    for len in [1, 7, 8, 9, 1024] {
        for (last, expected) in [(0, Ok(0)), (0x80, Err(Errno::EINVAL))] {
            set[len - 1] = last;
            (arg.len, arg.value) = (len as u32, set.as_ptr() as u64);
            let ret = sys::ioctl_with(engine.fd(), abi::IOC_SET, &mut arg);
            check_eq!(
                format!("SET of {len} bytes, the last {last}"),
                ret,
                expected
            );
        }
        set.fill(0xff);
        let ret = sys::ioctl_with(engine.fd(), abi::IOC_GET, &mut arg);
        check_eq!(format!("GET of {len} bytes"), ret, Ok(0));
        check!(set[..len].iter().all(|&byte| byte == 0), "{set:?}");
        check!(set[len..].iter().all(|&byte| byte == 0xff), "{set:?}");
        set.fill(0);
    }
    arg.value = 8;
    for (name, request) in [("SET", abi::IOC_SET), ("GET", abi::IOC_GET)] {
        let ret = sys::ioctl_with(engine.fd(), request, &mut arg);
        check_eq!(format!("{name} at a bad address"), ret, Err(Errno::EFAULT));
    }
    let mut ring = engine.ring(1)?;
    check_ret!(
        "getpid",
        ring.result(call!(SYS_getpid))?,
        std::process::id()
    );
    Ok(())
}
