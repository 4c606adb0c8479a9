#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# measure.sh REQUESTS CONNECTIONS SERVER...: prints, as lines of CSV, what a request costs
# each server natively and with user-level threads: instructions, context switches and
# traps of all its threads, those of the engine and helpers too.  CONNECTIONS are numbers
# of connections, separated by commas.  In a machine whose clock counts instructions
# (scripts/ktest.sh --icount), a thread's run time is a number of instructions.

# shellcheck source=scripts/test/servers/judge.sh disable=SC2154  # $memcached and so on
. /servers/judge.sh
requests=$1
numbers=$(echo "$2" | tr , ' ')
shift 2
tracing=/sys/kernel/tracing
# Not a tracepoint of system calls: while one is on, the engine parks no calls.
# shellcheck disable=SC2016  # $stack is the kernel's
echo 'p:trap x64_sys_call ret=+0($stack):x64' > $tracing/kprobe_events || exit 1
trigger=$tracing/events/kprobes/trap/trigger
histogram='hist:keys=common_pid,ret.sym:size=8192'

# ask SERVER CONNECTIONS: two lines of counters of COMM, before and after $made requests.
ask() {
	rm -f counts
	case $1 in
	apache-*)
		made=$requests
		# The first requests start what the server starts late.
		ab -q -k -c "$2" -n $(($2 * 2)) http://127.0.0.1:8080/h00001 > answers 2>&1 || { cat answers; return 1; }
		/servers/counters apache2 >> counts
		timeout "$patience" ab -q -k -c "$2" -n "$made" http://127.0.0.1:8080/h00001 > answers 2>&1 ||
			{ cat answers; return 1; }
		/servers/counters apache2 >> counts
		if ! grep -q '^Failed requests: *0$' answers || grep -q '^Non-2xx' answers; then
			cat answers
			return 1
		fi
		;;
	*)
		rounds=$((requests / $2 + 4))
		made=$(($2 * (rounds - 4)))
		timeout "$patience" /servers/load "$port" "$kind" "$2" "$rounds" "/servers/counters $comm >> counts" \
			> answers 2>&1 || { cat answers; return 1; }
		;;
	esac
	[ "$(wc -l < counts)" = 2 ]
}

# a_request FIELD: how much a counter has grown a request.
a_request() {
	awk -v made="$made" -v field="$1" '
		NR == 1 { first = $field }
		END { printf "%.2f", ($field - first) / made }' counts
}

# measured SERVER KIND PORT COMM COMMAND...
measured() {
	server=$1 kind=$2 port=$3 comm=$4
	shift 4
	for number in $numbers; do
		for way in native ours; do
			begin $way "$@"
			until_ready
			ask "$server" "$number" || { tail -n 20 server; cat $log; end; rc_all=1; continue; }
			instructions=$(a_request 4) switches=$(a_request 6)
			threads=$(awk 'END { print $2 }' counts)
			echo "$histogram" > $trigger
			ask "$server" "$number" || rc_all=1
			traps=$(a_request 8) posted=$(a_request 10)
			echo "!$histogram" > $trigger
			end
			echo "$server,$number,$way,$made,$instructions,$switches,$traps,$posted,$threads"
		done
	done
}

# The server answers some questions.
until_ready() {
	timeout "$patience" /servers/load "$port" "$kind" 1 4 > answers 2>&1 || cat answers
}

rc_all=0
echo 'server,connections,way,requests,instructions,switches,traps,posted,threads'
# shellcheck disable=SC2086  # words
for server; do
	case $server in
	memcached) measured memcached memcached 11211 memcached $memcached ;;
	redis) measured redis redis 6379 redis-server $redis '' ;;
	redis-io) measured redis-io redis 6379 redis-server $redis '' --io-threads 4 ;;
	bind-udp) measured bind-udp dns-udp 5300 named $named ;;
	bind-tcp) measured bind-tcp dns-tcp 5300 named $named ;;
	apache-*)
		apache "${server#apache-}"
		measured "$server" http 8080 apache2 $apache
		;;
	*) echo "no such server: $server" >&2; exit 2 ;;
	esac
done
exit $rc_all
