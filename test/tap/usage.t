#!/bin/bash
# Roll-ups under load: the frontier moves hour by hour over events that are recorded and cancelled
# meanwhile; what is read is always what the events add up to.
. "$(dirname "$0")/lib.sh"
cluster_start --set tenancy.workers=off --set 'tenancy.test_clock=2026-04-05 00:00+00'
psql -Xq -v ON_ERROR_STOP=1 app >/dev/null <<'SQL'
CREATE ROLE app LOGIN IN ROLE tenancy_app;
SELECT slug FROM tenant_create('acme');
SELECT slug FROM tenant_create('globex');
SELECT (metric_create('load', 'x', group_by => '{region}')).name, (metric_create('load.eu', 'x', 'count', event => 'load', filters => '{"region": "eu"}')).name,
    (metric_create('load.area', 'x', 'weighted_sum', true, event => 'load')).name, (metric_create('load.users', 'x', 'unique', property => 'user', event => 'load')).name,
    (metric_create('load.level', 'x', 'max', true, event => 'load')).name;
-- a report and a recount in one snapshot
CREATE FUNCTION wrong() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT string_agg(t.slug || ' ' || r.metric_name || ' ' || r.quantity || ' ' || c.quantity, '; ')
      FROM tenancy.tenant t, usage_report(t.slug::regtenant, '2026-04-01 00:00+00', '2026-04-05 00:00+00') r
      JOIN LATERAL (SELECT CASE r.metric_name WHEN 'load' THEN sum(e.quantity) WHEN 'load.eu' THEN count(*) FILTER (WHERE e.properties->>'region' = 'eu')
               WHEN 'load.users' THEN count(DISTINCT e.properties->>'user') WHEN 'load.level' THEN max(e.quantity)
               WHEN 'load.area' THEN sum(trim_scale(e.quantity * extract(epoch FROM '2026-04-05 00:00+00' - e.occurred_at))) / 345600 END AS quantity
          FROM tenancy.usage_event e WHERE e.tenant_id = t.id AND e.metric = 'load' AND e.cancelled_at IS NULL) c ON round(c.quantity, 9) IS DISTINCT FROM round(r.quantity, 9)
$$;
SQL
cat > "$PGHOST/record.sql" <<'SQL'
\set n random(1, 1000000000)
\set t random(1, 345599000)
\set user random(1, 50)
\set kind random(1, 10)
\if :kind < 9
SELECT count(*) FROM usage_record((ARRAY['acme', 'globex'])[1 + :n % 2], 'load', :n % 100 / 8.0, 'e' || :n, '2026-04-01 00:00+00'::timestamptz + :t * interval '1 millisecond', jsonb_build_object('region', (ARRAY['eu', 'us'])[1 + :n % 2], 'user', 'u' || :user));
\elif :kind = 9
SELECT recorded FROM usage_record_batch((SELECT jsonb_agg(jsonb_build_object('tenant', 'acme', 'metric', 'load', 'quantity', g, 'occurred_at', '2026-04-01 00:00+00'::timestamptz + (:t::bigint * 7 % 345599000 + g) * interval '1 millisecond', 'properties', '{"region": "eu"}'::jsonb)) FROM generate_series(1, 20) g));
\else
BEGIN;
SELECT count(*) FROM usage_record('globex', 'load', 3, 'f' || :n, '2026-04-01 00:00+00'::timestamptz + :t * interval '1 millisecond');
SELECT pg_sleep(0.02);
SELECT count(*) FROM usage_record('globex', 'load', 4, 'g' || :n, '2026-04-01 00:00+00'::timestamptz + (:t::bigint * 3 % 345599000) * interval '1 millisecond');
END;
\endif
SQL
cat > "$PGHOST/cancel.sql" <<'SQL'
SELECT count(*) FROM (SELECT t.slug, e.event_id FROM tenancy.usage_event e JOIN tenancy.tenant t ON t.id = e.tenant_id WHERE e.metric = 'load' AND e.cancelled_at IS NULL ORDER BY random() LIMIT 1) x, usage_cancel(x.slug::regtenant, x.event_id);
\sleep 20 ms
SQL
export PGOPTIONS="-c client_min_messages=warning"
seconds=12
PGUSER=app pgbench -n -c 3 -T $seconds -f "$PGHOST/record.sql" app > "$PGHOST/record.out" 2>&1 &
pgbench -n -c 1 -T $seconds -f "$PGHOST/cancel.sql" app > "$PGHOST/cancel.out" 2>&1 &
end=$((SECONDS + seconds - 1))
hour=0
looks=0
bad=
while [ $SECONDS -lt $end ]; do
	clock=$(date -u -d "2026-04-01 01:00 UTC + $hour hours" '+%F %H:%M')
	{ echo "SET tenancy.test_clock = '$clock';"; yes 'SELECT * FROM usage_roll_up();' | head -n 4; } | psql -XAtq app >/dev/null
	bad+=$(sql "SELECT wrong()")
	looks=$((looks + 1))
	hour=$((hour + 5))
done
wait $(jobs -p)
is "$bad" "" "$looks reports while the frontier moved are what the events add up to"
grep -q 'number of failed transactions: 0' "$PGHOST/record.out" && ! grep -q aborted "$PGHOST/record.out"
ok $? "nobody who recorded failed"
grep -q 'number of failed transactions: 0' "$PGHOST/cancel.out" && ! grep -q aborted "$PGHOST/cancel.out"
ok $? "nor who cancelled"
grep -h -E "actually processed|ERROR|error" "$PGHOST/record.out" "$PGHOST/cancel.out" | sed 's/^/# /'
is "$(sql "SELECT count(*) > 10 FROM tenancy.usage_rollup WHERE metric = 'load'")" t "hours were rolled up"
is "$(sql "SELECT count(*) FROM tenancy.usage_rollup_difference")" 0 "the roll-ups are what the events add up to"
yes 'SELECT * FROM usage_roll_up();' | head -n 12 | psql -XAtq app >/dev/null
is "$(sql "SELECT DISTINCT rolled_until > '2026-04-04 12:00+00' FROM tenancy.usage_frontier WHERE metric ~ '^load'")" t "in the end all are"
is "$(sql "SELECT count(*) FROM tenancy.usage_rollup_difference")" 0 "still they are the same"
is "$(sql "SELECT count(*) FROM tenancy.usage_rollup WHERE is_delta")" 0 "and all late events are merged"
is "$(sql "SELECT wrong() IS NULL")" t "and so are reports"
done_testing
