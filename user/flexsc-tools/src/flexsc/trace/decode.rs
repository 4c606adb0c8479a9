// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes calls as strace does.

use std::fmt::Write as _;

use nix::errno::Errno;

/// The meaning of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A descriptor, or AT_FDCWD.
    Fd,
    /// A signed number.
    Num,
    /// Flags.
    Hex,
    /// A mode.
    Oct,
    /// An address.
    Ptr,
    /// The address of a string.
    Str,
}

macro_rules! table {
    ($($nr:ident($($kind:ident)*);)*) => {
        /// The calls whose arguments are known.
        const TABLE: &[(libc::c_long, &str, &[Kind])] = &[
            $((libc::$nr, stringify!($nr), &[$(Kind::$kind),*]),)*
        ];
    };
}

table! {
    SYS_read(Fd Ptr Num);
    SYS_write(Fd Ptr Num);
    SYS_close(Fd);
    SYS_fstat(Fd Ptr);
    SYS_poll(Ptr Num Num);
    SYS_lseek(Fd Num Num);
    SYS_mmap(Ptr Num Hex Hex Fd Num);
    SYS_munmap(Ptr Num);
    SYS_ioctl(Fd Hex Hex);
    SYS_pread64(Fd Ptr Num Num);
    SYS_pwrite64(Fd Ptr Num Num);
    SYS_readv(Fd Ptr Num);
    SYS_writev(Fd Ptr Num);
    SYS_preadv(Fd Ptr Num Num);
    SYS_pwritev(Fd Ptr Num Num);
    SYS_preadv2(Fd Ptr Num Num Num Hex);
    SYS_pwritev2(Fd Ptr Num Num Num Hex);
    SYS_msync(Ptr Num Hex);
    SYS_madvise(Ptr Num Num);
    SYS_dup(Fd);
    SYS_nanosleep(Ptr Ptr);
    SYS_clock_nanosleep(Num Hex Ptr Ptr);
    SYS_getpid();
    SYS_getppid();
    SYS_getuid();
    SYS_geteuid();
    SYS_getgid();
    SYS_getegid();
    SYS_gettid();
    SYS_getpgrp();
    SYS_sendfile(Fd Fd Ptr Num);
    SYS_socket(Num Hex Num);
    SYS_connect(Fd Ptr Num);
    SYS_accept(Fd Ptr Ptr);
    SYS_accept4(Fd Ptr Ptr Hex);
    SYS_sendto(Fd Ptr Num Hex Ptr Num);
    SYS_recvfrom(Fd Ptr Num Hex Ptr Ptr);
    SYS_sendmsg(Fd Ptr Hex);
    SYS_recvmsg(Fd Ptr Hex);
    SYS_shutdown(Fd Num);
    SYS_bind(Fd Ptr Num);
    SYS_listen(Fd Num);
    SYS_getsockname(Fd Ptr Ptr);
    SYS_getpeername(Fd Ptr Ptr);
    SYS_setsockopt(Fd Num Num Ptr Num);
    SYS_getsockopt(Fd Num Num Ptr Ptr);
    SYS_fcntl(Fd Num Hex);
    SYS_flock(Fd Num);
    SYS_fsync(Fd);
    SYS_fdatasync(Fd);
    SYS_ftruncate(Fd Num);
    SYS_fallocate(Fd Hex Num Num);
    SYS_getdents64(Fd Ptr Num);
    SYS_fchmod(Fd Oct);
    SYS_fchown(Fd Num Num);
    SYS_lgetxattr(Str Str Ptr Num);
    SYS_lsetxattr(Str Str Ptr Num Hex);
    SYS_llistxattr(Str Ptr Num);
    SYS_lremovexattr(Str Str);
    SYS_fgetxattr(Fd Str Ptr Num);
    SYS_fsetxattr(Fd Str Ptr Num Hex);
    SYS_flistxattr(Fd Ptr Num);
    SYS_fremovexattr(Fd Str);
    SYS_epoll_wait(Fd Ptr Num Num);
    SYS_epoll_pwait(Fd Ptr Num Num Ptr Num);
    SYS_epoll_ctl(Fd Num Fd Ptr);
    SYS_openat(Fd Str Hex Oct);
    SYS_openat2(Fd Str Ptr Num);
    SYS_mkdirat(Fd Str Oct);
    SYS_mknodat(Fd Str Oct Hex);
    SYS_fchownat(Fd Str Num Num Hex);
    SYS_newfstatat(Fd Str Ptr Hex);
    SYS_unlinkat(Fd Str Hex);
    SYS_renameat(Fd Str Fd Str);
    SYS_renameat2(Fd Str Fd Str Hex);
    SYS_linkat(Fd Str Fd Str Hex);
    SYS_symlinkat(Str Fd Str);
    SYS_readlinkat(Fd Str Ptr Num);
    SYS_fchmodat(Fd Str Oct);
    SYS_faccessat(Fd Str Num);
    SYS_ppoll(Ptr Num Ptr Ptr Num);
    SYS_splice(Fd Ptr Fd Ptr Num Hex);
    SYS_tee(Fd Fd Num Hex);
    SYS_sync_file_range(Fd Num Num Hex);
    SYS_utimensat(Fd Str Ptr Hex);
    SYS_timerfd_create(Num Hex);
    SYS_timerfd_settime(Fd Hex Ptr Ptr);
    SYS_timerfd_gettime(Fd Ptr);
    SYS_eventfd2(Num Hex);
    SYS_pipe2(Ptr Hex);
    SYS_copy_file_range(Fd Ptr Fd Ptr Num Hex);
    SYS_statx(Fd Str Hex Hex Ptr);
    SYS_getrandom(Ptr Num Hex);
}

/// The name of a call: `read`, or `syscall_999` if it is not in the table.
pub fn name(nr: u32) -> String {
    let known = TABLE.iter().find(|(known, _, _)| *known == nr.into());
    match known {
        Some((_, name, _)) => name.trim_start_matches("SYS_").to_owned(),
        None => format!("syscall_{nr}"),
    }
}

/// A call with its arguments. `string` reads a string from the process.
pub fn call(nr: u32, args: Option<[u64; 6]>, string: impl Fn(u64) -> Option<String>) -> String {
    let mut text = name(nr);
    text.push('(');
    let known = TABLE.iter().find(|(known, _, _)| *known == nr.into());
    match (args, known) {
        (Some(args), Some((_, _, kinds))) => {
            for (nth, (&arg, &kind)) in args.iter().zip(*kinds).enumerate() {
                let comma = if nth > 0 { ", " } else { "" };
                // A `String` takes everything.
                let _ = write!(text, "{comma}{}", argument(arg, kind, &string));
            }
        }
        (Some(args), None) => {
            let args: Vec<_> = args.iter().map(|arg| format!("{arg:#x}")).collect();
            text += &args.join(", ");
        }
        (None, Some((_, _, []))) => {}
        (None, _) => text += "…",
    }
    text.push(')');
    text
}

fn argument(arg: u64, kind: Kind, string: &impl Fn(u64) -> Option<String>) -> String {
    match kind {
        Kind::Fd if arg as i32 == libc::AT_FDCWD => "AT_FDCWD".into(),
        Kind::Fd => format!("{}", arg as i32),
        Kind::Num => format!("{}", arg as i64),
        Kind::Oct => format!("{arg:#o}"),
        Kind::Ptr | Kind::Str if arg == 0 => "NULL".into(),
        Kind::Str => match string(arg) {
            Some(text) => format!("{text:?}"),
            None => format!("{arg:#x}"),
        },
        Kind::Hex | Kind::Ptr => format!("{arg:#x}"),
    }
}

/// A result: a number, or the name and the meaning of an error.
pub fn result(result: i64) -> String {
    if !(-4095..0).contains(&result) {
        return format!("{result}");
    }
    let errno = -result as i32;
    match Errno::from_raw(errno) {
        Errno::UnknownErrno => format!("-1 (error {errno})"),
        known => format!("-1 {known:?} ({})", known.desc()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_written_as_strace_does() {
        let cwd = libc::AT_FDCWD as u64;
        let path = |at| (at == 0x7f00).then(|| "/etc/\"x\"".to_owned());
        let open = Some([cwd, 0x7f00, 0x80000, 0o644, 0, 0]);
        let nr = libc::SYS_openat as u32;
        let text = call(nr, open, path);
        assert_eq!(text, r#"openat(AT_FDCWD, "/etc/\"x\"", 0x80000, 0o644)"#);
        let text = call(nr, open, |_| None);
        assert_eq!(text, "openat(AT_FDCWD, 0x7f00, 0x80000, 0o644)");
        let read = Some([3, 0x10, 64, 9, 9, 9]);
        assert_eq!(call(libc::SYS_read as u32, read, path), "read(3, 0x10, 64)");
        assert_eq!(call(libc::SYS_read as u32, None, path), "read(…)");
        assert_eq!(call(libc::SYS_getpid as u32, None, path), "getpid()");
        let other = call(999, Some([1, 2, 3, 4, 5, 6]), path);
        assert_eq!(other, "syscall_999(0x1, 0x2, 0x3, 0x4, 0x5, 0x6)");
    }

    #[test]
    fn results_are_numbers_or_errors() {
        assert_eq!(result(64), "64");
        assert_eq!(result(-2), "-1 ENOENT (No such file or directory)");
        assert_eq!(result(-4095), "-1 (error 4095)");
        assert_eq!(result(-5000), "-5000");
    }

    #[test]
    fn each_call_is_there_once() {
        for (nth, (nr, name, _)) in TABLE.iter().enumerate() {
            assert!(
                TABLE[..nth].iter().all(|(other, _, _)| other != nr),
                "{name}"
            );
        }
    }
}
