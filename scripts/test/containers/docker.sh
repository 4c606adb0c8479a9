#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs flexsc doctor and flexsc-copy in containers of Debian's docker, under the
# default seccomp profile that is in it, and without the device.  Its daemon is a
# service of systemd, without networks.

# shellcheck disable=SC2317,SC2034  # functions that "result" calls; what container.sh reads

# shellcheck source=scripts/test/containers/judge.sh
. /containers/judge.sh
# shellcheck source=scripts/test/containers/container.sh
. /containers/container.sh

maker='docker run'
image=tries

daemon() {
	unit docker.service <<-END
		[Service]
		Type=notify
		Environment=PATH=$PATH
		ExecStart=/usr/sbin/dockerd --storage-driver=vfs --bridge=none --iptables=false --ip-forward=false --ip-masq=false
		StandardOutput=file:/run/docker.out
		StandardError=inherit
		Delegate=yes
		TimeoutStartSec=$((3 * patience))
	END
	systemctl start docker.service && tar -C "$root" -c . | docker import - "$image" && return
	cat /run/docker.out
	return 1
}

result "docker's daemon" daemon
result "docker, its default profile" copies_from_pages
result 'docker, without the device' without
systemctl stop docker.service
exit $rc_all
