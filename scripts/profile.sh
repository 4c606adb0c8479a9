#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Counts the instructions of a call or of a batch by function.  See usage().

set -euo pipefail
export PROG=profile
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
	cat <<END
Usage: scripts/profile.sh [-c CONFIG] [--op OP] [--backend BACKEND] [--batch N] [--order] [--no-build]

Runs one benchmark of the suite "calls" on one processor, traces each instruction
for a moment, and prints how many instructions there are from one trap to the next,
by function: the program, entry and exit of the kernel, the module, the calls.

  -c CONFIG          kernel (default perf)
  --op OP            call (default getppid; "flexsc-bench list" lists all)
  --backend BACKEND  how the call is made: flexsc-inline (default), flexsc-ioctl, plain
  --batch N          calls in a batch (default 1)
  --order            print functions in the order of execution, without summing up
  --no-build         use the kernel and the programs as they are
  --help             print this text
END
}

config=perf op=getppid backend=flexsc-inline batch=1 order='' build=()
while (($#)); do
	case $1 in
	-c | --op | --backend | --batch) [[ -n ${2:-} ]] || die "$1 needs a value; --help shows the usage." ;;
	esac
	case $1 in
	-c) config=$2; shift ;;
	--op) op=$2; shift ;;
	--backend) backend=$2; shift ;;
	--batch) batch=$2; shift ;;
	--order) order=--order ;;
	--no-build) build=(--no-build) ;;
	-h | --help) usage; exit 0 ;;
	*) die "unknown argument \"$1\"; --help shows the usage." ;;
	esac
	shift
done
[[ $batch =~ ^[1-9][0-9]{0,3}$ ]] || die "--batch needs a number from 1 to 9999, not '$batch'."

work=$(mktemp -d "${TMPDIR:-/tmp}/flexsc-profile.XXXXXX")
machine=
cleanup() {
	[[ -z $machine ]] || end_apart "$machine"
	wait
	rm -rf "$work"
}
trap cleanup EXIT

cat >"$work/guest.sh" <<END
grep '\[flexsc\]' /proc/kallsyms
flexsc-bench run calls --ops $op --backends $backend --batches $batch --calls 2000000 --samples 21 --csv /tmp/csv &
sleep 3
kill -0 \$! 2>/dev/null || exit 1
echo '<5>flexsc-profile: ready' >/dev/kmsg
wait
END
if ((${#build[@]} == 0)); then
	"$ROOT/scripts/build-kernel.sh" -c "$config"
fi
KTEST_QUIET=1 KTEST_WORK=$work apart "$ROOT/scripts/ktest.sh" -c "$config" "${build[@]}" --icount \
	--append 'nokaslr norandmaps' --add "$PROGRAMS/flexsc-bench:/bin/flexsc-bench" \
	--add "$work/guest.sh:/guest.sh" --run 'sh /guest.sh' --total-limit 600 \
	--qemu "-D $work/trace -qmp unix:$work/qmp,server=on,wait=off" >"$work/ktest" 2>&1
machine=$!
until grep -qs 'flexsc-profile: ready' "$work"/run-*/console.log; do
	kill -0 "$machine" 2>/dev/null || {
		machine=
		grep '^flexsc-bench: ' "$work/ktest" >&2 || tail -n 5 "$work/ktest" >&2
		die "the benchmark did not run; the output of the machine is above."
	}
	sleep 0.2
done
python3 "$ROOT/scripts/profile/trace.py" "$work/qmp"
wait "$machine" || true
machine=
python3 "$ROOT/scripts/profile/functions.py" $order "$work/trace" \
	"$ROOT/build/kernel-$config/System.map" "$work"/run-*/out
