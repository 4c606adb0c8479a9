#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Fetches one of Debian's own kernels, to test what our programs and our module
# report on a kernel without the patches.  See usage().

set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/apt.sh
source "$ROOT/scripts/apt.sh"
STAGE_PREFIX=debian-

# The kernel series that the module is for, in its smallest variant.
PATTERN='^linux-image-6\.12\..*-cloud-amd64$'

usage() {
	cat <<END
Usage: scripts/debian-kernel.sh [--help]

Downloads Debian's newest Linux 6.12 for cloud machines (35 MB), unpacks it into
the cache directory, without installing it, and leaves build/kernel-debian with
bzImage and config, for "scripts/ktest.sh --kernel build/kernel-debian".  A kernel
that is already in the cache is used as it is.

The cache directory is $FLEXSC_CACHE (set FLEXSC_CACHE to change it).
END
}

case ${1:-} in
'') ;;
-h | --help) usage; exit 0 ;;
*) die "unknown argument \"$1\"; --help shows the usage." ;;
esac

newest_in_cache() {
	find "$FLEXSC_CACHE/out" -maxdepth 1 -name 'debian-*' | LC_ALL=C sort -V | tail -n 1
}

newest_known() {
	apt-cache search --names-only "$PATTERN" | cut -d ' ' -f 1 | LC_ALL=C sort -V | tail -n 1
}

do_fetch() {
	local package tmp out
	package=$(newest_known)
	[[ -n $package ]] || { apt_update; package=$(newest_known); }
	[[ -n $package ]] ||
		die "your package sources have no linux-image-6.12.*-cloud-amd64: add Debian's main and security archives to them."
	tmp=$(mktemp -d "$FLEXSC_CACHE/out/.debian.XXXXXX")
	# shellcheck disable=SC2064
	trap "rm -rf '$tmp'" EXIT
	chmod 755 "$tmp"
	cd "$tmp"
	# The machine's package lists may be out of date.
	apt-get -q download "$package" || {
		apt_update
		package=$(newest_known)
		apt-get -q download "$package"
	} || die "apt-get cannot download $package: check the network and the package sources."
	dpkg-deb -x ./*.deb root
	mkdir new
	cp root/boot/vmlinuz-* new/bzImage
	cp root/boot/config-* new/config
	out=$FLEXSC_CACHE/out/debian-${package#linux-image-}
	rm -rf "$out"
	mv new "$out"
	echo "note: ${package#linux-image-}"
}

mkdir -p "$FLEXSC_CACHE/out" 2>/dev/null ||
	die "cannot create the cache directory $FLEXSC_CACHE: set FLEXSC_CACHE to a place you can write to."
out=$(newest_in_cache)
if [[ -z $out ]]; then
	have apt-get || die "apt-get is missing: Debian's kernel can be fetched only on Debian."
	stage fetch do_fetch
	out=$(newest_in_cache)
fi
mkdir -p "$ROOT/build"
ln -sfn "$out" "$ROOT/build/kernel-debian"
say "debian: build/kernel-debian -> ${out##*/}"
