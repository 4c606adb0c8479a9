#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# guest-off.sh: a kernel that has the patches, but FlexSC switched off, boots and
# has no trace of it: none of /symbols, which the patches export, no option, no
# device.  flexsc-copy still copies with plain calls and says why it cannot use pages.
# guest-off.sh present: the same checks find all of these on a kernel with FlexSC.

fail() {
	echo "FAILED off: $*"
	exit 1
}

# has SYMBOL: succeeds if the kernel itself has SYMBOL. The lines of a module's symbols end with its name.
has() { grep -q " [A-Za-z] $1\$" /proc/kallsyms; }
options() { zcat /proc/config.gz | grep '^CONFIG_\(FLEXSC\|SYSCALL_THREADS\)='; }

[ -s /symbols ] || fail 'the patches export nothing'
if [ "$1" = present ]; then
	while read -r symbol; do
		has "$symbol" || fail "$symbol, which a patch exports, is not in the kernel"
	done < /symbols
	[ "$(options | wc -l)" = 2 ] || fail 'the options are not in /proc/config.gz'
	[ -e /dev/flexsc ] || fail 'there is no /dev/flexsc'
	[ -d /sys/module/flexsc ] || fail 'there is no module'
	echo "the kernel has all $(wc -l < /symbols) symbols of the patches, the options, the device"
	exit 0
fi
while read -r symbol; do
	! has "$symbol" || fail "$symbol, core code of FlexSC, is in this kernel"
done < /symbols
! options || fail 'this kernel is configured with FlexSC'
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
