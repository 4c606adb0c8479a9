#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Judges what the demo's machine has left, and prints the table.

report.py DIRECTORY   (reports, counts and times from scripts/demo/guest.sh)

A trap is counted by the kernel, not by the program: raw_syscalls:sys_enter
fires for each call that is executed, whether it came by a trap or from a
syscall page; flexsc:flexsc_complete fires for each call that came from a page.  The
difference of the two, over all threads of the process, is the traps.  Refused
entries would complete without having been executed, so there must be none.  Both
counts must agree with the program's own for each call number, otherwise nothing
is proved.
"""

from __future__ import annotations

import re
import statistics
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

MIN_FILES, MIN_BYTES = 2_000, 40_000_000
MIN_GONE = 0.99

# The calls the program makes; all others are traps of its start and end.
NUMBERS = {
    "read": 0, "write": 1, "lseek": 8, "pread64": 17, "pwrite64": 18, "close": 3, "ftruncate": 77,
    "fchmod": 91, "fchown": 93, "lsetxattr": 189, "fsetxattr": 190, "lgetxattr": 192,
    "fgetxattr": 193, "llistxattr": 195, "flistxattr": 196, "lremovexattr": 198,
    "fremovexattr": 199, "getdents64": 217, "openat": 257, "mkdirat": 258, "mknodat": 259,
    "fchownat": 260, "unlinkat": 263, "linkat": 265, "symlinkat": 266, "readlinkat": 267,
    "utimensat": 280, "renameat2": 316, "statx": 332, "openat2": 437, "faccessat2": 439,
    "fchmodat2": 452,
}
# A WAIT is one of these calls: flexsc_wait() if the kernel has it, otherwise the ioctl.
NR_IOCTL, NR_FLEXSC_WAIT = 16, 548
BUCKET = re.compile(r"^\{ (.*) \} hitcount: +(\d+)")
SECTION = re.compile(r"^# trigger info: (.*?)(?: \[active\])?$")


class Mismatch(Exception):
    """The figures do not add up; the text says which."""


def histograms(text: str) -> dict[str, list[tuple[dict[str, int], int]]]:
    """Returns the buckets of each trigger in a "hist" file of the kernel."""
    found: dict[str, list] = {}
    buckets: list | None = None
    for line in text.splitlines():
        if match := SECTION.match(line):
            buckets = found.setdefault(match[1], [])
        elif (match := BUCKET.match(line)) and buckets is not None:
            keys = re.findall(r"(\w+): +(-?\d+)", match[1])
            buckets.append(({key: int(value) for key, value in keys}, int(match[2])))
        elif (match := re.match(r"^ +Dropped: (\d+)", line)) and int(match[1]):
            raise Mismatch(f"the kernel dropped {match[1]} events")
    return found


def key_values(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def mean_rate(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


@dataclass
class Counted:
    """One counted run: what the kernel saw of the process, by call number."""

    calls: int
    entered: Counter = field(default_factory=Counter)
    finished: Counter = field(default_factory=Counter)
    refused: int = 0
    blocked: int = 0
    threads: int = 0
    report: dict[str, str] = field(default_factory=dict)

    @property
    def traps(self) -> int:
        return self.entered.total() - self.finished.total()

    def figure(self, name: str) -> int:
        return int(self.report[name])


def counted(where: Path, name: str) -> Counted:
    def read(suffix: str) -> str:
        path = where / f"{name}.{suffix}"
        if not path.exists():
            raise Mismatch(f"the machine left no {path.name}")
        return path.read_text()

    report = key_values(read("report"))
    run = Counted(calls=int(report["calls"]), report=report)
    pid = int(read("pid"))
    pids = {pid}
    for buckets in histograms(read("flexsc_invoke")).values():
        pids |= {keys["common_pid"] for keys, _ in buckets if keys["tgid"] == pid}
    run.threads = len(pids) - 1
    for buckets in histograms(read("sys_enter")).values():
        for keys, hits in buckets:
            if keys["common_pid"] in pids:
                run.entered[keys["id"]] += hits
    for trigger, buckets in histograms(read("flexsc_complete")).items():
        for keys, hits in buckets:
            if "result" in trigger:
                run.refused += hits
            elif keys["common_pid"] in pids:
                run.finished[keys["nr"]] += hits
    for buckets in histograms(read("flexsc_block")).values():
        run.blocked += sum(hits for _, hits in buckets)
    return run


def check_tree(reports: list[dict[str, str]], names: list[str]) -> None:
    """Checks that all runs copied the same tree, and that it is large enough."""
    first = reports[0]
    for name, report in zip(names, reports):
        if int(report["errors"]):
            raise Mismatch(f"the run {name} reports {report['errors']} errors")
        for key in ("files", "dirs", "links", "bytes"):
            if report[key] != first[key]:
                raise Mismatch(f"the run {name} copied {report[key]} {key}, others {first[key]}")
    if int(first["files"]) < MIN_FILES or int(first["bytes"]) < MIN_BYTES:
        raise Mismatch(f"the tree is too small: {first['files']} files, {first['bytes']} bytes")


def check_flexsc(run: Counted) -> None:
    """Checks that every call of the program went through a page, and that all three counts agree."""
    own = {NUMBERS[key[6:]]: int(value) for key, value in run.report.items()
           if key.startswith("calls_") and key[6:] in NUMBERS}
    own[NUMBERS["write"]] += run.figure("calls_progress")
    for key in run.report:
        if key.startswith("calls_") and key[6:] not in NUMBERS and key != "calls_progress":
            raise Mismatch(f"the program counts {key[6:]}, whose number is not known here")
    if sum(own.values()) != run.calls:
        raise Mismatch(f"the program made {run.calls} calls, but its list has {sum(own.values())}")
    if plain := run.figure("fallbacks"):
        raise Mismatch(f"{plain} calls were refused and made as plain calls")
    if refused := max(run.refused, run.figure("engine_refused")):
        raise Mismatch(f"{refused} entries were refused")
    for name, number in NUMBERS.items():
        asked, done = own.get(number, 0), run.finished[number]
        if asked != done:
            raise Mismatch(f"the program posted {asked} {name} calls, the kernel finished {done}")
        if run.entered[number] < done:
            raise Mismatch(f"the kernel finished {done} {name} calls, but executed only "
                           f"{run.entered[number]}")
    if run.finished.total() != run.calls or run.figure("engine_posted") != run.calls:
        raise Mismatch(f"the program made {run.calls} calls, the kernel finished "
                       f"{run.finished.total()}, the engine took {run.figure('engine_posted')}")
    inline, threads = run.figure("engine_inline_done"), run.figure("engine_thread_done")
    if inline + threads != run.calls:
        raise Mismatch(f"{inline} calls by the waiter and {threads} by syscall threads do not add up to "
                       f"{run.calls}")
    waits, seen = run.figure("waits"), run.entered[NR_IOCTL] + run.entered[NR_FLEXSC_WAIT]
    if not waits <= seen <= waits + 16:
        raise Mismatch(f"the program says it waited {waits} times, the kernel saw {seen} calls of "
                       "flexsc_wait and ioctl")
    if run.blocked < run.figure("engine_handoffs"):
        raise Mismatch(f"{run.figure('engine_handoffs')} hand-offs, but calls blocked only "
                       f"{run.blocked} times")


def check_plain(run: Counted) -> None:
    if run.finished:
        raise Mismatch(f"the plain run used syscall pages for {run.finished.total()} calls")
    for key, value in run.report.items():
        number = NUMBERS.get(key[6:]) if key.startswith("calls_") else None
        if number is not None and run.entered[number] < int(value):
            raise Mismatch(f"the program made {value} {key[6:]} calls, the kernel saw only "
                           f"{run.entered[number]}")


def times(where: Path, way: str) -> tuple[list[float], list[dict[str, str]], list[str]]:
    paths = sorted(where.glob(f"time-*-{way}.report"))
    if not paths:
        raise Mismatch(f"no timed run of {way}")
    reports = [key_values(path.read_text()) for path in paths]
    return [float(report["seconds"]) for report in reports], reports, [p.stem for p in paths]


def group(number: int) -> str:
    return f"{number:,}"


def table(plain: Counted, flexsc: Counted, t_plain: list[float], t_flexsc: list[float]) -> str:
    m_plain, m_flexsc = statistics.median(t_plain), statistics.median(t_flexsc)
    waits = flexsc.figure("waits")
    rows = [
        ("", "plain calls", "FlexSC"),
        ("calls made", group(plain.calls), group(flexsc.calls)),
        ("  of these from syscall pages", "0", group(flexsc.finished.total())),
        ("traps taken, counted by the kernel", group(plain.traps), group(flexsc.traps)),
        ("  of these to wait for results", "0", group(waits)),
        ("  of these to start, set up and end", group(plain.traps - plain.calls),
         group(flexsc.traps - waits)),
        ("calls per trap", f"{mean_rate(plain.calls, plain.traps):.2f}",
         f"{mean_rate(flexsc.calls, flexsc.traps):.1f}"),
        ("times that a call blocked (cold caches)", "-", group(flexsc.blocked)),
        ("hand-offs after blocking", "-", group(flexsc.figure("engine_handoffs"))),
        ("syscall threads that worked", "-", group(flexsc.threads)),
        (f"seconds, warm caches, median of {len(t_plain)}", f"{m_plain:.3f}", f"{m_flexsc:.3f}"),
        ("  fastest and slowest", f"{min(t_plain):.3f} {max(t_plain):.3f}",
         f"{min(t_flexsc):.3f} {max(t_flexsc):.3f}"),
        ("time of plain calls / time of FlexSC", "", f"{m_plain / m_flexsc:.2f}"),
    ]
    lines = [f"  {label:40} {a:>14} {b:>14}" for label, a, b in rows]
    lines.insert(1, "  " + "-" * 70)
    return "\n".join(lines)


def judge(where: Path) -> str:
    """Returns the table and the summary; raises Mismatch if something is not proved."""
    flexsc, plain = counted(where, "flexsc"), counted(where, "plain")
    t_plain, r_plain, n_plain = times(where, "plain")
    t_flexsc, r_flexsc, n_flexsc = times(where, "flexsc")
    if len(t_plain) != len(t_flexsc):
        raise Mismatch("the two ways have different numbers of timed runs")
    check_tree([flexsc.report, plain.report, *r_plain, *r_flexsc],
               ["flexsc", "plain", *n_plain, *n_flexsc])
    check_flexsc(flexsc)
    check_plain(plain)
    verified = sorted(where.glob("*.verified"))
    for path in verified:
        if not path.read_text().rstrip().endswith(": 0 differences"):
            raise Mismatch(f"{path.stem}: {path.read_text().strip()}")
    if len(verified) != 4:
        raise Mismatch(f"{len(verified)} copies were compared instead of 4")
    out = table(plain, flexsc, t_plain, t_flexsc)
    gone = 1 - flexsc.traps / plain.traps
    if gone < MIN_GONE:
        raise Mismatch(f"only {gone:.2%} of the traps are gone, not {MIN_GONE:.0%}:\n{out}")
    files, size = int(flexsc.report["files"]), int(flexsc.report["bytes"]) / 1e6
    ratio = statistics.median(t_plain) / statistics.median(t_flexsc)
    return (f"{out}\n\n"
            f"Copied {files:,} files, {size:.1f} MB; every copy that was compared is equal byte by "
            f"byte.\n{gone:.2%} of the traps are gone: there is one for "
            f"{flexsc.calls / flexsc.traps:.0f} calls.\nThe copy ran at {ratio:.2f} times the "
            f"speed of plain calls, with warm caches in this machine.")


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__.splitlines()[2], file=sys.stderr)
        return 2
    try:
        print(judge(Path(sys.argv[1])))
    except Mismatch as why:
        print(f"demo: {why}", file=sys.stderr)
        return 1
    except (KeyError, ValueError) as why:
        print(f"demo: a report of the program cannot be read: {why!r}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
