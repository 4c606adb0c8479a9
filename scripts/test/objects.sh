#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# objects.sh CONFIG [COUNTS]: checks that the kernel CONFIG in build/ has no more
# objects than scripts/objects allows, so that its build stays short.

set -euo pipefail
export PROG=objects
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

config=${1:?which configuration?}
counts=${2:-$ROOT/build/kernel-$config/objects}
[[ -r $counts ]] || die "$counts is missing: run scripts/build-kernel.sh -c $config."
read -r _ _ most_c most_linked < <(grep "^$config " "$ROOT/scripts/objects") ||
	die "scripts/objects does not know $config."
linked=$(sed -n 's/^linked //p' "$counts")
# Known only if the kernel was built from scratch.
c=$(sed -n 's/^of these C //p' "$counts")
if [[ -n $c ]]; then
	# Leave out the module's objects and flexsc.mod.o, which the build adds: their number depends
	# only on how the module's source is split.
	own=$(find "$ROOT/kernel" -name '*.c' | wc -l)
	c=$((c - own - 1))
fi
[[ -n $linked ]] || die "$counts does not say how many objects are in the kernel."
say "$config: ${c:-an unknown number of} C objects compiled besides the module's ($most_c at most), $linked linked ($most_linked at most)"
((${c:-0} <= most_c && linked <= most_linked)) ||
	die "the kernel $config has too many objects: switch off what neither measurements nor tests need (kernel/configs/$config.config)."
