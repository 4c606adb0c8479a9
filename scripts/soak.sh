#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The guest tests over and over, each time with more rounds, until the time is
# up.  See usage().

set -euo pipefail
export PROG=soak
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
	cat <<END
Usage: scripts/soak.sh [-c CONFIG] [--minutes N] [-k FILTER] [--help]

Runs the guest tests again and again, in a new machine each time and with a
multiple of their usual rounds (FLEXSC_TEST_ROUNDS), and stops at the first
failure or when the time is up.

  -c CONFIG    kernel: perf (default) or debug
  --minutes N  how long (default 10); the last run may go on for longer
  -k FILTER    only tests whose name contains FILTER or matches it as a glob
  --help       this text
END
}

config=perf minutes=10 filter=()
while (($#)); do
	case $1 in
	-c | --minutes | -k) [[ -n ${2:-} ]] || die "$1 needs a value; --help shows the usage." ;;
	esac
	case $1 in
	-c) config=$2; shift ;;
	--minutes) minutes=$2; shift ;;
	-k) filter=(-k "$2"); shift ;;
	-h | --help) usage; exit 0 ;;
	*) die "unknown argument \"$1\"; --help shows the usage." ;;
	esac
	shift
done
[[ $minutes =~ ^[1-9][0-9]{0,3}$ ]] || die "--minutes wants a number from 1 to 9999, not '$minutes'."
[[ $config == perf || $config == debug ]] || die "the module is in the kernels perf and debug, not in '$config'."

logs=$ROOT/build/soak
rm -rf "$logs"
mkdir -p "$logs"
rounds=1 runs=0 total=0
until ((SECONDS >= minutes * 60)); do
	runs=$((runs + 1))
	log=$logs/$runs.log
	begun=$SECONDS
	# What the kernel does not know on its command line it hands to init as environment.
	"$ROOT/scripts/ktest.sh" -c "$config" "${filter[@]}" --append "FLEXSC_TEST_ROUNDS=$rounds" \
		--limit $((60 + 60 * rounds)) --total-limit $((900 + 300 * rounds)) >"$log" 2>&1 || {
		grep '^FAILED ' "$log" || tail -n 20 "$log"
		die "run $runs (rounds times $rounds) failed after $((SECONDS / 60)) min; the log is $log."
	}
	last=$(tail -n 1 "$log")
	printf 'run %d, rounds times %d: %s, %d s\n' $runs $rounds "$last" $((SECONDS - begun))
	total=$((total + ${last%% *}))
	# A run shall last for about a third of the time.
	if ((SECONDS - begun < minutes * 10)); then
		rounds=$((rounds * 2))
	fi
done
printf '%d passed, 0 failed in %d runs, %d min\n' $total $runs $((SECONDS / 60))
