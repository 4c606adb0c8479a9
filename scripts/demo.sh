#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Does a real job: copies part of the kernel source in a virtual machine, once
# with every call through syscall pages and once with plain calls. See usage() below; scripts/demo/guest.sh runs
# in the machine.

# shellcheck disable=SC2317  # "stage" calls some functions

set -euo pipefail
export PROG=demo
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
export STAGE_PREFIX=demo-

TREES="fs include"	# of the kernel source: 8,700 files, 90 MB
IMAGE_FORMAT=2		# raise it when do_tree() changes

usage() {
	cat <<END
Usage: scripts/demo.sh [--rounds N] [--keep] [--help]

Copies the directories ${TREES// / and } of the kernel source in a virtual machine, with all
system calls through syscall pages and then with plain calls. Compares the copies
byte by byte and prints the cost of each. Installs and builds first what is missing.

  --rounds N  timed runs of each way (default 3)
  --keep      keep the figures in build/demo
  --help      print this text

Exit code: 0 only if the copies are equal, the counts of the kernel and of the
program agree, and at least 99 % of the traps are gone.
END
}

rounds=3
keep=
while (($#)); do
	case $1 in
	--rounds)
		[[ ${2:-} =~ ^[1-9][0-9]?$ ]] || die "--rounds needs a number from 1 to 99, not '${2:-}'."
		rounds=$2
		shift
		;;
	--keep) keep=1 ;;
	-h | --help) usage; exit 0 ;;
	*) die "unknown argument \"$1\"; --help shows the usage." ;;
	esac
	shift
done

# Makes the disk image with the tree, once for each version of the kernel source.
do_tree() {
	local tarball=/usr/src/linux-source-6.12.tar.xz from name files bytes
	# A lock of its own: a kernel build may hold the other one for a long time.
	take_lock demo.lock demo
	PATH=$PATH:/usr/sbin:/sbin
	have mke2fs || die "mke2fs (package e2fsprogs) is missing: run scripts/setup.sh."
	need_space 1
	rm -rf "$FLEXSC_CACHE/demo"
	mkdir -p "$work/tree"
	from=$FLEXSC_CACHE/src/$version
	for name in $TREES; do
		if [[ -d $from ]]; then
			cp -al "$from/$name" "$work/tree/"
		else
			tar -C "$work/tree" -xf "$tarball" --strip-components=1 "linux-source-6.12/$name"
		fi
	done
	read -r files bytes < <(find "$work/tree" -type f -printf '%s\n' |
		awk '{ n++; s += $1 } END { printf "%d %d\n", n, s }')
	((files >= 2000 && bytes >= 40000000)) ||
		die "the tree to copy is too small ($files files, $bytes bytes): remove $from and build the kernel again."
	# A file takes at most one block more than its size; directories and tables need the rest.
	mke2fs -q -t ext2 -b 4096 -m 0 -O ^resize_inode -E root_owner=0:0 \
		-N $((files * 11 / 10 + 1000)) -d "$work/tree" "$work/image" \
		$((bytes / 1024 + files * 5 + 8192))k
	mv "$work/image" "$image"
	rm -rf "$work"
	echo "note: $files files, $((bytes / 1000000)) MB"
}

"$ROOT/scripts/setup.sh"
"$ROOT/scripts/build-kernel.sh" -c perf

version=$(dpkg-query -W -f '${Version}' linux-source-6.12 2>/dev/null) ||
	die "the package linux-source-6.12 is not installed: run scripts/setup.sh."
image=$FLEXSC_CACHE/demo/tree-$(sha256sum <<<"$version $TREES $IMAGE_FORMAT" | cut -c 1-16).ext2
work=$FLEXSC_CACHE/demo/.new
[[ -r $image ]] || stage tree do_tree

out=$ROOT/build/demo
rm -rf "$out"
counter=0
[[ ! -t 1 ]] || counter=1
"$ROOT/scripts/ktest.sh" -c perf --disk "$image" --add "$ROOT/scripts/demo/guest.sh:/demo/guest.sh" \
	--get "/run/demo/out:$out" --total-limit 300 --run "sh /demo/guest.sh $rounds $counter" ||
	die "the run in the virtual machine failed; its output is above."
echo
python3 -B "$ROOT/scripts/demo/report.py" "$out" || exit 1
[[ -n $keep ]] || rm -rf "$out"
echo "demo: ok"
