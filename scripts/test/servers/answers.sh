#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# answers.sh CONNECTIONS ROUNDS: Debian's memcached, redis, BIND and Apache answer the same under
# "flexsc run --user-threads" as natively, and end in the same way when asked.  A client
# checks each answer.  Runs in the image that enter.sh makes.

# shellcheck source=scripts/test/servers/judge.sh disable=SC2154  # $memcached and so on
. /servers/judge.sh
connections=$1
rounds=$2

# answers WAY QUESTIONS COMMAND...: QUESTIONS are words "PORT:KIND".
answers() {
	way=$1
	questions=$2
	shift 2
	begin "$way" "$@"
	rc=0
	for question in $questions; do
		kill -0 "$pid" || return 1
		echo "$question" >> "$way"
		timeout "$patience" /servers/load "${question%:*}" "${question#*:}" "$connections" "$rounds" \
			>> "$way" 2>> "$way.rate" || rc=1
	done
	end
	echo "ended with $?" >> "$way"
	return $rc
}

# same NAME QUESTIONS COMMAND...: counts one test.
same() {
	name=$1
	shift
	rm -f native ours native.rate ours.rate
	echo
	echo "$name"
	ok=1
	for way in native ours; do
		answers "$way" "$@" || { ok=''; tail -n 20 server; }
		cat "$way" "$way.rate"
	done
	cmp native ours || ok=''
	grep -E 'user-level|handed over' $log || ok=''
	# The engine has made at least half of what was handed over.  A child that is killed says nothing.
	awk -v has_children="$has_children" '
		/calls handed over: / {
			split($0, words, /handed over: /)
			split(words[2], n, /[^0-9]+/)
			lines++
			bad += n[1] < n[2]
		}
		END { exit bad || !lines && !has_children }' $log || ok=''
	if [ -n "$ok" ]; then
		echo 'test result: ok. 1 passed; 0 failed; 0 ignored'
	else
		cat $log
		echo 'test result: FAILED. 0 passed; 1 failed; 0 ignored'
		rc_all=1
	fi
}

rc_all=0
has_children=0
# shellcheck disable=SC2086  # words
{
	same 'memcached -t 8' 11211:memcached $memcached
	same 'redis' 6379:redis $redis ''
	same 'redis --io-threads 4' 6379:redis $redis '' --io-threads 4
	same 'BIND' '5300:dns-udp 5300:dns-tcp' $named
	has_children=1
	for mpm in worker event; do
		apache $mpm
		same "Apache, $mpm" 8080:http $apache
	done
}
exit $rc_all
