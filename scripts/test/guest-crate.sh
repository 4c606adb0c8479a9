#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs the crate's own tests, its example and the example in C of docs/abi.md in
# the test machine with the module.

# shellcheck disable=SC2317  # functions that "result" calls

cd /tmp || exit 1
rc=0

# result COMMAND...: counts COMMAND as one test.
result() {
	if "$@"; then
		echo 'test result: ok. 1 passed; 0 failed; 0 ignored'
	else
		echo 'test result: FAILED. 0 passed; 1 failed; 0 ignored'
		rc=1
	fi
}

# The document's process has the parent 88.
example_in_c() {
	sed "s/^call 110: 88,/call 110: $$,/" /crate/example.out > wanted
	[ -s wanted ] && /crate/example > printed && diff wanted printed
}

# Tests of times and pollers first: the many tests of operations would keep the processors busy.
/crate/live --skip operations:: || rc=1
/crate/live operations:: || rc=1
echo
echo 'running the example'
result /crate/hello
echo
echo 'running the example in C'
result example_in_c
exit $rc
