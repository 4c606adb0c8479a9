#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# watchdog.sh PID SECONDS MARK: after SECONDS ends the process group PID.
#
# Leaves the file MARK as the sign that the limit was hit; in the test machine
# the stacks of blocked tasks go to the kernel log first.  A group that outlives
# SIGKILL is stuck in the kernel: its stacks go to the log again, and the host's
# own limit ends the machine.

sleep "$2"
echo "$2" > "$3"
[ -n "$KT_HERE" ] || echo w > /proc/sysrq-trigger
kill -KILL "-$1" 2>/dev/null || kill -KILL "$1" 2>/dev/null
[ -z "$KT_HERE" ] || exit 0
sleep 5
kill -0 "-$1" 2>/dev/null && {
	echo '<4>flexsc-ktest: a test outlives SIGKILL; blocked tasks and CPUs follow' > /dev/kmsg
	echo w > /proc/sysrq-trigger
	echo l > /proc/sysrq-trigger
}
