#!/bin/bash
# millions of usage events, whose reports equal a recount in SQL, in all aggregations
#
# EVENTS (10,000,000 by default) go in by COPY into tenancy.usage_inbox, some by usage_record_batch(),
# some of them twice; a few are cancelled, and a hundredth comes when its hours are rolled up. The recount
# adds up the list that they were made from, not the tables of events. Ends with 1 where they differ.
# The ratio is that of COPY into a bare table with a key to COPY into the inbox: 1.00 is "costs nothing".
set -euo pipefail
. "$(dirname "$0")/lib.sh"
events=${EVENTS:-10000000}
chunks=20
compared_chunks=3

bench_cluster usage_recount --set tenancy.workers=off --set max_wal_size=8GB --set synchronous_commit=on
run() { on usage_recount psql -XAtq -v ON_ERROR_STOP=1 "$@"; }
last=$((events - events / 100))
run -v events="$events" -v last="$last" > /dev/null <<'SQL'
SELECT count(tenant_create('t' || n, isolation => 'pool')) FROM generate_series(0, 9) n;
SELECT metric_create('load', 'x'), metric_create('load.avg', 'x', 'avg', event => 'load'), metric_create('load.count', 'x', 'count', event => 'load', filters => '{"region": "eu"}'),
    metric_create('load.latest', 'x', 'latest', event => 'load'), metric_create('load.max', 'x', 'max', event => 'load'), metric_create('load.min', 'x', 'min', event => 'load'),
    metric_create('load.unique', 'user', 'unique', property => 'user', event => 'load'), metric_create('load.weighted_sum', 'x', 'weighted_sum', true, event => 'load');
-- a time of its own for each event, in no order: 7919 is a prime
CREATE UNLOGGED TABLE generated AS
    SELECT n, (n % 10)::smallint AS tenant, abs((n * 37 % 1000) / 8.0 - 20 * (n % 2))::numeric AS quantity, (n * 31 % 1009)::smallint AS user_number, n % 3 = 0 AS is_eu,
           '2026-03-01 00:00+00'::timestamptz + (n * 7919 % :events) * (interval '31 days' / :events) AS occurred_at, n < :last AS counts
      FROM generate_series(0::bigint, :events - 1) n;
CREATE VIEW sent AS
    SELECT n, 't' || tenant AS tenant, 'load' AS metric, quantity, 'event-' || n AS event_id, occurred_at,
           jsonb_build_object('user', 'u' || user_number, 'region', CASE WHEN is_eu THEN 'eu' ELSE 'us' END) AS properties FROM generated;
CREATE TABLE bare (LIKE tenancy.usage_event);
ALTER TABLE bare DROP COLUMN month_of_year, DROP COLUMN cancelled_at, DROP COLUMN recorded_at, ALTER tenant_id TYPE text, ADD PRIMARY KEY (tenant_id, event_id);
CREATE INDEX ON bare (tenant_id, metric, occurred_at);
-- $1: the ends of the parts; what each part has by itself, and what was there before it for the level
CREATE FUNCTION recounted(bounds timestamptz[]) RETURNS TABLE (tenant text, metric text, bucket_start timestamptz, quantity numeric) LANGUAGE sql AS $$
    WITH parts AS (SELECT i, bounds[i] AS starts, bounds[i + 1] AS ends FROM generate_series(1, array_length(bounds, 1) - 1) i),
    added AS (
        SELECT g.tenant, p.i, p.starts, p.ends, sum(g.quantity) AS total, count(*) AS n, count(*) FILTER (WHERE is_eu) AS eu, max(g.quantity) AS highest, min(g.quantity) AS lowest,
               count(DISTINCT user_number) AS users, (array_agg(g.quantity ORDER BY occurred_at DESC))[1] AS latest, sum(g.quantity * extract(epoch FROM p.ends - occurred_at)) AS area
          FROM generated g JOIN parts p ON p.i = width_bucket(g.occurred_at, bounds) WHERE g.counts GROUP BY g.tenant, p.i, p.starts, p.ends),
    levels AS (SELECT a.*, coalesce(sum(total) OVER (PARTITION BY a.tenant ORDER BY i ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS level FROM added a)
    SELECT 't' || l.tenant, m.name, l.starts, m.quantity FROM levels l CROSS JOIN LATERAL (VALUES
        ('load', total), ('load.avg', total / n), ('load.count', eu), ('load.latest', latest), ('load.max', highest), ('load.min', lowest), ('load.unique', users),
        ('load.weighted_sum', level + area / extract(epoch FROM l.ends - l.starts))) m(name, quantity) $$;
-- how many answers there are, and how many are not the same
CREATE FUNCTION compare(bucket interval) RETURNS text LANGUAGE sql AS $$
    WITH bounds AS (SELECT array_agg(b) AS list FROM (SELECT generate_series('2026-03-01 00:00+00', '2026-03-31 23:59+00', bucket) AS b UNION ALL SELECT '2026-04-01 00:00+00' ORDER BY 1) x),
    reported AS (SELECT t.slug AS tenant, r.metric_name AS metric, r.bucket_start, r.quantity FROM tenancy.tenant t, usage_report(t.slug::regtenant, '2026-03-01 00:00+00', '2026-04-01 00:00+00', NULL, bucket, 'UTC') r WHERE r.quantity <> 0)
    SELECT count(*) || ' ' || count(*) FILTER (WHERE round(r.quantity, 8) IS DISTINCT FROM round(c.quantity, 8))
      FROM reported r FULL JOIN (SELECT * FROM bounds, recounted(list) WHERE quantity <> 0) c USING (tenant, metric, bucket_start) $$;
SQL
# from ROW to ROW, not including the last
rows() { run -c "COPY (SELECT tenant, metric, quantity, event_id, occurred_at, properties FROM sent WHERE n >= $1 AND n < $2 ORDER BY n) TO STDOUT"; }
inbox() { run -c "COPY tenancy.usage_inbox (tenant, metric, quantity, event_id, occurred_at, properties) FROM STDIN"; }
bare() { run -c "COPY bare (tenant_id, metric, quantity, event_id, occurred_at, properties) FROM STDIN"; }
timed() { # timed COMMAND FILE: seconds
	local from=$EPOCHREALTIME
	"$1" < "$2"
	bc <<< "scale=3; $EPOCHREALTIME - $from"
}
different=0
check() { # check WHAT BUCKET
	local result from=$SECONDS
	result=$(run -c "SELECT compare('$2')")
	echo "$1, by $2: ${result% *} answers, ${result#* } of them wrong ($((SECONDS - from)) s)"
	[ "${result% *}" -ge 70 ] && [ "${result#* }" -eq 0 ] || different=1
}

first=$((last < 10000 ? last : 10000))
run -c "SELECT * FROM usage_record_batch((SELECT jsonb_agg(to_jsonb(s) - 'n') FROM sent s WHERE n < $first))" > /dev/null
: > "$bench_dir/inbox.txt"; : > "$bench_dir/bare.txt"
started=$SECONDS
for ((i = 0; i < chunks; i++)); do
	from=$((first + (last - first) * i / chunks))
	to=$((first + (last - first) * (i + 1) / chunks))
	rows $from $to > "$bench_dir/rows"
	timed inbox "$bench_dir/rows" >> "$bench_dir/inbox.txt"
	[ $i -ge $compared_chunks ] || timed bare "$bench_dir/rows" >> "$bench_dir/bare.txt"
done
# the first ones once more: none of them counts twice
rows 0 $((events / 100)) | inbox
echo "$last events came in $((SECONDS - started)) s, and a hundredth of them twice"
run -c "ANALYZE"
check "from the events" "31 days"
for ((i = 0; i < 60; i++)); do run -c "SELECT usage_roll_up()" > /dev/null; done
echo "rolled up to $(run -c "SELECT min(rolled_until) FROM tenancy.usage_frontier WHERE metric ~ '^load'"), $(run -c "SELECT count(*) FROM tenancy.usage_rollup") rows"
for bucket in "31 days" "1 day" "7 hours 13 minutes"; do check "rolled up" "$bucket"; done
# late ones, and cancelled ones
rows "$last" "$events" | inbox
run -c "UPDATE generated SET counts = n % ($events / 100) <> 0 WHERE n >= $last OR n % ($events / 100) = 0"
run -c "SELECT count(usage_cancel(('t' || tenant)::regtenant, 'event-' || n)) FROM generated WHERE NOT counts" > /dev/null
for bucket in "31 days" "1 day"; do check "with late and cancelled ones" "$bucket"; done
run -c "SELECT usage_roll_up()" > /dev/null
check "merged" "7 hours 13 minutes"
head -n $compared_chunks "$bench_dir/inbox.txt" > "$bench_dir/inbox_compared.txt"
echo "events per second: $(awk -v n="$((last - first))" '{ s += $1 } END { printf "%d", n / s }' "$bench_dir/inbox.txt") into the inbox"
[ $different -eq 0 ] || { echo "usage_recount: reports differ from the recount" >&2; exit 1; }
echo "usage_recount ratio=$(ratio bare inbox_compared)"
