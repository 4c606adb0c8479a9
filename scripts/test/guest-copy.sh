#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs flexsc-copy's table of odd trees in the test machine: through syscall
# pages, as root, in memory.  The machine has no GNU cp; the tests on the host compare with it.

mkdir -p /run/table
mount -t tmpfs table /run/table || exit 1
chmod 1777 /run/table
cd /run/table || exit 1
export TMPDIR=/run/table FLEXSC_COPY=/bin/flexsc-copy FLEXSC_COPY_WAY=--flexsc
/copy/table || exit 1
# Check that copies are made through pages.
mkdir source
echo text > source/file
flexsc-copy --report /run/report source target || exit 1
grep -x 'mode=flexsc' /run/report && grep -x 'fallbacks=0' /run/report
