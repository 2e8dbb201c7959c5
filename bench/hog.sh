#!/bin/bash
# a tenant beside a hog: its p95 with limits on the hog against its p95 alone
#
# The victim runs point reads at 200 a second.  The hog, as many clients as there are cores and two
# more, burns CPU, spills to disk or sleeps in transactions; or it logs in as often as the server has
# room, with reads in every session.  Its limits are a CPU budget, the ceiling of temp_file_limit and
# a number of connections.  Latency, so 1.00 is "does not notice"; a victim that finds no connection
# left has none ("shut out").
set -euo pipefail
. "$(dirname "$0")/lib.sh"
seconds=${SECONDS_PER_ROUND:-8}
rounds=${ROUNDS:-2}
clients=$(($(nproc) + 2))

max_connections=60
bench_cluster hog --set tenancy.workers=off --set max_parallel_workers_per_gather=0 --set max_connections=$max_connections
on hog psql -Xq -v ON_ERROR_STOP=1 >/dev/null <<'SQL'
CREATE ROLE app LOGIN IN ROLE tenancy_app;
CREATE ROLE hog_bi LOGIN;
SELECT slug FROM tenant_create('hog');
SELECT slug FROM tenant_create('victim');
SELECT format('CREATE TABLE %I.item AS SELECT g AS id, md5(g::text) AS body FROM generate_series(1, 200000) g', schema_name),
	format('ALTER TABLE %I.item ADD PRIMARY KEY (id)', schema_name), format('GRANT SELECT ON %I.item TO %I', schema_name, role_name) FROM tenancy.tenant \gexec
SELECT role_name FROM tenant_login_bind('hog_bi', 'hog');
VACUUM ANALYZE;
SQL
entered() { printf '%s\n' "BEGIN;" "SELECT tenant_context_set('$1');" "${@:2}" "COMMIT;"; }
{
	echo '\set id random(1, 200000)'
	entered victim "SELECT body FROM item WHERE id = :id;"
} > "$bench_dir/victim.sql"
entered hog "SELECT sum(length(md5(g::text))) FROM generate_series(1, 300000) g;" > "$bench_dir/cpu.sql"
entered hog "SET LOCAL work_mem = '64kB';" "SELECT count(*) FROM (SELECT body FROM item ORDER BY body, id OFFSET 1) x;" > "$bench_dir/temp.sql"
entered hog "SELECT count(*) FROM item;" "SELECT pg_sleep(2);" > "$bench_dir/sleep.sql"
printf '%s\n' '\set id random(1, 200000)' "SELECT body FROM item WHERE id = :id;" > "$bench_dir/connections.sql"

# The hog's clients, for a while: an application goes on after an error, a moment later, and its own
# work is not the server's.  Those who connect come one after another, six a second, and who may not
# tries again a quarter of a minute later.
hog_clients() { # hog_clients SCRIPT
	if [ "$1" != connections ]; then
		on hog env PGUSER=app pgbench -n -c "$clients" -T "$seconds" -f "$bench_dir/$1.sql" app
		return
	fi
	local n
	for ((n = 0; n < max_connections; n++)); do
		(sleep "$((n / 6)).$((10 + n % 6 * 15))"; while :; do on hog env PGUSER=hog_bi pgbench -n -c 1 -T 1000 -f "$bench_dir/$1.sql" app; sleep 15; done) &
	done
	wait
}

limits_on() { on hog psql -Xq -c "SELECT 1 FROM resource_allocate('hog', '{\"limits\": {\"cpu_seconds_per_minute\": 1, \"connections\": 2}}')" -c "SELECT 1 FROM ceiling_set('temp_file_limit', '1MB')" >/dev/null; }
limits_off() { on hog psql -Xq -c "SELECT resource_deallocate('hog', id) IS NULL FROM tenancy.allocation WHERE state = 'active'" -c "SELECT 1 FROM ceiling_set('temp_file_limit', '-1')" >/dev/null; }

# The victim's p95 in milliseconds, with the hog's script beside it, or alone.
p95() { # p95 [HOG_SCRIPT]
	local hog= log=$bench_dir/victim.log
	rm -f "$log".*
	if [ $# -gt 0 ]; then
		set -m # a process group, so that none of its clients is left
		(while :; do hog_clients "$1"; sleep 0.5; done >/dev/null 2>&1) &
		hog=$!
		set +m
		sleep 12 # what the budget gives at once is spent
	fi
	on hog env PGUSER=app pgbench -n -M prepared -c 2 -T "$seconds" -R 200 -l --log-prefix="$log" -f "$bench_dir/victim.sql" app >/dev/null 2>&1 || true
	if [ -n "$hog" ]; then
		kill -KILL -- -"$hog" 2>/dev/null || true
		wait "$hog" 2>/dev/null || true
		# the sessions do not notice before they send
		on hog psql -Xq -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename IN ('app', 'hog_bi')" >/dev/null
		sleep 1
	fi
	# with -R the fourth column but one holds the lag; the service time is without it
	{ cat "$log".* 2>/dev/null || true; } | awk '{ print $3 / 1000 }' | sort -n | awk '{ v[NR] = $1 } END { print NR < 100 ? "inf" : v[int(NR * 0.95)] }'
}
alone=$(for ((i = 0; i < rounds; i++)); do p95; done | median)
worst=0
printf '%-24s %12s %12s %12s %10s\n' "the hog's work" "alone ms" "no limits ms" "limits ms" "ratio"
for work in ${WORK:-cpu temp sleep connections}; do
	limits_off
	without=$(for ((i = 0; i < rounds; i++)); do p95 $work; done | median)
	limits_on
	with=$(for ((i = 0; i < rounds; i++)); do p95 $work; done | median)
	ratio=$(awk -v a="$with" -v b="$alone" 'BEGIN { print a / b }')
	[ "$without" != inf ] || without="shut out"
	printf '%-24s %12.3f %12s %12.3f %10.2f\n' "$work" "$alone" "$without" "$with" "$ratio"
	worst=$(awk -v a="$worst" -v b="$ratio" 'BEGIN { print (a > b) ? a : b }')
done
echo "hog ratio=$worst"
