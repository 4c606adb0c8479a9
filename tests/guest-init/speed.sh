#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# speed.sh: prints how slow this machine is, in percent: 100 for the machine that
# the time limits are made for and for faster machines, at most 1000.
#
# It does the same work on two processors at once, if there are two, because an
# emulator shares the host's processors with other programs.

# Hundredths of a second that the work takes in QEMU 7.2 on two idle processors
# of 2.6 GHz.
usual=40

piece() {
	i=0
	while [ $i -lt 16000 ]; do i=$((i + 1)); done
}

now() {
	read -r up _ < /proc/uptime
	# The leading 1 keeps "08" from being read as an octal number.
	echo $((${up%.*} * 100 + 1${up#*.} - 100))
}

begun=$(now)
[ "$(nproc)" = 1 ] || piece &
piece
wait
slow=$((($(now) - begun) * 100 / usual))
[ $slow -gt 100 ] || slow=100
[ $slow -lt 1000 ] || slow=1000
echo $slow
