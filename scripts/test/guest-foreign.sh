#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# A kernel that was not built here refuses flexsc.ko with one clear line in its log and
# keeps working; our programs say what is missing.

fail() {
	echo "FAILED foreign: $*"
	exit 1
}

modules=$(wc -l < /proc/modules)
for i in 1 2; do
	if insmod /test/flexsc.ko > /tmp/said 2>&1; then
		fail 'insmod succeeds'
	fi
	cat /tmp/said
done
# The kernel checks the release and the configuration first, then the symbols.
dmesg | grep 'flexsc: version magic\|flexsc: Unknown symbol' > /tmp/reasons || {
	dmesg | tail -n 20
	fail 'no reason in the kernel log'
}
head -n 1 /tmp/reasons
if [ -d /sys/module/flexsc ] || [ -e /dev/flexsc ]; then
	fail 'part of the module is left'
fi

if flexsc doctor > /tmp/said 2>&1; then
	fail 'flexsc doctor finds nothing wrong'
fi
cat /tmp/said
grep -q '^FAIL kernel .*without the FlexSC patches' /tmp/said || fail 'flexsc doctor does not blame the kernel'
mkdir -p /tmp/tree
echo text > /tmp/tree/file
if flexsc-copy --flexsc /tmp/tree /tmp/copy > /tmp/said 2>&1; then
	fail 'flexsc-copy found an engine'
fi
cat /tmp/said
[ -s /tmp/said ] || fail 'flexsc-copy does not say what is missing'
flexsc-copy --plain /tmp/tree /tmp/plain || fail 'flexsc-copy cannot copy with plain calls'
diff -r /tmp/tree /tmp/plain || fail 'the plain copy differs'

# Processes, files and the list of modules still work.
i=0
while [ $i -lt 50 ]; do
	cat /proc/modules > /tmp/modules || fail 'the machine does not keep working'
	i=$((i + 1))
done
[ "$(wc -l < /tmp/modules)" = "$modules" ] || fail 'the list of modules has changed'
[ "$(cat /proc/sys/kernel/tainted)" = 0 ] || echo "note: taint is $(cat /proc/sys/kernel/tainted)"
echo "the kernel $(uname -r) refuses the module and keeps working"
