# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=bash
#
# Debian's package sources.  Sourced after lib.sh.

as_root() {
	if ((EUID == 0)); then
		"$@"
	else
		sudo "$@"
	fi
}

need_root() {
	((EUID == 0)) || have sudo ||
		die "installing packages needs root, and there is no sudo: run this as root, or install these yourself: $*"
}

apt_updated=
apt_update() {
	[[ -n $apt_updated ]] && return 0
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -q update ||
		die "apt-get update failed: check the network and the package sources; its output is in $FLEXSC_LOGS."
	apt_updated=1
}
