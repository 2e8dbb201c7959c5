-- Retention policies: what may be one, whose rows go when, and what stays.
SELECT * FROM no_plan();
-- what workers would do meanwhile is test/tap/retention.t's
\ir quiet.psql
CREATE ROLE rt_admin LOGIN IN ROLE tenancy_admin; CREATE ROLE rt_second LOGIN IN ROLE tenancy_admin; CREATE ROLE rt_nobody;
CREATE SCHEMA rt_portal;
CREATE TABLE rt_portal.customer (id integer PRIMARY KEY, email text, at timestamptz);
CREATE TABLE rt_portal.orders (id integer PRIMARY KEY, customer integer REFERENCES rt_portal.customer, at date);
CREATE TABLE rt_portal.line (id integer PRIMARY KEY, orders integer REFERENCES rt_portal.orders ON DELETE CASCADE, sku text);
CREATE TABLE rt_portal.gone (what text);
CREATE FUNCTION rt_portal.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO gone VALUES (OLD.id || ' ' || current_user || ' ' || public.current_tenant()); RETURN OLD; END $$;
ALTER FUNCTION rt_portal.note() SET search_path = rt_portal;
CREATE TRIGGER note AFTER DELETE ON rt_portal.customer FOR EACH ROW EXECUTE FUNCTION rt_portal.note();
SELECT template_create('rt', 'rt_portal') \g /dev/null
SELECT tenant_create('rt-a', template => 'rt'), tenant_create('rt-b', template => 'rt', plan => 'starter') \g /dev/null
SELECT id AS a, schema_name AS a_schema, owner_name AS a_owner FROM tenancy.tenant WHERE slug = 'rt-a' \gset
SELECT id AS b, schema_name AS b_schema FROM tenancy.tenant WHERE slug = 'rt-b' \gset
CREATE TABLE rt_shared (tenant_id uuid, id integer, name text, at timestamp, PRIMARY KEY (tenant_id, id));
SELECT tenant_table_register('rt_shared') \g /dev/null
CREATE TABLE rt_plain (id integer PRIMARY KEY, email text UNIQUE, phone text, kind text, at timestamptz);
CREATE FUNCTION pg_temp.rows(relation text) RETURNS bigint LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN EXECUTE 'SELECT count(*) FROM ' || relation INTO n; RETURN n; END $$;

-- what may be a policy
SELECT throws_ok(q, s, m, w) FROM (VALUES
    ('SELECT retention_policy_set(NULL, ''at'', ''1 day'', ''delete'', ''b'')', '22004', NULL, 'a table is needed'),
    ('SELECT retention_policy_set(''rt_plain'', NULL, ''1 day'', ''delete'', ''b'')', '22004', NULL, 'a time'),
    ('SELECT retention_policy_set(''rt_plain'', ''at'', ''1 day'', NULL, ''b'')', '22004', NULL, 'an action'),
    ('SELECT retention_policy_set(''rt_plain'', ''at'', ''1 day'', ''shred'', ''b'')', '22023', 'invalid action "shred"', 'one of three'),
    ('SELECT retention_policy_set(''rt_plain'', ''at'', ''1 day'', ''delete'', NULL)', '22004', NULL, 'a legal basis'),
    ('SELECT retention_policy_set(''rt_plain'', ''at'', ''1 day'', ''delete'', '' '')', '22023', 'argument "legal_basis" must not be empty', 'that says something'),
    ('SELECT retention_policy_set(''rt_plain'', ''at'', ''0 days'', ''delete'', ''b'')', '22023', 'argument "period" must be longer than nothing', 'a period of nothing'),
    ('SELECT retention_policy_set(''rt_plain'', ''at'', NULL, ''delete'', ''b'')', '22023', 'table "rt_plain" needs a period', 'a table without tenants has no plan'),
    ('SELECT retention_policy_set(''rt_plain'', ''at'', ''1 day'', ''delete'', ''b'', 0)', '22023', NULL, 'batches of nothing'),
    ('SELECT retention_policy_set(''rt_plain'', ''at'', ''1 day'', ''delete'', ''b'', 100001)', '22023', NULL, 'or of too much'),
    ('SELECT retention_policy_set(''rt_plain'', ''id'', ''1 day'', ''delete'', ''b'')', '42804', 'argument "time" must be of type timestamp with time zone, timestamp or date, not integer', 'what is no time'),
    ('SELECT retention_policy_set(''rt_plain'', ''now()'', ''1 day'', ''delete'', ''b'')', '22023', NULL, 'now is no time of a row'),
    ('SELECT retention_policy_set(''rt_plain'', ''nothing'', ''1 day'', ''delete'', ''b'')', '42703', NULL, 'no such column'),
    ('SELECT retention_policy_set(''rt_plain'', ''at'', ''1 day'', ''delete'', ''b'', filter => ''id'')', '42804', NULL, 'a filter is a condition'),
    ('SELECT retention_policy_set(''rt_plain'', ''at'', ''1 day'', ''anonymise'', ''b'')', '22023', NULL, 'anonymise needs to know what'),
    ('SELECT retention_policy_set(''rt_plain'', ''at'', ''1 day'', ''delete'', ''b'', anonymise => ''{"email": null}'')', '22023', NULL, 'delete does not'),
    ('SELECT retention_policy_set(''rt_plain'', ''at'', ''1 day'', ''anonymise'', ''b'', anonymise => ''{}'')', '22023', NULL, 'no column'),
    ('SELECT retention_policy_set(''rt_plain'', ''at'', ''1 day'', ''anonymise'', ''b'', anonymise => ''{"nothing": null}'')', '42703', NULL, 'an unknown one'),
    ('SELECT retention_policy_set(''rt_plain'', ''at'', ''1 day'', ''anonymise'', ''b'', anonymise => ''{"email": [1]}'')', '22023', NULL, 'an array'),
    ('SELECT retention_policy_set(''rt_plain'', ''at'', ''1 day'', ''drop_partition'', ''b'')', '22023', 'table "rt_plain" is not partitioned by ranges of "at"', 'no partitions'),
    ('SELECT retention_policy_set(''rt_plain_pkey'', ''at'', ''1 day'', ''delete'', ''b'')', '42809', NULL, 'an index'),
    ('SELECT retention_policy_set(''tenancy.job_done'', ''finished_at'', ''1 day'', ''delete'', ''b'')', '42809', NULL, 'a table of the extension'),
    (format('SELECT retention_policy_set(''%I.customer'', ''at'', ''1 day'', ''delete'', ''b'')', :'a_schema'), '42809', NULL, 'a table of one tenant'),
    ('SELECT retention_policy_remove(NULL)', '22004', NULL, 'a policy is needed'),
    ('SELECT retention_policy_remove(gen_random_uuid())', '42704', NULL, 'that exists'),
    ('SELECT retention_period_set(''rt-a'', gen_random_uuid(), ''1 day'')', '42704', NULL, 'also for a period'),
    ('SELECT retention_period_set(NULL, gen_random_uuid(), ''1 day'')', '22004', NULL, 'of a tenant'),
    ('SELECT * FROM retention_enforce(''rt-none'')', '42704', NULL, 'an unknown tenant'),
    ('SELECT * FROM retention_enforce(gen_random_uuid())', '42704', NULL, 'also by its id'),
    ('SELECT * FROM retention_enforce(dry_run => NULL)', '22004', NULL, 'dry or not')) v (q, s, m, w);
SET ROLE rt_admin;
SELECT throws_ok('SELECT retention_policy_set(''public.rt_plain'', ''at'', ''1 day'', ''delete'', ''b'')', '42501', 'must be owner of table "rt_plain"', 'a table that is no tenant''s is its owner''s');
SELECT lives_ok('SELECT retention_policy_set(''public.rt_shared'', ''at'', ''200 days'', ''delete'', ''contract'')', 'a shared one is the control plane''s');
RESET ROLE;
SET ROLE rt_nobody;
SELECT throws_ok(q, '42501', NULL, 'not for everybody') FROM (VALUES ('SELECT retention_policy_set(''public.rt_shared'', ''at'', ''1 day'', ''delete'', ''b'')'), ('SELECT retention_policy_remove(gen_random_uuid())'),
    ('SELECT retention_period_set(gen_random_uuid(), gen_random_uuid(), ''1 day'')'), ('SELECT * FROM retention_enforce()'), ('SELECT * FROM tenancy.retention_policy'), ('SELECT * FROM tenancy.retention_log'), ('SELECT * FROM tenancy.retention')) v (q);
RESET ROLE;

-- a template's tables: children first, owners' triggers in the tenant's context
SELECT current_date AS today \gset
SELECT format('INSERT INTO %1$I.customer SELECT g, ''c'' || g, now() - g * interval ''10 days'' FROM generate_series(1, 20) g; INSERT INTO %1$I.orders SELECT g, g, date %2$L - g * 10 - 3 FROM generate_series(1, 15) g; INSERT INTO %1$I.line SELECT g, g FROM generate_series(1, 15) g', s, :'today') FROM unnest(ARRAY[:'a_schema', :'b_schema']) s \gexec
-- 105 days: from the 11th on; the 14th order is younger than it looks
SELECT format('UPDATE %I.orders SET at = %L WHERE id = 14', :'a_schema', :'today') \gexec
SELECT (retention_policy_set('rt_portal.customer', 'at', '105 days', 'delete', 'contract')).id AS customer_policy \gset
SELECT (retention_policy_set('rt_portal.orders', 'at', '105 days', 'delete', 'tax law', 4)).id AS orders_policy \gset
CREATE TEMP TABLE told AS SELECT * FROM retention_enforce(dry_run => true);
SELECT is((SELECT string_agg(format('%s %s %s %s', split_part(relation, '.', 2), rows, held, referenced), ', ' ORDER BY relation DESC) FROM told WHERE tenant_id = :'a'), 'orders 4 0 0, customer 5 0 5', 'a dry run counts, by what is there now');
SELECT is(pg_temp.rows(:'a_schema' || '.customer'), 20::bigint, 'and does nothing');
SELECT is((SELECT count(*) FROM tenancy.retention_log WHERE tenant_id = :'a'), 0::bigint, 'which is not logged');
DELETE FROM told; INSERT INTO told SELECT * FROM retention_enforce('rt-a');
SELECT is((SELECT string_agg(format('%s %s %s %s', split_part(relation, '.', 2), rows, held, referenced), ', ' ORDER BY relation DESC) FROM told WHERE tenant_id = :'a'), 'orders 4 0 0, customer 9 0 1', 'orders go before their customers');
SELECT is((SELECT (oldest AT TIME ZONE 'UTC')::date FROM told WHERE relation LIKE '%.orders'), date :'today' - 153, 'the oldest is told');
SELECT is(pg_temp.rows(:'a_schema' || '.line'), 11::bigint, 'cascades do their work');
SELECT is(pg_temp.rows(:'a_schema' || '.gone'), 9::bigint, 'and triggers');
SELECT is((SELECT count(*) FROM told WHERE tenant_id IS DISTINCT FROM :'a'), 0::bigint, 'of one tenant alone');
SELECT is(pg_temp.rows(:'b_schema' || '.customer'), 20::bigint, 'the other has all of its rows');
SELECT is((SELECT string_agg(DISTINCT split_part(what, ' ', 2) || ' ' || split_part(what, ' ', 3), ', ') FROM (SELECT (xpath('/row/what/text()', x))[1]::text AS what FROM unnest(xpath('/table/row', query_to_xml(format('SELECT what FROM %I.gone', :'a_schema'), false, false, ''))) x) v), :'a_owner' || ' rt-a', 'as its owner, in its context');
SELECT is((SELECT string_agg(format('%s %s %s %s %s', split_part(relation, '.', 2), action, legal_basis, rows, batches), ', ' ORDER BY id) FROM tenancy.retention_log WHERE tenant_id = :'a' AND finished_at IS NOT NULL), 'orders delete tax law 4 1, customer delete contract 9 1', 'it is logged, batch by batch');
SELECT is((SELECT count(*) FROM tenancy.outbox_event WHERE tenant_id = :'a' AND type = 'retention.enforce'), 2::bigint, 'and told');
-- the hash: BLAKE2b-256 of lengths (8 bytes) and contents, as python's hashlib computes it
SELECT is((SELECT octet_length(keys_hash) FROM tenancy.retention_log WHERE tenant_id = :'a' LIMIT 1), 32, 'with a hash of the keys');
SELECT is((SELECT count(*) FROM retention_enforce('rt-a') WHERE rows > 0), 0::bigint, 'a second run finds nothing more');
-- periods: of the tenant, of its configuration, of its plan
SELECT retention_period_set('rt-b', :'orders_policy', '145 days') \g /dev/null
SELECT is((SELECT rows FROM retention_enforce('rt-b', true) WHERE relation LIKE '%.orders'), 1::bigint, 'a tenant''s own period comes first');
SELECT throws_ok(format('SELECT retention_period_set(''rt-b'', %L, ''-1 day'')', :'orders_policy'), '22023', NULL, 'it is longer than nothing');
SELECT is((retention_period_set('rt-b', :'orders_policy', NULL)).period, '145 days'::interval, 'it is taken back');
SELECT is((retention_period_set('rt-b', :'orders_policy', NULL)).period, NULL, 'once');
SELECT is((SELECT rows FROM retention_enforce('rt-b', true) WHERE relation LIKE '%.orders'), 5::bigint, 'and the policy''s holds again');
SELECT retention_policy_set('rt_portal.orders', 'at', NULL, 'delete', 'tax law') \g /dev/null
SELECT is((SELECT count(*) FROM tenancy.retention_policy WHERE table_name = 'orders' AND schema_name = 'rt_portal'), 1::bigint, 'a policy is changed in its place');
SELECT limits->>'retention_days' AS plan_days FROM tenancy.plan WHERE id = 'starter' \gset
SELECT is((SELECT coalesce(sum(rows), 0) FROM retention_enforce('rt-b', true) WHERE relation LIKE '%.orders'), (SELECT count(*)::numeric FROM generate_series(1, 15) g WHERE g * 10 + 3 > :plan_days::integer), 'without a period the plan''s, of ' || :'plan_days' || ' days');
SELECT tenant_configure('rt-b', '{"compliance": {"retention_days": 128}}') \g /dev/null
SELECT is((SELECT rows FROM retention_enforce('rt-b', true) WHERE relation LIKE '%.orders'), 3::bigint, 'before it the tenant''s configuration');
SELECT is((SELECT count(*) FROM retention_enforce('rt-a', true) WHERE relation LIKE '%.orders'), 0::bigint, 'a tenant without any keeps all');
SELECT is((retention_policy_remove(:'orders_policy')).legal_basis, 'tax law', 'a policy is removed');

-- shared tables, and holds
INSERT INTO rt_shared SELECT t, g, 'n' || g, now() - g * interval '100 days' - interval '1 day' FROM unnest(ARRAY[:'a', :'b']::uuid[]) t, generate_series(1, 4) g;
SELECT legal_hold_set('subject', 'suit', 'RT', 'rt-b', subject => '{"name": "n4"}') \g /dev/null
SELECT is((SELECT string_agg(format('%s %s %s', rows, held, reason), ', ' ORDER BY tenant_id) FROM retention_enforce() WHERE relation = 'public.rt_shared'), '3 0 , 2 1 legal hold', 'what is under hold stays, and is counted');
SELECT is((SELECT string_agg(t.slug || r.id, ' ' ORDER BY t.slug, r.id) FROM rt_shared r JOIN tenancy.tenant t ON t.id = r.tenant_id), 'rt-a1 rt-b1 rt-b4', 'row by row');
SELECT legal_hold_set('relation', 'suit', 'RT', relation => (:'b_schema' || '.line')::regclass, predicate => 'id = 13') \g /dev/null
SELECT retention_policy_set('rt_portal.orders', 'at', '105 days', 'delete', 'tax law') \g /dev/null
SELECT is((SELECT format('%s %s %s', rows, referenced, reason) FROM retention_enforce('rt-b') WHERE relation LIKE '%.orders'), '4 1 referred to by rows that stay', 'nor does what a cascade would take along');
SELECT is((SELECT array_agg(id ORDER BY id)::text FROM (SELECT (xpath('/row/id/text()', x))[1]::text::integer AS id FROM unnest(xpath('/table/row', query_to_xml(format('SELECT id FROM %I.orders WHERE id > 10', :'b_schema'), false, false, ''))) x) v), '{13}', 'that order stays');

-- what fails is left, and told why
CREATE TABLE rt_fail (id integer, at timestamptz);
CREATE INDEX ON rt_fail (at);
CREATE FUNCTION rt_fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF OLD.id % 7 = 0 THEN RAISE 'seven stays'; END IF; RETURN OLD; END $$;
CREATE TRIGGER fail BEFORE DELETE ON rt_fail FOR EACH ROW EXECUTE FUNCTION rt_fail();
INSERT INTO rt_fail SELECT g, now() - interval '3 days' FROM generate_series(1, 50) g;
SELECT retention_policy_set('rt_fail', 'at', '1 day', 'delete', 'contract', 5) \g /dev/null
SELECT is((SELECT format('%s %s %s', rows, referenced, reason) FROM retention_enforce() WHERE relation = 'public.rt_fail'), '43 7 seven stays', 'a row that fails stays, and the others go');
SELECT is((SELECT count(*) FROM rt_fail WHERE id % 7 <> 0), 0::bigint, 'all of them');

-- anonymise: constants, expressions, once
INSERT INTO rt_plain SELECT g, 'p' || g || '@example.com', '+49' || g, CASE WHEN g = 4 THEN 'kept' ELSE 'x' END, now() - g * interval '1 year' FROM generate_series(1, 5) g;
SELECT retention_policy_set('rt_plain', 'at', '18 months', 'anonymise', 'contract', anonymise => '{"email": {"expression": "''gone-'' || id::text"}, "phone": null, "kind": "gone"}', filter => 'kind <> ''kept''') \g /dev/null
SELECT is((SELECT rows FROM retention_enforce() WHERE relation = 'public.rt_plain'), 3::bigint, 'rows are anonymised');
SELECT is((SELECT string_agg(concat_ws('/', id, email, phone, kind), ' ' ORDER BY id) FROM rt_plain), '1/p1@example.com/+491/x 2/gone-2/gone 3/gone-3/gone 4/p4@example.com/+494/kept 5/gone-5/gone', 'as the policy says');
SELECT is((SELECT count(*) FROM retention_enforce() WHERE relation = 'public.rt_plain'), 0::bigint, 'once');
SELECT retention_policy_set('rt_plain', 'coalesce(at, ''2000-01-01 00:00+00''::timestamptz)', '3 years 6 months', 'delete', 'contract') \g /dev/null
SELECT is((SELECT string_agg(action || ' ' || rows, ', ') FROM retention_enforce() WHERE relation = 'public.rt_plain'), 'delete 2', 'a table has a policy for each action, and times may be computed');

-- partitions
CREATE TABLE rt_part (id integer, at timestamptz NOT NULL, kind text) PARTITION BY RANGE (at);
CREATE TABLE rt_part_old PARTITION OF rt_part FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
CREATE TABLE rt_part_2020 PARTITION OF rt_part FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE rt_part_2021 PARTITION OF rt_part FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
CREATE TABLE rt_part_new PARTITION OF rt_part FOR VALUES FROM ('2022-01-01') TO (MAXVALUE);
CREATE TABLE rt_part_rest PARTITION OF rt_part DEFAULT;
INSERT INTO rt_part VALUES (1, '2019-05-01', 'x'), (2, '2020-05-01', 'x'), (3, '2020-06-01', 'x'), (4, '2021-05-01', 'held'), (5, now(), 'x');
SELECT retention_policy_set('rt_part', 'at', '1 year', 'drop_partition', 'contract') \g /dev/null
SELECT throws_ok('SELECT retention_policy_set(''rt_part'', ''at'', ''1 year'', ''drop_partition'', ''b'', filter => ''id = 1'')', '22023', NULL, 'a partition has no filter');
SELECT legal_hold_set('relation', 'suit', 'RT', relation => 'rt_part', predicate => 'kind = ''held''') \g /dev/null
SELECT is((SELECT format('%s %s %s', partitions, rows, held) FROM retention_enforce(dry_run => true) WHERE relation = 'public.rt_part'), '2 3 1', 'partitions that are overdue as a whole');
SELECT is((SELECT format('%s %s %s %s', partitions, rows, held, reason) FROM retention_enforce() WHERE relation = 'public.rt_part'), '2 3 1 public.rt_part_2021: legal hold', 'are dropped, but for those with a held row');
SELECT is((SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relname LIKE 'rt_part%'), 'rt_part rt_part_2021 rt_part_new rt_part_rest', 'and no others');
SET SESSION AUTHORIZATION rt_second;
SELECT count(legal_hold_release(id, 'done')) FROM tenancy.legal_hold WHERE case_id = 'RT' AND released_at IS NULL \g /dev/null
RESET SESSION AUTHORIZATION;
SELECT is((SELECT partitions FROM retention_enforce() WHERE relation = 'public.rt_part'), 1, 'when the hold is released it goes, too');

-- the view of it all
SELECT is((SELECT string_agg(relation, ' ' ORDER BY relation COLLATE "C") FROM tenancy.retention WHERE relation LIKE 'tenancy.%'), 'tenancy.job_done tenancy.job_run tenancy.latency_hour tenancy.outbox_event tenancy.retention_log tenancy.usage_event tenancy.usage_hour tenancy.usage_minute', 'the extension''s own tables are in the view');
SELECT is((SELECT kept_for::text || ' ' || legal_basis FROM tenancy.retention WHERE relation = 'public.rt_fail'), '1 day contract', 'and the policies');
-- a context runs no retention
BEGIN;
SELECT tenant_context_set('rt-a') \g /dev/null
SELECT throws_ok('SELECT * FROM retention_enforce()', '42501', NULL, 'a tenant enforces nothing');
COMMIT;
SELECT count(retention_policy_remove(id)) FROM tenancy.retention_policy WHERE schema_name = 'rt_portal' OR table_name LIKE 'rt\_%' \g /dev/null
SELECT is((SELECT count(*) FROM tenancy.retention WHERE relation LIKE 'rt%'), 0::bigint, 'in the end nothing is left of them');
SELECT name FROM schedule_set('retention.start', enabled => true) \g /dev/null
SELECT * FROM finish();
