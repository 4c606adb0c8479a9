# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=sh disable=SC2154
#
# Containers, whoever makes them: the script that sources this, after judge.sh, says
# how in $maker, the beginning of the command, and $image.  They have flexsc,
# flexsc-copy and busybox.

root=/run/container
mkdir -p $root/bin
cp /usr/local/bin/busybox /usr/local/bin/flexsc /usr/local/bin/flexsc-copy $root/bin/
# What is called "crw-rw-rw- 1 root root 10, 258" elsewhere.
major=$(printf %d "0x$(stat -c %t /dev/flexsc)")
minor=$(printf %d "0x$(stat -c %T /dev/flexsc)")

# run COMMAND [OPTION]...: a shell in a new container runs COMMAND.
run() {
	command=$1
	shift
	# shellcheck disable=SC2086  # words
	$maker --rm --network=none "$@" $image /bin/busybox sh -c "$command" < /dev/null > /tmp/output 2>&1
	rc=$?
	cat /tmp/output
	return "$rc"
}

# copies [OPTION]...: copies in a container with a filter.
copies() {
	forget
	run 'flexsc doctor && flexsc-copy --flexsc --report /tries/report /source /tries/copy' \
		--device=/dev/flexsc --volume="$tries:/tries" --volume="$source:/source:ro" "$@" || return 1
	filtered /tmp/output && equal
}

copies_from_pages() {
	copies "$@" && pages 95
}

# In the container there is no device, and one that it makes cannot be opened, unless there is a rule
# for it.
without() {
	make="/bin/busybox mknod /dev/flexsc c $major $minor && flexsc doctor"
	refused 'DeviceAllow=/dev/flexsc' run "flexsc-copy --flexsc /bin /copy; $make" --cap-add=MKNOD || return 1
	grep 'does not exist.*pass the device' /tmp/said > /dev/null || return 1
	run "$make" --cap-add=MKNOD --device-cgroup-rule="c $major:$minor rw"
}
