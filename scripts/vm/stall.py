# SPDX-License-Identifier: MIT OR Apache-2.0
"""Makes the test machine stand still now and then, as a busy host does: stops one of the emulator's
virtual processors, or all of them, for up to some seconds.  Time goes on in the machine meanwhile."""

from __future__ import annotations

import ctypes
import os
import random
import threading
import time
from pathlib import Path

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
WALL = 0x40000000
RUNS = 0.3  # seconds for which the machine runs, on average
LONG = (1.1, 3.5)  # longer than idle threads stay, and than entries wait for a thread
SHORT = (0.03, 0.4)

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 4
libc.ptrace.restype = ctypes.c_long


def processors(pid: int) -> list[int]:
    """Returns the threads of an emulator with -name debug-threads=on that are processors."""
    threads = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            if (task / "comm").read_text().startswith("CPU "):
                threads.append(int(task.name))
        except OSError:
            pass
    return threads


def stop(thread: int) -> bool:
    if libc.ptrace(PTRACE_SEIZE, thread, 0, 0) or libc.ptrace(PTRACE_INTERRUPT, thread, 0, 0):
        return False
    try:
        os.waitpid(thread, WALL)
    except OSError:
        return False
    return True


def stall(pid: int, is_testing, chance: random.Random) -> None:
    while True:
        time.sleep(chance.expovariate(1 / RUNS))
        try:
            threads = processors(pid)
        except OSError:
            return  # the emulator has ended
        if not threads or not is_testing():
            continue
        chosen = threads if chance.random() < 0.3 else [chance.choice(threads)]
        stopped = [thread for thread in chosen if stop(thread)]
        time.sleep(chance.uniform(*(LONG if chance.random() < 0.75 else SHORT)))
        for thread in stopped:
            libc.ptrace(PTRACE_DETACH, thread, 0, 0)


def start(pid: int, is_testing) -> None:
    """Stalls the emulator `pid` until this process ends, while `is_testing` returns true."""
    # Only the thread that has stopped another one can let it go on.
    threading.Thread(target=stall, args=(pid, is_testing, random.Random()), daemon=True).start()
