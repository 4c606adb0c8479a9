# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=bash
#
# Chooses the accelerator and sets the emulator's command line.  Sourced.

# Succeeds if the processor has the virtualisation flag and /dev/kvm can be opened.
kvm_promised() {
	grep -q -E '^flags.*\b(vmx|svm)\b' "${FLEXSC_CPUINFO:-/proc/cpuinfo}" &&
		[[ -r /dev/kvm && -w /dev/kvm ]]
}

# vm_accel KERNEL: prints "kvm" or "tcg".  The device file alone proves nothing
# (ordinary kernels can hang in it), so KVM is taken only if KERNEL reaches user
# space under it within ten seconds.  The verdict is kept until the host reboots
# or the emulator changes.
vm_accel() {
	local key verdict work file=$FLEXSC_CACHE/kvm-verdict
	if [[ -n ${FLEXSC_ACCEL:-} ]]; then
		echo "$FLEXSC_ACCEL"
		return
	fi
	if ! kvm_promised; then
		echo tcg
		return
	fi
	key="$(cat /proc/sys/kernel/random/boot_id) $(qemu-system-x86_64 --version | head -n 1)"
	if [[ -r $file && $(head -n 1 "$file") == "$key" ]]; then
		sed -n 2p "$file"
		return
	fi
	work=$(mktemp -d "${TMPDIR:-/tmp}/ktest-probe.XXXXXX")
	echo KT_MODE=probe >"$work/conf"
	verdict=tcg
	vm_qemu "$1" kvm 1 256M "$work"
	if "$ROOT/scripts/vm/image.sh" "$work/initramfs" "$work/conf" &&
		timeout -k 1 10 "${QEMU[@]}" >/dev/null 2>&1 </dev/null &&
		grep -q 'flexsc-ktest: probe ok' "$work/console.log"; then
		verdict=kvm
	fi
	rm -rf "$work"
	printf '%s\n%s\n' "$key" "$verdict" >"$file"
	echo "$verdict"
}

# vm_qemu KERNEL ACCEL CPUS MEM WORK: sets the array QEMU.  The serial lines
# are described in tests/guest-init/init; ttyS1 is the terminal if VM_STDIO=1,
# otherwise a file.
vm_qemu() {
	local kernel=$1 accel=$2 cpus=$3 mem=$4 work=$5 out=file:$5/out start=''
	[[ -z ${VM_STDIO:-} ]] || out=mon:stdio
	# A busy host delays the emulated timer, which the kernel would take for a broken one.  The
	# kernel perf has no ACPI: the command line says where the PM timer is, with which it
	# measures the processor's clock.  Each trace instance has a log of the size given here at
	# first: the debug kernel takes seconds to allocate a large one.
	[[ $accel == kvm ]] || start='no_timer_check tsc=nowatchdog pmtmr=0x608 '
	# Its threads have names for stall.py.
	QEMU=(qemu-system-x86_64 -name "ktest,debug-threads=on" -nodefaults -no-user-config -display none
		-nic none -no-reboot -smp "$cpus" -m "$mem"
		-kernel "$kernel" -initrd "$work/initramfs"
		-append "${start}trace_buf_size=64k console=ttyS0 loglevel=6 panic=-1 printk.devkmsg=on ${VM_APPEND:-}"
		-serial "file:$work/console.log" -serial "$out"
		-serial "file:$work/control" -serial "file:$work/files.tar")
	case $accel in
	kvm) QEMU+=(-accel kvm -cpu host) ;;
	# The host has no influence on this machine: the clock of a sleeping processor jumps to its next
	# timer, the time of day starts at a fixed date and follows that clock, the random numbers are
	# always the same.
	icount) QEMU+=(-accel "tcg,thread=single" -icount "shift=0,sleep=off" -cpu max
		-rtc "base=2026-01-01T00:00:00,clock=vm" -seed 1) ;;
	*) QEMU+=(-accel "tcg,thread=multi" -cpu "${VM_CPU:-max}") ;;
	esac
	local rom=/usr/share/qemu/qboot.rom
	QEMU+=(-machine q35)
	[[ -r $rom ]] && QEMU+=(-bios "$rom")
	return 0
}
