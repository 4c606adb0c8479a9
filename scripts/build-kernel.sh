#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Builds a kernel with FlexSC in it, or finds it in the cache, and makes
# build/kernel-CONFIG a link to it.
#
# In the cache directory:
#   src/VERSION        Debian's source as unpacked; never changed
#   tree/VERSION       the same (hard links) with our patches and module
#   obj/CONFIG         build directory, kept so that the next build is quick
#   out/CONFIG-KEY     results; KEY is a hash of everything that they depend on
# perf, debug, kcsan and off share one tree; nopatch is built from src itself.

set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

CONFIGS="perf debug kcsan off nopatch"
SOURCE_PACKAGE=linux-source-6.12
KEEP=4		# how many results of each configuration stay in the cache

usage() {
	cat <<END
Usage: scripts/build-kernel.sh [-c CONFIG] [--force] [--help]

Builds Debian's $SOURCE_PACKAGE with the patches and the module of kernel/. Puts
bzImage, vmlinux, config, System.map and, for perf, debug and kcsan, flexsc.ko
into build/kernel-CONFIG.

  -c CONFIG  perf (default): configured like Debian's cloud kernel, for measurements
             debug: with KASAN, lockdep, kmemleak, fault injection
             kcsan: finds data races
             off: patched, but FlexSC is switched off
             nopatch: Debian's source without patches, configured like perf
  --force    remove the results and the build directory, and build from scratch
  --help     print this text

The cache directory is $FLEXSC_CACHE. The environment
variable FLEXSC_CACHE changes it.
END
}

config=perf
force=
while (($#)); do
	case $1 in
	-c) config=${2:-} && shift ;;
	--force) force=1 ;;
	-h | --help) usage; exit 0 ;;
	*) die "unknown argument \"$1\"; --help shows the usage." ;;
	esac
	shift || die "-c needs a configuration: one of $CONFIGS."
done
[[ " $CONFIGS " == *" $config "* ]] || die "there is no configuration \"$config\": choose one of $CONFIGS."
STAGE_PREFIX=$config-

# shellcheck source=scripts/env.sh
source "$ROOT/scripts/env.sh"

check_tools() {
	local tool
	for tool in "clang$LLVM" "ld.lld$LLVM" make patch rsync flock bc flex bison; do
		have "$tool" || die "$tool is missing: run scripts/setup.sh."
	done
	[[ -n ${KERNEL_RUSTC:-} ]] || die "no Rust for the kernel was found: run scripts/setup.sh, or set KERNEL_RUSTC."
	[[ -n ${BINDGEN:-} ]] || die "no bindgen was found: run scripts/setup.sh, or set BINDGEN."
	version_ge "$(tool_version "$KERNEL_RUSTC" --version)" "$RUST_KERNEL_MIN" ||
		die "$KERNEL_RUSTC is older than rustc $RUST_KERNEL_MIN: run scripts/setup.sh, or set KERNEL_RUSTC."
}

# Debian's version of the source, e.g. 6.12.117-1~deb12u1.
source_version() {
	dpkg-query -W -f '${Version}' "$SOURCE_PACKAGE" 2>/dev/null ||
		die "the package $SOURCE_PACKAGE is not installed: run scripts/setup.sh."
}

tool_id() {
	"clang$LLVM" --version | head -n 1
	"ld.lld$LLVM" --version
	"$KERNEL_RUSTC" --version
	"$BINDGEN" --version
}

module_files() {
	(cd "$ROOT" && find kernel -path kernel/patches -prune -o -path kernel/configs -prune -o \
		-type f ! -name '*.orig' ! -name '*.rej' ! -name '*~' ! -name '.*' -print | LC_ALL=C sort)
}

patch_files() {
	[[ $config == nopatch ]] && return 0
	(cd "$ROOT" && find kernel/patches -name '0*.patch' 2>/dev/null | LC_ALL=C sort)
}

grafting() {
	[[ $config != nopatch && -e $ROOT/kernel/patches/graft.patch ]]
}

# Returns true for configurations that differ from perf only in FlexSC.
like_perf() {
	[[ $config == perf || $config == off || $config == nopatch ]]
}
more_kconfig=kernel/configs/Kconfig.perf

# Prints the wanted lines of this configuration. If a symbol has several lines,
# the last one counts.
wanted_config() {
	local set=$config
	! like_perf || set=perf
	cat "$ROOT/kernel/configs/base.config" "$ROOT/kernel/configs/$set.config" |
		case $config in
		off) sed 's/^CONFIG_FLEXSC=.*/# CONFIG_FLEXSC is not set/' ;;
		nopatch) sed '/CONFIG_FLEXSC[= ]/d' ;;
		*) if grafting; then cat; else sed '/CONFIG_FLEXSC[= ]/d'; fi ;;
		esac |
		awk '
			/^CONFIG_[A-Za-z0-9_]+=/ { sym = $0; sub(/=.*/, "", sym) }
			/^# CONFIG_[A-Za-z0-9_]+ is not set$/ { sym = $2 }
			sym != "" { if (!(sym in line)) order[++n] = sym; line[sym] = $0; sym = "" }
			END { for (i = 1; i <= n; i++) print line[order[i]] }'
}

# Prints a hash of everything that the result depends on.
result_key() {
	local files
	{
		printf '%s\n' "$config" "$version" "$tools"
		wanted_config
		mapfile -t files < <(
			echo scripts/build-kernel.sh
			! like_perf || echo "$more_kconfig"
			patch_files
			if grafting; then
				echo kernel/patches/graft.patch
				echo Kconfig
				module_files
			fi
		)
		(cd "$ROOT" && sha256sum "${files[@]}")
	} | sha256sum | cut -c 1-16
}

link_result() {
	mkdir -p "$ROOT/build"
	ln -sfn "$1" "$ROOT/build/kernel-$config"
}

# source: unpacks the source once, and makes a second tree of hard links for our
# changes.
do_source() {
	local tarball=/usr/src/$SOURCE_PACKAGE.tar.xz tmp
	tmp=$FLEXSC_CACHE/src/.unpack
	rm -rf "$tmp" "$FLEXSC_CACHE"/tree/.copy
	if [[ ! -d $src ]]; then
		[[ -r $tarball ]] || die "$tarball is missing: reinstall the package $SOURCE_PACKAGE."
		mkdir -p "$tmp"
		tar -C "$tmp" -xf "$tarball" --strip-components=1
		rm -rf "$FLEXSC_CACHE"/src/[0-9]*
		mv "$tmp" "$src"
	fi
	if [[ $config != nopatch && ! -d $tree ]]; then
		mkdir -p "$FLEXSC_CACHE/tree"
		rm -rf "$FLEXSC_CACHE"/tree/[0-9]*
		cp -al "$src" "$FLEXSC_CACHE/tree/.copy"
		mv "$FLEXSC_CACHE/tree/.copy" "$tree"
	fi
	echo "note: $version"
}

# apply PATCH: applies it in the overlay, to copies of the files that it names.
apply() {
	local file out
	while read -r file; do
		if [[ ! -e $overlay/$file && -e $src/$file ]]; then
			mkdir -p "$overlay/$(dirname "$file")"
			cp "$src/$file" "$overlay/$file"
		fi
	done < <(sed -n 's|^--- a/||p; s|^+++ b/||p' "$1" | sed 's/\t.*//' | sort -u)
	out=$(LC_ALL=C patch -p1 -F1 -d "$overlay" --batch --forward --no-backup-if-mismatch -r - <"$1" 2>&1) || {
		printf '%s\n' "$out"
		file=$(awk '/^patching file/ { f = $3 } /^[|]\+\+\+ / { f = substr($2, 3) }
			/FAILED|Skipping|ignored/ { print f; exit }' <<<"$out")
		die "the patch ${1#"$ROOT"/} does not apply to ${file:-a file} of $SOURCE_PACKAGE $version."
	}
	printf '%s\n' "$out"
}

do_patch() {
	local p n=0
	rm -rf "$overlay"
	mkdir -p "$overlay"
	while read -r p; do
		apply "$ROOT/$p"
		n=$((n + 1))
	done < <(patch_files)
	echo "note: $n patches"
}

# graft: adds our directory and its hooks, then updates the tree. Touches only
# files whose content changes, so that make rebuilds no more than it must.
do_graft() {
	local f dir=$overlay/drivers/flexsc manifest=$tree.files
	if grafting; then
		[[ -e $ROOT/Kconfig ]] || die "the file Kconfig is missing at the top of the clone."
		mkdir -p "$dir"
		(cd "$ROOT" && module_files | sed 's|^kernel/||' | rsync -r --files-from=- kernel/ "$dir/")
		cp "$ROOT/Kconfig" "$dir/Kconfig"
		mkdir -p "$overlay/include/uapi/linux"
		cp "$ROOT/kernel/include/uapi/linux/flexsc.h" "$overlay/include/uapi/linux/"
		apply "$ROOT/kernel/patches/graft.patch"
	fi
	(cd "$overlay" && find . -type f | LC_ALL=C sort) >"$manifest.new"
	[[ -e $manifest ]] || : >"$manifest"
	LC_ALL=C comm -23 "$manifest" "$manifest.new" | while read -r f; do
		rm -f "$tree/$f"
		[[ ! -e $src/$f ]] || cp "$src/$f" "$tree/$f"
	done
	# If the copy is interrupted, the next run must know both lists.
	LC_ALL=C sort -u "$manifest" "$manifest.new" -o "$manifest"
	rsync -rlpc --out-format=%n "$overlay/" "$tree/"
	mv "$manifest.new" "$manifest"
	rm -rf "$overlay"
}

kmake() {
	env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u MAKEOVERRIDES -u ARCH -u CROSS_COMPILE \
		-u KBUILD_OUTPUT -u KCFLAGS -u KRUSTFLAGS -u RUSTFLAGS -u RUSTC -u RUSTDOC -u CC -u LD \
		LC_ALL=C LOCALVERSION='' KBUILD_BUILD_VERSION=1 KBUILD_BUILD_USER=flexsc KBUILD_BUILD_HOST=flexsc \
		KBUILD_BUILD_TIMESTAMP='Thu Jan  1 00:00:00 UTC 1970' \
		make -C "$from" O="$obj" LLVM="$LLVM" RUSTC="$KERNEL_RUSTC" HOSTRUSTC="$KERNEL_RUSTC" \
		RUSTDOC="$KERNEL_RUSTDOC" CLIPPY_DRIVER="$(dirname "$KERNEL_RUSTC")/clippy-driver" \
		BINDGEN="$BINDGEN" ${kconfig:+KBUILD_KCONFIG="$kconfig"} "$@"
}

# missing_symbols CONFIG WANTED: prints the lines of WANTED that CONFIG does not have.
missing_symbols() {
	awk 'NR == FNR { if (/^CONFIG_/) { s = $0; sub(/=.*/, "", s); got[s] = $0 } next }
		/^# / { if ($2 in got) print $2 " (wanted off, is " substr(got[$2], length($2) + 2) ")"; next }
		{ s = $0; sub(/=.*/, "", s); v = substr($0, length(s) + 2)
		  if (!(s in got)) print s " (wanted " v ", is off)"
		  else if (got[s] != $0) print s " (wanted " v ", is " substr(got[s], length(s) + 2) ")" }' \
		"$1" "$2"
}

# write_if_changed FILE: writes its input to FILE. Does not touch FILE if its content
# is the same, because make looks at its time.
write_if_changed() {
	cat >"$1.new"
	if cmp -s "$1.new" "$1"; then rm "$1.new"; else mv "$1.new" "$1"; fi
}

# config: switches off everything that the fragments do not ask for, and checks the result.
do_config() {
	local want=$obj/.flexsc-wanted stamp=$obj/.flexsc-config new lost
	mkdir -p "$obj"
	wanted_config >"$want"
	[[ -z $kconfig ]] || cat "$from/Kconfig" "$ROOT/$more_kconfig" | write_if_changed "$kconfig"
	new=$({
		cat "$want" ${kconfig:+"$kconfig"}
		echo "$tools"
		[[ $config == nopatch ]] || (cd "$tree" && grep Kconfig "$tree.files" | xargs -r cat)
	} | sha256sum)
	if [[ -e $obj/.config && -e $stamp && $(cat "$stamp") == "$new" ]]; then
		echo "note: unchanged"
		return 0
	fi
	rm -f "$stamp"
	kmake KCONFIG_ALLCONFIG="$want" allnoconfig
	lost=$(missing_symbols "$obj/.config" "$want")
	if [[ -n $lost ]]; then
		printf '%s\n' "$lost"
		die "these symbols of kernel/configs did not survive in the $config configuration: $(paste -sd, <<<"$lost" | sed 's/,/, /g')."
	fi
	echo "$new" >"$stamp"
	echo "note: $(wc -l <"$want") symbols verified"
}

# compiled LOG: counts the objects of C, assembler and Rust that were compiled.
compiled() {
	grep -cE '^  (CC|AS|RUSTC)( \[M\]| L| P)? ' "$1" || true
}

# build_progress LOG SECONDS: prints the progress. The total is known only for a build from
# scratch. It comes from the last such build, or else from scripts/objects.
build_progress() {
	local n total
	n=$(compiled "$1")
	if [[ -e $obj/vmlinux ]]; then
		printf '%d objects built' "$n"
		return
	fi
	total=$(($(cat "$obj.objects" 2>/dev/null || awk -v c="$config" '$1 == c { print $2 }' "$ROOT/scripts/objects") - there))
	printf '%d of %d objects built%s' "$n" $((total > n ? total : n)) "$(minutes_left "$2" "$n" "$total")"
}

do_build() {
	rm -f "$obj/.flexsc-compiled"
	kmake -j"$(nproc)" bzImage modules
}

# count_objects LOG: after a build from scratch, notes how many objects were compiled. Always notes
# how many objects were linked into the kernel.
count_objects() {
	if ((fresh)); then
		compiled "$1" >"$obj.objects"
		printf 'compiled %d\nof these C %d\n' "$(cat "$obj.objects")" "$(grep -c '^  CC ' "$1")" >"$obj/.flexsc-compiled"
	fi
	{
		cat "$obj/.flexsc-compiled" 2>/dev/null || true
		printf 'linked %d\n' "$("llvm-ar$LLVM" t "$obj/vmlinux.a" | wc -l)"
	} >"$obj/.flexsc-objects"
}

do_install() {
	local tmp=$FLEXSC_CACHE/out/.$config.new old
	rm -rf "$tmp"
	mkdir -p "$tmp"
	cp "$obj/arch/x86/boot/bzImage" "$obj/System.map" "$obj/vmlinux" "$tmp/"
	cp "$obj/.config" "$tmp/config"
	if grafting && [[ $config != off ]]; then
		cp "$obj/drivers/flexsc/flexsc.ko" "$tmp/"
	fi
	printf '%s\n' "$version" "$tools" >"$tmp/built-from"
	cp "$obj/.flexsc-objects" "$tmp/objects"
	rm -rf "$out"
	mv "$tmp" "$out"
	# shellcheck disable=SC2012
	ls -dt "$FLEXSC_CACHE/out/$config"-* | tail -n +$((KEEP + 1)) | while read -r old; do
		rm -rf "$old"
	done
	echo "note: build/kernel-$config -> ${out##*/}"
}

check_tools
version=$(source_version)
tools=$(tool_id)
out=$FLEXSC_CACHE/out/$config-$(result_key)
if [[ -z $force && -d $out ]]; then
	link_result "$out"
	touch "$out"
	say "$config: nothing has changed; build/kernel-$config -> ${out##*/}"
	exit 0
fi

take_lock lock 'set-up or kernel build'
src=$FLEXSC_CACHE/src/$version
tree=$FLEXSC_CACHE/tree/$version
obj=$FLEXSC_CACHE/obj/$config
overlay=$FLEXSC_CACHE/tree/.overlay
from=$tree
[[ $config != nopatch ]] || from=$src
kconfig=
! like_perf || kconfig=$obj/Kconfig.top
mkdir -p "$FLEXSC_CACHE"/{src,tree,obj,out}

# If the source version or the tool chain has changed, build from scratch.
stamp=$(printf '%s\n' "$version" "$tools" | sha256sum)
if [[ -n $force || $(cat "$obj/.flexsc-stamp" 2>/dev/null) != "$stamp" ]]; then
	rm -rf "$obj"
fi
if [[ ! -d $obj ]]; then
	need_space 15
else
	need_space 2
fi

started=$SECONDS
stage source do_source
if [[ $config != nopatch ]]; then
	stage patch do_patch
	stage graft do_graft
fi
# "off" differs from "perf" by one symbol: start from the objects of perf.
if [[ ! -d $obj ]]; then
	if [[ $config == off && $(cat "$FLEXSC_CACHE/obj/perf/.flexsc-stamp" 2>/dev/null) == "$stamp" ]]; then
		rm -rf "$obj.copy"
		cp -a --reflink=auto "$FLEXSC_CACHE/obj/perf" "$obj.copy"
		rm -f "$obj.copy/.flexsc-config"
		mv "$obj.copy" "$obj"
	fi
	mkdir -p "$obj"
	echo "$stamp" >"$obj/.flexsc-stamp"
fi
stage config do_config
# An interrupted build may have left objects.
there=$(find "$obj" -name '*.o' ! -path "$obj/tools/*" | wc -l)
fresh=$((there == 0))
STAGE_FOLLOW=build_progress stage build do_build
count_objects "$FLEXSC_LOGS/${STAGE_PREFIX}build.log"
stage install do_install
link_result "$out"
say "$config: built in $((SECONDS - started)) s"
