#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The demo's part in the test machine (busybox): copies the tree on /dev/vda
# through syscall pages and with plain calls, and leaves reports, the kernel's
# counts and times in /run/demo/out.  report.py judges them on the host.
#
# guest.sh ROUNDS PROGRESS: ROUNDS timed runs each; PROGRESS 1 shows a counter.
#
# The tree is a read-only ext2 file system on a virtual disk, the copy goes to
# memory.  Counted runs begin with cold caches, so that calls block; timed runs
# have warm ones, no tracing, and alternate.

rounds=$1
progress=
[ "$2" = 1 ] && progress=--progress

base=/run/demo
out=$base/out
source=$base/source
target=$base/memory/copy
tracing=/sys/kernel/tracing/events

die() {
	echo "demo: $*"
	exit 1
}

seconds() {
	cut -d ' ' -f 1 /proc/uptime
}

# step TEXT COMMAND...: runs COMMAND, then prints one line; exits if COMMAND fails.
step() {
	text=$1
	shift
	begun=$(seconds)
	"$@" > $base/log 2>&1 || {
		cat $base/log
		die "failed: $text"
	}
	awk -v text="$text" -v a="$begun" -v b="$(seconds)" 'BEGIN { printf "  %-58s %5.1f s\n", text, b - a }'
}

# The kernel itself counts, with histogram triggers.  Unlike a trace buffer these
# lose nothing ("Dropped" would report losses).
events="raw_syscalls/sys_enter flexsc/flexsc_invoke flexsc/flexsc_complete flexsc/flexsc_block"
triggers() {
	case $1 in
	*/sys_enter) echo 'hist:keys=common_pid,id:size=16384' ;;
	*/flexsc_invoke) echo 'hist:keys=common_pid,tgid:size=16384' ;;
	*/flexsc_complete)
		echo 'hist:keys=common_pid,nr:size=16384'
		echo 'hist:keys=common_pid,result:size=16384 if result == -95'
		;;
	*/flexsc_block) echo 'hist:keys=nr:size=2048' ;;
	esac
}

start_counting() {
	for event in $events; do
		triggers "$event" > $base/triggers
		while read -r trigger; do
			echo "$trigger" >> "$tracing/$event/trigger" || return 1
		done < $base/triggers
	done
}

# stop_counting NAME: keeps the counts and removes the counters.
stop_counting() {
	for event in $events; do
		cat "$tracing/$event/hist" > "$out/$1.${event#*/}" || return 1
		grep '^hist' "$tracing/$event/trigger" > $base/triggers
		while read -r trigger; do
			echo "!${trigger% \[active\]}" >> "$tracing/$event/trigger"
		done < $base/triggers
		if grep '^hist' "$tracing/$event/trigger"; then
			echo "the counters of $event cannot be removed"
			return 1
		fi
	done
}

# copy NAME OPTION...: makes one copy in a process of its own, and keeps the process id.
copy() {
	name=$1
	shift
	# shellcheck disable=SC2016
	sh -c 'echo $$ > "$1" && shift && exec flexsc-copy "$@"' sh \
		$out/"$name".pid --report $out/"$name".report "$@" $source $target
}

# counted NAME OPTION...: makes a copy with cold caches, counted by the kernel.
counted() {
	sync
	echo 3 > /proc/sys/vm/drop_caches
	start_counting || return 1
	copy "$@" $progress 2> /dev/ttyS1
	rc=$?
	stop_counting "$1" || return 1
	return $rc
}

# Compares twice, with programs that have nothing in common.
verify() {
	flexsc-copy --verify $source $target > $out/"$1".verified && diff -r $source $target
}

remove() {
	rm -rf $target
}

mkdir -p $out $source
mount -t ext2 -o ro /dev/vda $source || die "the disk with the tree cannot be mounted"
mkdir -p $base/memory
mount -t tmpfs demo $base/memory || die "there is no memory for the copy"

echo "The module is loaded; the tree is on /dev/vda (ext2), its copies go to memory."
echo "First with cold caches, counted by the kernel:"
step "copy through syscall pages" counted flexsc --flexsc
step "compare byte by byte" verify flexsc
step "remove the copy" remove
step "copy with plain calls" counted plain --plain
step "compare byte by byte" verify plain
step "remove the copy" remove

echo "Then with warm caches, nothing counted, for the times:"
i=1
while [ $i -le "$rounds" ]; do
	for way in plain flexsc; do
		text="through syscall pages"
		[ $way = flexsc ] || text="with plain calls"
		step "copy $text ($i of $rounds)" copy time-$i-$way --$way
		# The last copy of each way is compared as well.
		if [ $i = "$rounds" ]; then
			step "compare byte by byte" verify time-$i-$way
		fi
		remove
	done
	i=$((i + 1))
done
