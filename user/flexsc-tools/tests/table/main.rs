// SPDX-License-Identifier: MIT OR Apache-2.0
//! A table of odd trees: `flexsc-copy` does with each what `cp -aT` does, or
//! says in a clear sentence what it does not do, and fails.
//!
//! In the environment: `FLEXSC_COPY`, the program, otherwise the one built beside
//! these tests; `FLEXSC_COPY_WAY`, `--plain` (default) or `--flexsc`. Where
//! there is no GNU cp, or no root, what needs them says that it was left out.

mod fresh;
mod given;
mod over;
mod tree;
mod trouble;
mod verify;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tree::Tree;

/// A user who is not root.
const NOBODY: u32 = 65534;

/// A directory of its own for each case, with the program in it, so that other
/// users find it too. Removed at the end.
struct Case {
    dir: PathBuf,
    /// Source and copy, and the copy that cp makes.
    a: PathBuf,
    b: PathBuf,
    c: PathBuf,
    user: Option<u32>,
}

/// What the program has said, and how it has ended.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    signal: Option<i32>,
    out: String,
    errors: Vec<String>,
}

impl Case {
    fn new(name: &str) -> Case {
        let dir = std::env::temp_dir().join(format!("flexsc-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        // By another process: a descriptor of ours to write to it might be
        // inherited by the children of other threads, and keep it busy.
        let copied = Command::new("cp")
            .arg(program())
            .arg(dir.join("program"))
            .status();
        assert!(copied.unwrap().success());
        tree::chmod(&dir, 0o777);
        tree::chmod(&dir.join("program"), 0o755);
        let case = Case {
            a: dir.join("a"),
            b: dir.join("b"),
            c: dir.join("c"),
            dir,
            user: None,
        };
        fs::create_dir(&case.a).unwrap();
        case
    }

    /// A case in which the program runs as somebody who is not root. None if we
    /// are not root: then all others are such cases.
    fn as_nobody(name: &str) -> Option<Case> {
        root_for(name).then(|| {
            let mut case = Case::new(name);
            case.user = Some(NOBODY);
            case
        })
    }

    fn command(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(&self.dir);
        command.stdin(Stdio::null());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    /// Ready to copy: `args` are source and target, and options.
    fn copying(&self, args: &[&str]) -> Command {
        let mut command = self.command(&self.dir.join("program"), &[way()]);
        command.args(args);
        command
    }

    fn copy(&self, args: &[&str]) -> Said {
        Said::of(self.copying(args).output().unwrap())
    }

    /// What GNU cp makes of the same; None where there is none.
    fn cp(&self, args: &[&str]) -> Option<Said> {
        let version = Command::new("cp").arg("--version").output();
        let gnu = match version {
            Ok(output) => String::from_utf8_lossy(&output.stdout).contains("GNU"),
            Err(why) if why.kind() == ErrorKind::NotFound => false,
            Err(why) => panic!("cp: {why}"),
        };
        if !gnu {
            println!("note: there is no GNU cp to compare with");
            return None;
        }
        let mut command = self.command(Path::new("cp"), &["-aT"]);
        Some(Said::of(command.args(args).output().unwrap()))
    }

    /// Copies twice, the second time over the first copy, and compares with
    /// what is expected and with what cp does, both times.
    fn is_as_cp(&self, plant: impl Fn(&Path)) {
        self.is_as_cp_over(plant, |_| {});
        let verified = Said::of(
            self.command(&self.dir.join("program"), &["--verify", "a", "b"])
                .output()
                .unwrap(),
        );
        verified.is_good();
        assert!(verified.out.ends_with(": 0 differences\n"), "{verified:?}");
    }

    /// The same, over what `before` has planted in the target.
    fn is_as_cp_over(&self, plant: impl Fn(&Path), before: impl Fn(&Path)) {
        self.is_copied(plant, before, true);
    }

    /// The same if cp does otherwise.
    fn is_copied_over(&self, plant: impl Fn(&Path), before: impl Fn(&Path)) {
        self.is_copied(plant, before, false);
    }

    fn is_copied(&self, plant: impl Fn(&Path), before: impl Fn(&Path), as_cp: bool) {
        self.plant(&self.a, &plant);
        for target in [&self.b, &self.c] {
            fs::create_dir(target).unwrap();
            self.plant(target, &before);
        }
        let source = Tree::of(&self.a);
        let expected = Tree::of(&self.b).under(&source);
        if fs::read_dir(&self.b).unwrap().next().is_none() {
            // Made by the program itself.
            fs::remove_dir(&self.b).unwrap();
        }
        for time in ["the copy", "the second copy"] {
            self.copy(&["a", "b"]).is_good();
            Tree::of(&self.b).assert_is(&expected, time);
            if let Some(said) = as_cp.then(|| self.cp(&["a", "c"])).flatten() {
                said.is_good();
                Tree::of(&self.c).assert_is(&expected, &format!("{time} of cp"));
            }
        }
        Tree::of(&self.a).assert_is(&source, "the source afterwards");
    }

    fn plant(&self, root: &Path, plant: &impl Fn(&Path)) {
        plant(root);
        if let Some(user) = self.user {
            tree::chown_all(root, user);
        }
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

impl Said {
    fn of(output: Output) -> Said {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Said {
            code: output.status.code(),
            signal: output.status.signal(),
            out: text(output.stdout),
            errors: text(output.stderr).lines().map(str::to_owned).collect(),
        }
    }

    fn is_good(&self) {
        assert_eq!(self.code, Some(0), "{self:#?}");
        assert!(self.errors.is_empty(), "{self:#?}");
    }

    /// It has failed with one line for each of these texts, and no other.
    fn is_bad(&self, lines: &[&str]) {
        assert_eq!(self.code, Some(1), "{self:#?}");
        for line in lines {
            let said = self.errors.iter().any(|error| error.contains(line));
            assert!(said, "{line:?} is not in {self:#?}");
        }
        assert_eq!(self.errors.len(), lines.len(), "{self:#?}");
        let panicked = self.errors.iter().any(|line| line.contains("panicked"));
        assert!(!panicked, "{self:#?}");
    }
}

fn way() -> &'static str {
    match std::env::var("FLEXSC_COPY_WAY").as_deref() {
        Ok("--flexsc") => "--flexsc",
        _ => "--plain",
    }
}

fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("FLEXSC_COPY") {
        return path.into();
    }
    let test = std::env::current_exe().unwrap();
    let dir = test.ancestors().nth(2).unwrap();
    dir.join("flexsc-copy")
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Says what is left out for want of root.
fn root_for(what: &str) -> bool {
    if !is_root() {
        println!("note: {what} needs root and was left out");
    }
    is_root()
}
