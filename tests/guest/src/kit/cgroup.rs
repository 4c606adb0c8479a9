// SPDX-License-Identifier: MIT OR Apache-2.0
//! A control group (version 2) that exists for the time of a test.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::until;
use crate::check::{Check, skip};

const ROOT: &str = "/sys/fs/cgroup";

/// A group, removed when dropped.
pub struct Cgroup {
    path: PathBuf,
    added: Option<&'static str>,
}

impl Cgroup {
    /// Makes a group with a controller, or without one if the functions of every group suffice.
    pub fn new(controller: Option<&'static str>) -> Check<Cgroup> {
        Cgroup::named("", controller)
    }

    /// Makes one of several groups that exist at a time.
    pub fn named(name: &str, controller: Option<&'static str>) -> Check<Cgroup> {
        let Ok(controllers) = fs::read_to_string(format!("{ROOT}/cgroup.controllers")) else {
            return skip("needs cgroup2 at /sys/fs/cgroup");
        };
        let path = Path::new(ROOT).join(format!("flexsc-tests.{}{name}", std::process::id()));
        let mut group = Cgroup { path, added: None };
        if let Some(name) = controller {
            if !controllers.split_whitespace().any(|have| have == name) {
                return skip(format!("needs the cgroup controller {name}"));
            }
            let control = format!("{ROOT}/cgroup.subtree_control");
            let enabled = fs::read_to_string(&control).unwrap_or_default();
            if !enabled.split_whitespace().any(|have| have == name) {
                if fs::write(&control, format!("+{name}")).is_err() {
                    return skip(format!("may not enable the cgroup controller {name}"));
                }
                group.added = Some(name);
            }
        }
        if let Err(error) = fs::create_dir(&group.path) {
            return skip(format!("may not make a cgroup: {error}"));
        }
        Ok(group)
    }

    /// Writes one of the group's files.
    pub fn write(&self, file: &str, value: impl ToString) -> Check {
        let value = value.to_string();
        if let Err(error) = fs::write(self.path.join(file), &value) {
            fail!("{value} to {file}: {error}");
        }
        Ok(())
    }

    /// The name of one of the group's files.
    pub fn file(&self, name: &str) -> CString {
        CString::new(self.path.join(name).into_os_string().into_vec()).expect("no zero byte")
    }

    /// Reads one of the group's files.
    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path.join(file)).unwrap_or_default()
    }

    /// Moves the calling process into the group.
    pub fn enter(&self) -> Check {
        self.write("cgroup.procs", std::process::id())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = until("an empty cgroup", || {
            fs::remove_dir(&self.path).is_ok() || !self.path.exists()
        });
        if let Some(name) = self.added {
            let _ = fs::write(format!("{ROOT}/cgroup.subtree_control"), format!("-{name}"));
        }
    }
}
