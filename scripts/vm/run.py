#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Runs the test machine, shows progress, enforces the time limits and judges the run.

run.py OPTIONS -- COMMAND...   (called by ktest.sh, which describes the options)

COMMAND is the emulator, or with --here the guest runner itself.  Files in the
work directory: console.log, out (KTAP, or the output of a command), control
("ready", "exit N"), emulator.log.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
import judge as rules  # noqa: E402
import stall  # noqa: E402

POLL = 0.03
USUAL = 0.035  # seconds that the loop of host_slow() takes on an idle host of 2.6 GHz
GRACE = 20  # seconds after the guest's own limit per test before ours ends the machine


class Tail:
    """A growing file, read piece by piece."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self.file = path.open("rb")
        self.partial = b""

    def data(self) -> bytes:
        return self.file.read()

    def lines(self) -> list[str]:
        *lines, self.partial = (self.partial + self.file.read()).split(b"\n")
        return [ln.decode(errors="replace").rstrip("\r") for ln in lines]


def cpu_seconds(pid: int) -> float:
    """Returns the CPU time that a process and its threads have used so far."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    utime, stime = stat.rpartition(")")[2].split()[11:13]
    return (int(utime) + int(stime)) / os.sysconf("SC_CLK_TCK")


class Progress:
    """Prints one line per test."""

    def __init__(self, out, cpu=None) -> None:
        self.out = out
        # Returns the CPU time of the machine, if it is ours.
        self.cpu = cpu
        self.cpu_since = 0.0
        self.test: str | None = None
        self.since = 0.0
        self.reason = ""
        self.diag: list[str] = []
        # The file from which our caller reads the progress.
        self.told = os.environ.get("FLEXSC_PROGRESS")
        self.begun = time.monotonic()
        self.planned = self.results = 0

    def tell(self) -> None:
        if self.told and self.planned:
            text = f"{self.results} of {self.planned} tests"
            if self.results > 9:
                took = time.monotonic() - self.begun
                left = took * (self.planned - self.results) / self.results
                text += f", about {left / 60:.0f} min left" if left >= 60 else ", less than a minute left"
            Path(self.told).write_text(text + "\n")

    def feed(self, line: str) -> None:
        if (plan := re.fullmatch(r"1\.\.(\d+)", line)) and not self.planned:
            self.planned, self.begun = int(plan[1]), time.monotonic()
        if line.startswith("# begin "):
            self.test, self.since = line[8:], time.monotonic()
            self.cpu_since = self.cpu() if self.cpu else 0.0
            self.reason, self.diag = "", []
            if self.out.isatty():
                print(f"  ...     {self.test}", end="\r", file=self.out, flush=True)
            return
        if line.startswith("# reason: "):
            self.reason = line[10:]
            return
        match = rules.RESULT.match(line)
        if not match:
            self.diag.append(line)
            return
        status = "ok" if match[1] == "ok" else "FAILED"
        if match[3] is not None:
            status, self.reason = "skipped", match[3]
        self.results += 1
        self.tell()
        took = time.monotonic() - self.since
        # The last test may end together with the machine.
        cpu = max(self.cpu() - self.cpu_since, 0.0) if self.cpu else 0.0
        used = f"{cpu:6.1f} s of CPU time" if self.cpu else ""
        print(f"  {status:7} {match[2]:40} {took:6.1f} s  {used}  {self.reason}".rstrip(), file=self.out)
        if status == "FAILED":
            for diag in self.diag[-20:]:
                print(f"            {diag}", file=self.out)
        self.out.flush()
        self.test = None


class Machine:
    """The emulator and the channels it writes to."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.work: Path = args.work
        self.out = Tail(self.work / "out")
        self.control = Tail(self.work / "control")
        self.console = Tail(self.work / "console.log")
        self.ready = False
        self.exit_code: int | None = None
        self.exit_at = 0.0
        self.panic_at = 0.0
        self.last_line = ""  # of the console
        self.limit: tuple[str, str] | None = None
        self.slow = 1.0  # how many times slower than the machine that the limits are for
        self.boot_seconds = 0.0
        self.ended_by_us = False
        self.child: subprocess.Popen | None = None
        self.progress = Progress(sys.stdout, lambda: cpu_seconds(self.child.pid))

    def run(self, command: list[str]) -> None:
        log = (self.work / "emulator.log").open("wb")
        child = self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        start, parent = time.monotonic(), os.getppid()
        if self.args.stall:
            stall.start(child.pid, lambda: self.progress.test is not None)
        try:
            while True:
                if os.getppid() != parent:
                    raise KeyboardInterrupt  # our parent is gone
                ended = child.poll() is not None
                self.read(time.monotonic() - start)
                if ended:
                    break
                if self.over(time.monotonic(), start):
                    break
                time.sleep(POLL)
        finally:
            if child.poll() is None:
                self.ended_by_us = True
                child.kill()
                child.wait()
        self.read(time.monotonic() - start)
        self.status = child.returncode

    def read(self, now: float) -> None:
        if self.args.mode == "run":
            data = self.out.data()
            if data:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
        else:
            for line in self.out.lines():
                self.progress.feed(line)
        for line in self.control.lines():
            if line == "ready" and not self.ready:
                self.ready, self.boot_seconds = True, now
                print(f"{self.args.title}: up after {now:.1f} s", file=sys.stderr, flush=True)
            elif (match := re.fullmatch(r"slow (\d+)", line)):
                slow = max(1.0, int(match[1]) / 100)
                if slow >= 1.5 * self.slow:
                    print(f"{self.args.title}: {slow:.1f} times as slow as usual, so are the limits",
                          file=sys.stderr, flush=True)
                self.slow = max(self.slow, slow)
            elif (match := re.fullmatch(r"exit (\d+)", line)):
                self.exit_code, self.exit_at = int(match[1]), time.monotonic()
        for line in self.console.lines():
            self.last_line = line.strip() or self.last_line
            if rules.PANIC.match(rules.TIMESTAMP.sub("", line)):
                self.panic_at = time.monotonic()

    def over(self, now: float, start: float) -> bool:
        """Returns true if the machine must be ended, with the reason in self.limit."""
        args, test = self.args, self.progress.test
        if self.exit_at and now - self.exit_at > 15:
            return True  # the run is complete, but the emulator does not exit
        if self.panic_at and now - self.panic_at > 15:
            return True
        if args.no_limits:
            return False
        boot, each, grace, total = (
            round(limit * slow) for limit, slow in (
                (args.boot_limit, args.host_slow), (args.test_limit, self.slow),
                (args.grace, self.slow), (args.total_limit, max(self.slow, args.host_slow))))
        if not self.ready and now - start > boot:
            said = f"after '{self.last_line}'" if self.last_line else "and the console is empty"
            self.limit = ("boot", f"limit for the boot of {boot} s hit, {said}")
        elif test and now - self.progress.since > each + grace:
            self.limit = (test, f"the machine hangs: limit per test of {each} s and {grace} s more hit")
        elif now - start > total:
            self.limit = (test or "vm", f"total limit of {total} s hit")
        return self.limit is not None


def text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def here(args: argparse.Namespace, command: list[str]) -> rules.Verdict:
    """Runs the tests on this machine, and reads the kernel log from a start marker."""
    start = f"flexsc-ktest: here {os.getpid()} {time.time():.0f}"
    with open("/dev/kmsg", "w", encoding="utf-8") as kmsg:
        kmsg.write(f"<5>{start}\n")
    progress = Progress(sys.stdout)
    ktap = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace") as child:
        for line in child.stdout:
            ktap.append(line)
            progress.feed(line.rstrip("\n"))
    log = subprocess.run(["dmesg"], capture_output=True, text=True, errors="replace", check=True)
    console = log.stdout.rpartition(start + "\n")[2]
    parser = rules.load_parser(args.kunit)
    return rules.judge("".join(ktap), console, child.returncode, None, parser, need_exit=False)


def host_slow() -> float:
    """Returns how many times slower this host is now than an idle one of 2.6 GHz.  Only the boot
    limit uses this; once the machine is up, it measures itself."""
    begun = time.monotonic()
    for _ in range(3):
        sum(range(1_000_000))
    return min(10.0, max(1.0, (time.monotonic() - begun) / USUAL))


def one_at_a_time(path: Path):
    """Waits for another test machine to end: two on two cores would exceed their time limits."""
    lock = path.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print("waiting for another test machine to finish", file=sys.stderr, flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def main() -> int:
    ap = argparse.ArgumentParser()
    ap.add_argument("--work", type=Path, required=True)
    ap.add_argument("--mode", choices=("tests", "run", "here"), required=True)
    ap.add_argument("--kunit", type=Path)
    ap.add_argument("--lock", type=Path)
    ap.add_argument("--title", default="")
    ap.add_argument("--config", default="")
    ap.add_argument("--may-skip", type=int, metavar="CPUS",
                    help="fail tests that skip themselves unless tests/guest-init/skips allows it for --config "
                         "with this number of processors")
    ap.add_argument("--boot-limit", type=float, default=120)
    ap.add_argument("--test-limit", type=float, default=60)
    ap.add_argument("--total-limit", type=float, default=900)
    ap.add_argument("--grace", type=float, default=GRACE)
    ap.add_argument("--no-limits", action="store_true")
    ap.add_argument("--stall", action="store_true")
    ap.add_argument("--emulated", action="store_true")
    ap.add_argument("command", nargs="+")
    args = ap.parse_args()

    if args.mode == "here":
        begun = time.monotonic()
        verdict = here(args, args.command)
        rules.report(verdict, "here", time.monotonic() - begun)
        return 1 if verdict.failures else 0

    lock = one_at_a_time(args.lock)
    args.host_slow = 1.0 if args.no_limits else host_slow()
    begun = time.monotonic()
    machine = Machine(args)
    machine.run(args.command)
    console = text(args.work / "console.log")
    failed_before = "\nnot ok " in text(args.work / "out").replace("\r", "")
    again = None
    if args.emulated and not failed_before and rules.is_stale_breakpoint(console):
        again = ("stale", "The emulator stopped at a breakpoint that is not in memory (a bug of QEMU before "
                          "8.1); running it again.")
    elif args.emulated and machine.limit and machine.limit[0] == "boot" and not rules.read_console(console).faults:
        # No test has begun and the kernel log shows no fault.
        again = ("silent", f"note: the emulated machine did not boot ({machine.limit[1]}); running it again.")
    if again:
        print(again[1], file=sys.stderr, flush=True)
        (args.work / "console.log").rename(args.work / f"console.{again[0]}.log")
        for name in ("out", "control", "files.tar"):
            (args.work / name).unlink(missing_ok=True)
        machine = Machine(args)
        machine.run(args.command)
        console = text(args.work / "console.log")
    lock.close()
    if machine.status != 0 and not machine.ended_by_us and machine.exit_code is None:
        print(f"the emulator stopped with status {machine.status}:", file=sys.stderr)
        print(text(args.work / "emulator.log"), end="", file=sys.stderr)

    if args.mode == "tests":
        parser = rules.load_parser(args.kunit)
        may_skip = rules.Skips.load(args.config, args.may_skip) if args.may_skip else rules.Skips()
        verdict = rules.judge(text(args.work / "out"), console, machine.exit_code,
                              machine.limit, parser, may_skip=may_skip)
        rules.report(verdict, args.config, time.monotonic() - begun)
        return 1 if verdict.failures else 0

    verdict = rules.Verdict()
    con = rules.read_console(console, first="vm")
    rules.judge_console(con, verdict)
    if machine.limit:
        verdict.fail(*machine.limit)
    if machine.exit_code is None:
        verdict.fail("vm", "no exit code: the machine stopped before the command ended")
    elif not con.ended:
        verdict.fail("vm", "no end marker")
    for result in verdict.failures:
        for reason in result.reasons:
            print(f"FAILED {result.name}: {reason}", file=sys.stderr)
    if verdict.failures:
        return machine.exit_code or 1
    return machine.exit_code or 0


def interrupt(*_):
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, interrupt)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
