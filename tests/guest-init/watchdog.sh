#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# watchdog.sh DIR USUAL LIMIT: kills tests that take more than LIMIT seconds.  LIMIT
# is USUAL scaled by the speed of the machine at the start.  The machine may have
# become slower since, so its speed is measured again at the limit.
#
# DIR/watched names the process group of the running test and the second of the
# up-time at which its limit ends.  When a test is killed, its limit is written to
# DIR/late; on the test machine, the stacks of blocked tasks go to the kernel log
# first.  A group that survives SIGKILL is stuck in the kernel: its stacks go to
# the log again, and the host's own limit ends the machine.

more=0 more_for=
pause=3
[ "$2" -gt 10 ] || pause=1

# Processes that start and end repeatedly would disturb tests that count kernel objects.  If the
# shell can, it waits with a timeout for input that never comes.
nap() { sleep $pause; }
# shellcheck disable=SC3045  # not every shell has -t, so it is tried first
if (echo | read -t 1 -r _) 2>/dev/null && mkfifo "$1/tick" && exec 3<>"$1/tick"; then
	nap() { read -t $pause -r _ <&3 || :; }
fi

while nap && [ -d "$1" ]; do
	pid=
	read -r pid end < "$1/watched"
	[ -n "$pid" ] || continue
	read -r now _ < /proc/uptime
	[ "$pid" = "$more_for" ] || more=0
	[ "${now%.*}" -ge $((end + more)) ] || continue
	slow=$(sh "$FLEXSC_TEST_SPEED")
	if [ $(($2 * slow / 100)) -gt $(($3 + more)) ]; then
		more_for=$pid
		more=$(($2 * slow / 100 - $3))
		[ -n "$KT_HERE" ] || echo "slow $slow" > /dev/ttyS2
		continue
	fi
	[ -n "$KT_HERE" ] || echo w > /proc/sysrq-trigger
	# Is it still the same test?
	read -r again _ < "$1/watched"
	[ "$again" = "$pid" ] || continue
	echo $(($3 + more)) > "$1/late"
	kill -KILL "-$pid" 2>/dev/null || kill -KILL "$pid" 2>/dev/null
	[ -z "$KT_HERE" ] || continue
	sleep 5
	kill -0 "-$pid" 2>/dev/null && {
		echo '<4>flexsc-ktest: a test outlives SIGKILL; blocked tasks and CPUs follow' > /dev/kmsg
		echo w > /proc/sysrq-trigger
		echo l > /proc/sysrq-trigger
	}
done
