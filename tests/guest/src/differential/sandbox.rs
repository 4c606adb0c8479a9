// SPDX-License-Identifier: MIT OR Apache-2.0
//! The surroundings of a run, which are the same in each run: a tmpfs, namespaces, descriptors,
//! memory.

use std::ffi::CStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::normal::Own;
use super::run::Way;
use crate::check::{Check, skip};
use crate::kit::abi::Param;
use crate::kit::engine::{Engine, try_open};
use crate::kit::limits::{NOBODY, drop_rights, need_root, set_limit};
use crate::kit::memory::Shared;
use crate::kit::mode::Mode;
use crate::kit::ring::Ring;
use crate::kit::seccomp::{Action, FILTERED, Filter};
use crate::kit::{abi, net, sys};

/// The directory on which each run mounts a tmpfs of its own.
pub const ROOT: &str = "/tmp/flexsc-differential";
const ROOT_C: &CStr = c"/tmp/flexsc-differential";

/// Pages for the calls about memory. Too few for a huge page.
pub const ARENA_PAGES: u64 = 64;

/// Surroundings that a sequence needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wants {
    /// A network namespace with a loopback interface.
    pub network: bool,
    /// No rights.
    pub nobody: bool,
    /// If not 0, a seccomp filter that allows some calls, which depend on the number.
    pub filter: u64,
}

/// Calls that a run itself makes, from its beginning to its end.
const NEEDED: [i64; 63] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_stat,
    libc::SYS_fstat,
    libc::SYS_lstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_lseek,
    libc::SYS_ftruncate,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_ioctl,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_fcntl,
    libc::SYS_futex,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_sched_yield,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_getaffinity,
    libc::SYS_clock_gettime,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_prctl,
    libc::SYS_arch_prctl,
    libc::SYS_seccomp,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_kill,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_wait4,
    libc::SYS_getrandom,
    libc::SYS_getcwd,
    libc::SYS_getxattr,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_lgetxattr,
    libc::SYS_umask,
    libc::SYS_getsockopt,
    libc::SYS_getsockname,
    libc::SYS_pidfd_open,
    libc::SYS_clone,
    libc::SYS_clone3,
    548,
];

impl Wants {
    /// Returns true if the filter does not allow the call.
    pub fn denies(&self, nr: i64) -> bool {
        let mixed = (self.filter ^ nr as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 62;
        self.filter != 0 && mixed == 0 && !NEEDED.contains(&nr)
    }

    /// Installs the filter, if there is one.
    pub fn filter(&self) -> Check {
        if self.filter == 0 {
            return Ok(());
        }
        let mut filter = Filter::new();
        for nr in (0..600).filter(|&nr| !self.denies(nr)) {
            // For some calls the filter looks at an argument each time.
            filter = match nr % 3 {
                0 => filter.rule_for(nr, 5, u32::MAX, Action::Allow),
                _ => filter,
            }
            .rule(nr, Action::Allow);
        }
        ok!("seccomp", filter.otherwise(Action::Errno(FILTERED)).hold());
        Ok(())
    }
}

/// Made before the runs, which inherit it at the same address.
pub struct Ground {
    arena: *mut u8,
    progress: Shared<AtomicUsize>,
}

impl Ground {
    pub fn new() -> Check<Ground> {
        need_root()?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let len = ARENA_PAGES as usize * 4096;
        // Unmapped pages surround it, so that mappings in it are not merged with others.
        let at = ok!("mmap", sys::mmap(len + 8192, libc::PROT_NONE, flags, -1, 0));
        let _ = fs::create_dir(ROOT);
        check!(Path::new(ROOT).is_dir(), "there is no {ROOT}");
        Ok(Ground {
            arena: at.wrapping_add(4096),
            progress: Shared::new()?,
        })
    }

    /// The call that the last run has begun.
    pub fn progress(&self) -> usize {
        self.progress.load(Ordering::Relaxed)
    }
}

/// The surroundings, in the run's own process.
pub struct Sandbox<'a> {
    pub arena: *mut u8,
    pub own: Own,
    /// Descriptors that were open before.
    pub given: Vec<i32>,
    progress: &'a AtomicUsize,
}

fn furnish() -> Check {
    for dir in ["d0", "d1", "d0/d2"] {
        ok!("mkdir", fs::create_dir(dir));
    }
    for (number, name) in ["f0", "f1", "d0/f0", "d1/f1"].into_iter().enumerate() {
        let content: Vec<u8> = (0..6000).map(|at| (at * 7 + number) as u8).collect();
        ok!("write", fs::write(name, content));
    }
    ok!("symlink", std::os::unix::fs::symlink("f0", "l0"));
    ok!("symlink", std::os::unix::fs::symlink("d0/d2", "l1"));
    Ok(())
}

impl Sandbox<'_> {
    /// Enters the surroundings. Call it in a child process with one thread.
    pub fn enter(ground: &Ground, wants: Wants) -> Check<Sandbox<'_>> {
        let mut spaces = libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
        if wants.network {
            spaces |= libc::CLONE_NEWNET;
        }
        if plain!(SYS_unshare, spaces) != 0 {
            return skip("needs namespaces");
        }
        let private = libc::MS_REC | libc::MS_PRIVATE;
        check_ret!("mount", plain!(SYS_mount, c"none", c"/", 0, private, 0), 0);
        let (kind, options) = (c"tmpfs", c"size=64m,mode=755");
        let mounted = plain!(SYS_mount, kind, ROOT_C, kind, 0, options);
        check_ret!("mount of a tmpfs", mounted, 0);
        ok!("chdir", std::env::set_current_dir(ROOT));
        if wants.network {
            net::loopback_up()?;
        }
        plain!(SYS_umask, 0o022);
        furnish()?;
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        ok!("limit", set_limit(libc::RLIMIT_FSIZE, 1 << 20));
        ok!("limit", set_limit(libc::RLIMIT_NOFILE, 256));
        ok!("limit", set_limit(libc::RLIMIT_CORE, 0));
        // Signals stay pending: the set of pending signals is a part of the state.
        let faults = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGABRT];
        let mask = faults
            .iter()
            .fold(u64::MAX, |mask, s| mask & !(1 << (s - 1)));
        let mask = std::ptr::from_ref(&mask);
        let set = plain!(SYS_rt_sigprocmask, libc::SIG_SETMASK, mask, 0, 8);
        check_ret!("rt_sigprocmask", set, 0);
        if wants.nobody {
            let all = fs::Permissions::from_mode(0o777);
            ok!("chmod", fs::set_permissions(ROOT, all));
            for path in ["f0", "d0", "d0/f0"] {
                let nobody = Some(NOBODY);
                ok!("chown", std::os::unix::fs::chown(path, nobody, nobody));
            }
            ok!("dropping rights", drop_rights());
        }
        let own = Own {
            pid: std::process::id(),
            dev: ok!("stat", fs::metadata(ROOT)).dev(),
            begun: now.as_secs() as i64,
        };
        Ok(Sandbox {
            arena: ground.arena,
            own,
            given: super::state::open_descriptors(),
            progress: &ground.progress,
        })
    }

    /// Tells the waiting test which call is next.
    pub fn progress(&self, call: usize) {
        self.progress.store(call, Ordering::Relaxed);
    }
}

/// The engine of a run. A plain run has an engine too, so that this makes no difference between the
/// runs. `None` if there is no module and the run needs none.
pub fn engine(way: Way) -> Check<Option<(Engine, Ring)>> {
    let mode = match way {
        Way::Paged(mode) => mode,
        Way::Plain | Way::Chain | Way::Pool => Mode::Inline,
    };
    let none = way == Way::Plain && matches!(try_open(), Err(nix::errno::Errno::ENOENT));
    let engine = if none { None } else { Some(mode.start(1)?) };
    if let (Way::Pool, Some((engine, _))) = (way, &engine) {
        let mut arg = abi::ParamArg::new(Param::PoolConcurrency, 1);
        arg.pool = 1;
        let set = sys::ioctl_with(engine.fd(), abi::IOC_SET, &mut arg);
        ok!("SET of pool 1", set);
    }
    // Every run has the same CPU, because a call may ask for it: not the polled one, so that owner
    // and poller do not take turns.
    ok!("CPU", sys::pin(0));
    Ok(engine)
}
