#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs under Miri the tests of the crate that need no kernel.  See usage().

set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
	cat <<END
Usage: scripts/miri.sh [--help] [FILTER]...

Interprets the tests of the crate flexsc that only work with memory: operations whose
type is erased, buffers, calls.  Miri checks each access.  It cannot make system calls
by number, so all other tests need a machine.

Needs a nightly toolchain of rustup: rustup toolchain install nightly -c miri -c rust-src

  FILTER  only tests whose name contains FILTER
END
}

case ${1:-} in
-h | --help) usage; exit 0 ;;
-*) die "unknown argument \"$1\"; --help shows the usage." ;;
esac
filters=("$@")
((${#filters[@]})) || filters=(sys::kept sys::buf sys::slice call::)
rustup run nightly cargo miri --version >/dev/null 2>&1 ||
	die "there is no Miri: rustup toolchain install nightly -c miri -c rust-src"
cd "$ROOT"
# A call's arguments are numbers, so pointers are made of numbers again.
export MIRIFLAGS='-Zmiri-disable-isolation -Zmiri-permissive-provenance' PROPTEST_CASES=${PROPTEST_CASES:-8}
unset RUSTC RUSTDOC
rustup run nightly cargo miri test --target-dir build/cargo-miri --locked -p flexsc --lib -- "${filters[@]}"
