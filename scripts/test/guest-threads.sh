#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs a program with threads under libflexsc_threads.so in the test machine, and records the user
# address of each system call with the tracepoint raw_syscalls:sys_enter. Once the first thread has
# started, all calls must come from the library, except those that are left at their sites on
# purpose.
# Then runs programs with user-level threads, and compares what they print.

# shellcheck disable=SC2317  # functions that "result" calls

cd /tmp || exit 1
tracing=/sys/kernel/tracing
mkdir -p "$tracing"
[ -e "$tracing/trace" ] || mount -t tracefs tracefs "$tracing" || exit 1

# A shell of its own, so that only the program and its threads are traced.
trace() {
	echo 0 > "$tracing/tracing_on"
	echo 8192 > "$tracing/buffer_size_kb"
	echo > "$tracing/trace"
	echo 1 > "$tracing/options/userstacktrace"
	echo 1 > "$tracing/options/event-fork"
	echo 1 > "$tracing/events/raw_syscalls/sys_enter/enable"
	echo 1 > "$tracing/tracing_on"
	rm -f log
	sh -c 'echo $$ > /sys/kernel/tracing/set_event_pid
		FLEXSC_THREADS_LOG=/tmp/log LD_PRELOAD=/threads/libflexsc_threads.so exec "$0"' "$1" > out
	rc=$?
	echo 0 > "$tracing/tracing_on"
	cat "$tracing/trace" > trace
	return "$rc"
}

# missed: prints the numbers of calls that did not come from the library, and finally how many calls
# there were.  After a line "sys_enter: NR 39 (...)" comes the task's stack, the call's address first.
missed() {
	awk -v log_line="$(grep 'the library is from' log)" '
		# awk has no numbers of this size, so addresses are compared as strings of equal length.
		function hex(text) {
			sub(/^.*0x/, "", text)
			while (length(text) < 16)
				text = "0" text
			return "x" text
		}
		BEGIN {
			split(log_line, words, /the library is from |, its| to /)
			from = hex(words[2])
			to = hex(words[3])
		}
		/sys_enter: NR / {
			nr = $0
			sub(/^.*NR /, "", nr)
			sub(/ .*/, "", nr)
			nrs[$1] = nr
			next
		}
		# Another processor may have written a line in between.
		/<user stack trace>/ {
			nr = nrs[$1]
			is_first = 1
			next
		}
		/=> / && is_first {
			is_first = 0
			at = $0
			sub(/^.*</, "", at)
			sub(/>.*/, "", at)
			at = hex(at)
			# Every thread begins with clone3.
			if (nr == 435)
				threads++
			if (!threads)
				next
			calls++
			if ((at < from || at >= to) && nr != 435 && nr != 56 && nr != 15)
				print "missed", nr, at
		}
		END { print "calls", calls + 0, "threads", threads + 0 }' trace
}

# result NAME CONDITION...: counts a test.
result() {
	name=$1
	shift
	if "$@"; then
		echo "test result: ok. 1 passed; 0 failed; 0 ignored ($name)"
	else
		echo "test result: FAILED. 0 passed; 1 failed; 0 ignored ($name)"
		rc_all=1
		head -n 20 seen log
	fi
}

rc_all=0
none_missed() {
	trace /threads/threads || return 1
	missed > seen
	tail -n 1 seen
	# Eleven threads, and more calls than that.
	! grep -q missed seen && grep -q 'calls [0-9][0-9][0-9]* threads 11$' seen
}

own_seen() {
	trace /threads/own || return 1
	missed > seen
	[ "$(grep -c missed seen)" = 1 ] && grep -q 'missed 110 ' seen
}

# same PROGRAM: prints the same with user-level threads as natively.
same() {
	"/threads/$1" > native || return 1
	rm -f log
	FLEXSC_THREADS=user FLEXSC_THREADS_LOG=/tmp/log LD_PRELOAD=/threads/libflexsc_threads.so \
		"/threads/$1" > seen || return 1
	grep 'calls handed over' log
	grep -q 'threads are user-level threads' log && cmp native seen
}

result 'no call is missed' none_missed
result 'a call that is missed is seen' own_seen
result 'many user-level threads' same many
result 'user-level threads that read and write' same traffic
for name in locks signals cancel spin; do
	result "user-level threads: $name" same "$name"
done
exit "$rc_all"
