# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=bash
#
# find_kunit: prints the directory of the kernel source's own KTAP parser.
# Sourced, after lib.sh.

find_kunit() {
	local dir tarball=/usr/src/linux-source-6.12.tar.xz kept=$FLEXSC_CACHE/kunit
	for dir in "${FLEXSC_KUNIT:-}" "$FLEXSC_CACHE"/src/*/tools/testing/kunit "$kept"; do
		[[ -r $dir/kunit_parser.py && -r $dir/kunit_printer.py ]] && {
			printf '%s\n' "$dir"
			return
		}
	done
	# No source has been unpacked: take the two files out of the archive.
	if [[ -r $tarball ]]; then
		mkdir -p "$kept"
		tar -xf "$tarball" -C "$kept" --strip-components=4 --wildcards \
			'*/tools/testing/kunit/kunit_parser.py' '*/tools/testing/kunit/kunit_printer.py'
		printf '%s\n' "$kept"
		return
	fi
	die "the kernel source with tools/testing/kunit (the KTAP parser) is missing: run scripts/setup.sh."
}
