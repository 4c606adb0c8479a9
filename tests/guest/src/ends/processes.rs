// SPDX-License-Identifier: MIT OR Apache-2.0
//! The process ends, executes another program or forks.

use nix::errno::Errno;

use super::state::Flight;
use super::{in_every_state, stay};
use crate::check::Check;
use crate::kit::abi::{self, Policy, Wait};
use crate::kit::cgroup::Cgroup;
use crate::kit::child::{Child, End, Link, in_child};
use crate::kit::clone::in_vm_child;
use crate::kit::engine;
use crate::kit::{process, sys};
use crate::life::exec::execute;

tests! { "ends":
    exit => "exit_group by the owner";
    exit_other_thread => "exit_group by a thread that owns nothing";
    last_thread_exits => "the last thread ends by exit(2), not exit_group(2)";
    kill => "kill -9";
    terminate => "SIGTERM without a handler";
    kill_group => "cgroup.kill";
    exec => "execve by the owner";
    exec_other_thread => "execve by a thread that owns nothing";
    fork => "a forked child gets EPERM, has no pages, and disturbs nothing";
    vfork => "a child that shares the memory gets EPERM and disturbs nothing";
}

fn expect_exit(code: i32) -> impl Fn(Child) -> Check {
    move |mut child| {
        check_eq!("end of the process", child.end()?, End::Exit(code));
        Ok(())
    }
}

fn exit() -> Check {
    in_every_state(|life| life.run(|_, _| sys::exit_now(23), expect_exit(23)))
}

fn exit_other_thread() -> Check {
    let inside = |_flight: Flight, link: &Link| {
        std::thread::spawn(|| sys::exit_now(24));
        link.wait_go()
    };
    in_every_state(|life| life.run(inside, expect_exit(24)))
}

fn last_thread_exits() -> Check {
    let inside = |flight: Flight, _: &Link| {
        let mut parts = flight.into_parts();
        parts.stop_threads()?;
        // Drops nothing, because the calls in flight go on using these.
        std::mem::forget(parts);
        sys::exit_thread(25);
    };
    in_every_state(|life| life.run(inside, expect_exit(25)))
}

fn kill() -> Check {
    in_every_state(|life| life.run(stay, Child::kill))
}

fn terminate() -> Check {
    in_every_state(|life| {
        life.run(stay, |mut child| {
            child.signal(libc::SIGTERM);
            let want = End::Signal {
                signal: libc::SIGTERM,
                core: false,
            };
            check_eq!("end of the process", child.end()?, want);
            Ok(())
        })
    })
}

fn kill_group() -> Check {
    let group = Cgroup::new(None)?;
    in_every_state(|life| {
        life.run_prepared(
            || group.enter(),
            stay,
            |mut child| {
                group.write("cgroup.kill", 1)?;
                let want = End::Signal {
                    signal: libc::SIGKILL,
                    core: false,
                };
                check_eq!("end of the process", child.end()?, want);
                Ok(())
            },
        )
    })
}

fn exec() -> Check {
    in_every_state(|life| life.run(|flight, _| execute(flight.engine.fd()), Child::join))
}

fn exec_other_thread() -> Check {
    let inside = |flight: Flight, link: &Link| {
        let fd = flight.engine.fd();
        std::thread::spawn(move || {
            if let Err(failure) = execute(fd) {
                println!("# {failure:?}");
                sys::exit_now(1);
            }
        });
        link.wait_go()
    };
    in_every_state(|life| life.run(inside, Child::join))
}

/// The error of every ioctl in a process that is not the engine's.
fn ask_all(fd: i32, id: u32) -> [Result<u64, Errno>; 8] {
    let mut wait = Wait::new(id, Policy::None);
    let all = abi::wait_fast_arg(id, Policy::All as u32, 0);
    [
        engine::query(fd).map(|_| 0),
        engine::register(fd, 1).map(|_| 0),
        sys::ioctl_with(fd, abi::IOC_WAIT, &mut wait),
        sys::ioctl(fd, abi::IOC_WAIT_FAST, all),
        sys::ioctl(fd, abi::IOC_KICK, u64::from(id)),
        sys::ioctl(fd, abi::IOC_UNREGISTER, u64::from(id)),
        engine::cancel(fd, id, 0),
        sys::result(sys::syscall(abi::NR_WAIT, [fd as u64, all, 0, 0, 0, 0])),
    ]
}

const ALL_REFUSED: [Result<u64, Errno>; 8] = [Err(Errno::EPERM); 8];

fn fork() -> Check {
    let inside = |flight: Flight, _: &Link| {
        let (fd, id) = (flight.engine.fd(), flight.ring.id);
        let mappings = flight.mappings();
        in_child(|| {
            process::until_tasks(1)?;
            check_eq!("ioctls by the child", ask_all(fd, id), ALL_REFUSED);
            for &(at, len) in &mappings {
                let mut resident = [0u8; 64];
                let ret = plain!(SYS_mincore, at, len, resident.as_mut_ptr());
                check_ret!("mincore of the parent's pages", ret, -libc::ENOMEM);
                let prot = libc::PROT_READ | libc::PROT_WRITE;
                let ret = sys::mmap(len, prot, libc::MAP_SHARED, fd, 0);
                check_eq!("mmap by the child", ret.map(|_| ()), Err(Errno::EPERM));
            }
            check_eq!("pinned memory of the child", process::pinned_kib(), Some(0));
            Ok(())
        })?;
        flight.end()
    };
    in_every_state(|life| life.run(inside, Child::join))
}

fn vfork() -> Check {
    let inside = |flight: Flight, _: &Link| {
        let (fd, id) = (flight.engine.fd(), flight.ring.id);
        let answers = in_vm_child(|| ask_all(fd, id))?;
        check_eq!("ioctls by the child", answers, ALL_REFUSED);
        flight.end()
    };
    in_every_state(|life| life.run(inside, Child::join))
}
