# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=bash
#
# Finds the tools and names them in variables; sourced after lib.sh.  It never
# fails and installs nothing: if a tool is not found, its variable stays empty,
# and the script that needs it reports that.
#
#   LLVM           suffix of clang, ld.lld, llvm-*, for the kernel's make
#   KERNEL_RUSTC   Rust compiler for the kernel, unless you set it
#   KERNEL_RUSTDOC, RUST_LIB_SRC
#                  the rustdoc and library source of that compiler
#   BINDGEN        bindgen for the kernel, unless you set it
#   LIBCLANG_PATH  libclang for bindgen, of the same release as LLVM
#   CARGO          cargo for the user-space crates, unless you set it

RUST_PINNED=1.85	# the release that Debian 12 (1.85.0) and Debian 13 (1.85.1) both carry
RUST_KERNEL_MIN=1.83.0	# for KASAN with return thunks in Rust
RUST_USER_MIN=1.85.0
BINDGEN_PINNED=0.71.1
BINDGEN_MIN=0.69.5	# earlier ones mishandle libclang 19
RUST_HOME=$FLEXSC_CACHE/tools/rust-$RUST_PINNED
BINDGEN_HOME=$FLEXSC_CACHE/tools/bindgen-$BINDGEN_PINNED
LLVM=-19
export LIBCLANG_PATH=${LIBCLANG_PATH:-/usr/lib/llvm-19/lib}

# rust_for_kernel RUSTC: succeeds if RUSTC is new enough and its library source exists.
rust_for_kernel() {
	local src
	version_ge "$(tool_version "$1" --version)" "$RUST_KERNEL_MIN" || return 1
	src=${RUST_LIB_SRC:-$("$1" --print sysroot)/lib/rustlib/src/rust/library}
	[[ -e $src/core/src/lib.rs ]]
}

find_kernel_rustc() {
	local try
	[[ -n ${KERNEL_RUSTC:-} ]] && return 0
	if [[ -x $RUST_HOME/bin/rustc ]]; then
		KERNEL_RUSTC=$RUST_HOME/bin/rustc
		return 0
	fi
	try=$(command -v rustc) || return 0
	# Take the compiler itself instead of rustup's proxy: a toolchain file in
	# some directory must not change the build.
	if have rustup; then
		try=$(cd / && rustup which rustc 2>/dev/null) || return 0
	fi
	rust_for_kernel "$try" && KERNEL_RUSTC=$try
	return 0
}

find_bindgen() {
	local try
	[[ -n ${BINDGEN:-} ]] && return 0
	if [[ -x $BINDGEN_HOME/bin/bindgen ]]; then
		BINDGEN=$BINDGEN_HOME/bin/bindgen
		return 0
	fi
	try=$(command -v bindgen) || return 0
	version_ge "$(tool_version "$try" --version)" "$BINDGEN_MIN" && BINDGEN=$try
	return 0
}

# The pinned cargo if it is installed, so that lints and programs are the same on all hosts.
find_cargo() {
	[[ -n ${CARGO:-} ]] && return 0
	if [[ -x $RUST_HOME/bin/cargo ]]; then
		CARGO=$RUST_HOME/bin/cargo
		export RUSTC=$RUST_HOME/bin/rustc RUSTDOC=$RUST_HOME/bin/rustdoc
	elif have cargo && version_ge "$(tool_version cargo --version)" "$RUST_USER_MIN"; then
		CARGO=cargo
	fi
	return 0
}

find_kernel_rustc
find_bindgen
find_cargo
KERNEL_RUSTDOC=${KERNEL_RUSTDOC:-${KERNEL_RUSTC:+$(dirname "$KERNEL_RUSTC")/rustdoc}}
export LLVM KERNEL_RUSTC KERNEL_RUSTDOC BINDGEN CARGO

# RUSTFLAGS of programs for test machines.  They need no relocation, which takes half of a program's
# start on a debug kernel.
# shellcheck disable=SC2034  # for scripts that source this file
STATIC='-C target-feature=+crt-static -C relocation-model=static'
