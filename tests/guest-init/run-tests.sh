#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# run-tests.sh [-k FILTER] [-l]: runs the guest tests and prints KTAP.
#
# Plain sh, for busybox and for a full system.  /ktest/conf or the environment:
#   KT_BIN          test program: `KT_BIN --list`, `KT_BIN run NAME`
#   KT_FILTER       substring or glob of test names, several separated by spaces
#   KT_TEST_LIMIT   seconds per test, on a machine of the usual speed
#   KT_MODULE       module to load first and to unload last (empty: none)
#   KT_MODULE_ARGS  its parameters
#   KT_KMEMLEAK     "must": the leak scan is part of the plan; "no": it is not
#   KT_HERE         not empty: the machine is not ours, so change nothing on it
#
# Before and after each test a marker goes to the kernel log.  A line between them
# that looks like a kernel fault (splats.ere) fails the test.  Few programs are
# started for each test, because a debug kernel starts them slowly.

dir=$(cd "$(dirname "$0")" && pwd) || exit 2
if [ -z "$KT_HERE" ] && [ -r /ktest/conf ]; then
	# shellcheck source=/dev/null
	. /ktest/conf
fi
export KT_HERE
: "${KT_TEST_LIMIT:=30}"
# How slow the machine is, in percent of the usual one. It is measured again if a test reaches its limit.
export FLEXSC_TEST_SPEED="$dir/speed.sh"
[ -n "$FLEXSC_TEST_SLOW" ] || FLEXSC_TEST_SLOW=$(sh "$FLEXSC_TEST_SPEED")
export FLEXSC_TEST_SLOW
limit=$((KT_TEST_LIMIT * FLEXSC_TEST_SLOW / 100))

only_list=
while getopts k:lh opt; do
	case $opt in
	k) KT_FILTER=$OPTARG ;;
	l) only_list=1 ;;
	*)
		echo 'usage: run-tests [-k FILTER] [-l]   (-l: list the tests)'
		exit 2
		;;
	esac
done

[ -r "$dir/splats.ere" ] || {
	echo "Bail out! $dir/splats.ere is missing, the kernel log cannot be judged"
	exit 2
}
tmp=$(mktemp -d /tmp/ktest.XXXXXX) || exit 2
dog=
trap '[ -z "$dog" ] || kill "$dog"; rm -rf "$tmp"' EXIT

# wanted NAME: succeeds if the filter selects this test.
wanted() {
	[ -n "$KT_FILTER" ] || return 0
	set -f
	for f in $KT_FILTER; do
		# shellcheck disable=SC2254  # the filter is a pattern
		case $1 in $f | *"$f"*) set +f; return 0 ;; esac
	done
	set +f
	return 1
}

mark() { echo "<5>flexsc-ktest: $1 $2" > /dev/kmsg; }

# splat_after NAME: prints the first kernel fault in the log after the last "begin" marker of NAME.
splat_after() {
	dmesg | awk -v begin="flexsc-ktest: begin $1" -v patterns="$dir/splats.ere" '
		BEGIN {
			while ((getline line < patterns) > 0)
				if (line !~ /^#/)
					splats = splats (splats == "" ? "" : "|") "(" line ")"
		}
		{ sub(/^\[[^]]*\](\[[^]]*\])* */, "") }
		$0 == begin { seen = 1; first = ""; next }
		seen && first == "" && $0 ~ splats { first = $0 }
		END { if (first != "") print first }'
}

# run_test NAME: runs one test, in a session of its own; sets $why, fills $out, returns the exit code.
run_test() {
	"$KT_BIN" run "$1" < /dev/null > "$out" 2>&1 &
	pid=$!
	read -r now _ < /proc/uptime
	echo "$pid $((${now%.*} + limit))" > "$tmp/watched"
	wait "$pid" 2>/dev/null
	rc=$?
	: > "$tmp/watched"
	[ ! -e "$tmp/late" ] || { rc=124; read -r hit < "$tmp/late"; rm -f "$tmp/late"; }
	kill -KILL "-$pid" 2>/dev/null
	case $rc in
	0 | 77) why= ;;
	124) why="limit of $hit s hit" ;;
	12[6-7]) why="exit code $rc, cannot run $KT_BIN" ;;
	1[3-9]?) why="ended by signal $((rc - 128))" ;;
	*) why="exit code $rc" ;;
	esac
	return $rc
}

run_insmod() {
	# shellcheck disable=SC2086  # the parameters are words
	insmod "$KT_MODULE" $KT_MODULE_ARGS > "$out" 2>&1
	rc=$?
	[ $rc = 0 ] || { why='insmod failed'; dmesg | tail -n 8 >> "$out"; }
	return $rc
}

run_rmmod() {
	rmmod "$(basename "$KT_MODULE" .ko)" > "$out" 2>&1
	rc=$?
	[ $rc = 0 ] || why='rmmod failed, is something still using the module?'
	return $rc
}

# The scanner never reports objects younger than five seconds, and a scan may miss
# objects whose pointers move meanwhile: wait, then scan twice.
run_kmemleak() {
	leaks=/sys/kernel/debug/kmemleak
	sleep 6
	if ! { echo scan > $leaks && echo scan > $leaks; } 2> "$out"; then
		why='the leak scanner is not available'
		return 1
	fi
	cat $leaks > "$out"
	[ -s "$out" ] || return 0
	why="$(grep -c '^unreferenced object' "$out") leaked objects"
	return 1
}

# Prints a test's output as comments, at most 400 lines.  A short output is
# printed without starting a program.
comment() {
	lines=0
	while [ $lines -lt 10 ] && { IFS= read -r line || [ -n "$line" ]; }; do
		while [ "$line" != "${line#\#}" ]; do line=${line#\#}; done
		echo "# ${line# }"
		lines=$((lines + 1))
	done
	[ $lines -lt 10 ] || sed 's/^#* */# /' | head -n 390
}

# entry KIND NAME: runs one entry of the plan and prints its result line.
n=0
failed=0
entry() {
	n=$((n + 1))
	why=
	: > "$out"
	echo "# begin $2"
	mark begin "$2"
	"run_$1" "$2"
	rc=$?
	# On the test machine the host judges the kernel log, by the same markers and patterns.
	splat=
	[ -z "$KT_HERE" ] || splat=$(splat_after "$2")
	mark end "$2"
	[ ! -s "$out" ] || comment < "$out"
	if [ -n "$splat" ]; then
		why="kernel log: $splat"
		[ $rc = 77 ] && rc=1
	fi
	if [ $rc = 77 ]; then
		why=$(sed -n 's/^#* *[Ss][Kk][Ii][Pp][^A-Za-z]*//p' "$out" | tail -n 1)
		echo "ok $n $2 # SKIP ${why:-$(tail -n 1 "$out")}"
	elif [ $rc != 0 ] || [ -n "$splat" ]; then
		failed=$((failed + 1))
		echo "# reason: $why"
		echo "not ok $n $2"
	else
		echo "ok $n $2"
	fi
}

out=$tmp/out
: > "$tmp/watched"
setsid sh "$dir/watchdog.sh" "$tmp" "$KT_TEST_LIMIT" "$limit" > /dev/null 2>&1 &
dog=$!
if ! "$KT_BIN" --list > "$tmp/all"; then
	echo "Bail out! '$KT_BIN --list' failed"
	exit 2
fi
while read -r name; do
	wanted "$name" && echo "$name"
done < "$tmp/all" > "$tmp/list"
if [ ! -s "$tmp/list" ]; then
	echo "Bail out! no test matches '$KT_FILTER'"
	exit 2
fi
if [ -n "$only_list" ]; then
	cat "$tmp/list"
	exit 0
fi

before=
after=
if [ -n "$KT_MODULE" ]; then
	before=insmod
	after=rmmod
	if [ -d "/sys/module/$(basename "$KT_MODULE" .ko)" ]; then
		before=
		after=
	fi
fi
case $KT_KMEMLEAK in
must) after="$after kmemleak" ;;
no) ;;
*) [ -n "$KT_HERE" ] || [ ! -e /sys/kernel/debug/kmemleak ] || after="$after kmemleak" ;;
esac

# By default the scanner runs after a minute and then every ten minutes. Such a scan takes as long
# as those at the end, and finds no more.
[ -n "$KT_HERE" ] || [ ! -e /sys/kernel/debug/kmemleak ] ||
	echo scan=off > /sys/kernel/debug/kmemleak 2>/dev/null

# shellcheck disable=SC2046,SC2086  # lists of words
set -- $before $(cat "$tmp/list") $after
echo 'KTAP version 1'
echo "1..$#"
echo "# planned: $*"
for name in $before; do entry "$name" "$name"; done
if [ "$failed" = 0 ]; then
	while read -r name <&3; do entry test "$name" 3<&-; done 3< "$tmp/list"
	for name in $after; do entry "$name" "$name"; done
else
	echo '# the module cannot be loaded: no test was run'
fi
echo '# end of run'
[ "$failed" = 0 ]
