#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# A test program full of planted faults, with the interface of flexsc-tests. The
# runner is our parent; its list of tests is $list.

# shellcheck disable=SC2012  # the runner has one directory, whose name is known
list=$(ls -d /tmp/ktest.*/list 2>/dev/null | tail -n 1)

case $1 in
--list)
	echo good_one good_two skipped failing noisy_failing hang crash warn oops_line no_exit_code \
		short_plan kill_runner reboot stop_runner panic never_reached work | tr ' ' '\n'
	;;
run)
	case $2 in
	good_*) echo "# fine" ;;
	skipped) echo "# SKIP no such device"; exit 77 ;;
	failing) echo "# expected 1, got 2"; exit 1 ;;
	noisy_failing) printf 'not ok 1 good_one\n1..9\nKTAP version 1\n'; exit 3 ;;
	hang) exec sleep 1000 ;;
	# Takes 2 s on a machine of the usual speed.
	work) for _ in 1 2 3 4; do sh /ktest/speed.sh; done ;;
	crash) kill -SEGV $$ ;;
	warn) echo '<4>WARNING: CPU: 0 PID: 1 at planted.c:1 planted+0x1/0x2' > /dev/kmsg ;;
	oops_line) echo '<0>rust_kernel: panicked at planted.rs:1:1' > /dev/kmsg; exit 77 ;;
	short_plan) : > "$list" ;;
	no_exit_code) rm /dev/ttyS2 ;;
	kill_runner) kill -KILL $PPID ;;
	reboot) reboot -f ;;
	stop_runner) kill -STOP $PPID; sleep 1000 ;;
	panic) echo c > /proc/sysrq-trigger ;;
	*) exit 5 ;;
	esac
	;;
esac
