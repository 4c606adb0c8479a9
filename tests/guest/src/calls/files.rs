// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files and directories.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsRawFd;

use crate::check::{Check, Ret};
use crate::kit::files::{TempDir, memory_file};
use crate::kit::mode::in_modes;
use crate::kit::ring::Call;
use crate::kit::sys;
use crate::kit::{Random, memory};

tests! { "calls":
    list_directory => "getdents64 through entries lists every file of a directory once";
    file_status => "statx, newfstatat and fstat give the results of plain calls";
    open_read_close => "openat, read and close of 40 files, each call with the last one's result";
    directories => "mkdirat, symlinkat, renameat, unlinkat change the file system";
    errors => "failing calls give the same errors as plain ones";
    file_integrity => "4 MB written and read by 64 calls in flight are the same bytes";
    append => "64 appending writes in flight: each record is there once and complete";
    vectors => "readv, writev, preadv2 and sendfile move the right bytes";
    memory_file_seals => "memfd_create, ftruncate and fcntl seals work through entries";
    file_size_of_many => "each of 256 different files has its own size";
}

fn list_directory() -> Check {
    let dir = TempDir::new()?;
    let mut want: BTreeSet<String> = [".".into(), "..".into()].into();
    for number in 0..300 {
        let name = format!("a file with a name of some length {number}");
        ok!("create", fs::write(dir.path().join(&name), ""));
        want.insert(name);
    }
    let path = dir.join(".");
    in_modes(1, |_, ring| {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let fd = ring.result(call!(SYS_openat, libc::AT_FDCWD, path.as_c_str(), flags))?;
        check!(fd >= 0, "openat: {}", Ret(fd));
        let mut found = BTreeSet::new();
        loop {
            let mut buffer = vec![0u8; 4096];
            let call = call!(SYS_getdents64, fd, buffer.as_mut_ptr(), buffer.len());
            let len = ring.result(call)?;
            check!(len >= 0, "getdents64: {}", Ret(len));
            if len == 0 {
                break;
            }
            let mut rest = &buffer[..len as usize];
            while !rest.is_empty() {
                let record = u16::from_ne_bytes([rest[16], rest[17]]) as usize;
                let name = rest[19..record].split(|&byte| byte == 0).next();
                let name = String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
                check!(found.insert(name.clone()), "{name} is listed twice");
                rest = &rest[record..];
            }
        }
        check_ret!("close", ring.result(call!(SYS_close, fd))?, 0);
        check!(
            found == want,
            "{} names, expected {}",
            found.len(),
            want.len()
        );
        Ok(())
    })
}

fn file_status() -> Check {
    let dir = TempDir::new()?;
    ok!("create", fs::write(dir.path().join("file"), vec![7; 12345]));
    let path = dir.join("file");
    let path = path.as_c_str();
    let file = ok!("open", sys::open(path, libc::O_RDONLY, 0));
    in_modes(1, |_, ring| {
        let (mut got, mut want) = ([0u64; 32], [0u64; 32]);
        let at = got.as_mut_ptr();
        let pairs = [
            (
                call!(
                    SYS_statx,
                    libc::AT_FDCWD,
                    path,
                    0,
                    libc::STATX_BASIC_STATS,
                    at
                ),
                call!(
                    SYS_statx,
                    libc::AT_FDCWD,
                    path,
                    0,
                    libc::STATX_BASIC_STATS,
                    want.as_mut_ptr()
                ),
            ),
            (
                call!(SYS_newfstatat, libc::AT_FDCWD, path, at, 0),
                call!(SYS_newfstatat, libc::AT_FDCWD, path, want.as_mut_ptr(), 0),
            ),
            (
                call!(SYS_fstat, &file, at),
                call!(SYS_fstat, &file, want.as_mut_ptr()),
            ),
            (
                call!(SYS_statfs, path, at),
                call!(SYS_statfs, path, want.as_mut_ptr()),
            ),
        ];
        for (posted, plain) in pairs {
            got.fill(0);
            want.fill(0);
            check_ret!(format!("call {}", posted.nr), ring.result(posted)?, 0);
            check_ret!("plain call", sys::syscall(plain.nr.into(), plain.args), 0);
            check_eq!(format!("what call {} wrote", posted.nr), got, want);
            check!(
                got.iter().any(|&word| word != 0),
                "call {} wrote nothing",
                posted.nr
            );
        }
        Ok(())
    })
}

fn open_read_close() -> Check {
    let dir = TempDir::new()?;
    let mut paths = Vec::new();
    for number in 0..40 {
        let name = format!("{number}");
        ok!(
            "create",
            fs::write(dir.path().join(&name), format!("content {number}"))
        );
        paths.push(dir.join(&name));
    }
    in_modes(1, |_, ring| {
        let opens = paths.iter().map(|path| {
            call!(
                SYS_openat,
                libc::AT_FDCWD,
                path.as_c_str(),
                libc::O_RDONLY | libc::O_CLOEXEC
            )
        });
        let fds: Vec<i64> = results(ring.run_all(&opens.collect::<Vec<_>>())?);
        check!(fds.iter().all(|&fd| fd > 2), "openat: {fds:?}");
        let distinct: BTreeSet<i64> = fds.iter().copied().collect();
        check_eq!("distinct descriptors", distinct.len(), 40);
        let mut buffers = vec![[0u8; 32]; 40];
        let reads = fds
            .iter()
            .zip(&mut buffers)
            .map(|(&fd, buffer)| call!(SYS_read, fd, buffer.as_mut_ptr(), buffer.len()));
        let lengths = results(ring.run_all(&reads.collect::<Vec<_>>())?);
        for (number, (length, buffer)) in lengths.iter().zip(&buffers).enumerate() {
            let want = format!("content {number}");
            check_ret!("read", *length, want.len() as i64);
            check_eq!("content", &buffer[..want.len()], want.as_bytes());
        }
        let closes: Vec<Call> = fds.iter().map(|&fd| call!(SYS_close, fd)).collect();
        for result in results(ring.run_all(&closes)?) {
            check_ret!("close", result, 0);
        }
        for fd in fds {
            check_ret!(
                "closed descriptor",
                plain!(SYS_fcntl, fd, libc::F_GETFD),
                -libc::EBADF
            );
        }
        Ok(())
    })
}

fn results(done: Vec<crate::kit::ring::Done>) -> Vec<i64> {
    done.into_iter().map(|done| done.result).collect()
}

fn directories() -> Check {
    let dir = TempDir::new()?;
    let (one, two, link) = (dir.join("one"), dir.join("two"), dir.join("link"));
    let (one, two, link) = (one.as_c_str(), two.as_c_str(), link.as_c_str());
    let here = libc::AT_FDCWD;
    in_modes(1, |_, ring| {
        check_ret!(
            "mkdirat",
            ring.result(call!(SYS_mkdirat, here, one, 0o750))?,
            0
        );
        check_ret!(
            "mkdirat again",
            ring.result(call!(SYS_mkdirat, here, one, 0o750))?,
            -libc::EEXIST
        );
        check!(
            dir.path().join("one").is_dir(),
            "the directory is not there"
        );
        check_ret!(
            "renameat",
            ring.result(call!(SYS_renameat, here, one, here, two))?,
            0
        );
        check!(
            dir.path().join("two").is_dir(),
            "the renamed directory is not there"
        );
        check_ret!(
            "symlinkat",
            ring.result(call!(SYS_symlinkat, c"two", here, link))?,
            0
        );
        let mut target = [0u8; 16];
        let call = call!(
            SYS_readlinkat,
            here,
            link,
            target.as_mut_ptr(),
            target.len()
        );
        check_ret!("readlinkat", ring.result(call)?, 3);
        check_eq!("target of the link", &target[..3], b"two");
        check_ret!(
            "unlinkat",
            ring.result(call!(SYS_unlinkat, here, link, 0))?,
            0
        );
        check_ret!(
            "rmdir",
            ring.result(call!(SYS_unlinkat, here, two, libc::AT_REMOVEDIR))?,
            0
        );
        let left = ok!("read_dir", fs::read_dir(dir.path())).count();
        check_eq!("names left", left, 0);
        Ok(())
    })
}

fn errors() -> Check {
    let dir = TempDir::new()?;
    ok!("create", fs::write(dir.path().join("file"), "x"));
    let (file, below, none) = (dir.join("file"), dir.join("file/x"), dir.join("none"));
    let inside = dir.join(".");
    let here = libc::AT_FDCWD;
    in_modes(1, |_, ring| {
        let mut byte = 0u8;
        let at = std::ptr::from_mut(&mut byte);
        let calls = [
            (
                call!(SYS_openat, here, none.as_c_str(), libc::O_RDONLY),
                libc::ENOENT,
            ),
            (
                call!(SYS_openat, here, below.as_c_str(), libc::O_RDONLY),
                libc::ENOTDIR,
            ),
            (
                call!(SYS_openat, here, inside.as_c_str(), libc::O_WRONLY),
                libc::EISDIR,
            ),
            (
                call!(
                    SYS_openat,
                    here,
                    file.as_c_str(),
                    libc::O_CREAT | libc::O_EXCL
                ),
                libc::EEXIST,
            ),
            (call!(SYS_read, -1, at, 1), libc::EBADF),
            (call!(SYS_read, 100_000, at, 1), libc::EBADF),
            (call!(SYS_lseek, -1, 0, 0), libc::EBADF),
            (
                call!(SYS_mkdirat, here, below.as_c_str(), 0o700),
                libc::ENOTDIR,
            ),
            (call!(SYS_fcntl, 0, 12345), libc::EINVAL),
            (call!(SYS_mmap, 0, 0, 0, 0x22, -1, 0), libc::EINVAL),
            (call!(SYS_kill, std::process::id(), 1000), libc::EINVAL),
        ];
        for (call, errno) in calls {
            let plain = sys::syscall(call.nr.into(), call.args);
            check_ret!(format!("plain call {}", call.nr), plain, -errno);
            check_ret!(format!("call {}", call.nr), ring.result(call)?, -errno);
        }
        Ok(())
    })
}

fn file_integrity() -> Check {
    const BLOCK: usize = 4096;
    const BLOCKS: usize = 1024;
    let mut random = Random::new();
    let mut data = vec![0u8; BLOCK * BLOCKS];
    for word in data.chunks_exact_mut(8) {
        word.copy_from_slice(&random.word().to_ne_bytes());
    }
    let mut order: Vec<usize> = (0..BLOCKS).collect();
    for at in (1..BLOCKS).rev() {
        order.swap(at, random.below(at as u64 + 1) as usize);
    }
    in_modes(1, |_, ring| {
        let file = memory_file()?;
        let writes = order.iter().map(|&block| {
            let at = data[block * BLOCK..].as_ptr();
            call!(SYS_pwrite64, file.as_raw_fd(), at, BLOCK, block * BLOCK)
        });
        for done in ring.run_all(&writes.collect::<Vec<_>>())? {
            check_ret!("pwrite64", done.result, BLOCK as i64);
        }
        let mut plain = vec![0u8; data.len()];
        let ret = plain!(SYS_pread64, &file, plain.as_mut_ptr(), plain.len(), 0);
        check_ret!("plain pread64", ret, data.len() as i64);
        check!(plain == data, "the file differs from the data written");
        let mut back = vec![0u8; data.len()];
        let reads = back
            .chunks_exact_mut(BLOCK)
            .enumerate()
            .map(|(block, buffer)| {
                call!(
                    SYS_pread64,
                    file.as_raw_fd(),
                    buffer.as_mut_ptr(),
                    BLOCK,
                    block * BLOCK
                )
            });
        for done in ring.run_all(&reads.collect::<Vec<_>>())? {
            check_ret!("pread64", done.result, BLOCK as i64);
        }
        check!(back == data, "the data read differs from the data written");
        Ok(())
    })
}

fn append() -> Check {
    let dir = TempDir::new()?;
    let path = dir.join("log");
    in_modes(1, |_, ring| {
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND;
        let file = ok!("open", sys::open(path.as_c_str(), flags, 0o600));
        let records: Vec<String> = (0..256).map(|n| format!("record {n:04}\n")).collect();
        let writes = records
            .iter()
            .map(|record| call!(SYS_write, file.as_raw_fd(), record.as_ptr(), record.len()));
        for done in ring.run_all(&writes.collect::<Vec<_>>())? {
            check_ret!("write", done.result, 12);
        }
        let text = ok!("read", fs::read_to_string(dir.path().join("log")));
        let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
        lines.sort_unstable();
        check!(
            lines == records,
            "{} records, not the 256 that were written",
            lines.len()
        );
        Ok(())
    })
}

fn vectors() -> Check {
    in_modes(1, |_, ring| {
        let (file, copy) = (memory_file()?, memory_file()?);
        let (mut one, mut two) = (*b"hello ", *b"world");
        let parts = [
            libc::iovec {
                iov_base: one.as_mut_ptr().cast(),
                iov_len: 6,
            },
            libc::iovec {
                iov_base: two.as_mut_ptr().cast(),
                iov_len: 5,
            },
        ];
        check_ret!(
            "writev",
            ring.result(call!(SYS_writev, &file, parts.as_ptr(), 2))?,
            11
        );
        let mut all = [0u8; 11];
        let ret = plain!(SYS_pread64, &file, all.as_mut_ptr(), 11, 0);
        check_ret!("plain pread64", ret, 11);
        check_eq!("content", &all, b"hello world");
        (one, two) = ([0; 6], [0; 5]);
        let parts = [
            libc::iovec {
                iov_base: one.as_mut_ptr().cast(),
                iov_len: 6,
            },
            libc::iovec {
                iov_base: two.as_mut_ptr().cast(),
                iov_len: 5,
            },
        ];
        let call = call!(SYS_preadv2, &file, parts.as_ptr(), 2, 0, 0, 0);
        check_ret!("preadv2", ring.result(call)?, 11);
        let both = memory::peek(two.as_ptr());
        check_eq!("first byte of the second part", both, b'w');
        let mut offset = 6i64;
        let at = std::ptr::from_mut(&mut offset);
        check_ret!(
            "sendfile",
            ring.result(call!(SYS_sendfile, &copy, &file, at, 100))?,
            5
        );
        let ret = plain!(SYS_pread64, &copy, all.as_mut_ptr(), 11, 0);
        check_ret!("plain pread64 of the copy", ret, 5);
        check_eq!("copy", &all[..5], b"world");
        Ok(())
    })
}

fn memory_file_seals() -> Check {
    in_modes(1, |_, ring| {
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        let fd = ring.result(call!(SYS_memfd_create, c"sealed", flags))?;
        check!(fd > 2, "memfd_create: {}", Ret(fd));
        let file = sys::own(fd as i32);
        check_ret!(
            "ftruncate",
            ring.result(call!(SYS_ftruncate, &file, 1000))?,
            0
        );
        let seal = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;
        check_ret!(
            "seal",
            ring.result(call!(SYS_fcntl, &file, libc::F_ADD_SEALS, seal))?,
            0
        );
        check_ret!(
            "shrink",
            ring.result(call!(SYS_ftruncate, &file, 10))?,
            -libc::EPERM
        );
        check_ret!(
            "plain grow",
            plain!(SYS_ftruncate, &file, 2000),
            -libc::EPERM
        );
        check_ret!(
            "get seals",
            ring.result(call!(SYS_fcntl, &file, libc::F_GET_SEALS))?,
            seal
        );
        Ok(())
    })
}

fn file_size_of_many() -> Check {
    let dir = TempDir::new()?;
    let paths: Vec<_> = (0..256).map(|n| dir.join(format!("{n}"))).collect();
    for (number, path) in paths.iter().enumerate() {
        let file = ok!(
            "create",
            sys::open(path.as_c_str(), libc::O_CREAT | libc::O_WRONLY, 0o600)
        );
        check_ret!("ftruncate", plain!(SYS_ftruncate, &file, number * 3), 0);
    }
    in_modes(4, |_, ring| {
        let mut stats = vec![[0u64; 32]; 256];
        let calls = paths.iter().zip(&mut stats).map(|(path, stat)| {
            let mask = libc::STATX_SIZE;
            call!(
                SYS_statx,
                libc::AT_FDCWD,
                path.as_c_str(),
                0,
                mask,
                stat.as_mut_ptr()
            )
        });
        for done in ring.run_all(&calls.collect::<Vec<_>>())? {
            check_ret!("statx", done.result, 0);
        }
        for (number, stat) in stats.iter().enumerate() {
            check_eq!(format!("size of file {number}"), stat[5], number as u64 * 3);
        }
        Ok(())
    })
}
