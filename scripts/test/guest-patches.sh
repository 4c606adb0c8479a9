#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# guest-patches.sh on|off: tests a kernel with some of the patches, without the
# module.  With "on" it has all of /symbols, which its patches export, and the
# option SYSCALL_THREADS; with "off" it has none of these.  Plain calls work as usual.

fail() {
	echo "FAILED patches: $*"
	exit 1
}

# has SYMBOL: succeeds if the kernel has SYMBOL.
has() { grep -q " [A-Za-z] $1\$" /proc/kallsyms; }
option() { zcat /proc/config.gz | grep -q '^CONFIG_SYSCALL_THREADS=y$'; }

[ -s /symbols ] || fail 'there is no list of symbols'
has do_exit || fail 'symbols cannot be found here'
while read -r symbol; do
	if [ "$1" = on ]; then
		has "$symbol" || fail "$symbol, which a patch exports, is not in the kernel"
	else
		! has "$symbol" || fail "$symbol, which a patch exports, is in the kernel"
	fi
done < /symbols
if [ "$1" = on ]; then
	option || fail 'the option SYSCALL_THREADS is off'
else
	! option || fail 'the option SYSCALL_THREADS is on'
fi
[ ! -e /dev/flexsc ] || fail 'there is a /dev/flexsc'

mkdir -p /tmp/tree/a/b
echo text > /tmp/tree/a/b/file
flexsc-copy --plain /tmp/tree /tmp/plain || fail 'flexsc-copy cannot copy with plain calls'
diff -r /tmp/tree /tmp/plain || fail 'the plain copy differs'
# The tests that need no module.
for name in checks.process_left checks.test_that_fails differential.plain_twice; do
	flexsc-tests run "$name" || fail "the test $name"
done
echo "a kernel $(uname -r) with $(wc -l < /symbols) symbols of the patches, $1, works"
