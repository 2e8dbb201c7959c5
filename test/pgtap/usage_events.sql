-- Usage events: repeats, conflicts, and what each aggregation takes and gives.
SELECT * FROM no_plan();
\ir quiet.psql
SELECT slug FROM tenant_create('acme') \g /dev/null
SELECT slug FROM tenant_create('globex') \g /dev/null
SELECT id AS globex FROM tenancy.tenant WHERE slug = 'globex' \gset

-- a repeat without a time is the same event, in whatever transaction it comes
SELECT recorded_at, occurred_at FROM usage_record('acme', 'api_calls', 3, 'r1') \gset first_
SELECT pg_sleep(0.01) \g /dev/null
SELECT results_eq($$SELECT recorded_at, occurred_at FROM usage_record('acme', 'api_calls', 3, 'r1')$$,
    format('VALUES (%L::timestamptz, %L::timestamptz)', :'first_recorded_at', :'first_occurred_at'), 'a repeat without a time returns the first row');
SELECT is((SELECT count(*) FROM tenancy.usage_event WHERE event_id = 'r1'), 1::bigint, 'and there is one');
SELECT throws_ok($$SELECT usage_record('acme', 'api_calls', 4, 'r1')$$, '23505', NULL, 'another quantity is another event');
SELECT throws_ok($$SELECT usage_record('acme', 'users', 3, 'r1')$$, '23505', NULL, 'so is another metric');
SELECT throws_ok($$SELECT usage_record('acme', 'api_calls', 3, 'r1', '2026-01-01')$$, '23505', NULL, 'so is one that names a time');
SELECT throws_matching($$SELECT usage_record('acme', 'api_calls', 9, 'r1')$$, 'r1', 'the message names the event');
CREATE FUNCTION conflict_detail() RETURNS text LANGUAGE plpgsql AS $$
DECLARE d text;
BEGIN PERFORM usage_record('acme', 'api_calls', 9, 'r1'); RETURN NULL;
EXCEPTION WHEN unique_violation THEN GET STACKED DIAGNOSTICS d = PG_EXCEPTION_DETAIL; RETURN d; END $$;
SELECT matches(conflict_detail(), '[0-9a-f]{32}.*[0-9a-f]{32}', 'the detail gives both digests');
SELECT matches(conflict_detail(), (SELECT replace(k.payload_hash::text, '-', '') FROM tenancy.usage_event_key k), 'one of them the recorded one');

-- BLAKE2b-256 (RFC 7693) of the canonical form, which another program can make
-- printf '\x02\0\0\0\0\0\0\0r1' | b2sum -l 256 | cut -c 1-32; the same of "api_calls", "3", no time, "{}", each behind its length
SELECT is((SELECT replace(id_hash::text, '-', '') FROM tenancy.usage_event_key), '04e080cacfe90d03679ba356d93ec6dd', 'the hash of an id');
SELECT is((SELECT replace(payload_hash::text, '-', '') FROM tenancy.usage_event_key), 'c35fbe60edb6a0ac22787b6cdf097471', 'the hash of what was said');
SELECT usage_record('acme', 'api_calls', 1.50, 'n1', '2026-01-01 00:00+00', '{"a": 1, "b": [2]}') \g /dev/null
SELECT lives_ok($$SELECT usage_record('acme', 'api_calls', 1.5, 'n1', '2026-01-01 05:30+05:30', '{"b":[2],"a":1}')$$, 'one value has one form');

-- ids
SELECT is((SELECT count(DISTINCT event_id) FROM generate_series(1, 3) g, usage_record('acme', 'api_calls', g)), 3::bigint, 'without an id each is a new one');
SELECT lives_ok(format('SELECT usage_record(%L, %L, 1, repeat(%L, 255))', 'acme', 'api_calls', 'x'), '255 bytes are an id');
SELECT throws_ok(format('SELECT usage_record(%L, %L, 1, repeat(%L, 256))', 'acme', 'api_calls', 'x'), '22023', NULL, '256 are not');

-- a row is in the partition of its month, and in every index that the table has
CREATE INDEX later_idx ON tenancy.usage_event (event_id, lower(metric));
SELECT count(*) FROM generate_series(0, 23) m, usage_record('acme', 'api_calls', 1, 'month' || m, ('2024-02-01 00:30'::timestamp + m * interval '1 month') AT TIME ZONE 'UTC') \g /dev/null
SELECT results_eq($$SELECT tableoid::regclass::text, count(*) FROM tenancy.usage_event WHERE event_id ~ '^month' GROUP BY 1 ORDER BY 1$$,
    $$SELECT 'tenancy.usage_event_' || lpad(m::text, 2, '0'), 2::bigint FROM generate_series(1, 12) m$$, 'two years have two rows a month');
SELECT is_empty($$SELECT * FROM tenancy.usage_event e WHERE to_char(occurred_at AT TIME ZONE 'UTC', 'MM') <> right(tableoid::regclass::text, 2)$$, 'none is in the wrong one');
SET enable_seqscan = off;
SELECT is((SELECT count(*) FROM tenancy.usage_event WHERE event_id = 'month7' AND lower(metric) = 'api_calls'), 1::bigint, 'an index that somebody added has it');
RESET enable_seqscan;
DROP INDEX tenancy.later_idx;
BEGIN READ ONLY;
SELECT throws_ok($$SELECT usage_record('acme', 'api_calls')$$, '25006', NULL, 'nothing is recorded in a transaction that only reads');
COMMIT;

-- quantities
SELECT lives_ok($$SELECT usage_record('acme', 'api_calls', -2)$$, 'a sum can be taken back from');
SELECT throws_ok($$SELECT usage_record('acme', 'users', -2)$$, '22023', NULL, 'a level is not negative');
SELECT lives_ok($$SELECT usage_record('acme', 'users', 0)$$, 'but may be none');
SELECT throws_ok($$SELECT usage_record('acme', 'users', 'NaN')$$, '22003', NULL, 'not a number');
SELECT throws_ok($$SELECT usage_record('acme', 'api_calls', 'Infinity')$$, '22003', NULL, 'nor without end');
SELECT throws_ok($$SELECT usage_record('acme', 'api_calls', '-Infinity')$$, '22003', NULL, 'on neither side');
SELECT throws_ok($$SELECT usage_record('acme', 'api_calls', NULL)$$, '22004', NULL, 'nor null');
SELECT throws_ok($$SELECT usage_record('acme', NULL)$$, '22004', NULL, 'nor a metric');
SELECT throws_ok($$SELECT usage_record(NULL, 'api_calls')$$, '22004', NULL, 'nor a tenant');
SELECT throws_ok($$SELECT usage_record('acme', 'api_calls', 1, occurred_at => 'infinity')$$, '22008', NULL, 'nor the end of time');

-- aggregations
SELECT throws_ok($$SELECT metric_create('seats', 'seat', 'unique')$$, '22023', NULL, 'unique needs a property');
SELECT throws_ok($$SELECT metric_create('seats', 'seat', 'sum', property => 'user')$$, '22023', NULL, 'and no other takes one');
SELECT is((metric_create('seats', 'seat', 'unique', property => 'user')).property, 'user', 'a metric of unique values');
SELECT metric_create('logins', 'login', 'count'), metric_create('load', 'job', 'latest'), metric_create('peak', 'job', 'max') \g /dev/null
SELECT throws_ok($$SELECT usage_record('acme', 'seats')$$, '22023', NULL, 'its events have the property');
SELECT count(*) FROM (VALUES (1, 'ann'), (2, 'bob'), (3, 'ann')) v(d, u),
    usage_record('acme', 'seats', 1, 's' || d, '2026-05-01 00:00+00'::timestamptz + d * interval '1 hour', jsonb_build_object('user', u)) \g /dev/null
SELECT count(*) FROM generate_series(1, 4) d, LATERAL (VALUES ('logins'), ('load'), ('peak')) m(metric),
    usage_record('acme', m.metric, 10 - d, m.metric || d, '2026-05-01 00:00+00'::timestamptz + d * interval '1 hour') \g /dev/null
SELECT results_eq($$SELECT metric_name, quantity FROM usage_report('acme', '2026-05-01 00:00+00', '2026-05-02 00:00+00') WHERE metric_name IN ('seats', 'logins', 'load', 'peak')$$,
    $$VALUES ('load', 6::numeric), ('logins', 4), ('peak', 9), ('seats', 2)$$, 'latest, count, max, unique');
SELECT results_eq($$SELECT quantity FROM usage_report('acme', '2026-05-01 00:00+00', '2026-05-01 06:00+00', 'load', '2 hours')$$,
    $$VALUES (9::numeric), (7), (6)$$, 'a bucket ends before the next begins');
SELECT usage_record('acme', 'load', 5, 'tie', '2026-05-01 04:00+00') \g /dev/null
SELECT is((SELECT quantity FROM usage_report('acme', '2026-05-01 00:00+00', '2026-05-02 00:00+00', 'load')), 5::numeric, 'of two at one time the one recorded later is the latest');
SELECT usage_cancel('acme', 's2') \g /dev/null
SELECT is((SELECT quantity FROM usage_report('acme', '2026-05-01 00:00+00', '2026-05-02 00:00+00', 'seats')), 1::numeric, 'a cancelled event counts no more');
SELECT is((SELECT cancelled_at FROM usage_cancel('acme', 's2')), (SELECT cancelled_at FROM tenancy.usage_event WHERE event_id = 's2'), 'cancelling twice changes nothing');
SELECT is((SELECT count(*) FROM tenancy.usage_observation WHERE metric = 'seats'), 2::bigint, 'and is not observed');

-- measured storage is a level like any other
SET tenancy.test_clock = '2026-05-01 00:00+00';
SELECT made FROM usage_partition_maintain() \g /dev/null
RESET tenancy.test_clock;
INSERT INTO tenancy.usage_hour (tenant_id, hour, storage_bytes) SELECT id, '2026-05-01 00:00+00', 3500000000 FROM tenancy.tenant WHERE slug = 'acme';
SELECT usage_record('acme', 'storage', 2, 'st', '2026-05-01 12:00+00') \g /dev/null
SELECT results_eq($$SELECT quantity::numeric(5,2) FROM usage_report('acme', '2026-04-30 00:00+00', '2026-05-04 00:00+00', 'storage', '1 day')$$,
    $$VALUES (0::numeric), (3.5), (2), (2)$$, 'storage in GB, measured and reported, carries over');

-- dates: a month in which clocks change is a bucket like the others
SET timezone = 'Europe/Berlin';
SELECT results_eq($$SELECT bucket_start FROM usage_report('acme', '2026-03-01', '2026-05-01', 'logins', '1 month')$$,
    $$VALUES ('2026-03-01'::timestamptz), ('2026-04-01')$$, 'months are civil');
SELECT results_eq($$SELECT bucket_start FROM usage_report('acme', '2026-01-31', '2026-04-01', 'logins', '1 month')$$,
    $$VALUES ('2026-01-31'::timestamptz), ('2026-02-28'), ('2026-03-31')$$, 'and counted from the first');
SELECT is((SELECT count(*) FROM usage_report('acme', '2026-10-25', '2026-10-26', 'logins', '1 hour')), 25::bigint, 'a day can have 25 hours');
SELECT throws_ok($$SELECT usage_report('acme', '2026-01-01', '2027-01-01', bucket => '1 month -31 days')$$, '22023', NULL, 'a bucket that goes back');
RESET timezone;

-- many questions at once
SELECT results_eq($$SELECT q.ordinal, q.quantity FROM (SELECT id FROM tenancy.tenant WHERE slug = 'acme') a, (SELECT id FROM tenancy.tenant WHERE slug = 'globex') g,
    tenancy.usage_quantities(ARRAY[a.id, g.id, a.id, a.id, a.id], ARRAY['peak', 'peak', 'seats', 'logins', 'nothing'], array_fill('2026-05-01 00:00+00'::timestamptz, ARRAY[5]),
        ARRAY['2026-05-02 00:00+00', '2026-05-02 00:00+00', '2026-05-02 00:00+00', '2026-05-01 03:00+00', '2026-05-02 00:00+00']::timestamptz[]) q ORDER BY 1$$,
    $$VALUES (1, 9::numeric), (2, 0), (3, 1), (4, 2), (5, NULL)$$, 'each is answered as it is alone');

-- rights
CREATE ROLE usage_app LOGIN IN ROLE tenancy_app;
CREATE ROLE usage_nobody LOGIN;
SET ROLE usage_app;
SELECT lives_ok($$SELECT usage_record('acme', 'api_calls')$$, 'the application records');
SELECT throws_ok($$SELECT usage_cancel('acme', 'r1')$$, '42501', NULL, 'and cancels nothing');
SELECT throws_ok($$SELECT metric_create('mine', 'x')$$, '42501', NULL, 'and makes no metric');
SET ROLE usage_nobody;
SELECT throws_ok($$SELECT usage_record('00000000-0000-7000-8000-000000000000'::uuid, 'api_calls')$$, '42501', NULL, 'others record nothing');
SELECT throws_ok($$SELECT * FROM tenancy.usage_event$$, '42501', NULL, 'and read nothing');
RESET ROLE;
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
SELECT throws_ok(format('SELECT usage_record(%L::uuid, %L)', :'globex', 'api_calls'), '42704', NULL, 'a tenant does not record for another, by id');
SELECT throws_ok($$SELECT usage_record('globex', 'api_calls')$$, '42704', NULL, 'nor by its slug');
SELECT throws_ok(format('SELECT * FROM usage_report(%L::uuid, now() - interval %L, now())', :'globex', '1 day'), '42704', NULL, 'nor reads of it');
SELECT is((SELECT count(*) FROM tenancy.usage_event WHERE tenant_id <> current_tenant_id()), 0::bigint, 'nor sees its events');
SELECT throws_ok($$DELETE FROM tenancy.usage_event$$, '42501', NULL, 'nor deletes its own');
COMMIT;
DROP ROLE usage_app, usage_nobody;
-- many in one statement
SELECT slug FROM tenant_create('batch-a') \g /dev/null
SELECT slug FROM tenant_create('batch-b') \g /dev/null
CREATE ROLE batch_app LOGIN IN ROLE tenancy_app;
CREATE FUNCTION pg_temp.batch(events jsonb) RETURNS text LANGUAGE sql AS $$ SELECT r.recorded || ' ' || r.repeated FROM usage_record_batch(events) r $$;
SELECT is(pg_temp.batch('[{"tenant": "batch-a", "metric": "api_calls", "quantity": 5, "event_id": "1", "occurred_at": "2026-02-01T10:00:00Z", "properties": {"path": "/x"}},
    {"tenant": "batch-b", "metric": "api_calls", "event_id": "1", "occurred_at": "2026-02-01T10:00:00Z"}, {"tenant": "batch-a", "metric": "users", "quantity": 3, "event_id": "2", "occurred_at": "2026-02-01 12:00+02"}]'),
    '3 0', 'a batch of three');
SELECT results_eq($$SELECT t.slug, e.event_id, e.metric, e.quantity, e.occurred_at, e.properties FROM tenancy.usage_event e JOIN tenancy.tenant t ON t.id = e.tenant_id WHERE t.slug LIKE 'batch-%' ORDER BY 1, 2$$,
    $$VALUES ('batch-a', '1', 'api_calls', 5::numeric, '2026-02-01 10:00+00'::timestamptz, '{"path": "/x"}'::jsonb), ('batch-a', '2', 'users', 3, '2026-02-01 10:00+00', '{}'), ('batch-b', '1', 'api_calls', 1, '2026-02-01 10:00+00', '{}')$$,
    'is what was said');
SELECT is(pg_temp.batch('[{"tenant": "batch-a", "metric": "api_calls", "quantity": 5.0, "event_id": "1", "occurred_at": "2026-02-01T10:00:00Z", "properties": {"path": "/x"}},
    {"tenant": "batch-a", "metric": "api_calls", "event_id": "3"}, {"tenant": "batch-a", "metric": "api_calls", "event_id": "3"}]'), '1 2', 'what comes again, also within it, counts once');
SELECT lives_ok($$SELECT usage_record('batch-a', 'api_calls', 5, '1', '2026-02-01 10:00+00', '{"path": "/x"}')$$, 'the same event alone is the same');
SELECT throws_ok($$SELECT usage_record_batch('[{"tenant": "batch-a", "metric": "api_calls", "event_id": "9"}, {"tenant": "batch-a", "metric": "api_calls", "quantity": 6, "event_id": "1", "occurred_at": "2026-02-01T10:00:00Z"}]')$$,
    '23505', 'usage event "1" was recorded with another content', 'another event of that id fails the batch');
SELECT is((SELECT count(*) FROM tenancy.usage_event e JOIN tenancy.tenant t ON t.id = e.tenant_id WHERE t.slug = 'batch-a' AND event_id = '9'), 0::bigint, 'all of it');
SELECT is(pg_temp.batch((SELECT jsonb_agg(jsonb_build_object('tenant', 'batch-b', 'metric', 'api_calls', 'event_id', 'n' || g)) FROM generate_series(1, 5000) g)), '5000 0', 'five thousand');
SELECT is(tenancy.usage_quantity((SELECT id FROM tenancy.tenant WHERE slug = 'batch-b'), 'api_calls', '2026-01-01', now() + interval '1 minute'), 5001::numeric, 'add up');
SELECT is(pg_temp.batch('[]'), '0 0', 'none');
SELECT throws_ok(format('SELECT usage_record_batch(%L)', d), state, NULL, 'refused: ' || d) FROM (VALUES ('{}', '22023'), ('1', '22023'), ('[1]', '22023'), ('[{}]', '22023'), ('[{"metric": "api_calls"}]', '22023'),
    ('[{"tenant": "batch-a", "metric": "nothing"}]', '42704'), ('[{"tenant": "nobody", "metric": "api_calls"}]', '42704'), ('[{"tenant": "batch-a", "metric": "api_calls", "x": 1}]', '22023'),
    ('[{"tenant": "batch-a", "metric": "api_calls", "occurred_at": "2999-01-01"}]', '22023'), ('[{"tenant": "batch-a", "metric": "api_calls", "occurred_at": "infinity"}]', '22008'),
    ('[{"tenant": "batch-a", "metric": "users", "quantity": -1}]', '22023'), ('[{"tenant": "batch-a", "metric": "api_calls", "event_id": ""}]', '22023')) v (d, state);
BEGIN;
SET LOCAL ROLE batch_app;
SELECT tenant_context_set('batch-a') \g /dev/null
SELECT is(pg_temp.batch('[{"metric": "api_calls", "event_id": "own"}]'), '1 0', 'in a context the tenant may be left out');
SELECT throws_ok($$SELECT usage_record_batch('[{"tenant": "batch-b", "metric": "api_calls"}]')$$, '42704', NULL, 'and no other is named');
COMMIT;
DROP ROLE batch_app;
-- weighted_sum: the cases of getlago/lago-api, spec/services/billable_metrics/aggregations/weighted_sum_service_spec.rb (to five decimals)
SELECT metric_create('ws.gb', 'GB', 'weighted_sum'), metric_create('ws.carried', 'GB', 'weighted_sum', true) \g /dev/null
CREATE FUNCTION pg_temp.weighted(slug text, metric text, events jsonb) RETURNS numeric LANGUAGE plpgsql AS $$
BEGIN
    PERFORM tenant_create(slug);
    PERFORM usage_record(slug, metric, (e->>1)::numeric, NULL, (e->>0)::timestamptz) FROM jsonb_array_elements(events) e;
    RETURN round(tenancy.usage_quantity((SELECT id FROM tenancy.tenant t WHERE t.slug = weighted.slug), metric, '2023-08-01', '2023-09-01'), 5);
END $$;
SET timezone = 'UTC';
SELECT is(pg_temp.weighted('ws-1', 'ws.carried', '[["2023-07-01", 1000], ["2023-08-01 00:00", 2], ["2023-08-01 01:00", 3], ["2023-08-01 01:30", 1], ["2023-08-01 02:00", -4], ["2023-08-01 04:00", -2], ["2023-08-01 05:00", 10], ["2023-08-01 05:30", -10]]'), 1000.02218, 'lago: recurring');
SELECT is(pg_temp.weighted('ws-2', 'ws.gb', '[["2023-08-01", 1000]]'), 1000.00000, 'lago: one event');
SELECT is(pg_temp.weighted('ws-3', 'ws.gb', '[["2023-08-01 00:00", 2], ["2023-08-01 02:00", -1]]'), 1.00269, 'lago: less after two hours');
SELECT is(pg_temp.weighted('ws-4', 'ws.gb', '[["2023-08-01", 3], ["2023-08-01", 3]]'), 6.00000, 'lago: two at the same time');
SELECT is(pg_temp.weighted('ws-5', 'ws.gb', '[["2023-07-31", 1000], ["2023-08-01", 1]]'), 1.00000, 'what does not carry over begins at nothing');
SELECT is(pg_temp.weighted('ws-6', 'ws.gb', '[]'), 0.00000, 'nothing is nothing');
RESET timezone;
-- the inbox: by COPY and INSERT
CREATE ROLE inbox_app LOGIN IN ROLE tenancy_app;
SET ROLE inbox_app;
COPY tenancy.usage_inbox (tenant, metric, quantity, event_id, occurred_at, properties) FROM STDIN WITH (FORMAT csv);
batch-a,api_calls,7,i1,2026-01-05 00:00+00,"{""path"": ""/y""}"
batch-a,api_calls,8,i2,2026-01-06 00:00+00,
batch-b,users,2,i1,,
\.
RESET ROLE;
SELECT is((SELECT count(*) || ' ' || sum(quantity) FROM tenancy.usage_event WHERE event_id IN ('i1', 'i2')), '3 17', 'COPY into the inbox records events');
SELECT is_empty('SELECT * FROM tenancy.usage_inbox', 'which holds nothing');
SELECT lives_ok($$INSERT INTO tenancy.usage_inbox VALUES ('batch-a', 'api_calls', 7, 'i1', '2026-01-05 00:00+00', '{"path": "/y"}')$$, 'what comes again is the same');
SELECT throws_ok($$INSERT INTO tenancy.usage_inbox VALUES ('batch-a', 'api_calls', 1, 'i9'), ('batch-a', 'api_calls', 9, 'i1')$$, '23505', NULL, 'another one fails the statement');
SELECT is((SELECT count(*) FROM tenancy.usage_event WHERE event_id = 'i9'), 0::bigint, 'all of it');
SELECT throws_ok($$INSERT INTO tenancy.usage_inbox (tenant) VALUES ('batch-a')$$, '22004', NULL, 'an event has a metric');
SELECT throws_ok($$INSERT INTO tenancy.usage_inbox (tenant, metric, quantity) VALUES ('batch-a', 'api_calls', 'NaN')$$, '22003', NULL, 'and a quantity that is a number');
INSERT INTO tenancy.usage_inbox (tenant, metric, event_id) SELECT 'batch-b', 'api_calls', 'part' || g FROM generate_series(1, 25000) g;
SELECT is((SELECT count(*) FROM tenancy.usage_event WHERE event_id LIKE 'part%'), 25000::bigint, 'more than fit into one part');
BEGIN;
SET LOCAL ROLE inbox_app;
SELECT tenant_context_set('batch-a') \g /dev/null
INSERT INTO tenancy.usage_inbox (metric, event_id) VALUES ('api_calls', 'mine');
SELECT throws_ok($$INSERT INTO tenancy.usage_inbox (tenant, metric) VALUES ('batch-b', 'api_calls')$$, '42704', NULL, 'a tenant records its own');
COMMIT;
DROP ROLE inbox_app;

-- which of many is wrong
SELECT throws_ok($$SELECT usage_record_batch('[{"tenant": "ev-place", "metric": "users"}, {"tenant": "ev-place"}]')$$, NULL, NULL, 'the tenant is looked for first');
SELECT slug FROM tenant_create('ev-place') \g /dev/null
SELECT throws_ok($$SELECT usage_record_batch('[{"tenant": "ev-place", "metric": "users"}, {"tenant": "ev-place"}]')$$, '22023', 'invalid usage event events[1]: "metric" is missing', 'the second');
SELECT throws_ok($$SELECT usage_record_batch('[{"tenant": "ev-place", "metric": "users", "at": 1}]')$$, '22023', 'invalid usage event events[0]: "at" is unknown', 'the first');
SELECT * FROM finish();
