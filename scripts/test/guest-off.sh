#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# A kernel that has the patches and FlexSC switched off boots and has no trace
# of it; flexsc-copy still copies with plain calls and says why not otherwise.

fail() {
	echo "FAILED off: $*"
	exit 1
}

if zcat /proc/config.gz | grep '^CONFIG_\(FLEXSC\|SYSCALL_THREADS\)='; then
	fail 'this kernel is configured with FlexSC'
fi
[ ! -e /dev/flexsc ] || fail 'there is a /dev/flexsc'
if grep -q ' [Tt] syscall_invoke$' /proc/kallsyms; then
	fail 'the core code is in this kernel'
fi
mkdir -p /tmp/tree/a/b
echo text > /tmp/tree/a/b/file
if flexsc-copy --flexsc /tmp/tree /tmp/copy > /tmp/said 2>&1; then
	fail 'flexsc-copy found an engine'
fi
cat /tmp/said
grep -q . /tmp/said || fail 'flexsc-copy does not say what is missing'
flexsc-copy --plain /tmp/tree /tmp/plain || fail 'flexsc-copy cannot copy with plain calls'
diff -r /tmp/tree /tmp/plain || fail 'the plain copy differs'
echo 'the kernel without FlexSC works'
