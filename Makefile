# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The commands.  Each is a script that explains itself with --help, and that first
# installs and builds what is missing.

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

.PHONY: help install deb setup kernel module patches-boot demo test test-quick shell bench bench-quick model bench-servers servers soak soak-short soak-long fuzz clean

help:
	@echo 'FlexSC: exception-less system calls for Linux.'
	@echo
	@echo '  make demo         copy a kernel tree through syscall pages, in a virtual machine'
	@echo '  make test         all tests; the last line says how many passed'
	@echo '  make test-quick   the same without the debug kernel and kernels without FlexSC'
	@echo '  make shell        a shell in a virtual machine with the module loaded'
	@echo '  make kernel       build the kernel and the module: build/kernel-perf'
	@echo '  make module       the same; the module is build/kernel-perf/flexsc.ko'
	@echo '  make patches-boot build and boot the kernel with core patches 1 to N, for each N'
	@echo '  make bench        all measurements and a report, results/full.html: an hour at most'
	@echo '  make bench-quick  the same with fewer samples, results/quick.html: ten minutes at most'
	@echo '  make model        the same calls on modelled processors: cycles and cache misses'
	@echo '  make servers      memcached, redis, BIND and Apache with user-level threads, many answers'
	@echo '  make bench-servers  what a request costs them, natively and with user-level threads'
	@echo '  make soak         ten minutes of mixed calls, pages, pools, processes and their endings,'
	@echo '                    then ten million calls compared with plain ones'
	@echo '  make soak-short   the ten minutes only'
	@echo '  make soak-long    soak, then fuzz'
	@echo '  make fuzz         five million hostile entries and more under the debug kernel'
	@echo '  make setup        install what is missing (Debian 12 or 13)'
	@echo '  make install      tools, libflexsc for C, man pages, completions: PREFIX=/usr/local DESTDIR='
	@echo '  make deb          Debian packages of kernel, headers, library and tools, in build/deb'
	@echo '  make clean        remove build/; kernels stay in the cache'
	@echo
	@echo 'No preparation is needed.  The first run downloads packages and builds a'
	@echo 'kernel: ten to sixteen minutes on two cores.  See also scripts/*.sh --help.'

setup:
	@scripts/setup.sh

kernel: setup
	@scripts/build-kernel.sh -c perf

module: kernel
	@echo 'the module is build/kernel-perf/flexsc.ko'

patches-boot: kernel
	@scripts/patches.sh

demo:
	@scripts/demo.sh

test:
	@scripts/test.sh

test-quick:
	@scripts/test.sh --quick

shell: setup
	@scripts/ktest.sh --shell

bench: setup
	@scripts/bench.sh

bench-quick: setup
	@scripts/bench.sh --quick

model: setup
	@scripts/model.sh --sensitivity

servers: setup
	@scripts/build-kernel.sh -c perf
	@scripts/servers.sh

bench-servers: setup
	@scripts/build-kernel.sh -c perf
	@scripts/servers.sh --measure

soak: soak-short
	@scripts/soak.sh --compare

soak-short: setup
	@scripts/soak.sh

soak-long: soak
	@scripts/soak.sh --fuzz

fuzz: setup
	@scripts/soak.sh --fuzz

PREFIX ?= /usr/local

install:
	@DESTDIR='$(DESTDIR)' scripts/libflexsc.sh '$(PREFIX)'
	@DESTDIR='$(DESTDIR)' scripts/tools.sh '$(PREFIX)'

deb: kernel
	@scripts/deb.sh

clean:
	rm -rf build
