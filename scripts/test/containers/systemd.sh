#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Starts systemd, in a PID namespace of its own, with one service: services.sh and
# docker.sh.  When that ends, systemd ends with the same status.

# shellcheck source=scripts/test/containers/judge.sh
. /containers/judge.sh

unit tries.service <<-END
	SuccessAction=exit
	FailureAction=exit
	[Service]
	Type=oneshot
	Environment=FLEXSC_TEST_SLOW=$FLEXSC_TEST_SLOW PATH=$PATH
	ExecStart=/usr/local/bin/busybox sh -c 'sh /containers/services.sh; rc=\$\$?; sh /containers/docker.sh && exit \$\$rc'
	StandardOutput=file:/run/tries.log
	StandardError=inherit
END
env -i container=flexsc /usr/bin/unshare --fork --pid --mount-proc \
	/usr/lib/systemd/systemd --system --unit=tries.service --log-target=console --log-level=warning
rc=$?
cat /run/tries.log
exit "$rc"
