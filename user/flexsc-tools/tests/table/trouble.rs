// SPDX-License-Identifier: MIT OR Apache-2.0
//! Full file systems, closed streams, and signals.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::{SigHandler, Signal, kill, signal as set_action};
use nix::unistd::Pid;

use crate::tree::{Tree, age, file, text};
use crate::{Case, Said, root_for};

/// A small file system in memory, which is unmounted at the end of the test.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn mount(at: &'a Path, options: &str) -> Option<Self> {
        if !root_for("a full file system") {
            return None;
        }
        fs::create_dir(at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(at)
            .status();
        assert!(mounted.unwrap().success());
        Some(Small(at))
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

/// Checks that each file of the copy is complete. Returns how many there are.
fn only_complete_files(source: &Path, copy: &Path) -> usize {
    let (mut count, source, copy) = (0, Tree::of(source), Tree::of(copy));
    for name in copy.files() {
        assert_eq!(copy.content(name), source.content(name), "{name:?}");
        count += 1;
    }
    count
}

#[test]
fn no_room() {
    let case = Case::new("full");
    let Some(_small) = Small::mount(&case.b, "size=1m,mode=755") else {
        return;
    };
    for n in 0..6 {
        file(&case.a.join(format!("large{n}")), 500_000);
    }
    age(&case.a);
    // One sentence for the file, one for the consequence.
    case.copy(&["a", "b"]).is_bad(&[
        ": No space left on device",
        "stopped (No space left on device): the copy is not complete, but its files are; make room",
    ]);
    only_complete_files(&case.a, &case.b);
}

#[test]
fn no_room_for_what_replaces() {
    let case = Case::new("full-over");
    let Some(_small) = Small::mount(&case.b, "size=1m,mode=755") else {
        return;
    };
    file(&case.b.join("file"), 700_000);
    fs::write(case.a.join("file"), vec![7; 800_000]).unwrap();
    let said = case.copy(&["a", "b"]);
    assert_eq!(said.code, Some(1), "{said:#?}");
    // The old file still exists.
    assert_eq!(fs::read(case.b.join("file")).unwrap(), text(700_000));
    assert_eq!(fs::read_dir(&case.b).unwrap().count(), 1);
}

#[test]
fn no_inodes() {
    let case = Case::new("inodes");
    let Some(_small) = Small::mount(&case.b, "nr_inodes=50,mode=755") else {
        return;
    };
    for n in 0..500 {
        file(&case.a.join(format!("{n}")), 100);
    }
    let said = case.copy(&["a", "b"]);
    assert_eq!((said.code, said.errors.len()), (Some(1), 2), "{said:#?}");
    assert!(only_complete_files(&case.a, &case.b) > 30);
}

#[test]
fn nobody_listens() {
    let case = Case::new("deaf");
    file(&case.a.join("file"), 10);
    age(&case.a);
    let full = || OwnedFd::from(File::options().write(true).open("/dev/full").unwrap());
    let pipe = || {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        drop(reader);
        writer
    };
    for (args, writer, why) in [
        (&["a", "b"][..], full(), "No space left on device"),
        (&["--verify", "a", "b"], full(), "No space left on device"),
        (&["--help"], full(), "No space left on device"),
        (&["--version"], full(), "No space left on device"),
        (&["a", "b"], pipe(), "Broken pipe"),
        (&["--verify", "a", "b"], pipe(), "Broken pipe"),
        (&["--help"], pipe(), "Broken pipe"),
    ] {
        let mut command = case.copying(args);
        command.stdout(Stdio::from(writer)).stderr(Stdio::piped());
        let output = command.spawn().unwrap().wait_with_output().unwrap();
        let line = format!("cannot write to the standard output: {why}");
        Said::of(output).is_bad(&[&line]);
        if args == ["a", "b"] {
            Tree::of(&case.b).assert_is(&Tree::of(&case.a), "the copy");
        }
    }
    // Neither errors nor progress can be printed, but the copy continues.
    fs::remove_dir_all(&case.b).unwrap();
    fs::create_dir_all(case.b.join("file")).unwrap();
    file(&case.a.join("other"), 10);
    for writer in [full(), pipe()] {
        let mut command = case.copying(&["--progress", "a", "b"]);
        let output = command.stderr(Stdio::from(writer)).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(case.b.join("other").exists());
    }
}

#[test]
fn closed_streams() {
    let case = Case::new("closed");
    file(&case.a.join("file"), 10);
    age(&case.a);
    let way = crate::way();
    let script = format!("exec ./program {way} a b <&- >&- 2>&-");
    let mut command = case.command(Path::new("sh"), &["-c", &script]);
    assert_eq!(command.status().unwrap().code(), Some(0));
    Tree::of(&case.b).assert_is(&Tree::of(&case.a), "the copy");
}

#[test]
fn wrong_arguments() {
    let case = Case::new("usage");
    for args in [
        &["a"][..],
        &["", "b"],
        &["a", ""],
        &["a", "b", "c"],
        &["--pages", "0", "a", "b"],
        &["--pages", "x", "a", "b"],
        &["--plain", "--flexsc", "a", "b"],
        &["--nonsense", "a", "b"],
    ] {
        let mut command = case.command(&case.dir.join("program"), args);
        let said = Said::of(command.output().unwrap());
        assert_eq!(said.code, Some(2), "{said:#?}");
        assert!(said.out.is_empty() && !said.errors.is_empty(), "{said:#?}");
    }
    let said = case.copy(&["--help"]);
    said.is_good();
    assert!(said.out.contains("Usage: "), "{said:#?}");
}

/// Keeps this thread, and the processes that it starts, on one CPU, so that neither gets far while
/// the other does not run.
fn share_a_cpu() {
    let me = Pid::from_raw(0);
    let allowed = sched_getaffinity(me).unwrap();
    let first = (0..CpuSet::count()).find(|&cpu| allowed.is_set(cpu).unwrap());
    let mut one = CpuSet::new();
    one.set(first.unwrap()).unwrap();
    sched_setaffinity(me, &one).unwrap();
}

#[test]
fn interrupted() {
    let case = Case::new("interrupted");
    share_a_cpu();
    for n in 0..60 {
        let dir = case.a.join(format!("{n}"));
        fs::create_dir(&dir).unwrap();
        for n in 0..100 {
            file(&dir.join(format!("{n}")), 20_000);
        }
    }
    age(&case.a);
    let all = Tree::of(&case.a).files().count();
    // The copy may be complete before the signal arrives, but not every time.
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // A shell starts background jobs with SIGINT ignored, and nohup does so with SIGHUP. The
        // program inherits this and rightly does not change it.
        // SAFETY: The default action; no handler is replaced.
        unsafe { set_action(signal, SigHandler::SigDfl) }.unwrap();
        let interrupted = (0..20).any(|_| {
            let _ = fs::remove_dir_all(&case.b);
            let mut command = case.copying(&["a", "b"]);
            let child = command.stdout(Stdio::piped()).stderr(Stdio::piped());
            let child = child.spawn().unwrap();
            while fs::read_dir(&case.b).map_or(0, Iterator::count) < 3 {
                std::thread::yield_now();
            }
            kill(Pid::from_raw(child.id() as i32), signal).unwrap();
            let said = Said::of(child.wait_with_output().unwrap());
            let files = only_complete_files(&case.a, &case.b);
            if said.code == Some(0) {
                assert_eq!(files, all);
                return false;
            }
            assert_eq!(said.signal, Some(signal as i32), "{said:#?}");
            assert_eq!(said.errors.len(), 1, "{said:#?}");
            assert!(said.errors[0].contains("interrupted"), "{said:#?}");
            files < all
        });
        assert!(interrupted, "{signal} has never interrupted it");
    }
    // Another run continues from there.
    case.copy(&["a", "b"]).is_good();
    Tree::of(&case.b).assert_is(&Tree::of(&case.a), "the copy");
}

#[test]
fn few_descriptors() {
    let case = Case::new("few");
    for n in 0..200 {
        let dir = case.a.join(format!("{}/{}/{}/{n}", n % 2, n % 10, n % 50));
        fs::create_dir_all(&dir).unwrap();
        file(&dir.join("file"), 100 * n);
    }
    age(&case.a);
    let way = crate::way();
    let script = format!("ulimit -n 128 && exec ./program {way} a b");
    let mut command = case.command(Path::new("sh"), &["-c", &script]);
    Said::of(command.output().unwrap()).is_good();
    Tree::of(&case.b).assert_is(&Tree::of(&case.a), "the copy");
}

#[test]
fn too_deep_for_the_descriptors() {
    let case = Case::new("too-deep");
    let deep = "d/".repeat(200);
    fs::create_dir_all(case.a.join(&deep)).unwrap();
    file(&case.a.join("file"), 10);
    let way = crate::way();
    let script = format!("ulimit -n 128 && exec ./program {way} a b");
    let mut command = case.command(Path::new("sh"), &["-c", &script]);
    Said::of(command.output().unwrap()).is_bad(&[
        "Too many open files; raise the limit (ulimit -n) or lower --in-flight",
        "errors: 1;",
    ]);
    assert_eq!(fs::metadata(case.b.join("file")).unwrap().size(), 10);
}
