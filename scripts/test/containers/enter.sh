#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Makes the image of scripts/debian-root.sh, on /dev/vda, the root directory of the
# test machine, with our programs in it, and runs podman.sh and systemd.sh there.
# Its own mount namespace: "unshare -m sh enter.sh".

set -e
root=/debian
mkdir $root
mount -t ext2 /dev/vda $root
for place in proc:proc sysfs:sys devtmpfs:dev tmpfs:run tmpfs:tmp tmpfs:var/lib/containers tmpfs:var/lib/docker \
	devpts:dev/pts tmpfs:dev/shm cgroup2:sys/fs/cgroup; do
	mkdir -p "$root/${place#*:}"
	mount -t "${place%%:*}" "${place%%:*}" "$root/${place#*:}"
done
chmod 1777 $root/tmp $root/dev/shm
mkdir -p $root/usr/local/bin $root/containers
cp /containers/* $root/containers/
cp /bin/busybox /bin/flexsc /bin/flexsc-copy $root/usr/local/bin/
printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'user:x:1000:1000:user:/run/user:/bin/sh' > $root/etc/passwd
printf '%s\n' 'root:x:0:' 'user:x:1000:' 'flexsc:x:500:' > $root/etc/group
echo 0123456789abcdef0123456789abcdef > $root/etc/machine-id
cd $root
# As switch_root(8) does: neither pivot_root(2) nor user namespaces work in a mere chroot.
mount --move . /
# busybox knows its other commands by itself, and Debian's come before those in the path.
export PATH=/usr/sbin:/usr/bin:/usr/local/bin
# shellcheck disable=SC2016
exec chroot . /usr/local/bin/busybox sh -c 'mount --make-rshared /
	busybox --install -s /usr/local/bin
	sh /containers/podman.sh
	rc=$?
	sh /containers/systemd.sh && exit $rc'
