#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Installs the packages of scripts/deb.sh with dpkg in a fresh Debian, on the kernel of the
# package, and tries what they have installed. The image of scripts/debian-root.sh is /dev/vda.

# shellcheck disable=SC2317  # functions that "result" calls

root=/debian
packages='linux-image-flexsc libflexsc0 libflexsc-dev flexsc-tools'
headers=
[ ! -e /packages/minimal.ko ] || headers=1 packages="$packages linux-headers-flexsc"
release=$(uname -r)
rc=0

# result COMMAND...: counts COMMAND as one test.
result() {
	echo "# $*"
	if "$@"; then
		echo 'test result: ok. 1 passed; 0 failed; 0 ignored'
	else
		echo 'test result: FAILED. 0 passed; 1 failed; 0 ignored'
		rc=1
	fi
}

# inside COMMAND...: runs COMMAND in the fresh Debian. Debian's own env finds it: busybox would
# take its own applet, of dpkg too.
inside() { env -i PATH=/usr/sbin:/usr/bin TERM=linux chroot "$root" /usr/bin/env "$@"; }

set_up() {
	mkdir "$root" && mount -t ext2 /dev/vda "$root" || return 1
	for place in proc:proc sysfs:sys devtmpfs:dev tmpfs:run tmpfs:tmp; do
		mount -t "${place%%:*}" "${place%%:*}" "$root/${place#*:}" || return 1
	done
	mkdir "$root"/run/packages && cp /packages/* "$root"/run/packages/
	[ ! -e /sys/module/flexsc ] && [ ! -e /dev/flexsc ]
}

# No dependency is missing, and no package is left half installed. The headers themselves, six thousand
# files, take most of the time: the host has built a module with them.
install_all() {
	inside sh -c 'exec dpkg --force-unsafe-io --path-exclude="*/linux-headers-*/include/*" -i /run/packages/*.deb' ||
		return 1
	for package in $packages; do
		inside dpkg -s "$package" | grep '^Status: install ok installed$' || return 1
	done
	[ -z "$(inside dpkg --audit | tee /dev/stderr)" ] || return 1
	inside sh -c "dpkg -L $packages" | sort -u > /tmp/files
}

# The kernel that runs is the one that was installed.
kernel_is_there() {
	[ -s "$root/boot/vmlinuz-$release" ] && inside test -s "/lib/modules/$release/modules.dep"
}

# What systemd does at boot: nothing else in this machine has the module.
module_is_loaded_at_boot() {
	inside /usr/lib/systemd/systemd-modules-load && [ -d /sys/module/flexsc ] && [ -c /dev/flexsc ]
}

# A module that was built with the headers.
module_of_the_headers() {
	inside test -e "/lib/modules/$release/build/Makefile" || return 1
	inside insmod /run/packages/minimal.ko && [ -d /sys/module/minimal ] && inside rmmod minimal
}

doctor() { inside flexsc doctor; }

copies() {
	mkdir "$root"/tmp/from && echo text > "$root"/tmp/from/file &&
		inside flexsc-copy --flexsc /tmp/from /tmp/to && cmp "$root"/tmp/from/file "$root"/tmp/to/file
}

# The library for programs with threads is where flexsc looks for it.
runs_a_program() { [ "$(inside flexsc run /usr/bin/id -u)" = 0 ]; }

# A program that was linked to the shared library.
library() { inside /run/packages/calls engine; }

# Nothing is left but directories that other packages have too.
removed() {
	inside rmmod flexsc
	# shellcheck disable=SC2086  # a list of names
	inside dpkg --purge $packages || return 1
	[ ! -e "$root/usr/lib/modules/$release" ] || return 1
	while read -r file; do
		if [ -e "$root$file" ] && [ ! -d "$root$file" ]; then
			echo "left: $file"
			return 1
		fi
	done < /tmp/files
}

result set_up
result install_all
result kernel_is_there
result module_is_loaded_at_boot
[ -z "$headers" ] || result module_of_the_headers
result doctor
result copies
result runs_a_program
result library
result removed
exit $rc
