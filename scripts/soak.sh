#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Repeats calls, pages, pools, processes and all their endings until the time is
# up.  See usage().

# shellcheck disable=SC2317  # "trap" calls some functions

set -euo pipefail
export PROG=soak
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
	cat <<END
Usage: scripts/soak.sh [-c CONFIG] [--minutes N] [--lives N] [-k FILTER] [--all] [--help]
       scripts/soak.sh --fuzz [-c CONFIG] [--entries N] [--seed N]
       scripts/soak.sh --compare [-c CONFIG] [--calls N] [--seed N]

Runs guest tests again and again, each time in a new machine and with a multiple
of their usual rounds (FLEXSC_TEST_ROUNDS): the matrix of endings (ends.*) and the
mixed load (soak.*). Stops at the first failure, or when the time is up, and then
prints how often each ending has run.

  -c CONFIG    kernel: perf (default), debug or kcsan
  --minutes N  stop after N minutes (default 10); the last run may take longer
  --lives N    go on until each ending has run N times (default 200)
  --fuzz       instead, do one long run of the fuzzer and of each of its profiles,
               by default under the debug kernel; fail unless the module has
               accepted all entries
  --entries N  number of entries for --fuzz (default 5000000)
  --compare    instead, do one long run of the differential test: random calls,
               made as plain calls and from pages, in every way
  --calls N    number of calls from pages for --compare (default 10000000)
  --seed N     seed of the random numbers, as an earlier run has printed it
  -k FILTER    run only tests whose name contains FILTER or matches it as a glob
  --all        run all guest tests
  --help       print this text
END
}

config='' minutes=10 lives=200 filter=(-k 'ends. soak.') fuzz='' entries=5000000 seed=''
compare='' calls=10000000
while (($#)); do
	case $1 in
	-c | --minutes | --lives | -k | --entries | --calls | --seed) [[ -n ${2:-} ]] || die "$1 needs a value; --help shows the usage." ;;
	esac
	case $1 in
	-c) config=$2; shift ;;
	--minutes) minutes=$2; shift ;;
	--lives) lives=$2; shift ;;
	-k) filter=(-k "$2"); shift ;;
	--all) filter=() ;;
	--fuzz) fuzz=1 ;;
	--entries) entries=$2; shift ;;
	--compare) compare=1 ;;
	--calls) calls=$2; shift ;;
	--seed) seed=$2; shift ;;
	-h | --help) usage; exit 0 ;;
	*) die "unknown argument \"$1\"; --help shows the usage." ;;
	esac
	shift
done
: "${config:=${fuzz:+debug}}"
: "${config:=perf}"
[[ $entries =~ ^[1-9][0-9]{0,11}$ ]] || die "--entries needs a number, not '$entries'."
[[ $calls =~ ^[1-9][0-9]{0,11}$ ]] || die "--calls needs a number, not '$calls'."
[[ $seed =~ ^[0-9]{0,20}$ ]] || die "--seed needs a number, not '$seed'."
[[ $minutes =~ ^[1-9][0-9]{0,3}$ ]] || die "--minutes needs a number from 1 to 9999, not '$minutes'."
[[ $lives =~ ^[0-9]{1,6}$ ]] || die "--lives needs a number, not '$lives'."
[[ $config =~ ^(perf|debug|kcsan)$ ]] || die "unknown configuration '$config': choose perf, debug or kcsan, the kernels with the module."

logs=$ROOT/build/soak
rm -rf "$logs"
mkdir -p "$logs"

# One run of the fuzzer, and one of each profile. The test reads the module's statistics, prints
# them, and compares them with the wanted number of entries.
if [[ -n $fuzz ]]; then
	# Even a slow machine executes 1000 entries in a second.
	limit=$((300 + entries / 1000))
	append="FLEXSC_TEST_ENTRIES=$entries FLEXSC_TEST_LIMIT=$limit"
	[[ -z $seed ]] || append+=" FLEXSC_TEST_SEED=$seed"
	log=$logs/fuzz.log
	rc=0
	"$ROOT/scripts/ktest.sh" -c "$config" -k hostile.fuzz --append "$append" --keep \
		--limit $((limit + 60)) --total-limit $((2 * limit + 1200)) >"$log" 2>&1 || rc=$?
	work=$(sed -n 's/^kept: //p' "$log")
	[[ -z $work ]] || { grep -h '^# begin hostile\|^# seed \|^# fuzz[a-z_]*: ' "$work/out" || true; rm -rf "$work"; }
	grep '^ktest-result: ' "$log" || tail -n 3 "$log"
	((rc == 0)) || { grep '^FAILED ' "$log" || true; die "the fuzzer failed; the log is $log."; }
	exit 0
fi

# One long run of the differential test, which prints how many calls it compared.  On two
# processors, two machines: they share nothing that a call could see.
if [[ -n $compare ]]; then
	# Calls in one round of all its tests, rounded down. The debug kernel makes fewer.
	each=200000
	[[ $config == perf ]] || each=8000
	machines=$(($(nproc) > 1 ? 2 : 1))
	rounds=$(((calls + each * machines - 1) / (each * machines)))
	"$ROOT/scripts/ktest.sh" -c "$config" -k differential.numbers >"$logs/build.log" 2>&1 ||
		die "the kernel, the programs or one short run failed; the log is $logs/build.log."
	pids=()
	end_machines() {
		local pid
		for pid in "${pids[@]}"; do
			end_apart "$pid"
		done
	}
	trap end_machines EXIT
	for ((n = 0; n < machines; n++)); do
		# The limits suffice even if other programs take most of the host's time.
		append="FLEXSC_TEST_ROUNDS=$rounds FLEXSC_TEST_LIMIT=170"
		[[ -z $seed ]] || append+=" FLEXSC_TEST_SEED=$((seed + n))"
		KTEST_LOCK=$logs/$n.lock apart "$ROOT/scripts/ktest.sh" -c "$config" --no-build -k differential. \
			--append "$append" --keep --limit $((60 + 180 * rounds)) \
			--total-limit $((900 + 600 * rounds)) >"$logs/compare-$n.log" 2>&1
		pids+=($!)
	done
	failed=
	for ((n = 0; n < machines; n++)); do
		wait "${pids[n]}" || failed+=" $logs/compare-$n.log"
	done
	trap - EXIT
	mapfile -t kept < <(sed -n 's/^kept: //p' "$logs"/compare-*.log)
	((${#kept[@]})) || die "no machine has started; logs:$failed."
	count=$(cat "${kept[@]/%//out}" | awk '/^# counted /{sum += $3} END {print sum + 0}')
	if [[ -n $failed ]]; then
		grep -h '^FAILED ' "$logs"/compare-*.log || true
		die "$count calls were compared; logs:$failed, outputs: ${kept[*]/%//out}."
	fi
	rm -rf "${kept[@]}"
	printf '%d calls compared with plain ones, no difference, %d machines, %d min\n' \
		"$count" "$machines" $((SECONDS / 60))
	((count >= calls)) || die "fewer than $calls calls were compared."
	tail -q -n 1 "$logs"/compare-*.log
	exit 0
fi

# count_lives OUTPUT: collects lines "NAME NUMBER" in the file lives: how many processes each test
# of the matrix has ended.
count_lives() {
	awk '/^# begin /{name=$3} /^# lives: /{print name, $3}' "$1" >>"$logs/lives"
}

lives_by_name() {
	awk '{sum[$1] += $2} END {for (name in sum) printf "%8d  %s\n", sum[name], name}' "$logs/lives" |
		sort -k2
}

fewest() {
	lives_by_name | awk 'NR == 1 || $1 < least {least = $1} END {print least + 0}'
}

enough() {
	((SECONDS >= minutes * 60)) || return 1
	[[ ! -s $logs/lives ]] || (($(fewest) >= lives))
}

rounds=1 runs=0 total=0
: >"$logs/lives"
until enough; do
	runs=$((runs + 1))
	log=$logs/$runs.log
	begun=$SECONDS
	# The kernel passes unknown words of its command line to init, as environment variables.
	KTEST_WORK=$logs "$ROOT/scripts/ktest.sh" -c "$config" "${filter[@]}" --keep \
		--append "FLEXSC_TEST_ROUNDS=$rounds" \
		--limit $((60 + 60 * rounds)) --total-limit $((900 + 300 * rounds)) >"$log" 2>&1 || {
		grep '^FAILED ' "$log" || tail -n 20 "$log"
		die "run $runs (rounds times $rounds) failed after $((SECONDS / 60)) min; the log is $log."
	}
	work=$(sed -n 's/^kept: //p' "$log")
	count_lives "$work/out"
	rm -rf "$work"
	took=$((SECONDS - begun))
	last=$(grep -E '^[0-9]+ passed, ' "$log" | tail -n 1)
	printf 'run %d, rounds times %d: %s, %d s\n' $runs $rounds "$last" $took
	total=$((total + ${last%% *}))
	# The next run gets the rest of the time, or as much as this one if only lives are missing.
	left=$((minutes * 60 - SECONDS))
	next=$((left * rounds / (took > 0 ? took : 1)))
	((left <= 0)) || rounds=$((next > 0 ? next : 1))
done
if [[ -s $logs/lives ]]; then
	printf 'processes ended in each way:\n'
	lives_by_name
fi
printf '%d passed, 0 failed in %d runs, %d min\n' $total $runs $((SECONDS / 60))
