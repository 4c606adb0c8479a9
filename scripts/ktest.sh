#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Boots a virtual machine, runs the guest tests (or a command, or a shell) in it
# and judges the result.  See usage() below and docs/testing.md.

# shellcheck disable=SC2317  # "stage" and "trap" call some functions

set -euo pipefail
export PROG=ktest
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/env.sh
. "$ROOT/scripts/env.sh"
# shellcheck source=scripts/crates.sh
. "$ROOT/scripts/crates.sh"
# shellcheck source=scripts/vm/qemu.sh
. "$ROOT/scripts/vm/qemu.sh"
# shellcheck source=scripts/vm/kunit.sh
. "$ROOT/scripts/vm/kunit.sh"

usage() {
	cat <<-'END'
	usage: scripts/ktest.sh [OPTION]...
	Runs the guest tests in a virtual machine.
	  -k FILTER         run only tests whose name contains FILTER or matches it as a glob
	                    (several: separated by spaces, or -k again)
	  -c CONFIG         kernel: perf (default), debug, kcsan, off, nopatch
	  --list            print the names of the tests and stop
	  --here            test the module that is loaded on this machine, as root, without a
	                    virtual machine
	  --shell           start a shell in the machine instead of the tests
	  --run 'COMMAND'   run COMMAND in the machine instead; pass on its output and exit code
	  --gdb             make the machine wait for a debugger, and print how to attach it
	  --keep            keep the work directory (logs, image) and print its name
	  --smp N           processors (default 2)
	  -m SIZE           memory (default 1G, with debug and kcsan 2G)
	  --no-build        use the kernel and the programs as they are
	  --help            print this text
	Time limits in seconds (longer with debug and kcsan):
	  --boot-limit N    from the start to the first program (120)
	  --limit N         each test (60)
	  --total-limit N   everything (900)
	Input and output:
	  --add HOST:GUEST  put a file or directory into the machine (GUEST is absolute)
	  --get GUEST:HOST  fetch a file or directory at the end
	  --disk FILE       attach a raw disk image: /dev/vda in the machine, then /dev/vdb ...
	  --share DIR:TAG   share a directory, read-only: mount -t 9p -o ro,trans=virtio TAG /mnt
	                    (not with perf, which has no 9p)
	  --module-args S   parameters of the module
	  --no-module       do not load flexsc.ko
	  --icount          count instructions as time: one processor, the same in every run
	  --stall           stop one processor of the machine, or all, for seconds now and then, as a
	                    busy host does: finds tests that rely on time (five times the limits)
	  --model PARAMS:OUT  model processors: write the counts of marked regions to OUT (docs/model.md);
	                    with --icount, and "all:" before PARAMS for sizes halved and doubled
	  --bin PROGRAM     use another test program: PROGRAM --list, PROGRAM run NAME
	  --kernel DIR      use the bzImage (and flexsc.ko) in DIR instead of -c
	  --append S        append S to the kernel's command line
	  --qemu 'ARGS'     pass more arguments to the emulator
	Exit code: 0 only if the run proves that everything has succeeded.
	END
}

config=perf mode=tests filter='' smp=2 mem='' keep='' gdb='' build=1 bin='' icount='' stall=''
model='' command='' share='' module=1 module_args='' kernel='' append='' boot_limit='' test_limit='' total_limit=''
adds=() gets=() extra=()

need() { [[ $# -ge 2 ]] || die "$1 needs a value; see --help."; }
number() { [[ $2 =~ ^[0-9]+$ && $2 -gt 0 ]] || die "$1 needs a number greater than 0, not '$2'."; }

while (($#)); do
	case $1 in
	-k | -c | -m | --run | --smp | --add | --get | --disk | --share | --module-args | --bin | --qemu | \
		--kernel | --append | --model | --boot-limit | --limit | --total-limit) need "$@" ;;
	esac
	case $1 in
	-k) filter+="${filter:+ }$2"; shift ;;
	-c) config=$2; shift ;;
	-m) mem=$2; shift ;;
	--run) mode=run command=$2; shift ;;
	--smp) number "$1" "$2"; smp=$2; shift ;;
	--add) adds+=(--add "$2"); shift ;;
	--get)
		[[ $2 == /*:?* ]] || die "--get needs GUESTPATH:HOSTPATH with an absolute GUESTPATH, not '$2'."
		gets+=("$2")
		shift
		;;
	--disk)
		[[ -r $2 ]] || die "cannot read the disk image '$2'."
		extra+=(-drive "file=$2,format=raw,if=virtio")
		shift
		;;
	--share)
		share=1
		[[ -d ${2%:*} && $2 == *:?* ]] || die "--share needs DIRECTORY:TAG, not '$2'."
		extra+=(-virtfs "local,path=${2%:*},mount_tag=${2##*:},security_model=none,readonly=on")
		shift
		;;
	--module-args) module_args=$2; shift ;;
	--bin) bin=$2; shift ;;
	--kernel) kernel=$2; shift ;;
	--append) append=$2; shift ;;
	--qemu)
		read -ra words <<<"$2"
		extra+=("${words[@]}")
		shift
		;;
	--boot-limit) number "$1" "$2"; boot_limit=$2; shift ;;
	--limit) number "$1" "$2"; test_limit=$2; shift ;;
	--total-limit) number "$1" "$2"; total_limit=$2; shift ;;
	--list) mode=list ;;
	--here) mode=here ;;
	--shell) mode=shell ;;
	--gdb) gdb=1 ;;
	--keep) keep=1 ;;
	--no-build) build='' ;;
	--no-module) module='' ;;
	--icount) icount=1 ;;
	--stall) stall=1 ;;
	--model)
		[[ $2 == *:?* ]] || die "--model needs PARAMS:OUT, not '$2'."
		model=$2
		shift
		;;
	-h | --help) usage; exit 0 ;;
	*) die "unknown option '$1'; see --help." ;;
	esac
	shift
done

have python3 || die "python3 is missing: run scripts/setup.sh."

if [[ -n $build && -z $bin ]]; then
	[[ -n $CARGO ]] || die "cargo $RUST_USER_MIN or later is missing: run scripts/setup.sh."
	STAGE_FOLLOW=programs_progress stage programs build_programs >&2
fi
# Only our own tests have a list of skips that are allowed.
may_skip=''
[[ -n $bin ]] || may_skip=1
bin=${bin:-$PROGRAMS/flexsc-tests}
[[ $mode == run || $mode == shell || -x $bin ]] ||
	die "the test program '$bin' is missing or not executable: build it first, or leave out --no-build."

if [[ $mode == list ]]; then
	exec "$bin" --list
fi

if [[ $mode == here ]]; then
	((EUID == 0)) || die "--here writes to the kernel log: run it as root."
	[[ -d /sys/module/flexsc || -z $module ]] ||
		die "--here needs the module: load flexsc.ko with insmod first, or leave out --here for a virtual machine."
	kunit=$(find_kunit)
	env KT_HERE=1 KT_BIN="$(realpath "$bin")" KT_FILTER="$filter" KT_MODULE='' \
		KT_TEST_LIMIT="${test_limit:-60}" \
		python3 "$ROOT/scripts/vm/run.py" --mode here --work /tmp --kunit "$kunit" -- \
		sh "$ROOT/tests/guest-init/run-tests.sh"
	exit
fi

have qemu-system-x86_64 || die "qemu-system-x86_64 is missing: run scripts/setup.sh."
case $config in
perf | debug | kcsan | off | nopatch) ;;
*) die "unknown configuration '$config': choose perf, debug, kcsan, off or nopatch." ;;
esac
if [[ -n $kernel ]]; then
	config=$(basename "$kernel")
else
	kernel=$ROOT/build/kernel-$config
	[[ -z $build ]] || "$ROOT/scripts/build-kernel.sh" -c "$config" >&2
fi
[[ -z $share || ! -r $kernel/config ]] || grep -q '^CONFIG_NET_9P_VIRTIO=[ym]$' "$kernel/config" ||
	die "the kernel $config cannot mount a shared directory: use -c debug, or an image with --disk."
[[ -r $kernel/bzImage ]] || die "there is no kernel in $kernel: run scripts/build-kernel.sh -c $config."
if [[ -n $module && ! -r $kernel/flexsc.ko ]]; then
	[[ $mode != tests ]] || die "there is no flexsc.ko in $kernel: build it, or add --no-module."
	module=''
fi

case $config in
*debug* | *kcsan*) : "${mem:=2G}" "${boot_limit:=240}" "${test_limit:=180}" "${total_limit:=2400}" ;;
*) : "${mem:=1G}" "${boot_limit:=120}" "${test_limit:=60}" "${total_limit:=900}" ;;
esac
# A test's own limit must be hit before the machine's.
[[ -z $stall ]] || test_limit=$((test_limit * 5)) total_limit=$((total_limit * 5)) \
	append+=" FLEXSC_TEST_LIMIT=$((test_limit - 20))"
# The kernel passes unknown words of its command line to init, as environment variables.
[[ -z $icount ]] || smp=1 append+=' FLEXSC_TEST_CLOCK=instructions'

if [[ -n $model ]]; then
	[[ -n $icount ]] || die "--model needs --icount: the modelled machine has one processor."
	variants=base
	[[ $model != all:* ]] || variants=all model=${model#all:}
	[[ -r ${model%:*} ]] || die "cannot read the parameters '${model%:*}'."
	[[ -z $build ]] || stage model build_model >&2
	[[ -r $MODEL_PLUGIN ]] || die "the plugin is not built: leave out --no-build, or run scripts/model.sh."
	extra+=(-plugin "$MODEL_PLUGIN,params=$(realpath "${model%:*}"),out=${model##*:},variants=$variants")
fi

mkdir -p "$FLEXSC_CACHE"
parent=${KTEST_WORK:-$ROOT/build/ktest}
mkdir -p "$parent"
# The work directories of failed runs are kept for inspection, for a day.
find "$parent" -maxdepth 1 -type d -name 'run-*' -mmin +1440 -exec rm -rf {} +
work=$(mktemp -d "$parent/run-$config-XXXXXX")
rc=1
cleanup() {
	if [[ -n $keep ]]; then
		printf 'kept: %s\n' "$work" >&2
	elif ((rc != 0)) && [[ $mode != shell && -s $work/console.log ]]; then
		rm -f "$work/initramfs"
		[[ -n ${KTEST_QUIET:-} ]] || printf 'logs: %s\n' "$work" >&2
	else
		rm -rf "$work"
	fi
}
trap cleanup EXIT

quote() { printf "'%s'" "${1//\'/\'\\\'\'}"; }
leaks=no
[[ $config != *debug* ]] || leaks=must
get_list=''
for get in "${gets[@]}"; do
	get_list+=" ${get%%:*}"
done
{
	echo "KT_MODE=$mode"
	echo "KT_BIN=/ktest/tests"
	echo "KT_FILTER=$(quote "$filter")"
	echo "KT_TEST_LIMIT=$test_limit"
	echo "KT_MODULE=${module:+/lib/modules/flexsc.ko}"
	echo "KT_MODULE_ARGS=$(quote "$module_args")"
	echo "KT_KMEMLEAK=${KTEST_KMEMLEAK:-$leaks}"
	echo "KT_GET=$(quote "${get_list// \// }")"
	if [[ $mode == shell && -t 0 ]]; then
		read -r rows cols < <(stty size)
		echo "KT_ROWS=$rows KT_COLS=$cols"
	fi
} >"$work/conf"
image=("${adds[@]}")
[[ ! -x $bin ]] || image+=(--add "$(realpath "$bin"):/ktest/tests")
[[ -z $module ]] || image+=(--add "$kernel/flexsc.ko:/lib/modules/flexsc.ko")
for program in flexsc flexsc-copy flexsc-tests; do
	[[ ! -x $PROGRAMS/$program ]] || image+=(--add "$PROGRAMS/$program:/bin/$program")
done
if [[ $mode == run ]]; then
	printf '%s\n' "$command" >"$work/cmd"
	image+=(--cmd "$work/cmd")
fi
"$ROOT/scripts/vm/image.sh" "$work/initramfs" "$work/conf" "${image[@]}"

accel=$(vm_accel "$kernel/bzImage")
[[ -z $icount ]] || accel=icount
VM_APPEND=$append
[[ -z $gdb ]] || VM_APPEND+=' nokaslr'
[[ $mode != shell ]] || VM_STDIO=1
# Core scheduling, which only this kernel has, needs cores with several threads.
topology=$smp
[[ $config != *debug* ]] || ((smp % 2)) || topology+=,threads=2
vm_qemu "$kernel/bzImage" "$accel" "$topology" "$mem" "$work"
QEMU+=("${extra[@]}")
if [[ -n $gdb ]]; then
	QEMU+=(-s -S)
	cat >&2 <<-END
	The machine waits for a debugger and has no time limits.  In another terminal:
	  gdb $kernel/vmlinux -ex 'target remote :1234' -ex 'hbreak start_kernel' -ex continue
	END
fi

if [[ $mode == shell ]]; then
	[[ -t 0 && -t 1 ]] || die "--shell needs a terminal: in a script, use --run 'COMMAND'."
	printf 'kernel console: %s\n' "$work/console.log"
	set +e
	"${QEMU[@]}"
	rc=$?
	set -e
	grep -q 'flexsc-ktest: init' "$work/console.log" ||
		{ tail -n 20 "$work/console.log"; die "the machine did not boot; the last lines of its console are above."; }
	exit $rc
fi

run=(--work "$work" --mode "$mode" --lock "${KTEST_LOCK:-$FLEXSC_CACHE/vm.lock}" --config "$config"
	--title "$config kernel, $smp CPU, $mem, $accel" --boot-limit "$boot_limit"
	--test-limit "$test_limit" --total-limit "$total_limit")
[[ -z ${KTEST_GRACE:-} ]] || run+=(--grace "$KTEST_GRACE")
[[ -z $gdb ]] || run+=(--no-limits)
[[ $accel != tcg ]] || run+=(--emulated)
[[ -z $stall ]] || run+=(--stall)
if [[ $mode == tests ]]; then
	kunit=$(find_kunit)
	run+=(--kunit "$kunit" ${may_skip:+--may-skip "$smp"})
fi
set +e
python3 "$ROOT/scripts/vm/run.py" "${run[@]}" -- "${QEMU[@]}"
rc=$?
set -e

if ((${#gets[@]})) && [[ -s $work/files.tar ]]; then
	mkdir -p "$work/files"
	tar -xf "$work/files.tar" -C "$work/files"
	for get in "${gets[@]}"; do
		[[ -e $work/files${get%%:*} ]] || die "there is no ${get%%:*} in the machine."
		mkdir -p "$(dirname "${get#*:}")"
		cp -a --no-preserve=ownership "$work/files${get%%:*}" "${get#*:}"
	done
fi
exit $rc
