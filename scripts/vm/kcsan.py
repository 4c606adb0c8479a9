# SPDX-License-Identifier: MIT OR Apache-2.0
"""Finds the data races in a kernel log that are ours.

Linux has data races that it tolerates, so KCSAN reports some in every run.  A
race is ours if the module, or core code that the patches add, makes one of its
accesses: in the function on top of the stack or in its caller, because small
helpers (a copy, a bit operation) are functions of their own.
"""

from __future__ import annotations

import re

HEAD = re.compile(r"^BUG: KCSAN: (.*)$")
ACCESS = re.compile(r"^(?:race at unknown origin, with )?(?:assert no accesses|assert no writes|read-write|read|write)"
                    r"(?: to | \(|-).*(?:on cpu|by task|by interrupt)")
FRAME = re.compile(r"^ +(?:\? )?([\w.$]+)\+0x[0-9a-f]+/0x[0-9a-f]+(.*)$")
OURS = re.compile(r"^(?:syscall_(?:thread|invoke|hook|wait|try|allows|file|row)_|syscall_task_is_guarded"
                  r"|(?:sock|tcp|vfs)_(?:may_)?try_|sock_has_nothing|(?:__x64_|__se_|__do_)sys_flexsc_wait)")
# Longer than any report.
REACH = 200


def is_ours(report: list[str]) -> bool:
    """Returns true if our code makes one of the accesses, or if no stack can be read."""
    accesses = 0
    frames = 2
    for line in report:
        if ACCESS.match(line):
            accesses += 1
            frames = 0
        elif match := FRAME.match(line):
            if frames < 2 and ("[flexsc]" in match[2] or OURS.match(match[1])):
                return True
            frames += 1
    return accesses == 0


def others(lines: list[str]) -> dict[int, str]:
    """Returns the title of each race that is not ours, by the index of its line."""
    found = {}
    for at, line in enumerate(lines):
        head = HEAD.match(line)
        if not head:
            continue
        report = []
        for text in lines[at + 1:at + REACH]:
            if text.startswith(("=====", "BUG: ")):
                break
            report.append(text)
        if not is_ours(report):
            found[at] = head[1]
    return found
