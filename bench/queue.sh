#!/bin/bash
# claiming and completing jobs in batches, against a bare SKIP LOCKED table
#
# Both take BATCH jobs in one transaction and complete them in the next, in CLIENTS loops (one),
# until a backlog of JOBS is gone.  The bare table has what such tables have: a state, a
# priority, a time, a payload, and the index to claim by.  Jobs per second, so above 1.00 is
# faster than the bare table.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
rounds=${ROUNDS:-9} batch=${BATCH:-100} jobs=${JOBS:-20000} clients=${CLIENTS:-1}

bench_cluster queue --set tenancy.workers=off
on queue psql -Xq <<'SQL'
CREATE TABLE bare (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), queue text NOT NULL, state text NOT NULL, priority int NOT NULL,
    run_at timestamptz NOT NULL DEFAULT now(), attempt int NOT NULL DEFAULT 0, claimed_at timestamptz, finished_at timestamptz, payload jsonb NOT NULL);
CREATE INDEX ON bare (queue, priority, run_at) WHERE state = 'available';
SELECT name FROM job_kind_define('bench') \g /dev/null
SELECT count(tenant_create('t' || n, isolation => 'pool')) FROM generate_series(1, 20) n \g /dev/null
CREATE TABLE tenants AS SELECT row_number() OVER () AS n, id FROM tenancy.tenant;
SQL
cat > "$bench_dir/ours.sql" <<SQL
SELECT coalesce(array_agg(id), '{}') AS ids, coalesce(array_agg(fence), '{}') AS fences FROM job_claim('bench', $batch) \gset
SELECT job_complete_batch(':ids', ':fences');
SQL
cat > "$bench_dir/bare.sql" <<SQL
WITH claimed AS (UPDATE bare SET state = 'running', attempt = attempt + 1, claimed_at = now() WHERE id = ANY (ARRAY(
    SELECT id FROM bare WHERE queue = 'bench' AND state = 'available' ORDER BY priority, run_at LIMIT $batch FOR UPDATE SKIP LOCKED)) RETURNING id, payload)
SELECT coalesce(array_agg(id), '{}') AS ids FROM claimed \gset
UPDATE bare SET state = 'completed', finished_at = now() WHERE id = ANY (':ids');
SQL
rate() { # rate SCRIPT: jobs per second
	on queue psql -Xqc "VACUUM ANALYZE" -c "CHECKPOINT"
	on queue pgbench -n -c "$clients" -j "$clients" -t $((jobs / batch / clients)) -f "$bench_dir/$1.sql" 2>"$bench_dir/pgbench.err" |
		sed -n "s/^tps = \([0-9.]*\).*/\1/p" | awk "{ print \$1 * $batch }"
}
ours() {
	on queue psql -Xqc "TRUNCATE tenancy.job_pending, tenancy.job_done" \
		-c "SELECT count(job_enqueue('bench', jsonb_build_object('n', i), t.id)) FROM generate_series(1, $jobs) i JOIN tenants t ON t.n = 1 + i % 20" >/dev/null
	rate ours
}
bare() {
	on queue psql -Xqc "TRUNCATE bare" \
		-c "INSERT INTO bare (queue, state, priority, payload) SELECT 'bench', 'available', 5, jsonb_build_object('n', n) FROM generate_series(1, $jobs) n"
	rate bare
}
interleave 1 ours bare # warm
interleave "$rounds" ours bare
echo "jobs a second: ours $(median < "$bench_dir/ours.txt"), bare $(median < "$bench_dir/bare.txt")"
echo "queue ratio=$(ratio ours bare)"
