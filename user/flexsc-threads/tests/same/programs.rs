// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks that programs have the same output as natively.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::kit::{Log, command, compile, library, same, same_and_good, skipped, under};

/// Checks that by the log, all of libc and of the dynamic linker has stubs, and calls went through.
#[track_caller]
fn check_patched(log: &Log) {
    for object in ["/libc.so.6", "/ld-linux-x86-64.so.2"] {
        let line = log.line(&format!("{object}: "));
        assert!(line.ends_with(" 0 plain"), "{line}");
        let sites: Vec<usize> = line
            .split(' ')
            .filter_map(|word| word.parse().ok())
            .collect();
        assert!(sites[0] >= 40 && sites[0] == sites[1], "{line}");
    }
}

#[track_caller]
fn check(source: &str, args: &[&str]) {
    if let Some(program) = compile(source, &[]) {
        check_patched(&same_and_good(program, args));
    }
}

#[test]
fn threads() {
    check("threads.c", &[]);
}

#[test]
fn locks() {
    check("locks.c", &[]);
}

#[test]
fn signals() {
    check("signals.c", &[]);
}

#[test]
fn cancellation() {
    check("cancel.c", &[]);
}

#[test]
fn unwinding() {
    check("unwind.c", &[]);
}

#[test]
fn processes() {
    check("processes.c", &[]);
}

#[test]
fn exceptions() {
    check("exceptions.cc", &[]);
}

#[test]
fn late_objects() {
    let Some(object) = compile("sites.c", &["-shared", "-fPIC"]) else {
        return;
    };
    let Some(program) = compile("late.c", &[]) else {
        return;
    };
    let object = object.to_str().expect("a path");
    let log = same_and_good(program, &[object]);
    check_patched(&log);
    let text = log.text();
    // One line for each time the object is loaded, for which the stubs suffice; one of its
    // sites cannot be patched.
    let lines = text.lines().filter(|line| line.contains(object));
    let (plain, sum): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.contains("plain: "));
    assert_eq!(plain.len(), 300, "{text}");
    assert!(plain.iter().all(|line| line.contains("too few bytes")));
    assert_eq!(sum.len(), 300, "{text}");
    let end = ": 11 sites: 10 with a stub, 1 plain";
    assert!(sum.iter().all(|line| line.ends_with(end)), "{text}");
}

#[test]
fn a_rust_program() {
    check_patched(&same_and_good(rust_program(), &[]));
}

pub fn rust_program() -> PathBuf {
    let test = env::current_exe().expect("it has a path");
    let target = test.ancestors().nth(2).expect("cargo's directory");
    target.join("examples/std_program")
}

/// A program of the machine, or a line that says that there is none.
pub fn installed(name: &str) -> Option<PathBuf> {
    let found = ["/usr/bin", "/bin"]
        .map(|dir| Path::new(dir).join(name))
        .into_iter()
        .find(|path| path.exists());
    if found.is_none() {
        skipped(&format!("there is no {name}"));
    }
    found
}

/// Threads, a queue, children, a socket, an alarm, a fork with a thread in the child.
pub const PYTHON: &str = "
import subprocess, threading, queue, socket, time, signal, os
work, results = queue.Queue(), queue.Queue()
def run():
    while (item := work.get()) is not None:
        time.sleep(0.001)
        results.put(item * item)
threads = [threading.Thread(target=run) for _ in range(100)]
for thread in threads: thread.start()
for item in range(1000): work.put(item)
for thread in threads: work.put(None)
for thread in threads: thread.join()
print(sum(results.get() for _ in range(1000)))
print(subprocess.run(['sh', '-c', 'echo child; exit 3'], capture_output=True))
a, b = socket.socketpair()
threading.Thread(target=lambda: a.sendall(b'x' * 1000000)).start()
print(len(b.recv(1000000, socket.MSG_WAITALL)))
signal.signal(signal.SIGALRM, lambda *_: print('alarm'))
signal.setitimer(signal.ITIMER_REAL, 0.01)
time.sleep(0.1)
pid = os.fork()
if pid == 0:
    thread = threading.Thread(target=lambda: print('in the child', flush=True))
    thread.start(); thread.join(); os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";

#[test]
fn python() {
    if let Some(python) = installed("python3") {
        check_patched(&same_and_good(python, &["-c", PYTHON]));
    }
}

#[test]
fn compressors_and_sort() {
    let shell = Path::new("/bin/sh");
    for (name, script) in [
        (
            "xz",
            "seq 200000 | xz -T4 --block-size=100000 -0 | xz -dc | cksum",
        ),
        ("zstd", "seq 200000 | zstd -T4 -q | zstd -dcq | cksum"),
        (
            "sort",
            "seq 200000 | sort --parallel=4 -S 1M -R --random-source=/bin/sh | cksum",
        ),
        (
            "perl",
            "perl -Mthreads -e 'print join q( ), map { $_->join } map { my $n = $_; threads->create(sub { $n * 2 }) } 1 .. 10'",
        ),
    ] {
        if installed(name).is_some() {
            let log = same_and_good(shell, &["-c", script]);
            // A shell has one thread.
            assert!(
                log.text().contains("waiting for a thread"),
                "{}",
                log.text()
            );
        }
    }
}

#[test]
fn java() {
    if let Some(java) = installed("java") {
        let log = same(java, &["-Xshare:auto", "-version"]);
        assert!(log.text().contains("/libc.so.6: "), "{}", log.text());
    }
}

/// A program without threads has stubs only at the sites that create threads.
#[test]
fn one_thread() {
    let log = same_and_good(
        "/bin/sh",
        &["-c", "echo hello; /bin/true; (exit 3) || echo $?"],
    );
    let text = log.text();
    assert!(text.contains("sites hooked"), "{text}");
    assert!(!text.contains("with a stub"), "{text}");
}

#[test]
fn switched_off() {
    let log = Log::new();
    let mut command = command("/bin/true", &[]);
    under(&mut command, &log);
    assert!(
        command
            .env("FLEXSC_THREADS", "off")
            .status()
            .expect("it runs")
            .success()
    );
    assert!(log.line("runs as it is").contains("FLEXSC_THREADS=off"));
}

/// Under a filter that forbids making memory executable, such as systemd's MemoryDenyWriteExecute,
/// the program runs as it is.
#[test]
fn forbidden() {
    const PR_SET_MDWE: &str = "65";
    let (Some(python), Some(program)) = (installed("python3"), compile("threads.c", &[])) else {
        return;
    };
    let script = format!(
        "import ctypes, os, sys\n\
         if ctypes.CDLL(None).prctl({PR_SET_MDWE}, 1, 0, 0, 0): sys.exit(77)\n\
         os.execv(sys.argv[1], sys.argv[1:])"
    );
    let program = program.to_str().expect("a path");
    let log = Log::new();
    let mut ours = command(python, &["-c", &script, program]);
    under(&mut ours, &log);
    let ours = ours.output().expect("it runs");
    if ours.status.code() == Some(77) {
        skipped("the kernel has no PR_SET_MDWE");
        return;
    }
    assert!(ours.status.success(), "{ours:?}");
    let native = Command::new(program).output().expect("it runs");
    assert_eq!(native.stdout, ours.stdout);
    let line = log.line("runs as it is");
    assert!(line.contains("forbids to change code"), "{line}");
}

/// The library needs no other library, and no symbol that others could define.
#[test]
fn the_library_stands_alone() {
    let Some(readelf) = installed("readelf") else {
        return;
    };
    let output = Command::new(readelf)
        .args(["--dynamic", "--dyn-syms", "--wide"])
        .arg(library())
        .output()
        .expect("it runs");
    let text = String::from_utf8(output.stdout).expect("a text");
    assert!(!text.contains("(NEEDED)"), "{text}");
    let strong = text
        .lines()
        .filter(|line| line.contains(" UND ") && line.contains(" GLOBAL "));
    assert_eq!(strong.count(), 0, "{text}");
    let defined = text
        .lines()
        .filter(|line| line.contains(" GLOBAL ") && !line.contains(" UND "));
    assert_eq!(defined.count(), 0, "{text}");
}
