#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs all tests, part by part, and adds up what they count.  See usage().
# The last line is "N passed, N failed", with ", N skipped" if there were any.

# shellcheck disable=SC2317  # functions that "part" calls

set -euo pipefail
export PROG=test
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/test/count.sh
source "$ROOT/scripts/test/count.sh"
export CARGO_TERM_COLOR=never
# One run builds nothing twice, so incremental builds gain nothing.
export CARGO_INCREMENTAL=0
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES

usage() {
	cat <<END
Usage: scripts/test.sh [-k FILTER] [--quick] [--help]

Sets up, builds the kernels and runs all tests: scripts, Rust on the host, the
test harness, the module in virtual machines with the kernels perf and debug,
kernels without FlexSC, the demo.  The logs are in build/test.

  -k FILTER  only the guest tests whose name contains FILTER or matches it as a
             glob (several: separated by spaces)
  --quick    only the kernel perf
  --help     this text

Exit code 0 only if something ran and nothing failed.
END
}

filter=
quick=
while (($#)); do
	case $1 in
	-k)
		[[ -n ${2:-} ]] || die "-k needs a filter; --help shows the usage."
		filter=$2
		shift
		;;
	--quick) quick=1 ;;
	-h | --help) usage; exit 0 ;;
	*) die "unknown argument \"$1\"; --help shows the usage." ;;
	esac
	shift
done

host=$ROOT/build/cargo-host

cargo_host() {
	"$CARGO" "$1" --target-dir "$host" --locked --workspace "${@:2}"
}

# Needs only the clone: checks the syntax of all scripts and runs shellcheck.
do_scripts() {
	local file
	local -a shell=() python=()
	while read -r file; do
		case $file:$(head -n 2 "$file") in
		*.py:* | *:'#!'*python3*) python+=("$file") ;;
		*:'#!'*sh* | *'shellcheck shell='*) shell+=("$file") ;;
		Makefile:* | scripts/objects:* | tests/guest-init/skips:* | tests/documents/src/outside.txt:* | *.ere:*) ;;
		*) die "$file is neither a shell script nor Python: add it to the list in this test." ;;
		esac
	done < <(find Makefile .ci scripts tests -type f ! -name '*.rs' ! -name '*.toml')
	for file in "${shell[@]}"; do
		bash -n "$file"
	done
	# There is no ash for shellcheck; dash is the nearest.
	shellcheck -x -e SC2187 "${shell[@]}"
	python3 - "${python[@]}" <<-'END'
		import sys
		for name in sys.argv[1:]:
		    compile(open(name).read(), name, "exec")
	END
}

do_fmt() {
	local rc=0 seen all
	echo 'files that rustfmt would change:'
	"$CARGO" fmt --all --check -- -l || rc=1
	rustfmt --check --edition 2021 -l kernel/flexsc_main.rs || rc=1
	# rustfmt finds the files by the names of the modules.
	seen=$(rustfmt --check --edition 2021 -v kernel/flexsc_main.rs | grep -c '^Formatting ') || true
	all=$(find kernel -name '*.rs' | wc -l)
	[[ $seen == "$all" ]] || die "rustfmt has looked at $seen of the $all Rust files of the kernel."
	return "$rc"
}

# once NAME COMMAND...: runs COMMAND unless it has passed before with the same crates and compiler.
# This suits clippy and rustdoc, whose output depends on nothing else.  The key covers every file that the
# crates can read.
once() {
	local name=$1 key stamp old
	shift
	key=$(
		{
			printf '%s\n' "$@" "${RUSTDOCFLAGS:-}" "${RUSTFLAGS:-}"
			"$CARGO" --version
			"${RUSTC:-rustc}" -vV
			"$CARGO" clippy --version 2>/dev/null || true
			find Cargo.lock Cargo.toml README.md docs user tests kernel -type f -print0 |
				LC_ALL=C sort -z | xargs -0 sha256sum
		} | sha256sum | cut -c 1-16
	)
	stamp=$FLEXSC_CACHE/passed/$name-$key
	if [[ -e $stamp ]]; then
		touch "$stamp"
		say "passed before, with the same crates and compiler: $stamp"
		return
	fi
	"$@"
	mkdir -p "$FLEXSC_CACHE/passed"
	: >"$stamp"
	# shellcheck disable=SC2012
	ls -t "$FLEXSC_CACHE/passed/$name"-* | tail -n +9 | while read -r old; do rm -f "$old"; done
}

# In the workspace, other crates enable features of the crate flexsc. So check that crate alone, too:
# without features, with each one, and with all.
clippy_everything() {
	local feature
	cargo_host clippy --all-targets -- -D warnings
	while read -r feature; do
		"$CARGO" clippy --target-dir "$host" --locked -p flexsc --features "$feature" -- -D warnings
	done < <(echo && sed -n '/^\[features\]$/,/^$/s/^\([a-z-]*\) = .*/\1/p' user/flexsc/Cargo.toml)
	"$CARGO" clippy --target-dir "$host" --locked -p flexsc --all-features --all-targets -- -D warnings
}

do_clippy() {
	once clippy clippy_everything
}

do_doc() {
	export RUSTDOCFLAGS='-D warnings'
	once doc cargo_host doc --no-deps
}

# Compiles the examples as well, including those of README.
do_unit() {
	local table
	table=$(find "$FLEXSC_CACHE/src" -path '*/arch/x86/entry/syscalls/syscall_64.tbl' | head -n 1)
	[[ -z $table ]] || export FLEXSC_KERNEL_TBL=$table
	cargo_host test --no-fail-fast
	crates_keep host "$host"
}

do_harness() {
	FLEXSC_TEST_KERNEL=$ROOT/build/kernel-perf "$ROOT/tests/harness/run.sh"
}

ktest() {
	"$ROOT/scripts/ktest.sh" "$@"
}

do_guest() {
	if [[ -n $filter ]]; then
		ktest -c "$1" -k "$filter"
	else
		ktest -c "$1"
	fi
}

# Tests that depend on the number of processors.  All tests run with two.
several='poller. specialise. pools.limit blocking.one chains.loop cancel.running ends.cpu_unplug soak.'

# One processor whose clock counts instructions. Other work of the host does not count here, so a
# test can demand that everything ends within 100 ms.
do_one_processor() {
	ktest -c perf --icount -k "$several cancel. ends."
}

do_processors() {
	# If emulated: only the bits by which old models of AMD control store bypass need no hardware.
	local -x VM_CPU=max
	[[ $1 != 4 ]] || VM_CPU=EPYC
	ktest -c perf --smp "$1" -k "$several guard.speculation_followed"
}

# example_of LANGUAGE: prints the program in docs/abi.md or, for "text", what it prints.
example_of() {
	awk -v wanted="$1" '
		!inside && /^```/ { inside = 1; language = substr($0, 4); text = ""; next }
		inside && /^```/ {
			inside = 0
			if (language == "c" && text ~ /int main\(/) { program = 1; if (wanted == "c") printf "%s", text }
			if (language == "text" && program) { if (wanted == "text") printf "%s", text; exit }
			next
		}
		inside { text = text $0 "\n" }' "$ROOT/docs/abi.md"
}

# Runs the crate's own tests, its example, strace, the tests of libflexsc and the example in C against
# the module.
do_crate() {
	local target=x86_64-unknown-linux-gnu dir=$ROOT/build/cargo test strace file
	local -a adds=()
	strace=$(command -v strace) || die "strace is missing: run scripts/setup.sh."
	# The program and its libraries, with the names by which they find each other.
	while read -r file; do
		adds+=(--add "$(realpath "$file"):$file")
	done < <(printf '%s\n' "$strace"; ldd "$strace" | grep -o '/[^ ]*')
	example_of c >"$logs/example.c"
	example_of text >"$logs/example.out"
	cc -static -std=gnu11 -Wall -Wextra -Werror -I "$ROOT/kernel/include/uapi" -o "$logs/example" "$logs/example.c"
	RUSTFLAGS=$STATIC "$CARGO" test --release --locked -p flexsc-live-tests \
		--target "$target" --target-dir "$dir" --test live --no-run --message-format=json >"$logs/crate.json"
	test=$(sed -n '/"name":"live"/s/.*"executable":"\([^"]*\)".*/\1/p' "$logs/crate.json" | tail -n 1)
	RUSTFLAGS=$STATIC "$CARGO" build --release --locked -p flexsc-live-tests \
		--target "$target" --target-dir "$dir" --example live-hello --example live-echo
	[[ -x $test ]] || die "cargo does not name the crate's test program."
	RUSTFLAGS=$STATIC "$CARGO" build --release --locked -p flexsc-c --target "$target" --target-dir "$dir"
	cc -static -std=gnu11 -Wall -Wextra -Werror -Wl,--gc-sections -I "$ROOT/user/flexsc-c/include" -o "$logs/calls" \
		"$ROOT/user/flexsc-c/tests/calls.c" "$dir/$target/release/libflexsc_c.a"
	ktest -c perf "${adds[@]}" --add "$test:/crate/live" \
		--add "$dir/$target/release/examples/live-hello:/crate/hello" \
		--add "$dir/$target/release/examples/live-echo:/crate/server" --add "$logs/calls:/crate/calls" \
		--add "$logs/example:/crate/example" --add "$logs/example.out:/crate/example.out" \
		--add "$ROOT/scripts/test/guest-crate.sh:/crate/run.sh" --run 'sh /crate/run.sh'
}

# Copies odd trees with flexsc-copy through the module.
do_copy() {
	local target=x86_64-unknown-linux-gnu dir=$ROOT/build/cargo test
	RUSTFLAGS=$STATIC "$CARGO" test --release --locked -p flexsc-tools \
		--target "$target" --target-dir "$dir" --test table --no-run --message-format=json >"$logs/copy.json"
	test=$(sed -n '/"name":"table"/s/.*"executable":"\([^"]*\)".*/\1/p' "$logs/copy.json" | tail -n 1)
	[[ -x $test ]] || die "cargo does not name the test program of flexsc-copy."
	ktest -c perf --add "$test:/copy/table" --add "$ROOT/scripts/test/guest-copy.sh:/copy/run.sh" \
		--run 'sh /copy/run.sh'
}

# Checks from which address unmodified programs under libflexsc_threads.so make each system call.
do_threads() {
	local dir=$ROOT/build/cargo name lib programs=$ROOT/user/flexsc-threads/tests/programs
	local -a add=()
	"$CARGO" build --locked --profile threads -p flexsc-threads --target-dir "$dir"
	for name in threads own many traffic locks signals cancel spin; do
		# pthread_exit loads libgcc_s, so ldd must list it.
		cc -O2 -pthread -Wl,--no-as-needed -lgcc_s -o "$logs/$name" "$programs/$name.c"
		add+=(--add "$logs/$name:/threads/$name")
	done
	while read -r lib; do
		add+=(--add "$lib:$lib")
	done < <(ldd "$logs/threads" | grep -o '/[^ ]*\.so[^ :]*' | sort -u)
	ktest -c perf "${add[@]}" --add "$dir/threads/libflexsc_threads.so:/threads/libflexsc_threads.so" \
		--add "$ROOT/scripts/test/guest-threads.sh:/threads/run.sh" --run 'sh /threads/run.sh'
}

# Debian's servers with user-level threads.
do_servers() {
	"$ROOT/scripts/servers.sh" --short
}

# Copies in containers and services that Debian's docker, podman and systemd make.
do_containers() {
	local target=x86_64-unknown-linux-gnu dir=$ROOT/build/cargo
	"$ROOT/scripts/debian-root.sh"
	RUSTFLAGS=$STATIC "$CARGO" build --release --locked -p flexsc-live-tests \
		--target "$target" --target-dir "$dir" --example live-echo
	# The image stays as it is.
	ktest -c perf --disk "$ROOT/build/debian-root.ext2" --qemu -snapshot \
		--add "$ROOT/scripts/test/containers:/containers" \
		--add "$dir/$target/release/examples/live-echo:/containers/live-echo" \
		--run 'unshare -m sh /containers/enter.sh'
}

# do_module DIRECTORY HEADERS: builds a module that does nothing.
do_module() {
	cat >"$1/minimal.c" <<-'END'
		// SPDX-License-Identifier: GPL-2.0
		#include <linux/module.h>

		static int __init minimal_init(void)
		{
			return 0;
		}

		static void __exit minimal_exit(void)
		{
		}

		module_init(minimal_init);
		module_exit(minimal_exit);
		MODULE_DESCRIPTION("Does nothing");
		MODULE_LICENSE("GPL");
	END
	echo 'obj-m := minimal.o' >"$1/Makefile"
	env -u MAKEFLAGS make -C "$2" LLVM="$LLVM" M="$1" modules
}

# Installs the Debian packages in a fresh Debian, on the kernel of the package, with a module that was
# built with its headers and a program that was linked to its library.
do_packages() {
	local deb=$logs/deb unpacked=$logs/deb/unpacked kernel=$logs/deb/kernel module=$logs/deb/module file
	local -a add=()
	"$ROOT/scripts/debian-root.sh" fresh
	if cmp -s "$FLEXSC_CACHE/obj/perf/System.map" "$ROOT/build/kernel-perf/System.map"; then
		"$ROOT/scripts/deb.sh" --fast --to "$deb"
	else
		echo 'test result: ok. 1 passed; 0 failed; 0 ignored'
		echo 'SKIPPED headers: the kernel is from the cache, and the files that it was built from are no longer there'
		"$ROOT/scripts/deb.sh" --fast --no-headers --to "$deb"
	fi
	for file in "$deb"/*.deb; do
		dpkg-deb -x "$file" "$unpacked"
	done
	mkdir -p "$kernel" "$module"
	cp "$unpacked"/boot/vmlinuz-* "$kernel/bzImage"
	cp "$unpacked"/boot/config-* "$kernel/config"
	if [[ -e $unpacked/usr/src ]]; then
		do_module "$module" "$unpacked"/usr/src/linux-headers-*
		add+=(--add "$module/minimal.ko:/packages/minimal.ko")
	fi
	cc -std=gnu11 -Wall -Wextra -Werror -I "$unpacked/usr/include" -o "$deb/calls" \
		"$ROOT/user/flexsc-c/tests/calls.c" -L "$unpacked/usr/lib/x86_64-linux-gnu" -lflexsc
	for file in "$deb"/*.deb "$deb/calls"; do
		add+=(--add "$file:/packages/$(basename "$file")")
	done
	ktest --kernel "$kernel" --no-module --disk "$ROOT/build/debian-fresh.ext2" --qemu -snapshot "${add[@]}" \
		--add "$ROOT/scripts/test/guest-packages.sh:/run.sh" --run 'sh /run.sh'
	rm -r "$unpacked"
}

# Runs on the kernel with FlexSC first, on which the same check must find every symbol.
do_off() {
	local symbols=$logs/symbols test=$ROOT/scripts/test/guest-off.sh exports
	sed -n 's/^+EXPORT_SYMBOL_NS_GPL(\(syscall_[a-z0-9_]*\), SYSCALL_THREADS);/\1/p' \
		"$ROOT"/kernel/patches/0*.patch >"$symbols"
	exports=$(cat "$ROOT"/kernel/patches/0*.patch | grep -c '^+EXPORT_SYMBOL')
	[[ $(wc -l <"$symbols") == "$exports" ]] ||
		die "the patches have $exports exports, $(wc -l <"$symbols") of which this test can read."
	ktest -c perf --add "$symbols:/symbols" --add "$test:/test.sh" --run 'sh /test.sh present'
	ktest -c off --no-module --add "$symbols:/symbols" --add "$test:/test.sh" --run 'sh /test.sh'
}

do_foreign() {
	ktest --kernel "$ROOT/build/kernel-debian" --no-module --add "$ROOT/build/kernel-perf/flexsc.ko:/test/flexsc.ko" \
		--add "$ROOT/scripts/test/guest-foreign.sh:/test.sh" --run 'sh /test.sh'
}

# The plugin of the processor model must count the instructions that the machine's clock counts.
do_model() {
	(build_model)
	"$ROOT/scripts/model.sh" --check --no-build
}

# Builds a kernel with the processor time that the test machines leave.
build_gently() {
	nice -n 19 "$ROOT/scripts/build-kernel.sh" -c "$1"
}

# Lanes run at the same time, because a test machine with two processors keeps only one of the host's
# busy on average.  On a host with one processor they run one after the other.
lane_host() {
	renice -n 19 "$BASHPID" >/dev/null
	crates_restore host "$host"
	if "$CARGO" clippy --version >/dev/null 2>&1; then
		part 'clippy' one do_clippy
	else
		skip 'clippy' 'there is no clippy'
	fi
	part 'rustdoc' one do_doc
	part 'host: unit, property, model tests' cargo do_unit
}

lane_debug() {
	export KTEST_LOCK=$FLEXSC_CACHE/vm-debug.lock
	part 'kernel debug' one build_gently debug
	part_if "$part_result" 'guest tests, kernel debug' lines do_guest debug
}

beside() {
	lane "$@"
	(($(nproc) >= 2)) || join_lanes
}

# Stop on Ctrl-C even if the part that is running handles it.
trap 'printf "\n%s: interrupted\n" "$PROG" >&2; exit 130' INT TERM
trap stop_lanes EXIT

cd "$ROOT"
start_counting "$ROOT/build/test"

part 'set-up' one "$ROOT/scripts/setup.sh"
[[ $part_result == ok ]] || finish
# shellcheck source=scripts/env.sh
source "$ROOT/scripts/env.sh"
# shellcheck source=scripts/crates.sh
source "$ROOT/scripts/crates.sh"
[[ -n $CARGO ]] || die "cargo $RUST_USER_MIN or later is missing: run scripts/setup.sh."
[[ $CARGO != */* ]] || PATH=$(dirname "$CARGO"):$PATH

if [[ -z $filter ]]; then
	part 'shell and python scripts' one do_scripts
	if have rustfmt && "$CARGO" fmt --version >/dev/null 2>&1; then
		part 'rustfmt' one do_fmt
	else
		skip 'rustfmt' 'there is no rustfmt'
	fi
fi
part 'kernel perf' one "$ROOT/scripts/build-kernel.sh" -c perf
perf=$part_result
part_if "$perf" 'objects of kernel perf' one "$ROOT/scripts/test/objects.sh" perf
[[ -n $quick ]] || beside debug lane_debug
if [[ -z $filter ]]; then
	part_if "$perf" 'harness, with planted faults' lines do_harness
	beside host lane_host
fi
part_if "$perf" 'guest tests, kernel perf' lines do_guest perf
if [[ -z $filter ]]; then
	part_if "$perf" 'guest tests, one CPU, exact clock' lines do_one_processor
	for cpus in 4 8; do
		part_if "$perf" "guest tests, processors: $cpus" lines do_processors "$cpus"
	done
	part_if "$perf" 'crate and examples in the machine' cargo do_crate
	part_if "$perf" 'flexsc-copy in the machine' cargo do_copy
	part_if "$perf" 'threaded programs in the machine' cargo do_threads
	part_if "$perf" 'servers of Debian, user-level threads' cargo do_servers
	part_if "$perf" 'containers and services of Debian' cargo do_containers
	part_if "$perf" 'packages in a fresh Debian' cargo do_packages
	part_if "$perf" 'processor model, a few calls' one do_model
	part_if "$perf" 'demo' one "$ROOT/scripts/demo.sh" --rounds 1
fi
if [[ -z $quick && -z $filter ]]; then
	part 'kernel off' one build_gently off
	part_if "$part_result" 'boot without FlexSC' one do_off
	part 'kernel of Debian' one "$ROOT/scripts/debian-kernel.sh"
	[[ $perf == ok ]] || part_result=$perf
	part_if "$part_result" 'insmod into the kernel of Debian' one do_foreign
fi
join_lanes
finish
