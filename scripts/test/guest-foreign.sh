#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# A kernel without the core patches refuses flexsc.ko because of symbols that it
# does not have, and goes on as if nothing had happened.

fail() {
	echo "FAILED nopatch: $*"
	exit 1
}

for i in 1 2; do
	if insmod /test/flexsc.ko > /tmp/said 2>&1; then
		fail 'insmod succeeds'
	fi
	cat /tmp/said
done
dmesg | grep -q 'flexsc: Unknown symbol' || {
	dmesg | tail -n 20
	fail 'no unknown symbol in the kernel log'
}
if [ -d /sys/module/flexsc ] || [ -e /dev/flexsc ]; then
	fail 'something of the module is left'
fi
# It goes on: processes, files, modules' list.
i=0
while [ $i -lt 50 ]; do
	cat /proc/modules > /tmp/modules || fail 'the machine does not go on'
	i=$((i + 1))
done
[ ! -s /tmp/modules ] || fail 'the list of modules is not empty'
[ "$(cat /proc/sys/kernel/tainted)" = 0 ] || echo "note: taint is $(cat /proc/sys/kernel/tainted)"
dmesg | grep 'flexsc: Unknown symbol' | head -n 3
