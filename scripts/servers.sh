#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs Debian's servers natively and with user-level threads in a virtual machine,
# and checks or measures what they answer.  See usage().

set -euo pipefail
export PROG=servers
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/env.sh
source "$ROOT/scripts/env.sh"
export STAGE_PREFIX=servers-

usage() {
	cat <<END
Usage: scripts/servers.sh [--short] [--no-build] [--measure [SERVER...]] [--help]

Starts memcached -t 8, redis (also with --io-threads 4), BIND and Apache (worker and
event), as Debian has built them, natively and under "flexsc run --user-threads", in
a virtual machine.  A client checks each answer: both must give the same.

  --short    fewer questions
  --no-build use the kernel and the programs in build/ as they are
  --measure  count instead, on one processor whose clock counts instructions, what
             a request costs the server at 8, 64 and 256 connections; the lines of
             CSV are in docs/threads.md.  Of: memcached redis bind-udp bind-tcp
             apache-worker apache-event
  --help     print this text
END
}

connections=60 rounds=150 measure='' servers=() build=1
while (($#)); do
	case $1 in
	--short) connections=20 rounds=50 ;;
	--no-build) build='' ;;
	--measure)
		measure=1
		shift
		servers=("$@")
		break
		;;
	-h | --help) usage; exit 0 ;;
	*) die "unknown argument \"$1\"; --help shows the usage." ;;
	esac
	shift
done
((${#servers[@]})) || servers=(memcached redis bind-udp bind-tcp apache-worker apache-event)

programs() {
	local name
	mkdir -p "$work"
	for name in load counters; do
		cc -static -O2 -Wall -Wextra -Werror "$ROOT/user/flexsc-threads/tests/programs/$name.c" -o "$work/$name"
	done
	[[ -z $build ]] ||
		"$CARGO" build --locked --profile threads -p flexsc-threads --target-dir "$ROOT/build/cargo"
}

"$ROOT/scripts/debian-root.sh" servers >&2
work=$ROOT/build/servers
stage programs programs >&2
run=(-c perf)
[[ -n $build ]] || run=(--no-build --kernel "$ROOT/build/kernel-perf")
run+=(--disk "$ROOT/build/debian-servers.ext2" --qemu -snapshot
	--add "$ROOT/scripts/test/servers:/servers" --add "$work/load:/servers/load"
	--add "$work/counters:/servers/counters"
	--add "$ROOT/build/cargo/threads/libflexsc_threads.so:/servers/libflexsc_threads.so")
enter='unshare -m sh /servers/enter.sh'
if [[ -n $measure ]]; then
	exec "$ROOT/scripts/ktest.sh" "${run[@]}" --icount -m 2G --total-limit 3600 --append 'nokaslr norandmaps' \
		--run "$enter sh /servers/measure.sh 2000 8,64,256 ${servers[*]}"
fi
exec "$ROOT/scripts/ktest.sh" "${run[@]}" -m 2G --total-limit 1800 --run "$enter sh /servers/answers.sh $connections $rounds"
