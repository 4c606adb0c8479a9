# SPDX-License-Identifier: MIT OR Apache-2.0
"""Which data races in a kernel log are ours.

Linux has data races that it lives with, so KCSAN reports some in every run.
One is ours if an access of it is made by the module or by the core code that
the patches add: by the function on top of its stack or by the one that called
it, as small helpers (a copy, a bit operation) are functions of their own.
"""

from __future__ import annotations

import re

HEAD = re.compile(r"^BUG: KCSAN: (.*)$")
ACCESS = re.compile(r"^(?:race at unknown origin, with )?(?:assert no accesses|assert no writes|read-write|read|write)"
                    r"(?: to | \(|-).*(?:on cpu|by task|by interrupt)")
FRAME = re.compile(r"^ +(?:\? )?([\w.$]+)\+0x[0-9a-f]+/0x[0-9a-f]+(.*)$")
OURS = re.compile(r"^(?:syscall_thread_|syscall_invoke_|syscall_hook_|syscall_wait_|syscall_task_is_guarded"
                  r"|(?:__x64_|__se_|__do_)sys_flexsc_wait)")
# Longer than any report.
REACH = 200


def is_ours(report: list[str]) -> bool:
    """Is one of the accesses made by our code? Where no stack can be read, too."""
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
    """The lines (by index) that report somebody else's race, with its title."""
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
