# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2034  # part_result is for test.sh
#
# Prints one line for each part of a test run, and the sums.  Sourced by test.sh,
# after lib.sh.
#
# A part is a command with a log of its own.  Its tests are counted in one of three ways:
#   one    one test, by its exit code
#   lines  by its last line, "N passed, N failed" with or without ", N skipped"
#   cargo  by the "test result:" lines of Rust's test programs
# A part counts as one failure if its command fails without counting a failure,
# or if it counts nothing at all.

passed=0 failed=0 skipped=0
part_number=0
lane=''	# the name of this lane, if it is one
lanes=()	# process and name of each lane
part_result=''	# result of the last part: "ok" or "failed"

# start_counting DIRECTORY: the logs go to DIRECTORY.
start_counting() {
	logs=$1
	rm -rf "$logs"
	mkdir -p "$logs" 2>/dev/null || die "cannot write to $logs: is the disk full, or the clone not yours?"
	begun=$SECONDS
}

count_lines() {
	tail -n 5 "$1" | sed -n -E 's/^([0-9]+) passed, ([0-9]+) failed(, ([0-9]+) skipped)?$/\1 \2 \4/p' | tail -n 1
}

# The tests in live.rs need the module, so they do not count on the host.  A test
# that prints SKIPPED counts as skipped.
count_cargo() {
	awk '
		/^ +Running / { elsewhere = /live\.rs/ }
		/^ +Doc-tests / { elsewhere = 0 }
		/^test result: / && !elsewhere { p += $4; f += $6; s += $8 }
		/^SKIPPED/ { p--; s++ }
		END { print p + 0, f + 0, s + 0 }' "$1"
}

# explain LOG: prints the failed tests in LOG with their messages, or the errors,
# or else the last lines.
explain() {
	local line found
	found=$(awk '
		/^  FAILED / { name = $2; seen[name] = 1; more = 6; print; next }
		/^            / && more-- > 0 { print; next }
		{ more = 0 }
		/^FAILED / { name = $2; sub(/:$/, "", name); if (!(name in seen)) print }
		/^test .* FAILED$|panicked at / { print }' "$1" | head -n 40)
	[[ -n $found ]] || found=$(grep -E -A 2 '^error(\[E[0-9]+\])?: |^[a-z-]+: .*\.$' "$1" | head -n 24) || true
	[[ -n $found ]] || found=$(tail -n 20 "$1")
	while IFS= read -r line; do
		printf '    | %s\n' "$line"
	done <<<"$found"
	printf '    | log: %s\n' "$1"
}

# remember NAME TEXT: keeps the beginning of TEXT for finish, so that the last lines of a long run say
# what failed.
remember() {
	{
		printf '    %s:\n' "$1"
		printf '%s\n' "$2" | head -n 6 | cut -c 1-150
	} | one_write >>"$logs/failed"
}

# new_part NAME: sets $log.
new_part() {
	part_number=$((part_number + 1))
	log=$logs/$(printf '%s%02d-%s.log' "${lane:+$lane-}" $part_number "${1//[^a-z0-9]/-}")
}

# how_far NAME FILE SECONDS: prints the progress that the part has written to FILE, or else the last
# line of its log.
how_far() {
	local text
	text=$(tail -n 1 "$2" 2>/dev/null)
	[[ -n $text ]] || text=$(tail -n 1 "$log" 2>/dev/null | tr -dc '[:print:]')
	printf '%-36s %5d s  %.60s' "$1" "$3" "$text"
}

# show_progress FUNCTION...: prints the output of FUNCTION until it is killed: on a terminal each
# second in a line that is updated, elsewhere a line every half minute.
show_progress() {
	local start=$SECONDS text
	set +e
	while kill -0 $$ 2>/dev/null; do
		nap "$PROGRESS_PAUSE"
		text=$("$@" $((SECONDS - start)))
		if [[ -n $lane ]]; then
			printf '%s\n' "$text" >"$logs/$lane.progress"
		elif [[ -t 1 ]]; then
			printf '%s%s\r' "$text" "$LINE_END"
		else
			printf '%s ...\n' "$text"
		fi
	done
}

hide_progress() {
	kill "$1" 2>/dev/null || true
	wait "$1" 2>/dev/null || true
}

# cpu_seconds FILE: adds up the processor time that the builtin "times" has written to FILE: two lines
# such as "0m1.500s 0m0.250s".
cpu_seconds() {
	{ cat "$1" 2>/dev/null || true; } | awk -F "[ms ]+" '{ s += $1 * 60 + $2 + $3 * 60 + $4 } END { printf "%.0f", s }'
}

# part NAME COUNT COMMAND...: runs COMMAND and counts its tests in the way COUNT.
part() {
	local name=$1 how=$2 log rc p f s start=$SECONDS follower
	shift 2
	new_part "$name"
	[[ ! -t 1 || -n $lane ]] || printf '%-36s ...%s\r' "$name" "$LINE_END"
	export FLEXSC_PROGRESS=$log.progress
	: >"$log"
	show_progress how_far "$name" "$FLEXSC_PROGRESS" &
	follower=$!
	set +e
	(
		trap 'times >"$log.cpu"' EXIT
		FLEXSC_ERR=2
		set -e
		"$@"
	) >"$log" 2>&1 </dev/null
	rc=$?
	set -e
	hide_progress "$follower"
	printf '%6d s  %6d s of CPU time  %s\n' $((SECONDS - start)) "$(cpu_seconds "$log.cpu")" "$name" >>"$logs/times"
	rm -f "$log.cpu" "$FLEXSC_PROGRESS" ${lane:+"$logs/$lane.progress"}
	case $how in
	one) read -r p f s <<<"$((rc == 0)) $((rc != 0)) 0" ;;
	*) read -r p f s < <("count_$how" "$log") || true ;;
	esac
	: "${p:=0}" "${f:=0}" "${s:=0}"
	part_result=ok
	if ((f == 0 && (rc != 0 || p + s == 0))); then
		f=1
	fi
	((f == 0)) || part_result=failed
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	{
		printf '%-36s %5d s  %s%s\n' "$name" $((SECONDS - start)) "$(sums "$p" "$f" "$s")" "$LINE_END"
		if ((f)); then
			((rc == 0)) || printf '    | exit code %d\n' "$rc"
			explain "$log"
		fi
		grep '^note: the emulated machine ' "$log" | sed 's/^/    | /' || true
	} | one_write
	((f == 0)) || remember "$name" "$(explain "$log" | head -n -1)"
}

# Writes all at once, so that the output of lanes is not mixed line by line.
one_write() {
	local text
	text=$(cat)
	printf '%s\n' "$text"
}

# lane NAME FUNCTION...: runs FUNCTION in the background.  Its parts run one after the other and print
# their own lines; join_lanes adds up what they have counted.
lane() {
	apart run_lane "$@"
	lanes+=($! "$1")
}

run_lane() {
	set +m
	lane=$1 passed=0 failed=0 skipped=0
	"${@:2}"
	echo "$passed $failed $skipped" >"$logs/$lane.lane"
}

# stop_lanes: ends all lanes and the processes that they have started.
stop_lanes() {
	while ((${#lanes[@]})); do
		end_apart "${lanes[0]}"
		lanes=("${lanes[@]:2}")
	done
}

# lane_progress NAME: prints the progress of the part that runs in lane NAME.
lane_progress() {
	cat "$logs/$1.progress" 2>/dev/null
}

# join_lanes: waits for all lanes and adds up what they have counted.
join_lanes() {
	local pid name p f s follower
	while ((${#lanes[@]})); do
		pid=${lanes[0]} name=${lanes[1]}
		show_progress lane_progress "$name" &
		follower=$!
		wait "$pid" || true
		hide_progress "$follower"
		lanes=("${lanes[@]:2}")
		if ! read -r p f s 2>/dev/null <"$logs/$name.lane"; then
			p=0 f=1 s=0
			printf '%-36s          ended early\n' "$name"
			remember "$name" '    | ended early'
		fi
		rm -f "$logs/$name.lane"
		passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	done
}

# part_if RESULT NAME COUNT COMMAND...: runs the part only if RESULT, that of another part, is "ok".
part_if() {
	if [[ $1 == ok ]]; then
		part "${@:2}"
		return
	fi
	failed=$((failed + 1))
	part_result=failed
	printf '%-36s %5d s  %s\n' "$2" 0 "not run: a part that it needs has failed"
	remember "$2" '    | not run: a part that it needs has failed'
}

# skip NAME REASON: counts the part NAME as skipped.
skip() {
	skipped=$((skipped + 1))
	printf '%-36s %5d s  %s\n' "$1" 0 "skipped: $2"
}

sums() {
	printf '%d passed, %d failed' "$1" "$2"
	(($3 == 0)) || printf ', %d skipped' "$3"
}

# finish: prints what has failed and the last line, and exits.
finish() {
	[[ ! -s $logs/failed ]] || { printf '\nfailed:\n'; head -n 40 "$logs/failed"; }
	printf '\nlogs in %s, %d s, %d s of CPU time\n%s\n' "$logs" $((SECONDS - begun)) \
		"$(awk '{ s += $3 } END { print s + 0 }' "$logs/times")" "$(sums $passed $failed $skipped)"
	((failed == 0 && passed > 0)) || exit 1
	exit 0
}
