-- Quotas: where they come from, what is used of them, and what is refused.
SELECT * FROM no_plan();
\ir quiet.psql
CREATE SCHEMA qt_portal;
CREATE TABLE qt_portal.entity (id integer PRIMARY KEY, parent integer REFERENCES qt_portal.entity ON DELETE CASCADE, name text);
SELECT is(quota_count_table('entities', 'qt_portal.entity'), 'qt_portal.entity'::regclass, 'a table of a template is counted');
SELECT template_create('qt', 'qt_portal') \g /dev/null
SELECT slug FROM tenant_create('qt-a', plan => 'starter', template => 'qt') \g /dev/null
SELECT slug FROM tenant_create('qt-b', plan => 'professional', template => 'qt') \g /dev/null
SELECT slug FROM tenant_create('qt-c', plan => 'enterprise', template => 'qt') \g /dev/null
SELECT schema_name AS a_schema FROM tenancy.tenant WHERE slug = 'qt-a' \gset
CREATE ROLE qt_app LOGIN IN ROLE tenancy_app;
CREATE FUNCTION pg_temp.check(slug text, resource text, amount numeric DEFAULT 1) RETURNS text LANGUAGE sql AS
    $$ SELECT concat_ws(' ', (q).allowed, (q).used, coalesce((q).soft::text, '-'), coalesce((q).hard::text, '-'), coalesce((q).remaining::text, '-'), (q).percent) FROM (SELECT quota_check(slug, resource, amount) AS q OFFSET 0) x $$;

-- from the plans of the plan document
SELECT is(pg_temp.check('qt-a', 'users'), 't 0 - 10 10 0.00', 'starter: 10 users');
SELECT is(pg_temp.check('qt-a', 'users', 11), 'f 0 - 10 10 0.00', 'and not 11');
SELECT is(pg_temp.check('qt-a', 'api_calls'), 't 0 - 10000 10000 0.00', '10000 calls a month');
SELECT is(pg_temp.check('qt-a', 'custom_domains'), 'f 0 - 0 0', 'no domain of its own');
SELECT is(pg_temp.check('qt-b', 'users', 100), 't 0 50 - - 0.00', 'professional: users beyond 50 are billed, not refused');
SELECT is(pg_temp.check('qt-b', 'entities', 1001), 'f 0 - 1000 1000 0.00', 'entities are not');
SELECT is(pg_temp.check('qt-c', 'users', 1000000), 't 0 - - -', 'enterprise: -1 is unlimited');
SELECT is((quota_check('qt-a', 'users', 11)).reason, '0 of 10 are used, and 11 more would pass the limit of plan "starter"', 'a refusal is explained');
SELECT is((quota_check('qt-b', 'users', 51)).reason, 'more than the 50 that are included by plan "professional"', 'and so is a soft limit');
SELECT throws_ok($$SELECT quota_check('qt-a', 'nothing')$$, '42704', NULL, 'an unknown resource is told');

-- sums of events
SELECT set_config('tenancy.test_clock', '2026-03-15 12:00+00', false) \g /dev/null
SELECT usage_record('qt-a', 'api_calls', 9000, 'c1', '2026-03-15 11:00+00') \g /dev/null
SELECT is(pg_temp.check('qt-a', 'api_calls'), 't 9000 - 10000 1000 90.00', 'events are counted as they commit');
SELECT usage_record('qt-a', 'api_calls', 9000, 'c1', '2026-03-15 11:00+00') \g /dev/null
SELECT is(pg_temp.check('qt-a', 'api_calls', 1001), 'f 9000 - 10000 1000 90.00', 'once');
BEGIN;
SELECT usage_record('qt-a', 'api_calls', 500, 'c2', '2026-03-15 11:00+00') \g /dev/null
ROLLBACK;
SELECT is(pg_temp.check('qt-a', 'api_calls'), 't 9000 - 10000 1000 90.00', 'not those that are rolled back');
BEGIN;
SAVEPOINT s;
SELECT usage_record('qt-a', 'api_calls', 1, 'c3', '2026-03-15 11:00+00') \g /dev/null
ROLLBACK TO s;
SELECT usage_record('qt-a', 'api_calls', 2, 'c4', '2026-03-15 11:30+00') \g /dev/null
COMMIT;
SELECT is(pg_temp.check('qt-a', 'api_calls'), 't 9002 - 10000 998 90.02', 'nor to a savepoint');
SELECT usage_record('qt-a', 'api_calls', 50, 'c5', '2026-02-28 23:59+00') \g /dev/null
SELECT is(pg_temp.check('qt-a', 'api_calls'), 't 9002 - 10000 998 90.02', 'nor what was last month');
SELECT usage_cancel('qt-a', 'c1') \g /dev/null
SELECT is(pg_temp.check('qt-a', 'api_calls'), 't 2 - 10000 9998 0.02', 'nor what is cancelled');
SELECT is((quota_check('qt-a', 'api_calls')).resets_at, '2026-04-01 00:00+00'::timestamptz, 'it begins anew with the month, in UTC');
SELECT set_config('tenancy.test_clock', '2026-04-01 00:00+00', false) \g /dev/null
SELECT is(pg_temp.check('qt-a', 'api_calls'), 't 0 - 10000 10000 0.00', 'and has');
SELECT usage_record('qt-a', 'users', 4, 'u1', '2026-03-31 00:00+00') \g /dev/null
SELECT set_config('tenancy.test_clock', '2026-05-10 00:00+00', false) \g /dev/null
SELECT is(pg_temp.check('qt-a', 'users'), 't 4 - 10 6 40.00', 'a level stays');
SELECT is((quota_check('qt-a', 'users')).resets_at, NULL, 'and never begins anew');

-- events are refused where that is asked for
SELECT set_config('tenancy.test_clock', '2026-06-10 12:00+00', false) \g /dev/null
SELECT quota_set('qt-c', 'api_calls', NULL, 100, true) \g /dev/null
SELECT usage_record('qt-c', 'api_calls', 60, 'r1', '2026-06-10 11:00+00') \g /dev/null
SELECT throws_ok($$SELECT usage_record('qt-c', 'api_calls', 41, 'r2', '2026-06-10 11:00+00')$$, '53400', 'quota "api_calls" of tenant "qt-c" is used up', 'an event that would pass the limit');
SELECT is(pg_temp.check('qt-c', 'api_calls'), 't 60 - 100 40 60.00', 'is not recorded');
SELECT lives_ok($$SELECT usage_record('qt-c', 'api_calls', 40, 'r3', '2026-06-10 11:00+00')$$, 'one that fits is');
SELECT lives_ok($$SELECT usage_record('qt-c', 'api_calls', 40, 'r3', '2026-06-10 11:00+00')$$, 'and may come again');
SELECT throws_ok($$SELECT usage_record_batch('[{"tenant": "qt-c", "metric": "api_calls", "quantity": 1, "occurred_at": "2026-06-10T11:00:00Z"}]')$$, '53400', NULL, 'in batches, too');
SELECT throws_ok($$INSERT INTO tenancy.usage_inbox (tenant, metric, occurred_at) VALUES ('qt-c', 'api_calls', '2026-06-10 11:00+00')$$, '53400', NULL, 'and in the inbox');
SELECT lives_ok($$SELECT usage_record('qt-c', 'api_calls', 500, 'r4', '2026-05-31 23:59+00')$$, 'what belongs to another month is recorded');
SELECT usage_cancel('qt-c', 'r3') \g /dev/null
SELECT is(pg_temp.check('qt-c', 'api_calls'), 't 60 - 100 40 60.00', 'cancelling makes room');
SELECT lives_ok($$SELECT usage_record('qt-c', 'api_calls', 40, 'r5', '2026-06-10 11:00+00')$$, 'which can be used');
SELECT throws_ok($$SELECT usage_record('qt-c', 'api_calls', 1, 'r6', '2026-06-10 11:00+00')$$, '53400', NULL, 'and no more');
SELECT lives_ok($$SELECT usage_record('qt-c', 'api_calls', -10, 'r7', '2026-06-10 11:00+00')$$, 'a sum can be taken back from');
BEGIN;
SELECT usage_record('qt-c', 'api_calls', 10, 'r8', '2026-06-10 11:00+00') \g /dev/null
SELECT throws_ok($$SELECT usage_record('qt-c', 'api_calls', 1, 'r9', '2026-06-10 11:00+00')$$, '53400', NULL, 'what a transaction has taken is taken');
ROLLBACK;
SELECT is(pg_temp.check('qt-c', 'api_calls'), 't 90 - 100 10 90.00', 'until it rolls back');
SELECT is((SELECT sum(quantity) FROM tenancy.usage_event WHERE metric = 'api_calls' AND cancelled_at IS NULL AND occurred_at >= '2026-06-01 00:00+00' AND tenant_id = (SELECT id FROM tenancy.tenant WHERE slug = 'qt-c')), 90::numeric, 'as the events say');
SELECT quota_set('qt-c', 'users', NULL, 3, true) \g /dev/null
SELECT throws_ok($$SELECT usage_record('qt-c', 'users', 4, NULL, '2026-06-10 11:00+00')$$, '53400', NULL, 'a level above the limit');
SELECT lives_ok($$SELECT usage_record('qt-c', 'users', 3, NULL, '2026-06-10 11:00+00')$$, 'one at it is none');
SELECT metric_create('visitors', 'visitor', 'unique', property => 'id') \g /dev/null
SELECT throws_ok($$SELECT quota_set('qt-c', 'visitors', NULL, 3, true)$$, '22023', NULL, 'what is not known by one event cannot be refused');
SELECT throws_ok($$SELECT quota_set('qt-c', 'users', NULL, 3, NULL)$$, '22004', NULL, 'yes or no');
-- what a transaction has recorded is not read twice
BEGIN;
SELECT usage_record('qt-c', 'entities', 1, 'e1', '2026-06-10 11:00+00'), usage_record('qt-b', 'api_calls', 7, 'e2', '2026-06-10 11:00+00') \g /dev/null
SELECT is((quota_check('qt-b', 'api_calls')).used, 7::numeric, 'its own events are seen');
COMMIT;
SELECT is((quota_check('qt-b', 'api_calls')).used, 7::numeric, 'and counted once');
RESET tenancy.test_clock;

-- set for a tenant
SELECT quota_set('qt-a', 'entities', 3, 5) \g /dev/null
SELECT is(pg_temp.check('qt-a', 'entities'), 't 0 3 5 5 0.00', 'one''s own takes the place of the plan''s');
SELECT throws_ok($$SELECT quota_set('qt-a', 'entities', 6, 5)$$, '22023', NULL, 'soft is not above hard');
SELECT throws_ok($$SELECT quota_set('qt-a', 'entities', -2, 5)$$, '22023', NULL, 'nor negative');
SELECT throws_ok($$SELECT quota_set('qt-a', 'nothing', 1, 5)$$, '42704', NULL, 'of a metric that exists');

-- a counted table
BEGIN;
SET LOCAL ROLE qt_app;
SELECT tenant_context_set('qt-a') \g /dev/null
INSERT INTO entity SELECT g FROM generate_series(1, 4) g;
SELECT is(pg_temp.check('qt-a', 'entities'), 't 4 3 5 1 80.00', 'rows count from the statement on');
SELECT throws_ok('INSERT INTO entity VALUES (5), (6)', '53400', 'quota "entities" of tenant "qt-a" is used up', 'the statement that would pass the limit is refused');
INSERT INTO entity VALUES (5);
SELECT throws_ok('INSERT INTO entity VALUES (6)', '53400', NULL, 'the limit is the limit');
SELECT lives_ok('INSERT INTO entity VALUES (1) ON CONFLICT DO NOTHING', 'what inserts nothing is not');
SELECT lives_ok('INSERT INTO entity VALUES (1) ON CONFLICT (id) DO UPDATE SET name = ''x''', 'nor what updates');
SELECT throws_ok('COPY entity (id) FROM PROGRAM ''echo 7''', '42501', NULL, 'COPY FROM PROGRAM is not for tenants anyway');
UPDATE entity SET parent = 1 WHERE id IN (2, 3);
DELETE FROM entity WHERE id = 1;
SELECT is(pg_temp.check('qt-a', 'entities'), 't 2 3 5 3 40.00', 'what cascades makes room, too');
SELECT lives_ok('INSERT INTO entity SELECT g FROM generate_series(11, 13) g', 'which can be used in the same transaction');
SELECT throws_ok('INSERT INTO entity VALUES (14)', '53400', NULL, 'and no more than that');
COMMIT;
SELECT is(pg_temp.check('qt-a', 'entities'), 'f 5 3 5 0 100.00', 'committed');
BEGIN;
SELECT tenant_context_set('qt-a') \g /dev/null
SAVEPOINT s;
DELETE FROM entity;
SELECT is((quota_check('qt-a', 'entities')).used, 0::numeric, 'all deleted');
ROLLBACK TO s;
SELECT is((quota_check('qt-a', 'entities')).used, 5::numeric, 'and back');
SELECT throws_ok('INSERT INTO entity VALUES (99)', '53400', NULL, 'nothing was gained');
ROLLBACK;
SELECT is((SELECT count(*) FROM :a_schema.entity)::numeric, (quota_check('qt-a', 'entities')).used, 'the count is that of the table');
BEGIN;
SELECT tenant_context_set('qt-b') \g /dev/null
SELECT lives_ok('INSERT INTO entity SELECT g FROM generate_series(1, 1000) g', 'another tenant has its own limit');
SELECT throws_ok('INSERT INTO entity VALUES (1001)', '53400', NULL, 'up to there');
ROLLBACK;
SELECT is((quota_check('qt-b', 'entities')).used, 0::numeric, 'rolled back, nothing is used');
SELECT quota_reset('qt-a', 'entities') \g /dev/null
SELECT is(pg_temp.check('qt-a', 'entities'), 't 5 - 100 95 5.00', 'quota_reset() brings back the plan''s');
SELECT throws_ok($$SELECT quota_reset('qt-a', 'entities')$$, '42704', NULL, 'once');
SELECT lives_ok(format('TRUNCATE %I.entity CASCADE', :'a_schema'), 'TRUNCATE counts');
SELECT is((quota_check('qt-a', 'entities')).used, 0::numeric, 'as none left');

-- a shared table
CREATE TABLE qt_plugin (tenant_id uuid, id integer, PRIMARY KEY (tenant_id, id));
SELECT tenant_table_register('qt_plugin'), quota_count_table('plugins', 'qt_plugin') \g /dev/null
BEGIN;
SELECT tenant_context_set('qt-a') \g /dev/null
INSERT INTO qt_plugin (id) SELECT g FROM generate_series(1, 5) g;
SELECT throws_ok('INSERT INTO qt_plugin (id) VALUES (6)', '53400', NULL, 'shared: five plugins for a starter');
COMMIT;
BEGIN;
SELECT tenant_context_set('qt-b') \g /dev/null
SELECT lives_ok('INSERT INTO qt_plugin (id) SELECT g FROM generate_series(1, 20) g', 'twenty for a professional');
COMMIT;
SELECT throws_ok($$INSERT INTO qt_plugin SELECT id, 7 FROM tenancy.tenant WHERE slug IN ('qt-a', 'qt-c')$$, '53400', NULL, 'a superuser without a context is counted for each tenant');
DELETE FROM qt_plugin WHERE id = 1;
SELECT is((quota_check('qt-a', 'plugins')).used || ' ' || (quota_check('qt-b', 'plugins')).used, '4 19', 'and takes away from each');
SELECT throws_ok('TRUNCATE qt_plugin', '0A000', NULL, 'TRUNCATE would not know of whom');

-- told once a threshold and period
CREATE PROCEDURE pg_temp.watch(wanted bigint) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..400 LOOP
        EXIT WHEN (SELECT count(*) FROM tenancy.quota_event WHERE metric = 'plugins') >= wanted;
        PERFORM job_run_due(100);
        COMMIT;
        PERFORM pg_sleep(0.1);
    END LOOP;
END $$;
SELECT results_eq($$SELECT slug, kind, name FROM resource_enforce('qt-a')$$, $$SELECT 'x'::text, 'x'::text, 'x'::text WHERE false$$, 'nothing is used up');
SELECT quota_set('qt-a', 'plugins', NULL, 4) \g /dev/null
SELECT results_eq($$SELECT slug, kind, name, used, hard FROM resource_enforce('qt-a')$$, $$VALUES ('qt-a', 'quota', 'plugins', 4::numeric, 4::numeric)$$, 'resource_enforce() names what is');
CALL pg_temp.watch(3);
-- how much was used depends on when somebody looked
SELECT results_eq($$SELECT t.slug, metric, threshold_percent FROM tenancy.quota_event e JOIN tenancy.tenant t ON t.id = e.tenant_id WHERE metric = 'plugins' ORDER BY 1, 3$$,
    $$VALUES ('qt-a', 'plugins', 80), ('qt-a', 'plugins', 100), ('qt-b', 'plugins', 80)$$, 'thresholds are told');
SELECT is((SELECT count(*) FROM tenancy.outbox_event WHERE type = 'quota.warning' AND payload ->> 'metric' = 'plugins'), 3::bigint, 'and each is an event');
DELETE FROM qt_plugin WHERE id > 3;
SELECT quota_check('qt-a', 'plugins') \g /dev/null
CREATE PROCEDURE pg_temp.clear() LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..400 LOOP
        EXIT WHEN (SELECT count(cleared_at) FROM tenancy.quota_event WHERE metric = 'plugins') = 3;
        PERFORM job_run_due(100);
        COMMIT;
        PERFORM pg_sleep(0.1);
    END LOOP;
END $$;
CALL pg_temp.clear();
SELECT is((SELECT count(cleared_at) FROM tenancy.quota_event WHERE metric = 'plugins'), 3::bigint, 'a level that went below clears them');
INSERT INTO qt_plugin SELECT id, 9 FROM tenancy.tenant WHERE slug = 'qt-a';
INSERT INTO qt_plugin SELECT id, 10 FROM tenancy.tenant WHERE slug = 'qt-a';
CALL pg_temp.watch(5);
SELECT results_eq($$SELECT threshold_percent FROM tenancy.quota_event WHERE metric = 'plugins' AND cleared_at IS NULL ORDER BY 1$$, 'VALUES (80), (100)', 'so that it is told again');

-- rights
BEGIN;
SET LOCAL ROLE qt_app;
SELECT throws_ok($$SELECT quota_set('qt-a', 'users', NULL, 1000)$$, '42501', NULL, 'the application sets no quota');
SELECT tenant_context_set('qt-a') \g /dev/null
SELECT throws_ok($$SELECT quota_check('qt-b', 'users')$$, '42704', NULL, 'a tenant asks for itself');
SELECT results_eq($$SELECT resource, hard FROM tenancy.quota_read(current_tenant_id()) WHERE resource IN ('users', 'storage')$$, $$VALUES ('storage', 5::numeric), ('users', 10)$$, 'and sees its quotas');
ROLLBACK;
SELECT throws_ok($$SELECT quota_count_table('api_calls', 'qt_plugin')$$, '42704', NULL, 'a sum is not a number of rows');
SELECT throws_ok($$SELECT quota_count_table('plugins', 'pg_class')$$, NULL, NULL, 'nor a catalog');

-- an event that sets a level says what is used and how much more it is
SELECT slug FROM tenant_create('qt-level', plan => 'starter') \g /dev/null
SELECT quota_set('qt-level', 'users', NULL, 2, true) \g /dev/null
SELECT usage_record('qt-level', 'users', 2, 'l1') \g /dev/null
\set ON_ERROR_STOP 0
\set VERBOSITY terse
SELECT usage_record('qt-level', 'users', 3, 'l2');
\set VERBOSITY default
SELECT is(:'LAST_ERROR_SQLSTATE'::text, '53400', 'a level above the limit is refused');
\set ON_ERROR_STOP 1
SELECT is((SELECT last_refusal FROM limit_explain('qt-level') WHERE kind = 'quota' AND name = 'users'), 'refused (53400) when 2 of 2 were used, and 1 more wanted', 'by what is used, not by what was asked for');
SELECT is((usage_record('qt-level', 'users', 2, 'l1')).quantity, 2::numeric, 'the one that was taken is known');
SELECT * FROM finish();
