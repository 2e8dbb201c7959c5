# Helpers for TAP programs in bash: assertions, and a cluster that is stopped on every way out.
#
#   . "$(dirname "$0")/lib.sh"
#   cluster_start [options of test/cluster]
#   is "$(sql 'SELECT 1')" 1 "a query works"
#   done_testing
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tap_count=0
tap_failed=0
cluster_dir=$top/build/cluster/$(basename "${0%.t}")

ok() { # ok STATUS NAME
	tap_count=$((tap_count + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $tap_count - $2"
	else
		echo "not ok $tap_count - $2"
		tap_failed=$((tap_failed + 1))
	fi
}

is() { # is GOT EXPECTED NAME
	if [ "$1" = "$2" ]; then ok 0 "$3"; else
		ok 1 "$3"
		echo "$1" | sed 's/^/#      got: /'
		echo "$2" | sed 's/^/# expected: /'
	fi
}

like() { # like GOT REGEX NAME
	if [[ "$1" =~ $2 ]]; then ok 0 "$3"; else
		ok 1 "$3"
		echo "$1" | sed 's/^/#      got: /'
		echo "#  pattern: $2"
	fi
}

skip() { # skip NAME REASON
	ok 0 "$1 # SKIP $2"
}

skip_all() {
	echo "1..0 # SKIP $1"
	exit 0
}

done_testing() {
	echo "1..$tap_count"
	exit "$tap_failed"
}

cluster_start() {
	trap cluster_stop EXIT
	trap 'exit 130' INT TERM
	local environment
	environment=$("$top/test/cluster" start "$cluster_dir" "$@") || { echo "Bail out! no cluster"; exit 1; }
	eval "$environment"
	server_log=$PGHOST/log
}

cluster_stop() {
	"$top/test/cluster" stop "$cluster_dir"
}

cluster_restart() {
	"$top/test/cluster" restart "$cluster_dir" "${1:-fast}"
}

# One value or rows, unaligned; errors go to the output, so that like() can look at them.
sql() {
	psql -XAtq -v VERBOSITY=verbose -d "${2:-app}" -c "$1" 2>&1
}

# Wait until a query returns what is expected, at most so many seconds: 30 or more, since a busy
# machine takes its time.
wait_for() { # wait_for SECONDS QUERY EXPECTED [DATABASE]
	local deadline=$((SECONDS + $1))
	while [ "$(sql "$2" "${4:-app}")" != "$3" ]; do
		[ $SECONDS -lt $deadline ] || return 1
		sleep 0.1
	done
}

# What was written to the configuration holds for whoever connects afterwards, and the signal has
# been sent to all who are there.
reload() {
	local before i
	before=$(sql "SELECT pg_conf_load_time()" postgres)
	sql "SELECT pg_reload_conf()" postgres >/dev/null
	for ((i = 0; i < 300; i++)); do
		[ "$(sql "SELECT pg_conf_load_time()" postgres)" = "$before" ] || return 0
		sleep 0.1
	done
	return 1
}

set_and_reload() { # set_and_reload SETTING VALUE
	sql "ALTER SYSTEM SET $1 = '$2'" postgres >/dev/null
	reload
}

# kill -9 of a process of the server, which then starts over: until it answers again.  The
# postmaster may take a while to notice, and who connects before that is cut off with the others.
crash() { # crash PID
	local before i
	before=$(crashes)
	kill -9 "$1" || return 1
	for ((i = 0; i < 600; i++)); do
		[ "$(crashes)" = "$before" ] || [ "$(sql "SELECT 1" postgres)" != 1 ] || return 0
		sleep 0.1
	done
	return 1
}
crashes() { grep -c 'all server processes terminated; reinitializing' "$server_log"; }

# Every row of every table of ours that a dump has, as text.
contents() { # contents DATABASE
	local table
	for table in $(psql -XAtqc "SELECT c.oid::regclass FROM pg_class c WHERE relnamespace = 'tenancy'::regnamespace AND relkind = 'r' AND obj_description(c.oid, 'pg_class') NOT LIKE '% Not dumped.' ORDER BY relname" "$1"); do
		echo "== $table"
		# rows that the install script brings have the time of the install
		psql -XAtqc "SELECT CASE WHEN to_jsonb(x) @> '{\"shipped\": true}' THEN to_jsonb(x) - 'created_at' ELSE to_jsonb(x) END FROM $table x ORDER BY 1" "$1"
	done
}

# Sets node_modules to a directory with what test/node/package.json names, or fails where there
# is no Node.js with npm, or no network.
install_node_modules() {
	node_modules=$top/build/node
	{ command -v node && command -v npm; } >/dev/null || return 1
	mkdir -p "$node_modules"
	(
		flock 9
		cmp -s "$top/test/node/package.json" "$node_modules/package.json" && [ -d "$node_modules/node_modules" ] && exit
		cp "$top/test/node/package.json" "$node_modules"
		cd "$node_modules" && npm install --omit=dev --ignore-scripts --no-audit --no-fund > log 2>&1 || { rm package.json; exit 1; }
	) 9> "$node_modules/lock"
}
