#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Installs what building and testing FlexSC on Debian 12 or 13 needs: packages
# by apt-get and, in the cache directory, a pinned Rust with its library source
# (for the kernel) and bindgen.  Running it again does no harm.

set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/env.sh
source "$ROOT/scripts/env.sh"
# shellcheck source=scripts/apt.sh
source "$ROOT/scripts/apt.sh"
STAGE_PREFIX=setup-

usage() {
	cat <<END
Usage: scripts/setup.sh [--check] [--help]

Installs what building and testing FlexSC needs, unless it is installed already:
Debian packages (needs root or sudo) and, in $FLEXSC_CACHE,
Rust $RUST_PINNED for the kernel and bindgen $BINDGEN_PINNED.

  --check   only print what is missing; exit code 1 if anything is
  --help    print this text

To use your own rustc for the kernel (at least $RUST_KERNEL_MIN, with
rust-src), set KERNEL_RUSTC to it. FLEXSC_CACHE changes the cache directory.
END
}

# The kernel source and the tools that its build calls. KASAN with Rust needs
# clang, bindgen needs libclang, the guest needs QEMU and busybox.
PACKAGES=(
	linux-source-6.12
	clang-19 llvm-19 lld-19 libclang-19-dev
	gcc libc6-dev make flex bison bc perl python3
	libelf-dev libssl-dev
	tar xz-utils patch rsync cpio kmod gzip util-linux
	ca-certificates git e2fsprogs shellcheck
	qemu-system-x86 seabios busybox-static strace
)

check_only=
while (($#)); do
	case $1 in
	--check) check_only=1 ;;
	-h | --help) usage; exit 0 ;;
	*) die "unknown argument \"$1\"; --help shows the usage." ;;
	esac
	shift
done

# distro: prints 12 or 13 on these versions of Debian, nothing elsewhere.
distro() {
	local ID='' VERSION_ID=''
	# shellcheck source=/dev/null
	[[ -r /etc/os-release ]] && source /etc/os-release
	[[ $ID == debian && ($VERSION_ID == 12 || $VERSION_ID == 13) ]] && printf '%s\n' "$VERSION_ID"
	return 0
}

# not_installed PACKAGE...: prints the packages that are not installed.
not_installed() {
	local p status
	declare -A got=()
	while read -r p status; do
		[[ $status == "install ok installed" ]] && got[$p]=1
	done < <(dpkg-query -W -f '${Package} ${Status}\n' "$@" 2>/dev/null)
	for p in "$@"; do
		[[ -n ${got[$p]:-} ]] || printf '%s\n' "$p"
	done
}

# unknown_to_apt PACKAGE...: prints the packages that no package source has.
unknown_to_apt() {
	local p out
	for p in "$@"; do
		out=$(apt-cache policy "$p" 2>/dev/null)
		[[ $out == *Candidate:* && $out != *"Candidate: (none)"* ]] || printf '%s\n' "$p"
	done
}

install_packages() {
	local unknown
	apt_update
	unknown=$(unknown_to_apt "$@")
	[[ -z $unknown ]] ||
		die "your package sources do not have ${unknown//$'\n'/ }: add the main and security archives of Debian $DEBIAN to them."
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "$@"
	echo "note: $# packages"
}

# rust_packages: prints the Debian packages with Rust 1.85. In bookworm their
# names end in -web, because the usual names belong to an older Rust.
rust_packages() {
	if [[ $DEBIAN == 12 ]]; then
		echo rustc-web libstd-rust-web-dev libstd-rust-web-1.85 rust-web-src rust-web-clippy rustfmt-web cargo-web
	else
		echo rustc libstd-rust-dev libstd-rust-1.85 rust-src rust-clippy rustfmt cargo
	fi
}

# pinned_version PACKAGE: prints its newest version that is RUST_PINNED.
pinned_version() {
	apt-cache madison "$1" | awk -v want="$RUST_PINNED." -F' *\\| *' 'index($2, want) == 1 { print $2; exit }'
}

# write_wrappers DIR: writes a wrapper for each program, which sets LD_LIBRARY_PATH.
write_wrappers() {
	local prog
	mkdir "$1/bin"
	for prog in "$1"/usr/bin/*; do
		prog=${prog##*/}
		# shellcheck disable=SC2016
		printf '%s\n' '#!/bin/sh' \
			'here=${0%/*}/..' \
			'export LD_LIBRARY_PATH="$here/usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"' \
			"exec \"\$here/usr/bin/$prog\" \"\$@\"" >"$1/bin/$prog"
		chmod +x "$1/bin/$prog"
	done
}

# Unpacks Debian's own Rust in the cache. Installing it would remove another rustc
# or rustup from the machine.
install_rust() {
	local tmp pkg ver deb libs
	tmp=$(mktemp -d "$FLEXSC_CACHE/tools/.rust.XXXXXX")
	# shellcheck disable=SC2064
	trap "rm -rf '$tmp'" EXIT
	chmod 755 "$tmp"
	[[ -n $(pinned_version "$(rust_packages | cut -d' ' -f1)") ]] || apt_update
	for pkg in $(rust_packages); do
		ver=$(pinned_version "$pkg")
		[[ -n $ver ]] ||
			die "your package sources do not have $pkg $RUST_PINNED: add Debian $DEBIAN's main archive, or set KERNEL_RUSTC to a rustc with rust-src."
		(cd "$tmp" && apt-get -q download "$pkg=$ver")
	done
	# The shared libraries that these packages need are in the same archive.
	libs=$(for deb in "$tmp"/*.deb; do dpkg-deb -f "$deb" Depends; done |
		tr ',' '\n' | sed 's/|.*//; s/(.*//; s/ //g' | grep '^lib' | grep -Ev '^(libstd-rust|libc-dev)' | sort -u)
	# shellcheck disable=SC2086
	libs=$(not_installed $libs)
	# shellcheck disable=SC2086
	[[ -z $libs ]] || { need_root $libs; install_packages $libs; }
	mkdir "$tmp/root"
	for deb in "$tmp"/*.deb; do
		dpkg-deb -x "$deb" "$tmp/root"
	done
	# The kernel needs only the source of the library.
	rm -rf "$tmp"/root/usr/src/rustc-*/{compiler,src,tests} "$tmp"/root/usr/share
	write_wrappers "$tmp/root"
	[[ $(tool_version "$tmp/root/bin/rustc" --version) == "$RUST_PINNED".* ]] ||
		die "the unpacked Rust does not run; see $FLEXSC_LOGS."
	[[ -e $tmp/root/usr/lib/rustlib/src/rust/library/core/src/lib.rs ]] ||
		die "the unpacked Rust has no library source where the kernel looks for it."
	rm -rf "$RUST_HOME"
	mv "$tmp/root" "$RUST_HOME"
}

install_bindgen() {
	local tmp
	tmp=$(mktemp -d "$FLEXSC_CACHE/tools/.bindgen.XXXXXX")
	# shellcheck disable=SC2064
	trap "rm -rf '$tmp'" EXIT
	chmod 755 "$tmp"
	"$CARGO" install bindgen-cli --version "$BINDGEN_PINNED" --locked \
		--root "$tmp/root" --target-dir "$tmp/target" ||
		die "cargo could not build bindgen $BINDGEN_PINNED (is there a network?); the log is $FLEXSC_LOGS/setup-bindgen.log."
	rm -rf "$BINDGEN_HOME"
	mv "$tmp/root" "$BINDGEN_HOME"
}

# Check the machine itself first, then find out what is missing.
DEBIAN=$(distro)
[[ -n $DEBIAN ]] ||
	die "this is neither Debian 12 nor 13: install a Rust of at least $RUST_KERNEL_MIN with rust-src, bindgen-cli $BINDGEN_PINNED and the equivalents of these packages by hand: ${PACKAGES[*]}"
[[ $(uname -m) == x86_64 ]] || die "this machine is $(uname -m): FlexSC builds only on x86_64."
{ have apt-get && have dpkg-query; } ||
	die "apt-get or dpkg is missing: install these packages by hand: ${PACKAGES[*]}"

mapfile -t missing < <(not_installed "${PACKAGES[@]}")
if [[ -n ${KERNEL_RUSTC:-} ]]; then
	version_ge "$(tool_version "$KERNEL_RUSTC" --version)" "$RUST_KERNEL_MIN" ||
		die "KERNEL_RUSTC ($KERNEL_RUSTC) is not a rustc of at least $RUST_KERNEL_MIN: set it to a newer rustc, or unset it to use Debian's $RUST_PINNED."
	rust_for_kernel "$KERNEL_RUSTC" ||
		die "KERNEL_RUSTC ($KERNEL_RUSTC) has no library source: install it with \"rustup component add rust-src\", or unset KERNEL_RUSTC to use Debian's $RUST_PINNED."
fi
want_rust=
[[ -n ${KERNEL_RUSTC:-} && -n ${CARGO:-} ]] || want_rust=1
want_bindgen=
[[ -n ${BINDGEN:-} ]] || want_bindgen=1

if [[ -n $check_only ]]; then
	((${#missing[@]} == 0)) || say "missing packages: ${missing[*]}"
	[[ -z $want_rust ]] || say "missing: Rust $RUST_PINNED with its library source"
	[[ -z $want_bindgen ]] || say "missing: bindgen $BINDGEN_PINNED"
	((${#missing[@]} == 0)) && [[ -z $want_rust$want_bindgen ]] || exit 1
	say "nothing is missing"
	exit 0
fi
if ((${#missing[@]} == 0)) && [[ -z $want_rust$want_bindgen ]]; then
	say "everything is installed already"
	exit 0
fi

((${#missing[@]} == 0)) || need_root "${missing[@]}"
need_space 15
take_lock lock 'set-up or kernel build'
mkdir -p "$FLEXSC_CACHE/tools"
rm -rf "$FLEXSC_CACHE"/tools/.rust.* "$FLEXSC_CACHE"/tools/.bindgen.*
if ((${#missing[@]})); then
	stage packages install_packages "${missing[@]}"
fi
if [[ -n $want_rust ]]; then
	stage rust install_rust
	unset KERNEL_RUSTDOC
	# shellcheck source=scripts/env.sh
	source "$ROOT/scripts/env.sh"
fi
if [[ -n $want_bindgen ]]; then
	stage bindgen install_bindgen
fi
say "everything is installed; next: scripts/build-kernel.sh -c perf"
