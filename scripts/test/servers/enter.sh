#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# enter.sh COMMAND...: makes the image "servers" of scripts/debian-root.sh, on /dev/vda,
# the root directory, with flexsc, the library and what these tests need in it, and runs
# COMMAND there.  Its own mount namespace: "unshare -m sh enter.sh COMMAND...".

set -e
root=/debian
mkdir $root
mount -t ext2 /dev/vda $root
for place in proc:proc sysfs:sys devtmpfs:dev tmpfs:run tmpfs:tmp tmpfs:dev/shm tmpfs:var/cache tracefs:sys/kernel/tracing; do
	mkdir -p "$root/${place#*:}"
	mount -t "${place%%:*}" "${place%%:*}" "$root/${place#*:}"
done
chmod 1777 $root/tmp $root/dev/shm
mkdir -p $root/usr/local/bin $root/servers
cp /servers/* $root/servers/
cp /bin/busybox /bin/flexsc /servers/libflexsc_threads.so $root/usr/local/bin/
echo 'root:x:0:0:root:/root:/bin/sh' > $root/etc/passwd
echo 'root:x:0:' > $root/etc/group
# busybox knows its other commands by itself, and Debian's come before those in the path.
export PATH=/usr/sbin:/usr/bin:/usr/local/bin
# shellcheck disable=SC2016
exec chroot $root /usr/local/bin/busybox sh -c 'busybox --install -s /usr/local/bin; ln -sf /usr/local/bin/busybox /usr/bin/sh; exec "$@"' sh "$@"
