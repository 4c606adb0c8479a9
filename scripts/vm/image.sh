#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# image.sh OUT CONF [--cmd FILE] [--add HOSTPATH:GUESTPATH]...
#
# Builds the initramfs OUT of the test machine: busybox, tests/guest-init, CONF
# as /ktest/conf, FILE as /ktest/cmd, and the files or directories to add.
# Needs no root, because the kernel provides /dev/console.

set -euo pipefail
export PROG=ktest
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

out=$1 conf=$2
shift 2

box=$(command -v busybox) || box=
if [[ -z $box ]] || ldd "$box" >/dev/null 2>&1; then
	die "a statically linked busybox is needed (package busybox-static): run scripts/setup.sh."
fi
have cpio || die "cpio is missing: run scripts/setup.sh."

tree=$(mktemp -d "${TMPDIR:-/tmp}/ktest-image.XXXXXX")
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree"/{bin,ktest,lib/modules,root,tmp,etc}
cp "$box" "$tree/bin/busybox"
cp "$ROOT"/tests/guest-init/{run-tests.sh,watchdog.sh,speed.sh,splats.ere} "$tree/ktest/"
cp "$ROOT/tests/guest-init/init" "$tree/init"
cp "$conf" "$tree/ktest/conf"

while (($#)); do
	case $1 in
	--cmd) cp "$2" "$tree/ktest/cmd" ;;
	--add)
		from=${2%%:*} to=$tree/${2#*:}
		[[ $2 == *:/* ]] || die "--add needs HOSTPATH:GUESTPATH with an absolute GUESTPATH, not '$2'."
		[[ -r $from ]] || die "cannot read '$from', which is to go into the test machine."
		mkdir -p "$(dirname "$to")"
		if [[ -d $from ]]; then
			mkdir -p "$to"
			cp -a --no-preserve=ownership "$from/." "$to/"
		else
			cp -L --preserve=mode,timestamps "$from" "$to"
		fi
		;;
	*) die "image.sh: unknown option '$1'." ;;
	esac
	shift 2
done
# The same content gives the same image, which a machine unpacks in the same time.
find "$tree" -exec touch -h -d @0 {} +
(cd "$tree" && find . -mindepth 1 -print0 | LC_ALL=C sort -z |
	cpio --null --quiet --reproducible -o -H newc --owner=0:0) >"$out" ||
	die "cannot write the test machine's image $out: is the disk full?"
