#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs flexsc doctor and flexsc-copy in containers that Debian's podman makes with
# crun and with runc: under Podman's default seccomp profile and others, without the
# device, and without root.

# shellcheck disable=SC2317  # functions that "result" calls

# shellcheck source=scripts/test/containers/judge.sh
. /containers/judge.sh
# shellcheck source=scripts/test/containers/container.sh
. /containers/container.sh

# by RUNTIME [COMMAND...]: chooses the program that starts containers, and the command that becomes
# somebody else for it.
by() {
	runtime=$1
	shift
	maker="$* /usr/bin/podman --runtime=$runtime --cgroup-manager=cgroupfs --events-backend=none
		--storage-driver=vfs run --log-driver=passthrough"
	image="--rootfs $root"
}

# A call that the profile allows and logs is made plainly, so that it is logged.
logged() {
	sed -e '/^[[:space:]]*"statx",$/d' -e 's/"syscalls": \[/&{"names":["statx"],"action":"SCMP_ACT_LOG"},/' \
		/usr/share/containers/seccomp.json > /run/profile.json
	copies --security-opt=seccomp=/run/profile.json && pages 50 &&
		[ "$(value fallbacks)" = "$(value calls_statx)" ]
}

# As the document says: nobody can register by ioctl(2).
by_seccomp() {
	cat > /run/profile.json <<-END
		{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["ioctl"], "action": "SCMP_ACT_ERRNO",
		"args": [{"index": 1, "value": 65280, "valueTwo": 55808, "op": "SCMP_CMP_MASKED_EQ"}]}]}
	END
	refused "forbids the device's calls" run 'flexsc-copy --flexsc /bin /copy' --device=/dev/flexsc \
		--security-opt=seccomp=/run/profile.json
}

# become GROUPS: the command that becomes the user.
become() {
	echo "env -i HOME=/run/user XDG_RUNTIME_DIR=/run/user PATH=$PATH
		/usr/bin/setpriv --reuid=1000 --regid=1000 --groups=$1"
}

by_mode() {
	chown root:flexsc /dev/flexsc
	chmod 660 /dev/flexsc
	by crun "$(become 1000)"
	refused 'no permission to open /dev/flexsc' copies --cgroups=disabled || return 1
	by crun "$(become 1000,500)"
	copies_from_pages --cgroups=disabled --group-add=keep-groups
}

by crun
result "podman, crun, podman's default profile" copies_from_pages
result 'podman, crun, without the device' without
by runc
result 'podman, runc, a call that the profile logs' logged
result "podman, runc, a profile without the device's calls" by_seccomp
result 'podman, runc, without the device' without

mkdir /run/user
chown -R user:user /run/user $root $tries
by crun "$(become 1000)"
result 'podman without root' copies_from_pages --cgroups=disabled
result 'podman without root, device for a group' by_mode
chown -R root:root $root /dev/flexsc
chmod 666 /dev/flexsc
exit $rc_all
