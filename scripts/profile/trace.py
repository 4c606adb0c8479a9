#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Makes the emulator behind a QMP socket log each instruction for a moment, then ends it."""

from __future__ import annotations

import json
import socket
import sys
import time

# Long enough for some hundreds of batches of 64.
MOMENT = 0.5


class Monitor:
    """A connection to the emulator's monitor."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.file = self.socket.makefile("rw")
        self.file.readline()
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: str) -> str:
        self.file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.file.flush()
        while line := self.file.readline():
            answer = json.loads(line)
            if "error" in answer:
                sys.exit(f"profile: the emulator refuses {command}: {answer['error']['desc']}")
            if "return" in answer:
                return str(answer["return"])
        return ""

    def type(self, line: str) -> str:
        """Executes a command of the human monitor, and returns its error message."""
        return self.execute("human-monitor-command", **{"command-line": line})


def main() -> None:
    monitor = Monitor(sys.argv[1])
    # One instruction for each block of translated code. Before QEMU 8.1 the command was singlestep.
    if "unknown command" in monitor.type("one-insn-per-tb on"):
        monitor.type("singlestep on")
    monitor.type("log exec,nochain")
    time.sleep(MOMENT)
    monitor.type("log none")
    monitor.execute("quit")


if __name__ == "__main__":
    main()
