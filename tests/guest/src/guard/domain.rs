// SPDX-License-Identifier: MIT OR Apache-2.0
//! TOMOYO's domain, which belongs to a task and does not show in its credentials.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::late::Single;
use super::on_each_path;
use crate::check::{Check, skip};
use crate::kit::abi::{REASON_NONE, REASON_THREAD};
use crate::kit::child::in_child;
use crate::kit::files::TempDir;
use crate::kit::limits::need_root;
use crate::kit::sys;

tests! { "guard":
    tomoyo_followed => "existing threads enter the TOMOYO domain that their owner has entered";
    tomoyo_entered => "no posted call changes another thread's TOMOYO domain";
}

/// TOMOYO's files, mounted until this is dropped.
struct Tomoyo {
    mount: TempDir,
}

impl Drop for Tomoyo {
    fn drop(&mut self) {
        plain!(SYS_umount2, self.mount.join("").as_c_str(), 0);
    }
}

impl Tomoyo {
    fn new() -> Check<Tomoyo> {
        need_root()?;
        let mount = TempDir::new()?;
        let kind = c"securityfs";
        let at = mount.join("");
        let mounted = plain!(SYS_mount, kind, at.as_c_str(), kind, 0, 0);
        check_ret!("mount", mounted, 0);
        let tomoyo = Tomoyo { mount };
        if !tomoyo.path("self_domain").exists() {
            return skip("needs TOMOYO");
        }
        Ok(tomoyo)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.mount.path().join("tomoyo").join(file)
    }

    /// The domain that this thread is in.
    fn own(&self) -> Check<String> {
        Ok(ok!(
            "self_domain",
            fs::read_to_string(self.path("self_domain"))
        ))
    }

    /// The domain that a thread is in.
    fn of(&self, tid: i32) -> Check<String> {
        let path = self.path(".process_status");
        let mut file = ok!(
            "open",
            fs::File::options().read(true).write(true).open(path)
        );
        ok!("write", file.write_all(format!("{tid}\n").as_bytes()));
        let mut answer = String::new();
        ok!("read", file.read_to_string(&mut answer));
        // The thread ID, the profile, the domain.
        match answer.trim().splitn(3, ' ').nth(2) {
            Some(domain) => Ok(domain.to_owned()),
            None => fail!("no domain in {answer:?}"),
        }
    }

    /// Allows this thread's domain to change to another one, which is returned.
    fn allow(&self, name: &str) -> Check<String> {
        let own = self.own()?;
        let other = format!("<kernel> //flexsc/{name}");
        let rule = format!("{own}\n\ntask manual_domain_transition {other}\n");
        write(&self.path("domain_policy"), &rule)?;
        Ok(other)
    }
}

fn write(path: &Path, text: &str) -> Check {
    let mut file = ok!("open", fs::File::options().write(true).open(path));
    ok!(format!("{text:?}"), file.write_all(text.as_bytes()));
    Ok(())
}

fn tomoyo_followed() -> Check {
    in_child(|| {
        let tomoyo = Tomoyo::new()?;
        let mut single = Single::new()?;
        single.serve()?;
        for name in ["first", "second"] {
            let domain = tomoyo.allow(name)?;
            write(&tomoyo.path("self_domain"), &domain)?;
            check_eq!("domain of the owner", tomoyo.own()?, domain);
            check_eq!("as others see it", tomoyo.of(sys::gettid())?, domain);
            single.serve()?;
            check_eq!("domain of the thread", tomoyo.of(single.tid)?, domain);
        }
        Ok(())
    })
}

fn tomoyo_entered() -> Check {
    on_each_path(|path| {
        let tomoyo = Tomoyo::new()?;
        let (_engine, mut ring) = path.start()?;
        let before = tomoyo.own()?;
        let domain = tomoyo.allow(&format!("{path:?}").replace(['(', ')'], "/"))?;
        let file = tomoyo.path("self_domain");
        let file = ok!("open", fs::File::options().write(true).open(file));
        let file = std::os::fd::OwnedFd::from(file);
        let enter = call!(SYS_write, &file, domain.as_ptr(), domain.len());
        let done = path.run(&mut ring, enter)?[0];
        let wanted = match done.reason {
            REASON_NONE => {
                check_eq!("write", done.result, domain.len() as i64);
                domain
            }
            reason => {
                check_eq!("reason", reason, REASON_THREAD);
                before
            }
        };
        check_eq!("domain of the owner", tomoyo.own()?, wanted);
        Ok(())
    })
}
