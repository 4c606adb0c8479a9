#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# guest-off.sh: a kernel that has the patches and FlexSC switched off boots and
# has no trace of it: none of /symbols, which the patches export.  flexsc-copy
# still copies with plain calls and says why not otherwise.
# guest-off.sh present: a kernel with FlexSC has each of them.

fail() {
	echo "FAILED off: $*"
	exit 1
}

# What the kernel has of a symbol.
has() { grep -q " [A-Za-z] $1\$" /proc/kallsyms; }

[ -s /symbols ] || fail 'the patches export nothing'
while read -r symbol; do
	if [ "$1" = present ]; then
		has "$symbol" || fail "$symbol, which a patch exports, is not in the kernel"
	elif has "$symbol"; then
		fail "$symbol, core code of FlexSC, is in this kernel"
	fi
done < /symbols
if [ "$1" = present ]; then
	echo "the kernel has all $(wc -l < /symbols) symbols of the patches"
	exit 0
fi

if zcat /proc/config.gz | grep '^CONFIG_\(FLEXSC\|SYSCALL_THREADS\)='; then
	fail 'this kernel is configured with FlexSC'
fi
[ ! -e /dev/flexsc ] || fail 'there is a /dev/flexsc'
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
