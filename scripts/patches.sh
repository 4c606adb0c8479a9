#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Shows that the core patches build and work one by one: builds and tests, for
# each N, the kernel with patches 1 to N and without the module, with
# CONFIG_SYSCALL_THREADS on and off.  See usage().
#
# In the cache directory:
#   tree/series        the source (hard links) with patches 1 to N
#   obj/series         build directory, for both: few objects depend on the symbol

# shellcheck disable=SC2317  # functions that "stage" calls

set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
	cat <<END
Usage: scripts/patches.sh [--on|--off] [N]...

Builds a small kernel from Debian's source with kernel/patches 1 to N, boots it
and tests it: for each patch N, or for each N on the command line. A compiler warning
fails the build.

The module needs all patches, so "make test-quick" can test only the whole
series. Each earlier step runs the tests that need no module: the kernel
has exactly the symbols and options that it should have, flexsc-copy copies with
plain calls, and random sequences of system calls, made twice, give the same results.

  --on       only with CONFIG_SYSCALL_THREADS
  --off      only without it
  --help     print this text

The first build takes as long as that of any small kernel. Each further step
compiles only what its patch affects.
END
}

kinds=(on off) steps=()
while (($#)); do
	case $1 in
	--on) kinds=(on) ;;
	--off) kinds=(off) ;;
	-h | --help) usage; exit 0 ;;
	*[!0-9]* | '') die "unknown argument \"$1\"; --help shows the usage." ;;
	*) steps+=("$1") ;;
	esac
	shift
done

# shellcheck source=scripts/env.sh
source "$ROOT/scripts/env.sh"

mapfile -t patches < <(find "$ROOT/kernel/patches" -name '0*.patch' | LC_ALL=C sort)
count=${#patches[@]}
((${#steps[@]})) || mapfile -t steps < <(seq "$count")
for n in "${steps[@]}"; do
	((n >= 1 && n <= count)) || die "there is no patch $n: there are $count."
done

shopt -s nullglob
sources=("$FLEXSC_CACHE"/src/[0-9]*)
((${#sources[@]} == 1)) || die "there is no kernel source in $FLEXSC_CACHE/src: run scripts/build-kernel.sh once."
src=${sources[0]}
tree=$FLEXSC_CACHE/tree/series
overlay=$FLEXSC_CACHE/tree/.series
obj=$FLEXSC_CACHE/obj/series

# do_tree N: updates the tree: the source with patches 1 to N.
do_tree() {
	local n=$1 file p
	[[ -d $tree ]] || {
		rm -rf "$tree.new"
		cp -al "$src" "$tree.new"
		mv "$tree.new" "$tree"
	}
	rm -rf "$overlay"
	mkdir -p "$overlay"
	# Take the files of all patches: after a step back, the files of later patches must be restored.
	sed -n 's|^--- a/||p; s|^+++ b/||p' "${patches[@]}" | sed 's/\t.*//' | LC_ALL=C sort -u >"$overlay.files"
	while read -r file; do
		if [[ -e $src/$file ]]; then
			mkdir -p "$overlay/$(dirname "$file")"
			cp "$src/$file" "$overlay/$file"
		fi
	done <"$overlay.files"
	for p in "${patches[@]:0:n}"; do
		LC_ALL=C patch -p1 -F0 -d "$overlay" --batch --forward --no-backup-if-mismatch -r - <"$p" ||
			die "the patch ${p#"$ROOT"/} does not apply after those before it."
	done
	while read -r file; do
		[[ -e $overlay/$file ]] || rm -f "$tree/$file"
	done <"$overlay.files"
	rsync -rlpc --out-format=%n "$overlay/" "$tree/"
	rm -rf "$overlay"
}

kmake() {
	env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u MAKEOVERRIDES -u ARCH -u CROSS_COMPILE -u KBUILD_OUTPUT -u KCFLAGS \
		LC_ALL=C KBUILD_BUILD_USER=flexsc KBUILD_BUILD_HOST=flexsc \
		make -C "$tree" O="$obj" LLVM="$LLVM" KBUILD_KCONFIG="$obj/Kconfig.top" "$@"
}

# Only a driver selects CONFIG_SYSCALL_THREADS. Without one, the symbol SERIES does. SERIES also
# selects the architecture's support, which patch 3 adds, so that the code of patches 1 and 2 is
# built.
do_config() {
	local kind=$1 want=$obj/.want has=off
	{
		cat "$tree/Kconfig"
		[[ $kind == off ]] ||
			printf '\nconfig SERIES\n\tdef_bool y\n\tselect ARCH_HAS_SYSCALL_THREADS\n\tselect SYSCALL_THREADS\n'
	} >"$obj/Kconfig.new"
	cmp -s "$obj/Kconfig.new" "$obj/Kconfig.top" || mv "$obj/Kconfig.new" "$obj/Kconfig.top"
	{
		grep -vE '^CONFIG_(FLEXSC|RUST)' "$ROOT/kernel/configs/base.config"
		echo CONFIG_WERROR=y
	} >"$want"
	kmake KCONFIG_ALLCONFIG="$want" allnoconfig
	grep -q '^CONFIG_WERROR=y$' "$obj/.config" || die "CONFIG_WERROR did not survive in the configuration."
	! grep -q '^CONFIG_SYSCALL_THREADS=y$' "$obj/.config" || has=on
	[[ $has == "$kind" ]] || die "CONFIG_SYSCALL_THREADS is $has in the configuration, not $kind."
}

do_build() {
	kmake -j"$(nproc)" bzImage
	cp "$obj/arch/x86/boot/bzImage" "$obj/boot/bzImage"
	cp "$obj/.config" "$obj/boot/config"
}

# Lists the symbols that the patches applied so far export.
do_symbols() {
	local file
	while read -r file; do
		[[ ! -e $tree/$file ]] || sed -n 's/^EXPORT_SYMBOL_NS_GPL(\([a-z0-9_]*\), SYSCALL_THREADS);/\1/p' "$tree/$file"
	done <"$overlay.files" >"$obj/symbols"
	[[ -s $obj/symbols ]] || die "the patches export nothing."
}

do_test() {
	do_symbols
	"$ROOT/scripts/ktest.sh" --kernel "$obj/boot" --no-module --add "$obj/symbols:/symbols" \
		--add "$ROOT/scripts/test/guest-patches.sh:/test.sh" --run "sh /test.sh $1"
}

take_lock series.lock 'build of the patches'
for n in "${steps[@]}"; do
	name=$(basename "${patches[n - 1]}" .patch)
	STAGE_PREFIX=series-$n- stage tree do_tree "$n"
	for kind in "${kinds[@]}"; do
		mkdir -p "$obj/boot"
		STAGE_PREFIX=series-$n-$kind-
		stage config do_config "$kind"
		stage build do_build
		stage test do_test "$kind"
		say "$n of $count, $name: builds, boots and passes, SYSCALL_THREADS $kind"
	done
done
