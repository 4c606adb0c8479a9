#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# speed.sh: prints how slow this machine is, in percent of the one that the time
# limits were made on: 100 there and on all that are faster, 1000 at most.
#
# The same piece of work on two processors at once, where there are two: an
# emulator shares the host's with all that it has to do besides.

# What one piece takes, in hundredths of a second, on two idle processors of
# 2.6 GHz that emulate (QEMU 7.2).
usual=40

piece() {
	i=0
	while [ $i -lt 16000 ]; do i=$((i + 1)); done
}

now() {
	read -r up _ < /proc/uptime
	# Not with zeros in front: those are octal numbers.
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
