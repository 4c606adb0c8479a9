#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Builds libflexsc, the library for C, and installs it.  See usage().

set -euo pipefail
export PROG=libflexsc
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/env.sh
source "$ROOT/scripts/env.sh"

usage() {
	cat <<END
Usage: scripts/libflexsc.sh [--debug] PREFIX

Builds libflexsc and installs it under PREFIX, an absolute path: lib/libflexsc.a,
lib/libflexsc.so, lib/pkgconfig/flexsc.pc, include/flexsc.h, the man pages.
If DESTDIR is set, it is prepended to PREFIX.

  --debug  without optimization
  --help   this text
END
}

profile=release
while (($#)); do
	case $1 in
	--debug) profile=debug ;;
	-h | --help) usage; exit 0 ;;
	/*) prefix=$1 ;;
	*) die "unknown argument \"$1\"; --help shows the usage." ;;
	esac
	shift
done
[[ -n ${prefix:-} ]] || die "PREFIX is missing; --help shows the usage."
[[ -n $CARGO ]] || die "cargo $RUST_USER_MIN or later is missing: run scripts/setup.sh."

cd "$ROOT"
target=${CARGO_TARGET_DIR:-$ROOT/build/cargo-c}
options=()
[[ $profile == debug ]] || options=(--release)
"$CARGO" build --locked -p flexsc-c --target-dir "$target" "${options[@]}"
archive=$target/$profile/libflexsc_c.a
version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
to=${DESTDIR:-}$prefix
mkdir -p "$to"/{lib/pkgconfig,include,share/man/man3,share/man/man7}
install -m 644 "$archive" "$to/lib/libflexsc.a"
# rustc gives its own shared libraries an anonymous version, which cannot be named: link here.
"${CC:-cc}" -shared -o "$to/lib/libflexsc.so.$version" -Wl,-soname,libflexsc.so.0 \
	-Wl,--version-script=user/flexsc-c/flexsc.map -Wl,--gc-sections \
	-Wl,--whole-archive "$archive" -Wl,--no-whole-archive -lpthread -ldl -lm -lgcc_s -lc
ln -sf "libflexsc.so.$version" "$to/lib/libflexsc.so.0"
ln -sf libflexsc.so.0 "$to/lib/libflexsc.so"
install -m 644 user/flexsc-c/include/flexsc.h "$to/include/flexsc.h"
sed "s|@PREFIX@|$prefix|; s|@VERSION@|$version|" user/flexsc-c/flexsc.pc.in >"$to/lib/pkgconfig/flexsc.pc"
install -m 644 docs/man/flexsc*.3 "$to/share/man/man3/"
install -m 644 docs/man/flexsc.7 "$to/share/man/man7/"
