#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Measures in virtual machines and writes CSV into results/.  See usage() and
# docs/benchmarks.md.  No ratio makes it fail: losses are published too.

# shellcheck disable=SC2317  # "stage" calls some functions

set -euo pipefail
export PROG=bench
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/env.sh
source "$ROOT/scripts/env.sh"
# shellcheck source=scripts/crates.sh
source "$ROOT/scripts/crates.sh"
export STAGE_PREFIX=bench-

usage() {
	cat <<END
Usage: scripts/bench.sh [--quick | --smoke] [--name NAME] [--no-build] [--help]

Measures plain system calls, syscall pages and io_uring in virtual machines:
instructions on one CPU (twice), nanoseconds on two CPUs, pipelines, chains,
orders, a load that rises and falls, calls that block, the processors that execute
calls, and the costs to programs that do not use FlexSC.  Without --quick also an
echo server, idle pages and processes, and four CPUs.  Writes results/NAME.csv,
results/NAME.meta and the report results/NAME.html, and prints tables with ratios
and the goals.  The report includes results/model.csv if that exists.
"flexsc-bench fill results/NAME.csv docs/benchmarks.md" puts the figures into the
document.

  --quick      take fewer samples: ten minutes at most if the kernels are built,
               otherwise an hour
  --smoke      only show that everything works: two samples of a few batches
  --name NAME  name of the files (default: quick, smoke or full)
  --no-build   use the kernels and programs in build/ as they are
  --help       print this text

Exit code: 0 only if everything was measured, and both runs on one CPU counted
the same instructions for each figure.
END
}

effort=full name='' build=1
asked="scripts/bench.sh${*:+ $*}"
while (($#)); do
	case $1 in
	--quick) effort=quick ;;
	--smoke) effort=smoke ;;
	--name)
		[[ -n ${2:-} ]] || die "--name needs a value; --help shows the usage."
		name=$2
		shift
		;;
	--no-build) build='' ;;
	-h | --help) usage; exit 0 ;;
	*) die "unknown argument \"$1\"; --help shows the usage." ;;
	esac
	shift
done
: "${name:=$effort}"
counted_batches='' timed_batches=''
case $effort in
smoke)
	counted='--samples 2 --calls 16' timed='--samples 5 --calls 16' absent='--samples 2 --calls 64'
	counted_batches=' --batches 1,8,64' timed_batches=$counted_batches
	;;
quick)
	counted='--samples 21 --calls 256' timed='--samples 11 --calls 512' absent='--samples 21 --calls 4096'
	;;
full)
	counted='--samples 51 --calls 512' timed='--samples 31 --calls 1024' absent='--samples 21 --calls 4096'
	;;
esac
[[ $name =~ ^[A-Za-z0-9_][A-Za-z0-9._-]*$ ]] ||
	die "--name needs letters, digits, '.', '_' and '-', not '$name'."

if [[ -n $build ]]; then
	"$ROOT/scripts/setup.sh"
	# Programs that were missing are installed now.
	# shellcheck source=scripts/env.sh
	source "$ROOT/scripts/env.sh"
	for config in perf off nopatch; do
		"$ROOT/scripts/build-kernel.sh" -c "$config"
	done
	[[ -n $CARGO ]] || die "cargo $RUST_USER_MIN or later is missing: run scripts/setup.sh."
	stage programs build_programs
fi

# Use the same kernels and programs to the end, even if others are built meanwhile.
mkdir -p "$ROOT/build" "$ROOT/results"
work=$(mktemp -d "$ROOT/build/bench-XXXXXX")
trap 'rm -rf "$work"' EXIT
declare -A kernel
for config in perf off nopatch; do
	kernel[$config]=$(readlink -m "$ROOT/build/kernel-$config")
	[[ -r ${kernel[$config]}/bzImage ]] ||
		die "there is no kernel in build/kernel-$config: run scripts/build-kernel.sh -c $config."
done
[[ -r ${kernel[perf]}/flexsc.ko ]] || die "there is no flexsc.ko in build/kernel-perf: run scripts/build-kernel.sh."
[[ -x $PROGRAMS/flexsc-bench ]] || die "flexsc-bench is not built: leave out --no-build."
cp "$PROGRAMS/flexsc-bench" "$work/flexsc-bench"

# suites OPTIONS BATCHES SUITE...: prints a command that collects the figures of several suites.
# BATCHES are options for the suites that post so many calls at a time.
suites() {
	local options=$1 batches=$2 suite command=''
	shift 2
	for suite in "$@"; do
		command+="flexsc-bench run $suite $options"
		[[ ! $suite =~ ^(calls|cores)$ ]] || command+=$batches
		command+=" --csv /tmp/part.csv && cat /tmp/part.csv >>/tmp/figures.csv && "
	done
	echo "${command}true"
}

# machine CONFIG FILE KTEST-OPTION... -- COMMAND: runs COMMAND, which writes /tmp/figures.csv, in a
# machine, and copies the figures to FILE. The same COMMAND always gives a machine with the same bytes.
machine() {
	local config=$1 file=$2 options=()
	shift 2
	while [[ $1 != -- ]]; do
		options+=("$1")
		shift
	done
	KTEST_QUIET=1 "$ROOT/scripts/ktest.sh" --no-build --kernel "${kernel[$config]}" "${options[@]}" \
		--total-limit 2700 --add "$work/flexsc-bench:/bin/flexsc-bench" --get "/tmp/figures.csv:$work/$file" \
		--get "/tmp/uname:$work/uname.$config" --run "uname -srvm >/tmp/uname; $2"
	[[ -s $work/$file ]] || die "the machine wrote no figures for $file."
}

# Random addresses would change the cost of a call, above all in time: the emulator finds translated
# code by a hash of its address.
fixed=(--append 'nokaslr norandmaps')
counting=(--icount "${fixed[@]}")

count_calls() {
	machine perf "$1" "${counting[@]}" -- \
		"$(suites "--metric instructions $counted" "$counted_batches" calls program chains order)"
}
# These start threads and processes, so two runs may differ a little.
count_more() {
	machine perf more.csv "${counting[@]}" -- \
		"$(suites "--metric instructions $counted" '' scale echo)"
}
time_calls() {
	machine perf times.csv --smp 2 -m 2G "${fixed[@]}" -- \
		"$(suites "--metric ns $timed" "$timed_batches" calls cores pipeline chains order adaptive)"
}
time_four() {
	machine perf four.csv --smp 4 -m 2G "${fixed[@]}" -- \
		"$(suites "--metric ns $timed" "$timed_batches" cores)"
}
measure_blocked() {
	machine perf blocked.csv --smp 2 -m 2G "${fixed[@]}" -- \
		"flexsc-bench run blocked --metric ns --csv /tmp/figures.csv"
}
# With fewer calls in a sample, figures of the same kernel differ by a tenth.
count_absent() {
	machine "$1" "absent-$1.csv" "${counting[@]}" -- \
		"flexsc-bench run absent --metric instructions $absent --label $1 --csv /tmp/figures.csv"
}

# The stages, and the seconds that each usually takes; only their proportions matter, because the
# stages that have ended show how fast this machine is.
case $effort in
smoke) plan=(count 18 again 18 time 40 blocked 8 nopatch 8 off 8 perf 8) ;;
quick) plan=(count 45 again 45 time 170 blocked 8 nopatch 15 off 15 perf 15) ;;
full) plan=(count 170 again 170 more 60 time 900 four 300 blocked 8 nopatch 15 off 15 perf 15) ;;
esac
begun=$SECONDS

# usual NAME: prints the seconds of the stages before NAME, of NAME, and of those after it.
usual() {
	local i before=0 own=0 after=0
	for ((i = 0; i < ${#plan[@]}; i += 2)); do
		if [[ ${plan[i]} == "$1" ]]; then
			own=${plan[i + 1]}
		elif ((own == 0)); then
			before=$((before + plan[i + 1]))
		else
			after=$((after + plan[i + 1]))
		fi
	done
	echo "$before $own $after"
}

# bench_progress LOG SECONDS: prints how far the stage of this log is, and the time left of all.
bench_progress() {
	local name before own after left spent
	name=$(basename "$1" .log)
	read -r before own after < <(usual "${name#"$STAGE_PREFIX"}")
	# The time of the stages that have ended; at first their usual time.
	spent=$((SECONDS - begun - $2))
	((before > 0)) || before=1 spent=1
	left=$((own * spent / before - $2))
	((left > 0)) || left=0
	left=$((left + after * spent / before))
	printf '%s, about %d min left of all' "$(last_line "$1")" $(((left + 59) / 60))
}
# shellcheck disable=SC2034  # for stage
STAGE_FOLLOW=bench_progress

stage count count_calls counts.csv
stage again count_calls again.csv
[[ $effort != full ]] || stage more count_more
stage time time_calls
[[ $effort != full ]] || stage four time_four
stage blocked measure_blocked
for config in nopatch off perf; do
	stage "$config" count_absent "$config"
done

load=$(cut -d " " -f 1-3 /proc/loadavg)
csv=$ROOT/results/$name.csv
meta=$ROOT/results/$name.meta
{
	head -n 1 "$work/counts.csv"
	for part in counts more times four blocked absent-nopatch absent-off absent-perf; do
		[[ ! -e $work/$part.csv ]] || grep -v '^suite,' "$work/$part.csv"
	done
} >"$work/all.csv"

# machine_title STAGE: prints CPUs, memory and accelerator of its machine, from the log of run.py.
machine_title() { sed -n 's/^[^,]* kernel, \(.*\): up after.*/\1/p' "$FLEXSC_LOGS/bench-$1.log"; }
commit=$(git -C "$ROOT" rev-parse HEAD 2>/dev/null) || commit=unknown
[[ -z $(git -C "$ROOT" status --porcelain -- kernel user scripts Cargo.lock 2>/dev/null) ]] ||
	commit+=' and local changes'
[[ -n $build ]] || commit+=' (--no-build: kernels and programs as found in build/)'
twice=$("$work/flexsc-bench" diff "$work/counts.csv" "$work/again.csv")
{
	echo "date: $(date -u +%Y-%m-%d)"
	echo "commit: $commit"
	echo "command: $asked"
	echo "processor: $(sed -n '/^model name/{s/^[^:]*: *//p;q}' /proc/cpuinfo), $(nproc) cores"
	echo "load: $load"
	echo "emulator: $(qemu-system-x86_64 --version | head -n 1)"
	echo "machine for instructions: $(machine_title count)"
	echo "machine for ns: $(machine_title time)"
	[[ $effort != full ]] || echo "machine for ns, four CPUs: $(machine_title four)"
	for config in perf off nopatch; do
		echo "kernel $config: $(cat "$work/uname.$config")"
		echo "kernel $config, sha256 of its configuration: $(sha256sum "${kernel[$config]}/config" | cut -d ' ' -f 1)"
	done
	echo "calls on one CPU: $counted$counted_batches"
	echo "calls on two CPUs: $timed$timed_batches"
	echo "calls for absent: $absent"
	echo "two runs on one CPU: $(tail -n 1 <<<"$twice")"
} >"$work/meta"
mv "$work/all.csv" "$csv"
mv "$work/meta" "$meta"

sources=("$csv")
[[ ! -r $ROOT/results/model.csv ]] || sources+=("$ROOT/results/model.csv")
"$work/flexsc-bench" report "${sources[@]}" -o "$ROOT/results/$name.html"

"$work/flexsc-bench" table "$csv"
grep -h '^# without' "$FLEXSC_LOGS"/bench-{count,time,four,blocked}.log 2>/dev/null || true
say ''
say 'instructions on one CPU, in a second run:'
say "$twice"
say ''
say "results/$name.csv, results/$name.meta, the report results/$name.html; $((SECONDS / 60)) min $((SECONDS % 60)) s"
if ! grep -q ' 0 differ .* 0 are in one file' <<<"$twice"; then
	die 'the cost of some calls differs in the second run: see the list above.'
fi
