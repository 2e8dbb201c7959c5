#!/bin/bash
# retention of 1,000,000 rows by jobs while pgbench works at the same table
#
# Half of the statements touch the rows that are overdue.  The latency of transactions of four
# statements, with retention at work and, on another table of the same size, without; so 1.00 is "costs
# nothing".  The server itself counts the statements that waited for a lock for more than 100 ms.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
rows=${ROWS:-1000000}
clients=${CLIENTS:-2}
rate=${RATE:-200} # transactions a second: waiting is measured, not how fast the machine is
most=${SECONDS_AT_MOST:-400}

bench_cluster retention --set tenancy.runner_idle_timeout=60s \
	--set deadlock_timeout=100ms --set log_lock_waits=on
on retention psql -Xq -v ON_ERROR_STOP=1 >/dev/null <<SQL
SELECT name FROM schedule_set('retention.start', enabled => false);
CREATE TABLE quiet (id integer PRIMARY KEY, at timestamptz NOT NULL, body text);
INSERT INTO quiet SELECT g, now() - interval '3 years' + g * interval '1 second', repeat('x', 80) FROM generate_series(1, $rows) g;
INSERT INTO quiet SELECT g, now(), repeat('x', 80) FROM generate_series($rows + 1, $rows + 100000) g;
CREATE INDEX ON quiet (at);
CREATE TABLE busy (LIKE quiet INCLUDING ALL);
INSERT INTO busy SELECT * FROM quiet;
CREATE SEQUENCE more START 100000000;
VACUUM ANALYZE;
SELECT retention_policy_set('busy', 'at', '2 years', 'delete', 'contract');
CHECKPOINT;
SQL
script() { # script TABLE: half of it on what is overdue
	cat <<SQL
\\set old random(1, $rows)
\\set young random($rows + 1, $rows + 100000)
UPDATE $1 SET body = repeat('y', 80) WHERE id = :old;
UPDATE $1 SET body = repeat('y', 80) WHERE id = :young;
INSERT INTO $1 VALUES (nextval('more'), now(), 'new');
SELECT count(*) FROM $1 WHERE id = :old;
SQL
}
left() { on retention psql -XAtqc "SELECT count(*) FROM busy WHERE at < now() - interval '2 years'"; }
run() { # run TABLE SECONDS: latencies in ms of each transaction, without what it waited for its turn
	rm -f "$bench_dir"/log."$1".*
	script "$1" > "$bench_dir/$1.sql"
	on retention pgbench -n -M prepared -c "$clients" -j "$clients" -R "$rate" -T "$2" -l --log-prefix="$bench_dir/log.$1" -f "$bench_dir/$1.sql" app >/dev/null 2>&1 || true
	cat "$bench_dir"/log."$1".* | awk '{ print ($3 - $7) / 1000 }' | sort -g > "$bench_dir/$1.ms"
}
quantile() { awk -v q="$2" '{ v[NR] = $1 } END { i = int(q * NR); print v[i < 1 ? 1 : i] }' "$bench_dir/$1.ms"; }
largest() { tail -n 1 "$bench_dir/$1.ms"; }

run quiet 20
on retention psql -XAtqc "SELECT name FROM schedule_set('retention.start', every => '1 second', enabled => true)" >/dev/null
started=$SECONDS
run busy "$most" &
application=$!
while [ $((SECONDS - started)) -lt "$most" ] && [ "$(left)" -gt 1000 ]; do sleep 2; done
took=$((SECONDS - started))
on retention psql -XAtqc "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgbench'" >/dev/null
wait "$application" || true
echo "rows left: $(left) of $rows after $took s"
echo "transactions of four statements, in ms: without p50 $(quantile quiet 0.5) p99 $(quantile quiet 0.99) largest $(largest quiet); with p50 $(quantile busy 0.5) p99 $(quantile busy 0.99) largest $(largest busy)"
log=$(on retention sh -c 'echo "$PGHOST/log"')
echo "retention ratio=$(awk -v a="$(quantile busy 0.5)" -v b="$(quantile quiet 0.5)" 'BEGIN { printf "%.2f", a / b }') p99_ms=$(quantile busy 0.99) largest_ms=$(largest busy) waited_more_than_100_ms=$(grep -c 'still waiting for' "$log" || true)"
