#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs benchmarks on modelled processors.  See usage() and docs/model.md.

# shellcheck disable=SC2317  # "stage" calls some functions

set -euo pipefail
export PROG=model
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/env.sh
source "$ROOT/scripts/env.sh"
# shellcheck source=scripts/crates.sh
source "$ROOT/scripts/crates.sh"
export STAGE_PREFIX=model-

usage() {
	cat <<END
Usage: scripts/model.sh [--sensitivity] [--check] [--params FILE] [--name NAME] [--no-build] [--help]

Runs calls in a virtual machine whose emulator models processors: caches, TLBs, branch prediction
and mode switches.  Writes results/NAME.csv and build/NAME-counts.csv, and prints modelled cycles
of a call and misses.  The figures are modelled, never measured.

  --sensitivity  also halve and double each parameter, and print which comparisons hold
  --check        only run a few calls, and compare their instructions with the machine's clock
  --params FILE  processors and their costs (default user/flexsc-model/processors.toml)
  --name NAME    name of the files (default: model)
  --no-build     use the kernel and programs in build/ as they are
  --help         print this text
END
}

params=$ROOT/user/flexsc-model/processors.toml name=model sensitivity='' check='' build=1
while (($#)); do
	case $1 in
	--params | --name) [[ -n ${2:-} ]] || die "$1 needs a value; --help shows the usage." ;;
	esac
	case $1 in
	--sensitivity) sensitivity=--sensitivity ;;
	--check) check=1 ;;
	--params) params=$2; shift ;;
	--name) name=$2; shift ;;
	--no-build) build='' ;;
	-h | --help) usage; exit 0 ;;
	*) die "unknown argument \"$1\"; --help shows the usage." ;;
	esac
	shift
done
[[ $name =~ ^[A-Za-z0-9_][A-Za-z0-9._-]*$ ]] ||
	die "--name needs letters, digits, '.', '_' and '-', not '$name'."
[[ -r $params ]] || die "cannot read the parameters '$params'."

if [[ -n $build ]]; then
	"$ROOT/scripts/build-kernel.sh" -c perf
	[[ -n $CARGO ]] || die "cargo $RUST_USER_MIN or later is missing: run scripts/setup.sh."
	STAGE_FOLLOW=programs_progress stage programs build_programs
	stage plugin build_model
fi
bench=$PROGRAMS/flexsc-bench
[[ -x $bench ]] || die "flexsc-bench is not built: leave out --no-build."

mkdir -p "$ROOT/build" "$ROOT/results"
work=$(mktemp -d "$ROOT/build/model-XXXXXX")
trap 'rm -rf "$work"' EXIT

run='flexsc-bench run'
marked='--metric instructions --mark'
if [[ -n $check ]]; then
	calls="$run calls $marked --calls 64 --ops getppid --backends plain,io_uring,flexsc-inline --batches 1,8"
	footprints="$run footprint $marked --calls 2 --ops stat"
else
	calls="$run calls $marked --calls 1024 --ops getppid,pread64 --batches 1,4,16,64"
	calls+=' --backends plain,io_uring,io_uring-defer,flexsc-inline,flexsc-thread'
	footprints="$run footprint $marked --calls 32"
fi
variants=''
[[ -z $sensitivity ]] || variants=all:

# Random addresses would change which lines share a set; the model knows large pages by their
# addresses without KASLR.
run_machine() {
	KTEST_QUIET=1 "$ROOT/scripts/ktest.sh" --no-build --kernel "$ROOT/build/kernel-perf" --icount \
		--append 'nokaslr norandmaps' --model "$variants$params:$work/counts.csv" --total-limit 3000 \
		--add "$bench:/bin/flexsc-bench" --get "/tmp/figures.csv:$work/figures.csv" \
		--run "$calls --csv /tmp/figures.csv && $footprints --csv /tmp/part.csv && cat /tmp/part.csv >>/tmp/figures.csv"
}
stage run run_machine

results=(--params "$params" --check "$work/figures.csv")
if [[ -n $check ]]; then
	"$bench" model "$work/counts.csv" "${results[@]}" --processors nehalem
	exit
fi
"$bench" model "$work/counts.csv" "${results[@]}" --csv "$work/model.csv" $sensitivity
mv "$work/model.csv" "$ROOT/results/$name.csv"
mv "$work/counts.csv" "$ROOT/build/$name-counts.csv"
say ''
say "modelled, not measured: results/$name.csv, build/$name-counts.csv; $((SECONDS / 60)) min $((SECONDS % 60)) s"
