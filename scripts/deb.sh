#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Builds Debian packages of the kernel, the library, and the tools.  See usage().

set -euo pipefail
export PROG=deb
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/env.sh
source "$ROOT/scripts/env.sh"
STAGE_PREFIX=deb-

usage() {
	cat <<END
Usage: scripts/deb.sh [OPTION]...

Builds Debian packages and leaves them in build/deb:

  linux-image-flexsc    the kernel of the test machines, with the patches and the module.
                        Its configuration is that of the test machines: virtio disks with ext2, a
                        serial console, no network cards and no other hardware. For other machines,
                        build a kernel with your configuration (README) and name it by --kernel.
  linux-headers-flexsc  what is needed to build modules in C for that kernel
  libflexsc0            the library for C
  libflexsc-dev         its header, static library, man pages, and file for pkg-config
  flexsc-tools          flexsc, flexsc-copy, flexsc-bench, libflexsc_threads.so, man pages, completions

  --kernel DIR   a directory with bzImage, System.map, config and flexsc.ko, as
                 scripts/build-kernel.sh leaves it (default build/kernel-perf)
  --objects DIR  the directory in which that kernel was built, for the headers (default: that of
                 scripts/build-kernel.sh)
  --no-headers   leave out linux-headers-flexsc
  --no-build     use the kernel and the tools as they are
  --fast         compress little
  --to DIR       instead of build/deb
  --help         this text
END
}

kernel=$ROOT/build/kernel-perf objects=$FLEXSC_CACHE/obj/perf to=$ROOT/build/deb build=1
compress=() headers=1
while (($#)); do
	case $1 in
	--kernel | --objects | --to) [[ -n ${2:-} ]] || die "$1 needs a value; --help shows the usage." ;;
	esac
	case $1 in
	--kernel) kernel=$2; shift ;;
	--objects) objects=$2; shift ;;
	--to) to=$2; shift ;;
	--no-headers) headers= ;;
	--no-build) build= ;;
	--fast) compress=(-Zgzip -z1) ;;
	-h | --help) usage; exit 0 ;;
	*) die "unknown argument \"$1\"; --help shows the usage." ;;
	esac
	shift
done
have dpkg-deb || die "dpkg-deb is missing: install the package dpkg."
have modinfo || PATH=$PATH:/usr/sbin
[[ -n $CARGO ]] || die "cargo $RUST_USER_MIN or later is missing: run scripts/setup.sh."

cd "$ROOT"
if [[ -n $build ]]; then
	[[ -e $kernel/bzImage ]] || scripts/build-kernel.sh -c perf
fi
for file in bzImage flexsc.ko System.map config; do
	[[ -e $kernel/$file ]] || die "there is no $file in $kernel: run scripts/build-kernel.sh."
done

version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
release=$(modinfo -F vermagic "$kernel/flexsc.ko" | cut -d ' ' -f 1)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.toml)
export SOURCE_DATE_EPOCH
work=$(mktemp -d "${TMPDIR:-/tmp}/flexsc-deb.XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
umask 022
mkdir -p "$to"

# copyright DIR NAME LICENSE...: the licences of a package.
copyright() {
	local doc=$1/usr/share/doc/$2
	mkdir -p "$doc"
	shift 2
	cat "$@" >"$doc/copyright"
}

# package NAME SECTION DEPENDS SUMMARY: makes a package of $work/NAME. Standard input has the description.
package() {
	local dir=$work/$1
	mkdir -p "$dir/DEBIAN"
	{
		printf 'Package: %s\nVersion: %s\nArchitecture: amd64\nSection: %s\nPriority: optional\n' "$1" "$version" "$2"
		printf 'Maintainer: FlexSC for Linux <flexsc@localhost>\nInstalled-Size: %d\n' "$(du -sk "$dir" | cut -f 1)"
		[[ -z $3 ]] || printf 'Depends: %s\n' "$3"
		printf 'Description: %s\n' "$4"
		sed 's/^/ /'
	} >"$dir/DEBIAN/control"
	dpkg-deb --root-owner-group "${compress[@]}" --build "$dir" "$to/${1}_${version}_amd64.deb"
}

# man_pages DIR SECTION: compresses man pages, as Debian wants them.
man_pages() {
	gzip -9n "$1/usr/share/man/man$2"/*
}

do_kernel() {
	local dir=$work/linux-image-flexsc modules
	modules=$dir/usr/lib/modules/$release
	mkdir -p "$dir/boot" "$modules/extra" "$dir/usr/lib/modules-load.d" "$dir/DEBIAN"
	install -m 644 "$kernel/bzImage" "$dir/boot/vmlinuz-$release"
	install -m 644 "$kernel/System.map" "$dir/boot/System.map-$release"
	install -m 644 "$kernel/config" "$dir/boot/config-$release"
	install -m 644 "$kernel/flexsc.ko" "$modules/extra"
	: >"$modules/modules.order"
	: >"$modules/modules.builtin"
	echo flexsc >"$dir/usr/lib/modules-load.d/flexsc.conf"
	copyright "$dir" linux-image-flexsc COPYING
	cat >"$dir/DEBIAN/postinst" <<END
#!/bin/sh
set -e
if [ "\$1" = configure ]; then
	! command -v depmod >/dev/null || depmod $release
	[ ! -d /etc/kernel/postinst.d ] ||
		run-parts --report --exit-on-error --arg=$release --arg=/boot/vmlinuz-$release /etc/kernel/postinst.d
fi
END
	cat >"$dir/DEBIAN/postrm" <<END
#!/bin/sh
set -e
if [ "\$1" = remove ]; then
	rm -f /lib/modules/$release/modules.*
	[ ! -d /etc/kernel/postrm.d ] ||
		run-parts --report --exit-on-error --arg=$release --arg=/boot/vmlinuz-$release /etc/kernel/postrm.d
fi
END
	chmod 755 "$dir/DEBIAN/postinst" "$dir/DEBIAN/postrm"
	package linux-image-flexsc kernel kmod "Linux $release with FlexSC" <<END
Linux $release with the core patches of FlexSC and its module, which is loaded at boot.
There are no other modules: what this kernel drives is built in. See the file config in
/boot. Unless it was built with another configuration, it is for virtual machines with
virtio disks, ext2 and a serial console.
END
}

do_headers() {
	local dir=$work/linux-headers-flexsc place=usr/src/linux-headers-$release source
	source=$(readlink -f "$objects/source")
	{ cmp "$objects/System.map" "$kernel/System.map" && cmp "$objects/.config" "$kernel/config"; } ||
		die "$objects has not built the kernel in $kernel: name the directory that has by --objects, or run scripts/build-kernel.sh --force."
	mkdir -p "$dir/usr/lib/modules/$release"
	# The kernel's own script, which its own Debian packages use.
	(cd "$objects" && srctree=$source SRCARCH=x86 CC=clang HOSTCC=clang MAKE=make \
		sh "$source/scripts/package/install-extmod-build" "$dir/$place")
	install -m 644 "$kernel/config" "$dir/$place/.config"
	ln -s "/$place" "$dir/usr/lib/modules/$release/build"
	copyright "$dir" linux-headers-flexsc COPYING
	package linux-headers-flexsc kernel 'libc6, libelf1 | libelf1t64' "Headers of Linux $release with FlexSC" <<END
What is needed to build modules in C for the kernel of linux-image-flexsc, with the
release of clang that has built it:
 make -C /lib/modules/$release/build LLVM=$LLVM M=DIRECTORY modules
END
}

do_library() {
	local lib=usr/lib/x86_64-linux-gnu dev=$work/libflexsc-dev run=$work/libflexsc0
	mkdir -p "$run/$lib" "$work/staged"
	DESTDIR=$work/staged scripts/libflexsc.sh /usr
	mkdir -p "$dev/$lib"
	mv "$work/staged/usr/lib"/libflexsc.so.* "$run/$lib"
	mv "$work/staged/usr/lib"/* "$dev/$lib"
	sed -i 's|^libdir=.*|libdir=/usr/lib/x86_64-linux-gnu|' "$dev/$lib/pkgconfig/flexsc.pc"
	mv "$work/staged/usr/include" "$dev/usr"
	mv "$work/staged/usr/share" "$dev/usr"
	man_pages "$dev" 3
	man_pages "$dev" 7
	mkdir -p "$run/DEBIAN"
	printf 'activate-noawait ldconfig\n' >"$run/DEBIAN/triggers"
	copyright "$run" libflexsc0 LICENSE-MIT LICENSE-APACHE
	copyright "$dev" libflexsc-dev LICENSE-MIT LICENSE-APACHE
	package libflexsc0 libs 'libc6, libgcc-s1' 'exception-less system calls, library' <<END
Posts system calls in memory that is shared with the kernel. On a kernel without FlexSC
it makes plain calls.
END
	package libflexsc-dev libdevel "libflexsc0 (= $version)" 'exception-less system calls, development files' <<END
Header, static library, man pages and a file for pkg-config.
END
}

do_tools() {
	local dir=$work/flexsc-tools section
	local -a options=()
	[[ -n $build ]] || options=(--no-build)
	DESTDIR=$dir scripts/tools.sh "${options[@]}" /usr
	mv "$dir/usr/share/zsh/site-functions" "$dir/usr/share/zsh/vendor-completions"
	for section in 1 4; do
		man_pages "$dir" "$section"
	done
	copyright "$dir" flexsc-tools LICENSE-MIT LICENSE-APACHE
	package flexsc-tools utils '' 'exception-less system calls, tools' <<END
flexsc checks and monitors FlexSC and traces posted calls, flexsc-copy copies trees,
flexsc-bench measures, libflexsc_threads.so runs unmodified programs.
END
}

stage kernel do_kernel
[[ -z $headers ]] || stage headers do_headers
stage library do_library
stage tools do_tools
say "the packages are in $to"
