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
\set n random(1, 1000000000000000)
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
hour=0
looks=0
bad=
# again where the machine has no time for several looks
for ((round = 0; round < 8 && looks < 5; round++)); do
	PGUSER=app pgbench -n -c 3 -T $seconds -f "$PGHOST/record.sql" app > "$PGHOST/record.$round" 2>&1 &
	pgbench -n -c 1 -T $seconds -f "$PGHOST/cancel.sql" app > "$PGHOST/cancel.$round" 2>&1 &
	end=$((SECONDS + seconds - 1))
	while [ $SECONDS -lt $end ]; do
		clock=$(date -u -d "2026-04-01 01:00 UTC + $hour hours" '+%F %H:%M')
		{ echo "SET tenancy.test_clock = '$clock';"; yes 'SELECT * FROM usage_roll_up();' | head -n 4; } | psql -XAtq app >/dev/null
		bad+=$(sql "SELECT wrong()")
		looks=$((looks + 1))
		hour=$((hour + 5))
	done
	wait $(jobs -p)
done
cat "$PGHOST"/record.[0-9] > "$PGHOST/record.out"
cat "$PGHOST"/cancel.[0-9] > "$PGHOST/cancel.out"
is "$bad" "" "$looks reports while the frontier moved are what the events add up to"
[ "$(grep -c 'number of failed transactions: 0' "$PGHOST/record.out")" = $round ] && ! grep -q aborted "$PGHOST/record.out"
ok $? "nobody who recorded failed"
[ "$(grep -c 'number of failed transactions: 0' "$PGHOST/cancel.out")" = $round ] && ! grep -q aborted "$PGHOST/cancel.out"
ok $? "nor who cancelled"
grep -h -E "actually processed|ERROR|error" "$PGHOST/record.out" "$PGHOST/cancel.out" | sed 's/^/# /'
is "$(sql "SELECT count(*) > 10 FROM tenancy.usage_rollup WHERE metric = 'load'")" t "hours were rolled up"
is "$(sql "SELECT count(*) FROM tenancy.usage_rollup_difference")" 0 "the roll-ups are what the events add up to"
# a step waits for all transactions that are older than the one before, also autovacuum's
for ((i = 0; i < 300; i++)); do
	yes 'SELECT * FROM usage_roll_up();' | head -n 12 | psql -XAtq app >/dev/null
	[ "$(sql "SELECT bool_and(rolled_until > '2026-04-04 12:00+00') AND NOT EXISTS (SELECT FROM tenancy.usage_rollup WHERE is_delta) FROM tenancy.usage_frontier WHERE metric ~ '^load'")" != t ] || break
	sleep 0.1
done
is "$(sql "SELECT DISTINCT rolled_until > '2026-04-04 12:00+00' FROM tenancy.usage_frontier WHERE metric ~ '^load'")" t "in the end all are"
is "$(sql "SELECT count(*) FROM tenancy.usage_rollup_difference")" 0 "still they are the same"
is "$(sql "SELECT count(*) FROM tenancy.usage_rollup WHERE is_delta")" 0 "and all late events are merged"
is "$(sql "SELECT wrong() IS NULL")" t "and so are reports"

# Retention while late events come and are cancelled.
is "$(sql "SELECT (r).events FROM usage_event_prune(older_than => '1 day') r" | grep -c '^[1-9]')" 1 "old events go"
is "$(sql "SELECT count(*) FROM tenancy.usage_rollup_difference")" 0 "and the roll-ups are what the others add up to"
total() { sql "SELECT sum(r.quantity)::bigint FROM tenancy.tenant t, usage_report(t.slug::regtenant, '2026-04-01 00:00+00', '2026-04-05 00:00+00', 'load') r"; }
before=$(total)
cat > "$PGHOST/late.sql" <<'SQL'
\set t random(1, 250000000)
\set n random(1, 1000000000000000)
SELECT count(*) FROM usage_record('acme', 'load', 1, NULL, '2026-04-01 00:00+00'::timestamptz + :t * interval '1 millisecond', '{"region": "eu"}');
BEGIN;
SELECT count(*) FROM usage_record('acme', 'load', 5, 'c' || :n, '2026-04-01 00:00+00'::timestamptz + :t * interval '1 millisecond');
SELECT count(*) FROM usage_cancel('acme', 'c' || :n);
COMMIT;
SQL
bad=0
pruned=0
recorded=0
# A turn of those who prune may be refused, while others roll up or cancel.
for ((round = 0; round < 6 && pruned == 0; round++)); do
	pgbench -n -c 2 -T 6 -f "$PGHOST/late.sql" app > "$PGHOST/late.$round" 2>&1 &
	end=$((SECONDS + 5))
	while [ $SECONDS -lt $end ]; do
		n=$(psql -XAtq app -c "SELECT events FROM usage_event_prune(older_than => '1 day')" 2>/dev/null)
		pruned=$((pruned + ${n:-0}))
		bad=$((bad + $(sql "SELECT count(*) FROM tenancy.usage_rollup_difference")))
		psql -XAtq app -c "SELECT usage_roll_up()" >/dev/null
	done
	wait $!
	recorded=$((recorded + $(sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' "$PGHOST/late.$round")))
done
cat "$PGHOST"/late.[0-9] > "$PGHOST/late.out"
[ "$(grep -c 'number of failed transactions: 0' "$PGHOST/late.out")" = "$round" ] && ! grep -q aborted "$PGHOST/late.out"
ok $? "nobody who recorded then failed"
grep -h -E "ERROR|error" "$PGHOST/late.out" | sed 's/^/# /'
is "$bad" 0 "at all times the roll-ups are what the kept events add up to"
[ "$pruned" -gt 0 ]
ok $? "some went while others came"
is "$(total)" "$((before + recorded))" "and all are counted, once"

# The job, by the setting.
set_and_reload tenancy.usage_event_retention 2d
job() { psql -XAtq app -c "SET tenancy.test_clock = '$1'" -c "SELECT count(*) FROM job_run_due(100)" -c "SELECT result->>'events' FROM tenancy.job_run WHERE kind = 'usage.prune' ORDER BY started_at DESC LIMIT 1" | tail -n 1; }
psql -Xq app -c "SELECT count(schedule_set(kind, enabled => kind = 'usage.prune')) FROM tenancy.schedule" >/dev/null
sql "SELECT count(*) FROM generate_series(1, 20) n, usage_record('globex', 'load', 1, 'due' || n, '2026-04-02 00:00+00')" >/dev/null
due=$(sql "SELECT (r).events FROM usage_event_prune(true, '2 days') r")
[ "$due" -ge 20 ]
ok $? "there is something to remove"
is "$(job '2026-04-05 00:00+00')" "$due" "the job removes what is older than the setting"
is "$(sql "SELECT after_tenant IS NULL FROM tenancy.usage_prune_round")" t "of all tenants"
sql "SELECT count(*) FROM usage_record('acme', 'load', 1, 'again', '2026-04-01 00:00+00')" >/dev/null
is "$(job '2026-04-05 23:00+00')" "" "the next round waits"
due=$(psql -XAtq app -c "SET tenancy.test_clock = '2026-04-06 00:00+00'" -c "SELECT (r).events FROM usage_event_prune(true, '2 days') r")
is "$(job '2026-04-06 00:00+00')" "$due" "for a day"
is "$(sql "SELECT count(*) FROM tenancy.usage_event WHERE event_id = 'again'")" 0 "and takes what was left"
is "$(sql "SELECT count(*) FROM tenancy.usage_rollup_difference")" 0 "and the roll-ups are what they were"
done_testing
