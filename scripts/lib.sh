# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=bash
#
# Shared shell functions: paths, errors, stages, the lock.  Sourced by the
# other scripts, which set PROG first if their file name says too little.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
FLEXSC_CACHE=${FLEXSC_CACHE:-${XDG_CACHE_HOME:-${HOME:?is not set}/.cache}/flexsc}
FLEXSC_LOGS=$FLEXSC_CACHE/logs
# The static programs for test machines, where the user crates leave them.
PROGRAMS=$ROOT/build/cargo/x86_64-unknown-linux-gnu/release
PROG=${PROG:-$(basename "$0")}
export ROOT FLEXSC_CACHE FLEXSC_LOGS PROGRAMS

# A stage's own output goes to its log; sentences for the user go here.
exec {FLEXSC_ERR}>&2

# die SENTENCE: prints SENTENCE and exits. Inside a stage, the exit code 113
# tells stage() that the reason has been printed, so that it does not print
# the log again.
die() {
	printf '%s: %s\n' "$PROG" "$*" >&"$FLEXSC_ERR"
	[[ -n ${IN_STAGE:-} ]] && exit 113
	exit 1
}

say() {
	printf '%s\n' "$*"
}

have() {
	command -v "$1" >/dev/null 2>&1
}

# apart COMMAND...: starts COMMAND in the background, in a process group of its own with the number $!.
# Ctrl-C does not reach background processes, and a shell that is killed leaves its children running;
# end_apart ends the whole group.
apart() {
	set -m
	"$@" &
	set +m
}

end_apart() {
	kill -- "-$1" 2>/dev/null || true
}

# Long steps show their progress: on a terminal in a line that is updated, elsewhere in a new line
# every thirty seconds.  If a script's output goes to a log, FLEXSC_PROGRESS names a file for the
# progress, whose last line the caller shows.
PROGRESS_PAUSE=${FLEXSC_PROGRESS_PAUSE:-30}
LINE_END=''
[[ ! -t 1 ]] || PROGRESS_PAUSE=1 LINE_END=$'\e[K'
[[ -z ${FLEXSC_PROGRESS:-} ]] || PROGRESS_PAUSE=2

# nap SECONDS: sleeps without a child process.  If this shell were killed, a child would survive
# and keep open everything that the shell has open: a pipe that somebody reads to its end, or a
# lock.
nap() {
	[[ -n ${NAP_FD:-} ]] || exec {NAP_FD}<> <(:)
	read -r -t "$1" -u "$NAP_FD" _ || true
}

# follow NAME FUNCTION...: shows the output of FUNCTION SECONDS until this process or the script ends.
follow() {
	local name=$1 start=$SECONDS text
	shift
	set +e
	while kill -0 $$ 2>/dev/null; do
		nap "$PROGRESS_PAUSE"
		text=$("$@" $((SECONDS - start))) || continue
		if [[ -n ${FLEXSC_PROGRESS:-} ]]; then
			printf '%s\n' "$name: $text" >"$FLEXSC_PROGRESS"
		elif [[ -t 1 ]]; then
			printf '%-8s %4d s  %s%s\r' "$name" $((SECONDS - start)) "$text" "$LINE_END"
		else
			printf '%-8s %4d s  %s ...\n' "$name" $((SECONDS - start)) "$text"
		fi
	done
}

# last_line LOG: prints as much of the last line of LOG as fits.
last_line() {
	tail -n 1 "$1" | tr -dc '[:print:]' | cut -c 1-60
}

# minutes_left SECONDS DONE TOTAL: prints an estimate once enough is done for one.
minutes_left() {
	local left
	(($2 > 9 && $2 < $3)) || return 0
	left=$(($1 * ($3 - $2) / $2))
	if ((left < 60)); then
		printf ', less than a minute left'
	else
		printf ', about %d min left' $(((left + 30) / 60))
	fi
}

# stage NAME COMMAND...: runs COMMAND with its output in a log and prints one line
# with the seconds that COMMAND took. If COMMAND fails, prints the log's path and
# last lines and exits with 1. COMMAND may be a shell function; variables that it
# sets are lost. With STAGE_FOLLOW=FUNCTION in front, FUNCTION LOG SECONDS prints
# the progress; otherwise the last line of the log is shown.
# Never call stage in a condition: the shell would then ignore "set -e".
stage() {
	local name=$1 log rc start=$SECONDS follower
	shift
	mkdir -p "$FLEXSC_LOGS"
	log=$FLEXSC_LOGS/${STAGE_PREFIX:-}$name.log
	[[ -t 1 ]] && printf '%-8s ...\r' "$name"
	: >"$log"
	follow "$name" "${STAGE_FOLLOW:-last_line}" "$log" &
	follower=$!
	set +e
	(
		set -e
		IN_STAGE=1
		"$@"
	) >"$log" 2>&1
	rc=$?
	kill "$follower" 2>/dev/null
	wait "$follower" 2>/dev/null
	set -e
	if ((rc == 0)); then
		printf '%-8s %4d s%s%s\n' "$name" $((SECONDS - start)) "$(stage_note "$log")" "$LINE_END"
		return 0
	fi
	printf '%-8s %4d s  FAILED%s\n' "$name" $((SECONDS - start)) "$LINE_END"
	if ((rc != 113)); then
		show_failure "$name" "$log" >&2
	fi
	exit 1
}

# show_failure NAME LOG: prints the last lines of LOG, preceded by the first error
# if a parallel make went on long after it.
show_failure() {
	local total first
	printf '%s: stage "%s" failed; the log is %s\n' "$PROG" "$1" "$2"
	total=$(wc -l <"$2")
	first=$(grep -nEm 1 '(^|[ :])error(\[E[0-9]+\])?: |: undefined symbol|\*\*\* ' "$2" | cut -d: -f1) || true
	if [[ -n $first ]] && ((first <= total - 20)); then
		printf '  its first error, line %d:\n' "$first"
		sed -n "$first,$((first + 11))p" "$2" | sed 's/^/  | /'
	fi
	printf '  its last lines:\n'
	tail -n 20 "$2" | sed 's/^/  | /'
}

# A stage may add one remark to its line by printing "note: ..." as the
# last line of its log.
stage_note() {
	local last
	# If another stage of the same name writes there too, the log has holes.
	last=$(tail -n 1 "$1" | tr -d '\0')
	[[ $last == "note: "* ]] && printf '  %s' "${last#note: }"
	return 0
}

# take_lock FILE WHAT: ensures that only one WHAT at a time uses the cache.
take_lock() {
	local file=$FLEXSC_CACHE/$1
	mkdir -p "$FLEXSC_CACHE" 2>/dev/null ||
		die "cannot create the cache directory $FLEXSC_CACHE: set FLEXSC_CACHE to a place you can write to."
	have flock || return 0
	exec {FLEXSC_LOCK}>"$file" ||
		die "cannot write in the cache directory $FLEXSC_CACHE: set FLEXSC_CACHE to a place you can write to."
	if ! flock -n "$FLEXSC_LOCK"; then
		say "waiting for another $2 that uses $FLEXSC_CACHE"
		flock "$FLEXSC_LOCK"
	fi
}

# need_space GIB: exits unless the cache's file system has GIB gibibytes free.
need_space() {
	local dir=$FLEXSC_CACHE free
	while [[ ! -d $dir ]]; do dir=$(dirname "$dir"); done
	free=$(df -Pk "$dir" | awk 'NR == 2 { print int($4 / 1048576) }')
	((free >= $1)) ||
		die "only $free GiB are free in $dir and $1 are needed: free some space, or set FLEXSC_CACHE to a directory on a bigger disk."
}

# version_ge A B: succeeds if the dotted version A is at least B.
version_ge() {
	local i a b
	IFS=. read -r -a a <<<"${1%%[!0-9.]*}"
	IFS=. read -r -a b <<<"$2"
	for i in 0 1 2; do
		((10#${a[i]:-0} > 10#${b[i]:-0})) && return 0
		((10#${a[i]:-0} < 10#${b[i]:-0})) && return 1
	done
	return 0
}

# tool_version COMMAND...: prints the first x.y.z in the output of COMMAND.
tool_version() {
	local out
	out=$("$@" 2>/dev/null) || return 0
	[[ $out =~ [0-9]+\.[0-9]+(\.[0-9]+)? ]] && printf '%s\n' "${BASH_REMATCH[0]}"
	return 0
}
