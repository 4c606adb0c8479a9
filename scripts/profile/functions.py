#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Sums up a trace of instructions by function, from one trap to the next."""

from __future__ import annotations

import argparse
import bisect
import collections
import itertools
import re
import sys
from pathlib import Path

TRAP = "entry_SYSCALL_64"
USER_END = 1 << 47
# "Trace 0: 0x7f12 [tb flags/pc/...] name"; the counter is the second field.
PC = re.compile(r"^Trace .*\[[0-9a-f]+/([0-9a-f]+)/")
# Rust's mangling: parts of a path that are hashes.
HASH = re.compile(r"^(?:h[0-9a-f]{16}|[0-9a-f]{16})$")


def readable(name: str) -> str:
    """Shortens a mangled Rust name to its last two words."""
    if not name.startswith("_R"):
        return name
    words = []
    at = 2
    while at < len(name):
        if reference := re.match("[Bs][0-9A-Za-z]{0,3}_", name[at:]):
            at += len(reference[0])
        elif name[at].isdigit():
            digits = re.match(r"\d+", name[at:])[0]
            size = int(digits)
            begin = at + len(digits)
            begin += name[begin:begin + 1] == "_"
            words.append(name[begin:begin + size])
            at = begin + size
        else:
            at += 1
    words = [word for word in words if word and not HASH.match(word)]
    return "::".join(words[-2:]) or name


class Symbols:
    """Names of kernel addresses."""

    def __init__(self, lines: list[str]) -> None:
        found = []
        for line in lines:
            words = line.split()
            if len(words) >= 3 and words[1] in "tTwW" and re.fullmatch("[0-9a-f]{16}", words[0]):
                module = " [flexsc]" if words[-1] == "[flexsc]" else ""
                found.append((int(words[0], 16), readable(words[2]) + module))
        found.sort()
        self.addresses = [address for address, _ in found]
        self.names = [name for _, name in found]

    def name(self, pc: int) -> str:
        if pc < USER_END:
            return "(program)"
        at = bisect.bisect_right(self.addresses, pc) - 1
        return self.names[at] if at >= 0 else "(unknown)"


def rounds(names: list[str]) -> list[list[str]]:
    """Cuts the trace at the traps."""
    marks = [at for at, name in enumerate(names) if name == TRAP and (at == 0 or names[at - 1] != TRAP)]
    return [names[a:b] for a, b in itertools.pairwise(marks)]


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--order", action="store_true", help="in the order of execution")
    ap.add_argument("trace", type=Path)
    ap.add_argument("symbols", type=Path, nargs="+")
    args = ap.parse_args()

    symbols = Symbols([line for file in args.symbols for line in file.read_text(errors="replace").splitlines()])
    with args.trace.open(errors="replace") as trace:
        names = [symbols.name(int(match[1], 16)) for match in map(PC.match, trace) if match]
    found = rounds(names)
    if not found:
        sys.exit(f"profile: there are no two traps among {len(names)} instructions: try a smaller batch.")
    # Take the most frequent length: timer ticks make some rounds longer.
    lengths = collections.Counter(map(len, found))
    length, times = lengths.most_common(1)[0]
    one = next(names for names in found if len(names) == length)
    print(f"{length} instructions from one trap to the next, in {times} of {len(found)} rounds")
    if args.order:
        parts = [(name, len(list(group))) for name, group in itertools.groupby(one)]
    else:
        parts = list(collections.Counter(one).items())
    for name, count in parts:
        print(f"{count:8}  {name}")


if __name__ == "__main__":
    main()
