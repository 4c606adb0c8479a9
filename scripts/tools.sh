#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Builds the tools and installs them.  See usage().

set -euo pipefail
export PROG=tools
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/env.sh
source "$ROOT/scripts/env.sh"

usage() {
	cat <<END
Usage: scripts/tools.sh [--no-build] PREFIX

Builds the tools and installs them under PREFIX, an absolute path: bin/flexsc,
bin/flexsc-copy, bin/flexsc-bench, lib/flexsc/libflexsc_threads.so, the man pages,
completions of bash, zsh and fish.  If DESTDIR is set, it is prepended to PREFIX.

  --no-build  install the programs in build/cargo as they are
  --help      this text
END
}

build=1
while (($#)); do
	case $1 in
	--no-build) build= ;;
	-h | --help) usage; exit 0 ;;
	/*) prefix=$1 ;;
	*) die "unknown argument \"$1\"; --help shows the usage." ;;
	esac
	shift
done
[[ -n ${prefix:-} ]] || die "PREFIX is missing; --help shows the usage."

cd "$ROOT"
if [[ -n $build ]]; then
	[[ -n $CARGO ]] || die "cargo $RUST_USER_MIN or later is missing: run scripts/setup.sh."
	RUSTFLAGS=$STATIC "$CARGO" build --release --locked -p flexsc-tools -p flexsc-bench \
		--target x86_64-unknown-linux-gnu --target-dir build/cargo
	"$CARGO" build --locked --profile threads -p flexsc-threads --target-dir build/cargo
fi
programs=(flexsc flexsc-copy flexsc-bench)
for file in "${programs[@]/#/$PROGRAMS/}" build/cargo/threads/libflexsc_threads.so; do
	[[ -e $file ]] || die "$file is missing: leave out --no-build."
done
to=${DESTDIR:-}$prefix
mkdir -p "$to"/{bin,lib/flexsc,share/man/man1,share/man/man4,share/bash-completion/completions} \
	"$to"/share/{zsh/site-functions,fish/vendor_completions.d}
install -m 755 "${programs[@]/#/$PROGRAMS/}" "$to/bin"
install -m 644 build/cargo/threads/libflexsc_threads.so "$to/lib/flexsc"
install -m 644 docs/man/*.1 "$to/share/man/man1"
install -m 644 docs/man/*.4 "$to/share/man/man4"
for shell in bash zsh fish; do
	case $shell in
	bash) file=bash-completion/completions/%s ;;
	zsh) file=zsh/site-functions/_%s ;;
	fish) file=fish/vendor_completions.d/%s.fish ;;
	esac
	# shellcheck disable=SC2059  # the file name is the format
	"$PROGRAMS/flexsc" completions "$shell" >"$to/share/$(printf "$file" flexsc)"
	# shellcheck disable=SC2059
	"$PROGRAMS/flexsc-copy" --completions "$shell" >"$to/share/$(printf "$file" flexsc-copy)"
done
