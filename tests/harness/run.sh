#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# run.sh: tests the test harness itself.
#
# First tests the judge on recorded texts, then plants faults in the real
# machine: each must be reported by name and make ktest.sh fail. Any kernel will
# do, without the module. FLEXSC_TEST_KERNEL names a kernel directory.

set -euo pipefail
export PROG=harness
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"
here=$ROOT/tests/harness

kernel=${FLEXSC_TEST_KERNEL:-}
for config in perf nopatch off debug; do
	[[ -z $kernel && -r $ROOT/build/kernel-$config/bzImage ]] && kernel=$ROOT/build/kernel-$config
done
[[ -n $kernel ]] || die "there is no kernel in build/: run scripts/build-kernel.sh first."

KTEST_WORK=$(mktemp -d "${TMPDIR:-/tmp}/ktest-harness.XXXXXX")
export KTEST_WORK KTEST_QUIET=1 KTEST_GRACE=2 KTEST_KMEMLEAK=no
trap 'rm -rf "$KTEST_WORK"' EXIT

passed=0 failed=0 case='' output='' code=0 begun=0 bad=''

# start NAME ARGUMENT...: runs ktest.sh once and keeps its output and exit code. With slow=1 in front,
# the machine is emulated and stands still for four fifths of the time. With stuck=N, the emulator's
# first N machines do not start.
start() {
	local accel=${slow:+tcg}${stuck:+tcg} with=''
	[[ -z ${slow:-} ]] || with=$here/slow:
	[[ -z ${stuck:-} ]] || with=$here/stuck:
	rm -f "$KTEST_WORK/starts"
	case=$1 begun=$SECONDS bad=''
	shift
	set +e
	output=$(STUCK_COUNT=$KTEST_WORK/starts STUCK=${stuck:-0} PATH=$with$PATH FLEXSC_ACCEL=${accel:-${FLEXSC_ACCEL:-}} "$ROOT/scripts/ktest.sh" --no-build --no-module --kernel "$kernel" \
		--bin "$here/planted.sh" "$@" 2>"$KTEST_WORK/stderr")
	code=$?
	set -e
}

# Expectations about the run; finish reports the first that fails.
says() { grep -q -x -E -- "$1" <<<"$output" || bad=${bad:-"no line '$1' in its output"}; }
errs() { grep -q -x -E -- "$1" "$KTEST_WORK/stderr" || bad=${bad:-"no line '$1' in its error output"}; }
ends() { [[ $code == "$1" ]] || bad=${bad:-"exit code $code instead of $1"}; }

# finish: prints the verdict on this case.
finish() {
	if [[ -z $bad ]]; then
		passed=$((passed + 1))
		printf '  %-7s %-40s %4d s\n' ok "$case" $((SECONDS - begun))
		return
	fi
	failed=$((failed + 1))
	printf '  %-7s %-40s %4d s  %s\n' FAILED "$case" $((SECONDS - begun)) "$bad"
	{ printf '%s\n' "$output"; cat "$KTEST_WORK/stderr"; } | sed 's/^/            /'
}

# shellcheck source=scripts/vm/kunit.sh
. "$ROOT/scripts/vm/kunit.sh"
FLEXSC_KUNIT=$(find_kunit)
export FLEXSC_KUNIT
# Test the judge on recorded texts: each test prints "NAME ... ok" or another word.
unit=$(python3 -B -m unittest discover -v -s "$here" -p 'test_*.py' 2>&1) || failed=1
passed=$(grep -c ' \.\.\. ok$' <<<"$unit") || failed=1
if ((failed)); then
	printf '%s\n' "$unit"
	failed=$(grep -c -E ' \.\.\. (FAIL|ERROR)$' <<<"$unit") || failed=1
fi
printf '  judge: %s unit tests passed, %s failed\n' "$passed" "$failed"

# parts NAME CODE LINE SCRIPT: checks that SCRIPT, which uses scripts/test/count.sh, prints LINE and exits
# with CODE.
parts() {
	case=$1 begun=$SECONDS bad=''
	set +e
	# shellcheck disable=SC2016  # for the other shell
	output=$(bash -c 'set -euo pipefail; source "$1/scripts/lib.sh"; source "$1/scripts/test/count.sh"
		start_counting "$2"; eval "$3"; finish' count "$ROOT" "$KTEST_WORK/parts" "$4" 2>"$KTEST_WORK/stderr")
	code=$?
	set -e
	says "$3"
	ends "$2"
	finish
}

parts 'parts that pass' 0 '4 passed, 0 failed, 1 skipped' \
	'part a one true; part b lines echo "3 passed, 0 failed, 1 skipped"'
parts 'a part that fails' 1 '1 passed, 1 failed' 'part a one true; part b one false'
parts 'a part that fails and counts no failure' 1 '2 passed, 1 failed' \
	'f() { echo 2 passed, 0 failed; return 1; }; part a lines f'
parts 'a part that counts nothing' 1 '0 passed, 1 failed' 'part a lines true'
parts 'a part whose program failed' 1 '1 passed, 2 failed' \
	'part a cargo echo "test result: FAILED. 1 passed; 2 failed; 0 ignored"'
parts 'a part that needs another' 1 '0 passed, 2 failed' "part a one false; part_if \"\$part_result\" b one true"
parts 'a lane that dies' 1 '1 passed, 1 failed' \
	"f() { part b one true; kill -KILL \$BASHPID; }; lane l f; part a one true; join_lanes"
parts 'what failed is repeated at the end' 1 '    a b:' \
	"f() { echo FAILED c: why; false; }; part 'a b' one f"
parts 'no part at all' 1 '0 passed, 0 failed' :

# objects NAME CODE COUNTS: checks that scripts/test/objects.sh exits with CODE for a kernel with these counts.
objects() {
	case=$1 begun=$SECONDS bad=''
	printf '%b' "$3" >"$KTEST_WORK/objects"
	set +e
	output=$("$ROOT/scripts/test/objects.sh" perf "$KTEST_WORK/objects" 2>"$KTEST_WORK/stderr")
	code=$?
	set -e
	ends "$2"
	finish
}

objects 'a kernel with few objects' 0 'of these C 1000\nlinked 1000\n'
objects 'a kernel that compiles too many' 1 'of these C 9000\nlinked 1000\n'
most=$(awk '$1 == "perf" { print $3 }' "$ROOT/scripts/objects")
own=$(($(find "$ROOT/kernel" -name '*.c' | wc -l) + 1))
objects 'a kernel that compiles as many as it may' 0 "of these C $((most + own))\\nlinked 1000\\n"
objects 'a kernel that compiles one too many' 1 "of these C $((most + own + 1))\\nlinked 1000\\n"
objects 'a kernel that links too many' 1 'of these C 1000\nlinked 9000\n'
objects 'a kernel whose objects are unknown' 1 'of these C 1000\n'

start 'a good run' -k good
says '  ok +good_one +[0-9.]+ s +[0-9.]+ s of CPU time'
says 'ktest-result: .* passed=2 failed=0 skipped=0 .*'
says '2 passed, 0 failed'
ends 0
finish

# One machine for all faults that a test can survive, with a panic at the end.
start 'failures, splats, a hang, a panic' --limit 2 \
	-k 'good_one skipped failing hang crash warn oops_line panic never'
says 'FAILED failing: exit code 1'
says 'FAILED noisy_failing: exit code 3'
says 'FAILED hang: limit of [0-9]+ s hit'
says 'FAILED crash: ended by signal 11'
says 'FAILED warn: kernel log: WARNING: .*'
says 'FAILED oops_line: kernel log: rust_kernel: panicked .*'
says 'FAILED panic: kernel log: Kernel panic - not syncing: .*'
says 'FAILED never_reached: did not run'
says 'FAILED vm: .*no end marker; no exit code'
says '1 passed, 9 failed, 1 skipped'
ends 1
finish

# On a machine that is not ours, the runner itself reads the kernel log. The host judges the log of this
# machine as well, so the command fails.
start 'the runner reads the kernel log' --run \
	'KT_HERE=1 KT_BIN=/ktest/tests KT_FILTER="good_one warn" KT_MODULE= sh /ktest/run-tests.sh'
says 'ok 1 good_one'
says '# reason: kernel log: WARNING: .*'
says 'not ok 2 warn'
ends 1
finish

start 'the machine restarts' -k 'good_one reboot never'
says 'FAILED reboot: the machine stopped or restarted during this test'
says 'FAILED never_reached: did not run'
says 'FAILED vm: the plan says 3 results and 1 came; no end marker; no exit code'
ends 1
finish

start 'a short plan, no exit code' -k 'good_one no_exit_code short_plan never'
says 'FAILED never_reached: did not run'
says 'FAILED vm: the plan says 4 results and 3 came; no exit code'
says '3 passed, 2 failed'
ends 1
finish

start 'the runner dies' -k 'kill_runner never'
says 'FAILED kill_runner: did not run|FAILED kill_runner: .*stopped.*'
says 'FAILED vm: the plan says 2 results and 0 came; .*exit code is 137'
ends 1
finish

start 'the machine hangs' --limit 1 -k stop_runner
says 'FAILED stop_runner: the machine hangs: limit per test .*'
ends 1
finish

# The limits assume a machine of the usual speed, so they are longer here; a hang is still detected.
slow=1 start 'a slow machine' --limit 4 -k 'work hang'
says '  ok +work +[0-9.]+ s +[0-9.]+ s of CPU time'
says 'FAILED hang: limit of ([5-9]|[1-9][0-9]+) s hit'
says '1 passed, 1 failed'
errs '.*: [0-9.]+ times as slow as usual, so are the limits'
ends 1
finish

start 'no boot' --boot-limit 3 --append 'rdinit=/nonexistent root=/dev/none rootwait'
says "FAILED boot: limit for the boot of [0-9]+ s hit, (after '.*'|and the console is empty)"
says 'FAILED vm: no KTAP plan; no end marker; no exit code'
ends 1
finish

stuck=1 start 'no boot at first' --boot-limit 15 -k good_one
says '1 passed, 0 failed'
errs "note: the emulated machine did not boot \\(limit for the boot of [0-9]+ s hit, and the console is empty\\);.*"
ends 0
finish

stuck=2 start 'no boot twice' --boot-limit 3 -k good_one
says 'FAILED boot: limit for the boot of [0-9]+ s hit, and the console is empty'
says '0 passed, 2 failed'
ends 1
finish

start 'no such test' -k nothing_like_this
says "FAILED vm: no test matches 'nothing_like_this'"
ends 1
finish

echo 'from outside' >"$KTEST_WORK/in"
start 'a command, a file in, a file out' --add "$KTEST_WORK/in:/data/in" \
	--get "/data/out:$KTEST_WORK/out" --run 'tr a-z A-Z < /data/in > /data/out; echo done; exit 7'
says "done"
[[ $output == "done" ]] || bad=${bad:-more than the command printed was printed}
[[ $(cat "$KTEST_WORK/out") == 'FROM OUTSIDE' ]] || bad=${bad:-the file did not come back}
ends 7
finish

start 'a command that does not end' --total-limit 8 --run 'echo on; sleep 1000'
says on
errs 'FAILED vm: total limit of [0-9]+ s hit'
ends 1
finish

printf '%d passed, %d failed\n' "$passed" "$failed"
((failed == 0))
