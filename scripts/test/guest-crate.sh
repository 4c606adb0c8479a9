#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs the crate's own tests, its example, programs that strace traces, the example
# in C of docs/abi.md and the tests of libflexsc in the test machine with the module.

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

# In the document, the parent of the process is 88.
example_in_c() {
	sed "s/^call 110: 88,/call 110: $$,/" /crate/example.out > wanted
	[ -s wanted ] && /crate/example > printed && diff wanted printed
}

# Checks that a traced program does the same, with calls that the tracer sees.
traced_hello() {
	strace -f -o log /crate/hello > printed || return 1
	cat printed
	[ "$(grep -c 'hello from a syscall page' printed)" = 1 ] &&
		grep 'getppid()' log && grep 'write(1, "hello from a syscall page' log
}

# until_true COMMAND...: waits until COMMAND succeeds.
until_true() {
	tries=0
	until "$@"; do
		tries=$((tries + 1))
		[ "$tries" -lt 600 ] || { echo "never: $*"; return 1; }
		sleep 0.1
	done
}

# say LINE: sends a line to the program and waits for the answer.
say() {
	echo "$1" >&3
	until_true grep -qx "$1" answers
}

# traced_server [OPTION]: attaches a tracer to a running program and detaches it, twice.
traced_server() {
	ok=1
	rm -f lines
	mkfifo lines
	/crate/server < lines > answers &
	server=$!
	exec 3> lines
	say before || ok=
	for round in first second; do
		strace "$@" -o "log.$round" -p "$server" 2> "tracer.$round" &
		tracer=$!
		until_true grep -q "Process $server attached" "tracer.$round" || ok=
		say "$round.traced.1" && say "$round.traced.2" || ok=
		kill -INT "$tracer"
		wait "$tracer"
		say "$round.alone" || ok=
	done
	exec 3>&-
	wait "$server" || { echo "the server ended with status $?"; ok=; }
	cat answers
	[ "$ok" ] || return 1
	# The tracer sees the calls that are executed while it is attached. Before and after, the kernel
	# executes what the server posts: of its 16 calls, at least the 4 writes made then.
	grep 'write(1, "first.traced.2' log.first && grep 'write(1, "second.traced.2' log.second || return 1
	! grep 'write(1, ".*\(before\|alone\)' log.first log.second || return 1
	plain=$(sed -n 's/^plain calls: //p' answers)
	[ "$(wc -l < answers)" = 8 ] && [ "$plain" -ge 4 ] && [ "$plain" -le 12 ]
}

# Tests of times and pollers first: the many tests of operations would keep the processors busy.
/crate/live --skip operations:: --skip futures:: --skip executors:: --skip streams:: --skip servers:: || rc=1
/crate/live operations:: futures:: executors:: streams:: servers:: || rc=1
echo
echo 'running the example'
result /crate/hello
echo
echo 'running the example with strace'
result traced_hello
echo
echo 'running a server while strace attaches and detaches'
result traced_server
echo
echo 'running a server while strace -f attaches and detaches'
result traced_server -f
echo
echo 'running the example in C'
result example_in_c
echo
echo 'running the tests of libflexsc, with the engine'
result /crate/calls engine
echo
echo 'running them with plain calls'
mv /dev/flexsc /dev/flexsc.hidden
result /crate/calls
mv /dev/flexsc.hidden /dev/flexsc
exit $rc
