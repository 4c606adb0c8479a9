#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Makes a disk image with programs that Debian has built: containers and systemd,
# servers, or a fresh Debian.  See usage().

set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/apt.sh
source "$ROOT/scripts/apt.sh"
STAGE_PREFIX=debian-

# What the tests start.  Everything that these packages need comes with them.
ROOT_PACKAGES=(podman docker.io crun runc systemd util-linux)
SERVER_PACKAGES=(memcached redis-server redis-tools bind9 apache2-bin apache2-utils)
# A fresh Debian, and what the packages of scripts/deb.sh depend on.
FRESH_PACKAGES=('?essential' usr-is-merged kmod systemd libelf1 libgcc-s1)
# To be changed with what the images have from the packages.
FORMAT=2

usage() {
	cat <<END
Usage: scripts/debian-root.sh [root|servers|fresh] [--help]

Downloads packages from Debian, and everything that they need, unpacks them into a
disk image (ext2) in the cache directory, and leaves it in build.  In the image
"fresh" dpkg has installed them; in the others they are only unpacked.  An image
that is in the cache already is taken as it is; to have newer packages, remove it.

  root     ${ROOT_PACKAGES[*]}
           (130 MB to download): build/debian-root.ext2, 500 MB
  servers  ${SERVER_PACKAGES[*]}
           (80 MB to download): build/debian-servers.ext2, 300 MB
  fresh    the essential packages, ${FRESH_PACKAGES[*]:1}
           (50 MB to download): build/debian-fresh.ext2, 300 MB

The cache directory is $FLEXSC_CACHE (FLEXSC_CACHE moves it).
END
}

name=root
case ${1:-} in
'' | root | servers | fresh) name=${1:-root} ;;
-h | --help) usage; exit 0 ;;
*) die "unknown argument \"$1\"; --help shows the usage." ;;
esac
case $name in
root) PACKAGES=("${ROOT_PACKAGES[@]}") ;;
servers) PACKAGES=("${SERVER_PACKAGES[@]}") ;;
fresh) PACKAGES=("${FRESH_PACKAGES[@]}") ;;
esac

# closure: prints the packages, and those that they depend on, as if nothing were installed.
closure() {
	local cli=''
	# Since Debian 13, the command "docker" has a package of its own.
	[[ $name != root ]] || cli=$(apt-cache search --names-only '^docker-cli$' | cut -d ' ' -f 1)
	# shellcheck disable=SC2086  # one or none
	apt-get -q -s -o Debug::NoLocking=1 -o Dir::State::status="$work/none" --no-install-recommends \
		install "${PACKAGES[@]}" $cli | sed -n 's/^Inst \([^ ]*\) .*/\1/p'
}

download() {
	local -a all
	mapfile -t all < <(closure)
	((${#all[@]} > ${#PACKAGES[@]})) || return 1
	rm -f "$work/packages"/*
	(cd "$work/packages" && apt-get -q download "${all[@]}")
}

# What the images do not need, below usr.
unneeded() {
	echo share/{doc,man,locale,info}
	# A fresh Debian keeps what its programs use.
	[[ $name == fresh ]] ||
		echo share/{lintian,bash-completion,zsh,perl*,i18n} lib/x86_64-linux-gnu/{perl*,gconv}
}

# Installs the unpacked packages, as debootstrap does: first those on whose files the scripts of all others rely.
install_all() {
	as_root cp -r "$work/packages" "$work/root/packages"
	# shellcheck disable=SC2016  # for the other shell
	as_root unshare -m sh -ec '
		mount -t proc proc "$1/proc"
		mount --bind /dev "$1/dev"
		exec chroot "$1" env -i DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin /bin/sh -ec "
			cd /packages
			: >/var/lib/dpkg/status
			ln -sf mawk /usr/bin/awk
			for first in base-passwd base-files dpkg libc6 perl-base mawk debconf; do
				[ ! -e \"\$(echo \${first}_*.deb)\" ] || dpkg --force-depends --force-unsafe-io --install \${first}_*.deb
			done
			dpkg --force-depends --force-unsafe-io --skip-same-version --unpack *.deb
			dpkg --force-unsafe-io --configure --pending"' sh "$work/root"
	as_root rm -r "$work/root/packages"
}

do_image() {
	local package kib files more_kib=32768 more_files=2000
	# Room for the packages of scripts/deb.sh.
	[[ $name != fresh ]] || more_kib=262144 more_files=20000
	PATH=$PATH:/usr/sbin:/sbin
	have mke2fs || die "mke2fs (package e2fsprogs) is missing: run scripts/setup.sh."
	take_lock debian-root.lock 'making of this image'
	[[ ! -r $image ]] || return 0
	need_space 3
	# Files keep their owners and set-user-ID bits only if root unpacks them.
	need_root "${PACKAGES[@]}"
	# Images of this name with other packages, too.
	as_root rm -rf "$work" "$FLEXSC_CACHE/debian-root"/{"$name"-*,????????????????}.ext2
	mkdir -p "$work/packages"
	as_root mkdir -p "$work/root/usr"/{bin,sbin,lib,lib64}
	: >"$work/none"
	# What the machine knows of the archive may be old, or nothing.
	download || { apt_update && download; } ||
		die "apt-get cannot download ${PACKAGES[*]} and what they need: check the network and the package sources."
	for package in bin sbin lib lib64; do
		as_root ln -s "usr/$package" "$work/root/$package"
	done
	for package in "$work/packages"/*.deb; do
		dpkg-deb --fsys-tarfile "$package" | as_root tar -x --keep-directory-symlink -C "$work/root"
	done
	[[ $name != fresh ]] || install_all
	# shellcheck disable=SC2046  # a list of names
	(cd "$work/root/usr" && as_root rm -rf $(unneeded))
	read -r kib files < <(as_root find "$work/root" -printf '%k\n' | awk '{ s += $1; n++ } END { print s, n }')
	as_root "$(command -v mke2fs)" -q -t ext2 -b 4096 -m 0 -O ^resize_inode -E root_owner=0:0 -N $((files + more_files)) \
		-d "$work/root" "$work/image" $((kib * 11 / 10 + more_kib))k
	as_root chown "$EUID" "$work/image"
	mv "$work/image" "$image"
	echo "note: $(find "$work/packages" -name '*.deb' | wc -l) packages, $((kib / 1024)) MiB"
	as_root rm -rf "$work"
}

mkdir -p "$FLEXSC_CACHE/debian-root" 2>/dev/null ||
	die "cannot create the cache directory $FLEXSC_CACHE: set FLEXSC_CACHE to a place you can write to."
have apt-get || die "apt-get is missing: Debian's packages can be had on Debian only."
release=$(sed -n 's/^VERSION_ID=//p' /etc/os-release)
image=$FLEXSC_CACHE/debian-root/$name-$(sha256sum <<<"$release ${PACKAGES[*]} $FORMAT" | cut -c 1-16).ext2
work=$FLEXSC_CACHE/debian-root/.new
[[ -r $image ]] || stage "$name" do_image
mkdir -p "$ROOT/build"
ln -sfn "$image" "$ROOT/build/debian-$name.ext2"
say "debian: build/debian-$name.ext2 -> ${image##*/}"
