#!/bin/bash
# instructions added to a prepared select: pg_tenancy, pg_stat_statements and no library, by callgrind
#
# The server runs under valgrind; one backend serves RUNS prepared point reads, another three times
# as many: the difference is what the reads took, without connecting, planning and filling caches.
# Also counted, and no part of the ratio: the read by a bound login, and within a transaction that has
# entered a tenant, against a transaction of as many statements.
# It is repeatable to a few parts in a thousand, on any machine.  Under valgrind a read takes a
# millisecond, so CPU time is read for each of ours, as it is not in earnest.  The ratio is bare / ours.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
runs=${RUNS:-1000}
repeats=${REPEATS:-3}
command -v valgrind >/dev/null || { echo "meter_instructions SKIP: valgrind is not installed (apt-get install valgrind)"; exit 0; }

structure="CREATE TABLE accounts AS SELECT g AS aid, 0 AS abalance, repeat('x', 84) AS filler
	FROM generate_series(1, 100000) g; ALTER TABLE accounts ADD PRIMARY KEY (aid);
	CREATE ROLE app LOGIN; GRANT SELECT ON accounts TO app"
echo '\set aid random(1, 100000)
SELECT abalance FROM accounts WHERE aid = :aid;' > "$bench_dir/select.sql"
echo "\set aid random(1, 100000)
BEGIN;
SELECT 'acme';
SELECT abalance FROM accounts WHERE aid = :aid;
END;" > "$bench_dir/transaction.sql"
sed "s/SELECT 'acme'/SELECT tenant_context_set('acme')/" "$bench_dir/transaction.sql" > "$bench_dir/entered.sql"

server_data=
stop_valgrind() {
	local pid
	[ -n "$server_data" ] || return 0
	pid=$(head -n 1 "$server_data/postmaster.pid" 2>/dev/null) || return 0
	kill -INT "$pid"
	while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
	server_data=
}
trap 'stop_valgrind; bench_cleanup' EXIT

# The server of a cluster again, under valgrind.
start_valgrind() { # start_valgrind NAME
	local home
	home=$(cat "$bench_dir/$1/home")
	"$top/test/cluster" stop "$bench_dir/$1" --keep
	rm -rf "$home/callgrind"
	mkdir "$home/callgrind"
	chown --reference="$home/data" "$home/callgrind"
	as_owner "$home/data" valgrind --tool=callgrind --callgrind-out-file="$home/callgrind/%p" \
		"$(pg_config --bindir)/postgres" -D "$home/data" > "$home/valgrind.log" 2>&1 &
	server_data=$home/data
	for _ in $(seq 300); do
		# every block is in memory before the first read that counts
		on "$1" psql -Xqc "SELECT count(*) FROM accounts" -c "SET enable_seqscan = off" \
			-c "SELECT count(aid) FROM accounts WHERE aid > 0" >/dev/null 2>&1 && sleep 3 && return
		sleep 0.2
	done
	tail "$home/valgrind.log" >&2
	exit 1
}

as_owner() { # as_owner FILE COMMAND...
	local owner
	owner=$(stat -c %U "$1")
	shift
	if [ "$(id -u)" -eq 0 ]; then
		(cd / && exec setpriv --reuid "$owner" --regid "$(id -g "$owner")" --clear-groups "$@")
	else
		"$@"
	fi
}

# What the backend of one client took for so many reads.
instructions() { # instructions NAME ROLE SCRIPT READS
	local home
	home=$(cat "$bench_dir/$1/home")
	rm -f "$home"/callgrind/*
	on "$1" env PGUSER="$2" pgbench -n -M prepared --random-seed=1 -c 1 -t "$4" -f "$bench_dir/$3.sql" app > /dev/null 2>&1
	# The first file is pgbench's look at the server: the larger of both is the client's.  A backend
	# that has said goodbye may take its time to write it.
	for _ in $(seq 300); do
		[ "$(grep -l '^summary:' "$home"/callgrind/* 2>/dev/null | wc -l)" -ge 2 ] && break
		sleep 0.1
	done
	grep -h '^summary:' "$home"/callgrind/* | awk '$2 > m { m = $2 } END { print m }'
}

# What the server does by the clock (statistics once a second) only adds: the least of a few.
least() { # least NAME ROLE SCRIPT READS
	local i
	for ((i = 0; i < repeats; i++)); do instructions "$@"; done | sort -n | head -n 1
}

per_read() { # per_read NAME ROLE SCRIPT
	local few many
	few=$(least "$@" "$runs")
	many=$(least "$@" $((3 * runs)))
	echo $(((many - few) / (2 * runs)))
}

measure() { # measure NAME [options of test/cluster]
	bench_cluster "$@" --set autovacuum=off --set jit=off --set max_connections=20
}
measure bare --no-library --no-extension
measure stats --no-library --no-extension --preload pg_stat_statements
measure loaded --set tenancy.workers=off
for side in bare stats loaded; do
	on $side psql -Xqc "$structure" -c "VACUUM ANALYZE"
done
on stats psql -Xqc "CREATE EXTENSION pg_stat_statements"

# A tenant with the same table, a login that is bound to it and one that enters it.
on loaded psql -Xq >/dev/null <<'SQL'
CREATE SCHEMA bank;
CREATE TABLE bank.accounts (LIKE accounts INCLUDING ALL);
SELECT template_create('bank', 'bank');
SELECT slug FROM tenant_create('acme', template => 'bank');
CREATE ROLE bound LOGIN NOINHERIT;
SELECT tenant_login_bind('bound', 'acme');
CREATE ROLE entering LOGIN IN ROLE tenancy_app;
SELECT format('INSERT INTO %I.accounts SELECT * FROM public.accounts', schema_name) FROM tenancy.tenant \gexec
VACUUM ANALYZE;
SQL

count() { # count NAME ROLE SCRIPT LABEL BASE: sets last_count
	last_count=$(per_read "$1" "$2" "$3")
	awk -v n="$last_count" -v b="${5:-$last_count}" -v l="$4" 'BEGIN { printf "%-40s %7d instructions, %+.2f %%\n", l, n, 100 * (n / b - 1) }'
}
start_valgrind bare
count bare app select "a read, no library"
bare_count=$last_count
count bare app select "again" "$bare_count"
count bare app transaction "a transaction of two, no library"
bare_transaction=$last_count
stop_valgrind
start_valgrind stats
count stats app select "a read, pg_stat_statements" "$bare_count"
stop_valgrind
start_valgrind loaded
for level in off counters full; do
	on loaded psql -Xqc "ALTER SYSTEM SET tenancy.metering = '$level'" -c "SELECT pg_reload_conf()" >/dev/null
	sleep 3
	count loaded app select "a read, metering = $level" "$bare_count"
	full_count=$last_count
	count loaded bound select "the same by a bound login" "$bare_count"
done
count loaded app transaction "a transaction of two, metering = full" "$bare_transaction"
count loaded entering entered "one that enters a tenant and reads" "$bare_transaction"
stop_valgrind
awk -v a="$bare_count" -v b="$full_count" 'BEGIN { printf "meter_instructions ratio=%.4f\n", a / b }'
