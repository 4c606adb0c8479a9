#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs flexsc-copy and flexsc doctor in services of Debian's systemd: under its set
# of calls @system-service, without the device in the ways that an administrator
# has, and in services and a container from which it is taken while they run.  This
# script is a service itself.

# shellcheck disable=SC2317,SC3045  # functions that "result" calls; busybox knows "read -t"

# shellcheck source=scripts/test/containers/judge.sh
. /containers/judge.sh

# service NAME COMMAND [SETTING]...: runs COMMAND in a new service, and prints what it prints.
service() {
	name=$1 command=$2
	shift 2
	rm -f "/run/$name.out"
	unit "$name.service" <<-END
		[Service]
		Type=oneshot
		Environment=PATH=$PATH
		ExecStart=/usr/local/bin/busybox sh -c '$command'
		StandardOutput=file:/run/$name.out
		StandardError=inherit
		$(printf '%s\n' "$@")
	END
	systemctl start "$name.service"
	rc=$?
	cat "/run/$name.out"
	return "$rc"
}

copies() {
	forget
	service copies "flexsc doctor && flexsc-copy --flexsc --report $tries/report $source $tries/copy" \
		SystemCallFilter=@system-service SystemCallErrorNumber=EPERM NoNewPrivileges=yes \
		PrivateDevices=no DevicePolicy=closed 'DeviceAllow=/dev/flexsc rw' || return 1
	filtered /run/copies.out && equal && pages 95
}

without() {
	refused 'DeviceAllow=/dev/flexsc' service closed 'flexsc doctor' DevicePolicy=closed || return 1
	refused 'does not exist.*pass the device' service private 'flexsc-copy --flexsc /containers /tmp/copy' PrivateDevices=yes
}

# running NAME COMMAND [SETTING]...: starts a service in machine.slice whose COMMAND answers lines.
running() {
	name=$1 command=$2
	shift 2
	mkfifo "/run/$name.lines" "/run/$name.answers" || return 1
	unit "$name.service" <<-END
		[Service]
		Slice=machine.slice
		Environment=PATH=$PATH
		ExecStart=$command
		StandardInput=file:/run/$name.lines
		StandardOutput=file:/run/$name.answers
		StandardError=file:/run/$name.err
		$(printf '%s\n' "$@")
	END
	systemctl start "$name.service"
}

# says ANSWER: reads a line from standard input.
says() {
	answer='no answer'
	read -r -t "$patience" answer
	[ "$answer" = "$1" ] || { echo "\"$answer\" instead of \"$1\""; return 1; }
}

# opens STATUS WHEN: doctor ends with STATUS in the service and in the container that run.
opens() {
	echo "$2: in the service and in the container, doctor ends with $1"
	echo "$2" >&5
	says "$1" <&6 || return 1
	echo "$2" >&7
	says "$1" <&8
}

# echoes LINE: the server, whose engine is open, answers.
echoes() {
	echo "$1" >&3
	says "$1" <&4
}

# By the command that the document names.  What is open stays open.
taken_and_given() {
	opens 0 before && echoes before || return 1
	systemctl set-property machine.slice DevicePolicy=closed || return 1
	opens 1 taken && echoes taken || return 1
	systemctl set-property machine.slice DevicePolicy=auto || return 1
	opens 0 given && echoes given
}

taken_from_running() {
	doctor='while read -r line; do flexsc doctor > /dev/null; echo $?; done'
	running server /containers/live-echo || return 1
	running asks "/usr/local/bin/busybox sh -c '$doctor'" || return 1
	running container "/usr/bin/podman --runtime=crun --cgroup-manager=cgroupfs --events-backend=none \
		--storage-driver=vfs run --rm --interactive --cgroups=split --network=none --log-driver=passthrough \
		--device=/dev/flexsc --rootfs /run/container /bin/busybox sh -c '$doctor'" Delegate=yes || return 1
	exec 3<>/run/server.lines 4<>/run/server.answers 5<>/run/asks.lines 6<>/run/asks.answers \
		7<>/run/container.lines 8<>/run/container.answers
	taken_and_given
	rc=$?
	exec 3>&- 5>&- 7>&-
	says 'plain calls: 0' <&4 || rc=1
	systemctl stop server asks container
	cat /run/*.err
	return "$rc"
}

result 'systemd, @system-service' copies
result 'systemd, without the device' without
result 'systemd, the device is taken from running services and a container' taken_from_running
exit $rc_all
