# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=sh disable=SC2034
#
# How the scripts here count tests, judge copies and make units of systemd.

tries=/run/tries
source=/var/lib/source
units=/run/systemd/system
rc_all=0
# Seconds for an answer.
patience=$((60 * ${FLEXSC_TEST_SLOW:-100} / 100))

# A real tree, on the disk, whose files belong to the user without rights.
if [ ! -d $tries ]; then
	mkdir $tries
	cp -a /usr/lib/systemd $source && chown -hR user:user $source $tries || exit 1
fi

# forget: makes calls block, since nothing of the tree is in memory any more.
forget() {
	sync
	echo 3 > /proc/sys/vm/drop_caches
	rm -rf $tries/copy
}

# result NAME COMMAND...: counts COMMAND as one test.
result() {
	name=$1
	shift
	echo
	echo "$name"
	if "$@"; then
		echo 'test result: ok. 1 passed; 0 failed; 0 ignored'
	else
		echo 'test result: FAILED. 0 passed; 1 failed; 0 ignored'
		rc_all=1
	fi
}

# value KEY: prints a value of flexsc-copy's report.
value() {
	sed -n "s/^$1=//p" $tries/report
}

# equal: the copy is one of $source.  Only the second command compares the links.
equal() {
	diff -r $source $tries/copy > /tmp/differences 2>&1 && flexsc-copy --verify $source $tries/copy && return
	cat /tmp/differences
	return 1
}

# pages PERCENT: the engine has executed at least so many of the calls that the copy took, and the
# program has made the others plainly.
pages() {
	awk -v least="$1" -v calls="$(value calls)" -v plain="$(value fallbacks)" \
		-v inline="$(value engine_inline_done)" -v threads="$(value engine_thread_done)" 'BEGIN {
		pages = inline + threads
		printf "%d of %d calls executed from pages (%.1f %%), %d made plainly\n", pages, calls, 100 * pages / calls, plain
		exit !(calls >= 1000 && pages + plain == calls && 100 * pages >= least * calls)
	}'
}

# filtered OUTPUT: doctor has found a filter.
filtered() {
	grep '^ok   seccomp    a filter; from pages it allows ' "$1" > /dev/null
}

# unit NAME: makes a unit from the lines on standard input, without the dependencies of a whole system.
unit() {
	mkdir -p $units
	{ printf '%s\n' '[Unit]' DefaultDependencies=no; cat; } > "$units/$1"
}

# refused TEXT COMMAND...: COMMAND fails and says TEXT.
refused() {
	text=$1
	shift
	if "$@" > /tmp/said 2>&1; then
		cat /tmp/said
		echo "succeeds: $*"
		return 1
	fi
	cat /tmp/said
	grep -q -e "$text" /tmp/said
}
