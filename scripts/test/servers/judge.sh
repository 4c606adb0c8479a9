# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=sh disable=SC2034
#
# How the scripts here start Debian's servers, with and without user-level threads.

cd /tmp || exit 1
log=/tmp/log
# Seconds for a server to answer all that it is asked.
patience=$((180 * ${FLEXSC_TEST_SLOW:-100} / 100))

# What each server is started with.  The ports are those that the servers have by themselves, or above.
memcached='memcached -u root -t 8 -l 127.0.0.1 -U 0'
redis='redis-server --bind 127.0.0.1 --save'
named='named -g -c /tmp/named.conf -n 4'

cat > named.conf <<-END
	options {
		directory "/tmp";
		pid-file none;
		session-keyfile none;
		managed-keys-directory "/tmp";
		listen-on port 5300 { 127.0.0.1; };
		listen-on-v6 { none; };
		recursion no;
		dnssec-validation no;
		minimal-responses yes;
		tcp-clients 400;
	};
	controls { };
	zone "test" { type primary; file "/tmp/zone.db"; };
END
/servers/load zone > zone.db

# begin WAY COMMAND...: starts a server, natively or with user-level threads, and sets $pid.
begin() {
	way=$1
	shift
	rm -f $log
	case $way in
	native) "$@" > server 2>&1 & ;;
	ours) flexsc run --user-threads --log $log "$@" > server 2>&1 & ;;
	esac
	pid=$!
	# Its port is open before it has read its zone.
	[ "$1" != named ] || until grep -q ' running$' server || ! kill -0 "$pid"; do usleep 10000; done
}

# end: asks the server to end, and returns its status.
end() {
	kill -TERM "$pid"
	wait "$pid"
}

apache='apache2 -f /tmp/apache.conf -DFOREGROUND'

# apache MPM: writes Apache's configuration, for one child with 256 threads.
apache() {
	mkdir -p www run
	[ -e www/h00000 ] || /servers/load files www
	modules=/usr/lib/apache2/modules
	cat > apache.conf <<-END
		ServerRoot /tmp
		ServerName test
		PidFile /tmp/run/apache.pid
		DefaultRuntimeDir /tmp/run
		Listen 127.0.0.1:8080
		LoadModule mpm_$1_module $modules/mod_mpm_$1.so
		LoadModule authz_core_module $modules/mod_authz_core.so
		ErrorLog /tmp/apache.log
		DocumentRoot /tmp/www
		StartServers 1
		ServerLimit 1
		ThreadLimit 300
		ThreadsPerChild 300
		MaxRequestWorkers 300
		MinSpareThreads 1
		MaxSpareThreads 300
		MaxKeepAliveRequests 0
		KeepAliveTimeout 300
	END
}
