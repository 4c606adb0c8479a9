#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Measures two revisions in turn in one session and compares them.  See usage() and
# docs/benchmarks.md.

# shellcheck disable=SC2317  # "stage" calls some functions

set -euo pipefail
export PROG=compare
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/env.sh
source "$ROOT/scripts/env.sh"
# shellcheck source=scripts/crates.sh
source "$ROOT/scripts/crates.sh"
export STAGE_PREFIX=compare-

usage() {
	cat <<END
Usage: scripts/compare.sh [--rounds N] [--suites LIST] [--options 'OPTIONS'] [--limit P] A B

Measures the revisions A and B of this repository (what is committed) and prints
the figures that changed, with the ratio of B to A.  Each revision has a worktree, a kernel from
scripts/build-kernel.sh (in the cache, if it was built before) and its own
flexsc-bench.  The machines are those of this revision's scripts/ktest.sh.

Instructions on one CPU are exact and measured once.  Nanoseconds on two CPUs are
measured in rounds, first A, then B, first B, then A, and so on, each in a new
machine.  Their ratios have a confidence interval, which needs six rounds for
95 %.

  --rounds N           rounds for nanoseconds (default 6; 0: only instructions)
  --suites LIST        suites, separated by commas (default calls,chains,order;
                       of those, each revision measures the ones that it has)
  --options 'OPTIONS'  more options of flexsc-bench run, such as '--ops getppid'
  --limit P            how much a count may grow, in percent (default 1)
  --help               print this text

Leaves build/compare/A.csv and B.csv (with the commits as names).

Exit code: 1 if the count of a figure has grown by more than the limit, if B lacks
a count that A has, or if something could not be measured; otherwise 0, whatever
the times say.
END
}

rounds=6 suites=calls,chains,order options='' limit=1 revisions=()
while (($#)); do
	case $1 in
	--rounds | --suites | --options | --limit)
		[[ -n ${2:-} ]] || die "$1 needs a value; --help shows the usage."
		;;
	esac
	case $1 in
	--rounds) rounds=$2; shift ;;
	--suites) suites=$2; shift ;;
	--options) options=$2; shift ;;
	--limit) limit=$2; shift ;;
	-h | --help) usage; exit 0 ;;
	-*) die "unknown argument \"$1\"; --help shows the usage." ;;
	*) revisions+=("$1") ;;
	esac
	shift
done
((${#revisions[@]} == 2)) || die 'two revisions are needed; --help shows the usage.'
[[ $rounds =~ ^[0-9]+$ ]] || die "--rounds needs a number, not '$rounds'."
[[ $limit =~ ^[0-9]+(\.[0-9]+)?$ ]] || die "--limit needs a percentage, not '$limit'."
[[ $suites =~ ^[a-z]+(,[a-z]+)*$ ]] || die "--suites needs names separated by commas, not '$suites'."
[[ -n $CARGO ]] || die "cargo $RUST_USER_MIN or later is missing: run scripts/setup.sh."

# commit REVISION: prints its commit, short.
commit() {
	git -C "$ROOT" rev-parse --short=12 --verify --quiet "$1^{commit}" ||
		die "there is no revision '$1' in this repository."
}
first=$(commit "${revisions[0]}")
second=$(commit "${revisions[1]}")
[[ $first != "$second" ]] || die "${revisions[0]} and ${revisions[1]} are the same commit, $first."

work=$ROOT/build/compare
mkdir -p "$work"

# tree COMMIT: prints the directory of its worktree.
tree() { echo "$work/tree-$1"; }

add_tree() {
	git -C "$ROOT" worktree prune
	[[ -e $(tree "$1")/Makefile ]] ||
		git -C "$ROOT" worktree add --force --detach "$(tree "$1")" "$1"
}

# build_bench COMMIT: builds its flexsc-bench.
build_bench() {
	# The functions of crates.sh look here.
	local ROOT
	ROOT=$(tree "$1")
	cd "$ROOT"
	export RUSTFLAGS=$STATIC
	# The compiled dependencies of this revision's programs serve as a start.
	crates_restore programs build/cargo
	"$CARGO" build --release --locked -p flexsc-bench --target x86_64-unknown-linux-gnu --target-dir build/cargo
	cp build/cargo/x86_64-unknown-linux-gnu/release/flexsc-bench "$work/bench-$1"
}

for revision in "$first" "$second"; do
	stage "tree-${revision:0:7}" add_tree "$revision"
	"$(tree "$revision")/scripts/build-kernel.sh" -c perf
	stage "bench-${revision:0:7}" build_bench "$revision"
done

# known COMMIT: prints those of the suites that this revision has.
known() {
	local suite all
	all=$("$work/bench-$1" list)
	for suite in ${suites//,/ }; do
		! grep -Eq "^  $suite " <<<"$all" || echo "$suite"
	done
}

# measure COMMIT METRIC EFFORT KTEST-OPTION...: adds the figures of a new machine to those of the commit.
measure() {
	local revision=$1 metric=$2 effort=$3 suite command='' kernel
	shift 3
	for suite in $(known "$revision"); do
		command+="flexsc-bench run $suite --metric $metric $effort $options --csv /tmp/part.csv && "
		command+="cat /tmp/part.csv >>/tmp/figures.csv && "
	done
	[[ -n $command ]] || die "$revision has none of the suites $suites."
	kernel=$(readlink -m "$(tree "$revision")/build/kernel-perf")
	rm -f "$work/part.csv"
	KTEST_QUIET=1 "$ROOT/scripts/ktest.sh" --no-build --kernel "$kernel" "$@" \
		--append 'nokaslr norandmaps' --add "$work/bench-$revision:/bin/flexsc-bench" \
		--get "/tmp/figures.csv:$work/part.csv" --run "${command}true"
	[[ -s $work/part.csv ]] || die "the machine wrote no figures for $revision."
	grep -v '^suite,' "$work/part.csv" >>"$work/$revision.rows"
}

count() { measure "$1" instructions '--samples 21 --calls 256' --icount; }
time_round() { measure "$1" ns '--samples 11 --calls 512' --smp 2 -m 2G; }

rm -f "$work/$first.rows" "$work/$second.rows"
for revision in "$first" "$second"; do
	stage "count-${revision:0:7}" count "$revision"
done
for ((round = 1; round <= rounds; round++)); do
	# Each is the first as often as the second.
	order=("$first" "$second")
	((round % 2)) || order=("$second" "$first")
	for revision in "${order[@]}"; do
		stage "ns$round-${revision:0:7}" time_round "$revision"
	done
done

# The program that compares is that of this revision.
if [[ ! -x $PROGRAMS/flexsc-bench || -n $(find "$ROOT/user/flexsc-bench" -newer "$PROGRAMS/flexsc-bench" -type f) ]]; then
	build_here() {
		cd "$ROOT"
		RUSTFLAGS=$STATIC "$CARGO" build --release --locked -p flexsc-bench \
			--target x86_64-unknown-linux-gnu --target-dir build/cargo
	}
	stage program build_here
fi
header=suite,op,backend,cpus,batch,metric,value,unit
for revision in "$first" "$second"; do
	{ echo "$header"; cat "$work/$revision.rows"; } >"$work/$revision.csv"
	rm "$work/$revision.rows"
done
say ''
say "A = ${revisions[0]} ($first), B = ${revisions[1]} ($second)"
say "$(printf '%-62s %10s %10s %7s  %s' figure A B 'B / A' confidence)"
"$PROGRAMS/flexsc-bench" compare --limit "$limit" "$work/$first.csv" "$work/$second.csv"
