// SPDX-License-Identifier: MIT OR Apache-2.0
//! A table of odd trees. For each, `flexsc-copy` does what `cp -aT` does, or says clearly
//! what it does not do and fails.
//!
//! Environment variables: `FLEXSC_COPY` is the program (default: the one built with these
//! tests), `FLEXSC_COPY_WAY` is `--plain` (default) or `--flexsc`. Tests that need GNU cp
//! or root say so and are skipped without.

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

/// A user other than root.
const NOBODY: u32 = 65534;

/// A directory for one case, with the program in it so that other users find it. It is
/// removed at the end.
struct Case {
    dir: PathBuf,
    /// Source, copy, and the copy that cp makes.
    a: PathBuf,
    b: PathBuf,
    c: PathBuf,
    user: Option<u32>,
}

/// The output of the program, and how it has ended.
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
        // In another process: if we opened the program for writing, children of other
        // threads might inherit the descriptor and keep it busy.
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

    /// A case in which the program runs as another user than root. Returns `None` if we are
    /// not root, since then all other cases are like that.
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

    /// A command that copies: `args` are source, target and options.
    fn copying(&self, args: &[&str]) -> Command {
        let mut command = self.command(&self.dir.join("program"), &[way()]);
        command.args(args);
        command
    }

    fn copy(&self, args: &[&str]) -> Said {
        Said::of(self.copying(args).output().unwrap())
    }

    /// Runs GNU cp with the same arguments. Returns `None` if it is not installed.
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

    /// Copies twice, the second time over the first copy. Each time compares the result
    /// with the expected tree and with that of cp.
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

    /// The same, over a target that `before` has planted.
    fn is_as_cp_over(&self, plant: impl Fn(&Path), before: impl Fn(&Path)) {
        self.is_copied(plant, before, true);
    }

    /// The same without cp, which does something else.
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
            // The program must make it.
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

    /// Expects a failure with exactly one line for each of these texts.
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

/// Returns true for root. Otherwise says what is skipped.
fn root_for(what: &str) -> bool {
    if !is_root() {
        println!("note: {what} needs root and was left out");
    }
    is_root()
}
