#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# watchdog.sh DIR LIMIT: ends tests that take more than LIMIT seconds.
#
# DIR/watched names the process group of the test that runs, and the second of
# the up-time that is its last.  The file DIR/late is the sign that the limit was
# hit; in the test machine the stacks of blocked tasks go to the kernel log
# first.  A group that outlives SIGKILL is stuck in the kernel: its stacks go to
# the log again, and the host's own limit ends the machine.

pause=3
[ "$2" -gt 10 ] || pause=1
while sleep $pause && [ -d "$1" ]; do
	pid=
	read -r pid end < "$1/watched"
	[ -n "$pid" ] || continue
	read -r now _ < /proc/uptime
	[ "${now%.*}" -ge "$end" ] || continue
	[ -n "$KT_HERE" ] || echo w > /proc/sysrq-trigger
	# Is it still that one?
	read -r again _ < "$1/watched"
	[ "$again" = "$pid" ] || continue
	echo "$2" > "$1/late"
	kill -KILL "-$pid" 2>/dev/null || kill -KILL "$pid" 2>/dev/null
	[ -z "$KT_HERE" ] || continue
	sleep 5
	kill -0 "-$pid" 2>/dev/null && {
		echo '<4>flexsc-ktest: a test outlives SIGKILL; blocked tasks and CPUs follow' > /dev/kmsg
		echo w > /proc/sysrq-trigger
		echo l > /proc/sysrq-trigger
	}
done
