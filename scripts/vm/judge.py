#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Judges a run of the guest tests from what the test machine left behind.

Success needs positive proof: a complete KTAP plan, the end marker on the
console, exit code 0, and no kernel fault.  A run that merely shows no failure
has failed.  Every failure gets a name: the test during which it happened, or
"boot" (before the first test) or "vm" (the run as a whole).

KTAP is parsed by the kernel's own tools/testing/kunit/kunit_parser.py.
"""

from __future__ import annotations

import importlib
import io
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import kcsan  # noqa: E402

GUEST = Path(__file__).resolve().parents[2] / "tests" / "guest-init"
TIMESTAMP = re.compile(r"^\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?")
MARKER = re.compile(r"^flexsc-ktest: (begin|end) (\S+)$")
END_MARKER = "flexsc-ktest: end of run"
PANIC = re.compile(r"^Kernel panic")
RESULT = re.compile(r"^(not ok|ok) \d+ (?:- )?([^#]*?)(?: # SKIP ?(.*))?$")


def load_splats(path: Path = GUEST / "splats.ere") -> re.Pattern[str]:
    """Returns one pattern for all lines of splats.ere, which the guest runner uses too."""
    return re.compile("|".join(f"(?:{line})" for line in path.read_text().splitlines() if line[0] != "#"))


SPLAT = load_splats()


@dataclass(frozen=True)
class Skips:
    """The reasons for which tests may skip themselves on one kind of machine; None allows any."""

    reasons: tuple[str, ...] | None = None

    @classmethod
    def load(cls, config: str, cpus: int, path: Path = GUEST / "skips") -> Skips:
        rows = [line.split(None, 2) for line in path.read_text().splitlines() if line and line[0] != "#"]
        rows = [row for row in rows if row[0] == config]
        return cls(tuple(row[2] for row in rows if row[1] in ("*", str(cpus))) if rows else None)

    def allow(self, reason: str) -> bool:
        return self.reasons is None or reason.startswith(self.reasons)


def load_parser(kunit_dir: Path):
    """Loads the KTAP parser of the kernel source with its output redirected."""
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(kunit_dir))
    parser = importlib.import_module("kunit_parser")
    parser.stdout = importlib.import_module("kunit_printer").Printer(io.StringIO())
    return parser


@dataclass
class Result:
    """The result for one name of the report."""

    name: str
    status: str  # "ok", "skipped", "FAILED"
    reasons: list[str] = field(default_factory=list)


@dataclass
class Verdict:
    """All results in the order of the plan, then those that belong to no test."""

    results: dict[str, Result] = field(default_factory=dict)
    # KCSAN's titles of data races in the rest of the kernel.
    races: list[str] = field(default_factory=list)

    def fail(self, name: str, reason: str) -> None:
        result = self.results.setdefault(name, Result(name, "FAILED"))
        if result.status != "FAILED":
            result.status, result.reasons = "FAILED", []
        if reason not in result.reasons:
            result.reasons.append(reason)

    def count(self, status: str) -> int:
        return sum(r.status == status for r in self.results.values())

    @property
    def failures(self) -> list[Result]:
        return [r for r in self.results.values() if r.status == "FAILED"]


@dataclass
class Console:
    """The contents of a kernel log: faults by test, the panic, the test that was
    running at the end, and data races of the rest of the kernel."""

    faults: list[tuple[str, str]] = field(default_factory=list)
    panic: str | None = None
    running: str | None = None
    last: str = "boot"
    ended: bool = False
    races: list[str] = field(default_factory=list)


def read_console(text: str, first: str = "boot") -> Console:
    """Attributes each fault to the test whose begin marker was seen last."""
    con = Console(last=first)
    lines = [TIMESTAMP.sub("", raw) for raw in text.replace("\r", "").split("\n")]
    races = kcsan.others(lines)
    con.races = list(races.values())
    for at, line in enumerate(lines):
        marker = MARKER.match(line)
        if marker:
            con.running = marker[2] if marker[1] == "begin" else None
            con.last = marker[2]
        elif line == END_MARKER:
            con.ended = True
        elif at not in races and SPLAT.search(line):
            con.faults.append((con.last, line))
            if PANIC.match(line):
                con.panic = line
    return con


def is_stale_breakpoint(console: str) -> bool:
    """Returns true if a processor stopped at a breakpoint that is not in memory.

    The kernel patches its own code (tracepoints and other static keys) behind
    breakpoints, which it removes when no processor can be at them any more.
    QEMU before 8.1 may keep the translation of such a breakpoint forever,
    because it does not lock the page between translating an instruction and
    recording the translation.  The kernel does not know the breakpoint and
    stops.  Its dump shows the code in memory: the byte before the instruction
    pointer is no breakpoint (0xcc).  Only the first fault of a run can be such a stop.
    """
    lines = [TIMESTAMP.sub("", line) for line in console.replace("\r", "").split("\n")]
    first = next((at for at, line in enumerate(lines) if SPLAT.search(line)), None)
    if first is None or not lines[first].startswith("Oops: int3: "):
        return False
    code = re.search(r"Code:.* ([0-9a-f]{2}) <[0-9a-f]{2}>", "\n".join(lines[first:first + 8]))
    return code is not None and code[1] != "cc"


def judge_console(con: Console, verdict: Verdict) -> None:
    """Records the faults, at most three per name: the first ones say most."""
    verdict.races = con.races
    shown: dict[str, int] = {}
    for name, line in con.faults:
        shown[name] = shown.get(name, 0) + 1
        if shown[name] <= 3 or line == con.panic:
            verdict.fail(name, f"kernel log: {line}")
        elif shown[name] == 4:
            verdict.fail(name, "kernel log: more faults follow")


def judge(
    ktap: str,
    console: str,
    exit_code: int | None,
    limit: tuple[str, str] | None,
    parser,
    need_exit: bool = True,
    may_skip: Skips = Skips(),
) -> Verdict:
    """Judges one run.

    `limit` names the test (or "boot", "vm") that hit a time limit, and says
    which.  `need_exit` is off on a machine that we must not end: there the exit
    code is the runner's and no end marker is written.  A skip that
    `may_skip` does not allow is a failure.
    """
    verdict = Verdict()
    con = read_console(console)
    lines = ktap.replace("\r", "").split("\n")
    tree = parser.parse_run_tests(lines)
    plan = tree.expected_count or 0
    planned = next((ln.split()[2:] for ln in lines if ln.startswith("# planned: ")), [])
    reason = ""
    reasons = {}
    skips = {}
    came = 0
    for line in lines:
        if line.startswith("# reason: "):
            reason = line[len("# reason: ") :]
        elif match := RESULT.match(line):
            came += 1
            reasons[match[2]], reason = reason, ""
            skips[match[2]] = match[3] or ""

    state = parser.TestStatus
    received = [t for t in tree.subtests if t.name and t.status != state.TEST_CRASHED]
    for test in received:
        name = test.name.strip()
        if name in verdict.results:
            verdict.fail(name, "reported twice")
        elif test.status == state.SUCCESS:
            verdict.results[name] = Result(name, "ok")
        elif test.status == state.SKIPPED:
            verdict.results[name] = Result(name, "skipped", [skips.get(name, "")])
        else:
            verdict.fail(name, reasons.get(name) or "no reason given")
        if test.counts.errors:
            verdict.fail(name, "its result line is out of order")
    all_ok = not verdict.failures
    for result in list(verdict.results.values()):
        if result.status == "skipped" and not may_skip.allow(result.reasons[0]):
            verdict.fail(result.name, f"skipped, but this machine should have it: {result.reasons[0]}")

    if limit:
        verdict.fail(*limit)
    stopped = con.running if need_exit and not con.ended else None
    if stopped and stopped not in verdict.results and not con.panic:
        verdict.fail(stopped, "the machine stopped or restarted during this test")
    judge_console(con, verdict)

    bail = next((ln for ln in lines if ln.startswith("Bail out!")), None)
    if bail:
        verdict.fail("vm", bail[len("Bail out! ") :])
    for name in planned:
        if name not in verdict.results:
            verdict.fail(name, "did not run")
    missing = []
    if tree.expected_count is None or not plan:
        missing.append("no KTAP plan")
    elif (came := max(came, len(received))) != plan:
        missing.append(f"the plan says {plan} results and {came} came")
    if need_exit and not con.ended:
        missing.append("no end marker")
    if exit_code is None:
        missing.append("no exit code")
    elif exit_code != 0 and all_ok:
        missing.append(f"the guest's exit code is {exit_code}")
    elif exit_code == 0 and not all_ok:
        missing.append("the guest's exit code is 0 although a test failed")
    if missing and not bail:
        verdict.fail("vm", "; ".join(missing))
    return verdict


def report(verdict: Verdict, config: str, seconds: float, out=sys.stdout) -> None:
    """Prints the failures by name, a line for programs, and a line for people."""
    for result in verdict.failures:
        for reason in result.reasons:
            print(f"FAILED {result.name}: {reason}", file=out)
    if verdict.races:
        print(f"# {len(verdict.races)} data races of the rest of the kernel:", file=out)
        for title in sorted(set(verdict.races)):
            print(f"#   {title}", file=out)
    passed, failed, skipped = (verdict.count(s) for s in ("ok", "FAILED", "skipped"))
    print(
        f"ktest-result: config={config} passed={passed} failed={failed} "
        f"skipped={skipped} seconds={seconds:.0f}",
        file=out,
    )
    tail = f", {skipped} skipped" if skipped else ""
    print(f"{passed} passed, {failed} failed{tail}", file=out, flush=True)
