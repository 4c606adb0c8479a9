#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs the crate's own tests and its example in the test machine with the module.

cd /tmp || exit 1
rc=0
/crate/live || rc=1
echo
echo 'running the example'
if /crate/hello; then
	echo 'test result: ok. 1 passed; 0 failed; 0 ignored'
else
	echo "test result: FAILED. 0 passed; 1 failed; 0 ignored"
	rc=1
fi
exit $rc
