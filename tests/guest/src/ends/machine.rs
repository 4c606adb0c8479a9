// SPDX-License-Identifier: MIT OR Apache-2.0
//! The process is stopped, frozen or dumped, or the machine loses a CPU or the module.

use std::fs;
use std::path::PathBuf;

use super::state::Flight;
use super::{Life, in_every_state, remove_module, stay};
use crate::check::{Check, skip};
use crate::kit::cgroup::Cgroup;
use crate::kit::child::{End, Link};
use crate::kit::cpu::Cpu1;
use crate::kit::{limits, signals, sys, until};
use crate::life::stopped::{freeze, stop};
use crate::module::Module;

tests! { "ends":
    stop_and_continue => "SIGSTOP, then SIGCONT; all calls complete";
    stop_and_kill => "SIGSTOP, then kill -9";
    freeze_and_thaw => "the freezer of control groups; after the thaw all calls complete";
    freeze_and_kill => "kill -9 of a frozen process";
    suspend => "the freezer of a suspend (pm_test); afterwards all calls complete";
    core_file => "SIGABRT with a core dump to a file";
    core_handler => "SIGABRT with a core dump to a program";
    cpu_unplug => "CPU 1 goes away and comes back; all calls complete";
    remove_module_at_once => "delete_module succeeds at the first moment possible after kill -9";
}

/// Allows calls to be interrupted, as a stop does, and waits for the parent before they end.
fn end_when_told(mut flight: Flight, link: &Link) -> Check {
    flight.allow.partial = true;
    link.ready();
    link.wait_go()?;
    flight.end()
}

fn stop_and_continue() -> Check {
    in_every_state(|life| {
        life.run(end_when_told, |mut child| {
            child.wait_ready()?;
            stop(&child)?;
            child.go();
            child.signal(libc::SIGCONT);
            child.join()
        })
    })
}

fn stop_and_kill() -> Check {
    in_every_state(|life| {
        life.run(stay, |child| {
            stop(&child)?;
            child.kill()
        })
    })
}

fn freeze_and_thaw() -> Check {
    let group = Cgroup::new(None)?;
    in_every_state(|life| {
        life.run_prepared(
            || group.enter(),
            end_when_told,
            |mut child| {
                child.wait_ready()?;
                freeze(&group)?;
                child.go();
                group.write("cgroup.freeze", 0)?;
                child.join()
            },
        )
    })
}

fn freeze_and_kill() -> Check {
    let group = Cgroup::new(None)?;
    in_every_state(|life| {
        life.run_prepared(
            || group.enter(),
            stay,
            |child| {
                freeze(&group)?;
                child.kill()?;
                group.write("cgroup.freeze", 0)
            },
        )
    })
}

/// A file whose content is restored when this is dropped.
pub struct Setting {
    path: PathBuf,
    old: String,
}

impl Setting {
    pub fn set(path: &str, value: &str) -> std::io::Result<Setting> {
        let path = PathBuf::from(path);
        let old = fs::read_to_string(&path)?;
        fs::write(&path, value)?;
        // A choice is shown as "none core [freezer]".
        let chosen = old
            .split_once('[')
            .and_then(|(_, rest)| rest.split_once(']'));
        let old = chosen.map_or(old.clone(), |(word, _)| word.to_owned());
        Ok(Setting { path, old })
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let _ = fs::write(&self.path, self.old.trim_end());
    }
}

fn suspend() -> Check {
    let Ok(_test) = Setting::set("/sys/power/pm_test", "freezer") else {
        return skip("needs /sys/power/pm_test (CONFIG_PM_DEBUG)");
    };
    let delay = Setting::set("/sys/module/suspend/parameters/pm_test_delay", "0");
    let _delay = ok!("pm_test_delay", delay);
    in_every_state(|life| {
        life.run(end_when_told, |mut child| {
            child.wait_ready()?;
            ok!("suspend", fs::write("/sys/power/state", "freeze"));
            child.go();
            child.join()
        })
    })
}

const PATTERN: &str = "/proc/sys/kernel/core_pattern";

/// Dumps core. `read` waits for the dump and returns its size.
fn dump(life: &Life, read: impl Fn(i32) -> Check<u64>) -> Check {
    let inside = |_flight: Flight, link: &Link| {
        ok!("RLIMIT_CORE", limits::set_limit(libc::RLIMIT_CORE, 1 << 30));
        signals::default_action(libc::SIGABRT)?;
        signals::send(sys::gettid(), libc::SIGABRT);
        link.wait_go()
    };
    life.run(inside, |mut child| {
        let end = child.end()?;
        let want = End::Signal {
            signal: libc::SIGABRT,
            core: true,
        };
        check_eq!("end of the process", end, want);
        let size = read(child.pid)?;
        check!(size > 4096, "the dump has {size} bytes");
        Ok(())
    })
}

fn core_file() -> Check {
    in_every_state(|life| {
        let pattern = format!("{}/core.%p", life.dir.path().display());
        let _pattern = ok!("core_pattern", Setting::set(PATTERN, &pattern));
        dump(life, |pid| {
            let path = life.dir.path().join(format!("core.{pid}"));
            let size = ok!("the core file", fs::metadata(&path)).len();
            ok!("removing it", fs::remove_file(&path));
            Ok(size)
        })
    })
}

/// The command with which this program takes a dump.
pub const TAKE_CORE: &str = "take-core";

/// Reads standard input to its end and writes the number of bytes to a file.
pub fn take_core(path: &str) -> Check {
    let size = ok!(
        "reading",
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink())
    );
    let new = format!("{path}.new");
    ok!("writing", fs::write(&new, size.to_string()));
    ok!("rename", fs::rename(&new, path));
    Ok(())
}

fn core_handler() -> Check {
    let program = ok!("this program", std::env::current_exe());
    in_every_state(|life| {
        // The program that takes the dump takes most of the time.
        life.is_slow();
        let dir = life.dir.path().display();
        let pattern = format!("|{} {TAKE_CORE} {dir}/size.%p", program.display());
        let _pattern = ok!("core_pattern", Setting::set(PATTERN, &pattern));
        dump(life, |pid| {
            let path = life.dir.path().join(format!("size.{pid}"));
            until("the report of the handler", || path.exists())?;
            let size = ok!("the number of bytes", fs::read_to_string(&path));
            ok!("removing it", fs::remove_file(&path));
            Ok(size.parse().unwrap_or(0))
        })
    })
}

fn cpu_unplug() -> Check {
    let cpu = Cpu1::get()?;
    in_every_state(|life| {
        // Unplugging takes most of the time.
        life.is_slow();
        life.run(end_when_told, |mut child| {
            child.wait_ready()?;
            cpu.set(false)?;
            if life.round % 2 == 0 {
                cpu.set(true)?;
            }
            child.go();
            child.join()?;
            cpu.set(true)
        })
    })
}

fn remove_module_at_once() -> Check {
    let module = Module::get()?;
    in_every_state(|life| {
        // Loading takes most of the time.
        life.is_slow();
        life.run(stay, |child| {
            child.signal(libc::SIGKILL);
            until("delete_module", || remove_module() == Ok(0))?;
            module.load()?;
            child.kill()
        })
    })
}
