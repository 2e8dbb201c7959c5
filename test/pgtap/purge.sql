-- Deleting tenants, taking it back, and purging them: what goes, what stays, and that it is all.
SELECT * FROM no_plan();
\ir quiet.psql
CREATE ROLE pu_nobody; CREATE ROLE pu_second LOGIN IN ROLE tenancy_admin; CREATE ROLE pu_login LOGIN; CREATE ROLE pu_app LOGIN IN ROLE tenancy_app;
CREATE SCHEMA pu_portal;
CREATE TABLE pu_portal.entity (id integer PRIMARY KEY, name text);
CREATE TABLE pu_portal.part (id integer, entity integer REFERENCES pu_portal.entity) PARTITION BY RANGE (id);
CREATE TABLE pu_portal.part_1 PARTITION OF pu_portal.part FOR VALUES FROM (0) TO (100);
CREATE VIEW pu_portal.names AS SELECT name FROM pu_portal.entity;
SELECT template_create('pu', 'pu_portal') \g /dev/null
CREATE TABLE pu_parent (tenant_id uuid, id integer, up integer, PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, up) REFERENCES pu_parent);
CREATE TABLE pu_child (tenant_id uuid, id integer, parent integer, PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, parent) REFERENCES pu_parent);
SELECT tenant_table_register('pu_parent'), tenant_table_register('pu_child') \g /dev/null
SELECT tenant_create('pu-never', template => 'pu'), tenant_create('pu-billed', name => 'Purge & Co', template => 'pu', plan => 'professional', starts_at => now() - interval '35 days', domain => 'pu-billed.example.com'), tenant_create('pu-other', template => 'pu') \g /dev/null
SELECT id AS never, schema_name AS never_schema, role_name AS never_role, owner_name AS never_owner FROM tenancy.tenant WHERE slug = 'pu-never' \gset
SELECT id AS billed, schema_name AS billed_schema, role_name AS billed_role, owner_name AS billed_owner FROM tenancy.tenant WHERE slug = 'pu-billed' \gset
SELECT id AS other, schema_name AS other_schema FROM tenancy.tenant WHERE slug = 'pu-other' \gset
-- where the tenant is named: in any row of any table, or in any name
CREATE FUNCTION pg_temp.found(VARIADIC words text[]) RETURNS SETOF text LANGUAGE plpgsql SET max_parallel_workers_per_gather = 0 AS $$
DECLARE t record; n bigint;
BEGIN
    FOR t IN SELECT c.oid::regclass AS name FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
              WHERE c.relkind = 'r' AND s.nspname NOT LIKE 'pg\_%' AND s.nspname <> 'information_schema' ORDER BY 1 LOOP
        EXECUTE format('SELECT count(*) FROM ONLY %s t, unnest($1) w WHERE strpos(t::text, w) > 0', t.name) INTO n USING words;
        IF n > 0 THEN RETURN NEXT t.name::text; END IF;
    END LOOP;
    RETURN QUERY SELECT kind || ' ' || name FROM unnest(words) w,
        (SELECT 'schema', nspname::text FROM pg_namespace UNION ALL SELECT 'relation', relname FROM pg_class UNION ALL SELECT 'role', rolname FROM pg_roles
         UNION ALL SELECT 'setting', setconfig::text FROM pg_db_role_setting UNION ALL SELECT 'function', prosrc FROM pg_proc) v (kind, name) WHERE strpos(name, w) > 0;
END $$;
CREATE FUNCTION pg_temp.where_found(VARIADIC words text[]) RETURNS text LANGUAGE sql AS $$ SELECT string_agg(DISTINCT f, ' ' ORDER BY f) FROM pg_temp.found(VARIADIC words) f $$;
INSERT INTO pu_parent SELECT t, g, nullif(g - 1, 0) FROM unnest(ARRAY[:'never', :'billed', :'other']::uuid[]) t, generate_series(1, 50) g;
INSERT INTO pu_child SELECT t, g, g FROM unnest(ARRAY[:'never', :'billed', :'other']::uuid[]) t, generate_series(1, 50) g;
SELECT format('INSERT INTO %1$I.entity SELECT g, ''e'' || g FROM generate_series(1, 30) g; INSERT INTO %1$I.part SELECT g, g FROM generate_series(1, 30) g', s) FROM unnest(ARRAY[:'never_schema', :'billed_schema', :'other_schema']) s \gexec
SELECT tenant_schema_add('pu-billed', 'more'), tenant_login_bind('pu_login', 'pu-billed') \g /dev/null
SELECT name FROM job_kind_define('pu.job') \g /dev/null
-- rows of as many tables of the extension as the public functions fill
SELECT usage_record(t, 'api_calls', 5, 'event-1', now() - interval '33 days'), quota_set(t, 'users', 5, 10), rate_limit_configure(t, '{"global_limits": [{"limit": 5, "period_seconds": 60}]}'),
    tenant_configure(t, '{"branding": {"display_name": "Purge"}}'), job_enqueue('pu.job', '{}', t, unique_key => 'k') IS NULL FROM unnest(ARRAY['pu-never', 'pu-billed']::regtenant[]) t \g /dev/null
SELECT rate_limit_enforce('pu-billed', 'x'), resource_allocate('pu-billed', '{"limits": {"connections": 5}}') \g /dev/null
SELECT invoices FROM billing_run(now()) \g /dev/null
SELECT usage_flush() \g /dev/null

-- deleting
SELECT throws_ok(q, s, m, w) FROM (VALUES
    ('SELECT tenant_delete(NULL)', '22004', NULL, 'a tenant is needed'), ('SELECT tenant_delete(''pu-none'')', '42704', NULL, 'that exists'), ('SELECT tenant_delete(gen_random_uuid())', '42704', NULL, 'also by its id'),
    ('SELECT tenant_delete(''pu-never'', ''-1 day'')', '22023', NULL, 'the grace is not negative'), ('SELECT tenant_delete(''pu-never'', NULL)', '22004', NULL, 'nor null'),
    ('SELECT tenant_undelete(''pu-never'')', '55000', NULL, 'what is not deleted does not come back'), ('SELECT tenant_undelete(NULL)', '22004', NULL, 'nor does nobody'),
    ('SELECT tenant_purge(''pu-never'')', '55000', NULL, 'nor is it purged'), ('SELECT tenant_purge(''pu-never'', force => true)', '55000', NULL, 'not even by force'),
    ('SELECT tenant_purge(NULL)', '22004', NULL, 'nobody is purged'), ('SELECT tenant_purge(''pu-never'', NULL)', '22004', NULL, 'force or not'), ('SELECT tenant_purge(''pu-never'', dry_run => NULL)', '22004', NULL, 'dry or not'),
    ('SELECT tenant_purge_start(NULL)', '22004', NULL, 'also as a job'), ('SELECT tenant_purge_start(''pu-never'', NULL)', '22004', NULL, 'which knows, too'), ('SELECT tenant_purge_start(''pu-never'', true)', '55000', NULL, 'and asks the same')) v (q, s, m, w);
SET ROLE pu_nobody;
SELECT throws_ok(format('SELECT %s(%L::uuid)', f, '00000000-0000-0000-0000-000000000001'), '42501', NULL, 'not for everybody: ' || f) FROM unnest(ARRAY['tenant_delete', 'tenant_undelete', 'tenant_purge', 'tenant_purge_start']) f;
SELECT throws_ok('SELECT * FROM tenancy.' || t, '42501', NULL, 'nor is ' || t) FROM unnest(ARRAY['tenant_deletion', 'deletion_certificate', 'deletion_item']) t;
RESET ROLE;
SELECT is((tenant_delete('pu-billed', reason => 'asked for')).state, 'deactivated', 'a tenant is deleted');
SELECT is((SELECT purge_after - requested_at = '30 days' AND requested_by = session_user AND reason = 'asked for' FROM tenancy.tenant_deletion WHERE tenant_id = :'billed'), true, 'with a grace of 30 days');
SELECT throws_ok('SELECT tenant_delete(''pu-billed'')', '55000', NULL, 'once');
SELECT throws_ok('SELECT tenant_context_set(''pu-billed'')', '55000', NULL, 'nobody enters it');
SELECT is((SELECT state FROM tenancy.subscription WHERE tenant_id = :'billed'), 'cancelled', 'its subscription is cancelled');
SELECT throws_like('SELECT tenant_purge(''pu-billed'')', '%is in its grace period', 'it is not purged yet');
SELECT throws_like('SELECT tenant_purge_start(''pu-billed'')', '%is in its grace period', 'nor by a job');
SELECT is((tenant_undelete('pu-billed')).state, 'active', 'it comes back');
SELECT is((SELECT count(*) FROM tenancy.tenant_deletion WHERE tenant_id = :'billed'), 0::bigint, 'and is as if nothing had been');
-- by the clock of the extension its subscription runs until February
SET tenancy.test_clock = '2026-01-20 00:00+00';
SELECT tenant_create('pu-back', plan => 'professional', starts_at => '2026-01-10 00:00+00') \g /dev/null
SELECT tenant_delete('pu-back'), tenant_undelete('pu-back') \g /dev/null
SELECT results_eq($$SELECT state, ends_at FROM tenancy.subscription WHERE tenant_id = 'pu-back'::regtenant$$, $$VALUES ('active', NULL::timestamptz)$$, 'a subscription that was still paid for comes back, too');
RESET tenancy.test_clock;
SELECT tenant_delete('pu-billed', '0'), tenant_delete('pu-never', '1 year') \g /dev/null

-- what is in the way
SET SESSION AUTHORIZATION pu_second;
SELECT id AS hold FROM legal_hold_set('tenant', 'suit', 'PU', 'pu-billed') \gset
RESET SESSION AUTHORIZATION;
SELECT throws_ok('SELECT tenant_purge(''pu-billed'')', '55000', 'tenant "pu-billed" is under legal hold', 'a legal hold is');
SELECT throws_ok('SELECT tenant_purge(''pu-billed'', dry_run => true)', '55000', NULL, 'also of a rehearsal');
SELECT legal_hold_release(:'hold', 'over') \g /dev/null
CREATE SCHEMA pu_stranger;
SELECT format('CREATE VIEW pu_stranger.v AS SELECT * FROM %I.entity', :'billed_schema') \gexec
SELECT throws_ok('SELECT tenant_purge(''pu-billed'')', '2BP01', 'cannot purge tenant "pu-billed" because other objects depend on its tables', 'a view of somebody else is');
DROP VIEW pu_stranger.v;
SELECT format('CREATE TABLE pu_stranger.t (id integer REFERENCES %I.entity)', :'billed_schema') \gexec
SELECT throws_ok('SELECT tenant_purge(''pu-billed'')', '2BP01', NULL, 'and a foreign key');
DROP TABLE pu_stranger.t;

-- a rehearsal says what would go, and nothing goes
SELECT document AS rehearsed FROM tenant_purge('pu-billed', dry_run => true) \gset
SELECT is((SELECT state FROM tenancy.tenant WHERE id = :'billed'), 'deactivated', 'after a rehearsal the tenant is there');
SELECT is((SELECT count(*) FROM pu_parent WHERE tenant_id = :'billed'), 50::bigint, 'with its rows');
SELECT is((SELECT count(*) FROM pg_roles WHERE rolname IN (:'billed_role', :'billed_owner', 'pu_login')), 3::bigint, 'and its roles');
SELECT is((SELECT count(*) FROM tenancy.deletion_certificate WHERE tenant_id = :'billed'), 0::bigint, 'no certificate');

-- the purge of a tenant that was billed
SELECT document, encode(hash, 'hex') AS hash FROM tenant_purge('pu-billed') \gset
SELECT is((SELECT string_agg(e->>'kind' || ' ' || replace(replace(e->>'object', :'billed_schema', 't'), :'billed_owner', 'o') || coalesce(' ' || (e->>'rows'), ''), ', ' ORDER BY e->>'kind', e->>'object') FROM jsonb_array_elements(:'document'::jsonb->'removed') e WHERE e->>'kind' NOT IN ('record', 'hold')),
    'login pu_login, role o, role t, rows public.pu_child 50, rows public.pu_parent 50, schema t, schema t_more, table t.entity 30, table t.part 30', 'the certificate lists what went');
SELECT is((SELECT bool_and((e->>'bytes')::bigint > 0) FROM jsonb_array_elements(:'document'::jsonb->'removed') e WHERE e->>'object' LIKE '%.entity'), true, 'with its size');
SELECT matches((SELECT e->>'object' FROM jsonb_array_elements(:'document'::jsonb->'removed') e WHERE e->>'kind' = 'hold'), 'of case PU, released', 'holds that were released');
SELECT is((SELECT string_agg(e->>'object' || ' ' || (e->>'rows'), ', ' ORDER BY e->>'object') FROM jsonb_array_elements(:'document'::jsonb->'kept') e WHERE e->>'object' NOT LIKE 'tenancy.subscription_item%'),
    'tenancy.invoice 1, tenancy.invoice_line 1, tenancy.ledger_entry 2, tenancy.ledger_transaction 1, tenancy.subscription 1, tenancy.tenant 1', 'and what stayed');
SELECT is((SELECT count(*) FROM jsonb_array_elements(:'document'::jsonb->'kept') e WHERE coalesce(e->>'why', '') = ''), 0::bigint, 'each with a reason');
SELECT is(:'document'::jsonb->>'slug' || ' ' || (:'document'::jsonb->>'name') || ' ' || (:'document'::jsonb->>'requested_by'), 'pu-billed Purge & Co ' || session_user, 'of whom, and by whom');
-- workers warn of its quotas meanwhile, and write its counters, or do not
SELECT bag_eq(format('SELECT e FROM jsonb_array_elements(%L::jsonb) e WHERE e->>''object'' !~ ''^tenancy[.](quota_event|outbox_event|usage_(minute|hour)|latency_hour)''', :'rehearsed'::jsonb->'removed'),
    format('SELECT e FROM jsonb_array_elements(%L::jsonb) e WHERE e->>''object'' !~ ''^tenancy[.](quota_event|outbox_event|usage_(minute|hour)|latency_hour)''', :'document'::jsonb->'removed'), 'as the rehearsal had said');
SELECT is((SELECT state || ' ' || name FROM tenancy.tenant WHERE id = :'billed'), 'purged purged', 'an empty row stays');
SELECT is(pg_temp.where_found(:'billed_schema', :'billed_role', :'billed_owner', 'pu_login'), 'tenancy.deletion_certificate', 'the names of the tenant are nowhere but in the certificate');
SELECT is(pg_temp.where_found('Purge & Co'), 'tenancy.deletion_certificate tenancy.invoice', 'but for what its invoice bears');
SELECT is(pg_temp.where_found('pu-billed'), 'tenancy.deletion_certificate tenancy.invoice', 'its slug among it');
SELECT is(pg_temp.where_found(:'billed'), 'tenancy.deletion_certificate tenancy.invoice tenancy.invoice_line tenancy.ledger_entry tenancy.ledger_transaction tenancy.outbox_event tenancy.subscription tenancy.subscription_item tenancy.tenant', 'and its id in what was kept alone');
SELECT is((SELECT array_agg(type) FROM tenancy.outbox_event WHERE tenant_id = :'billed'), ARRAY['tenant.deprovision'], 'the one event is that it is gone');
SELECT is((SELECT state || ' ' || (bills_at IS NULL) FROM tenancy.subscription WHERE tenant_id = :'billed'), 'ended true', 'nothing is billed any more');
SELECT throws_ok(format('SELECT tenant_purge(%L::uuid)', :'billed'), '55000', NULL, 'it is purged once');
SELECT throws_ok(format('SELECT tenant_undelete(%L::uuid)', :'billed'), '55000', NULL, 'and does not come back');
SELECT is((tenant_create('pu-billed', domain => 'pu-billed.example.com')).state, 'active', 'its slug and domain are free');

-- of one that was not, by force, and by jobs
SELECT is((SELECT document FROM tenant_purge_start('pu-never', force => true)), NULL, 'a purge by jobs begins');
SELECT is((SELECT state FROM tenancy.tenant WHERE id = :'never'), 'purging', 'from here on it is being purged');
SELECT throws_ok('SELECT tenant_undelete(''pu-never'')', '55000', NULL, 'there is no way back');
-- whoever is first: this session or a worker
SET max_parallel_workers_per_gather = 0;
DO $$ BEGIN FOR i IN 1..600 LOOP EXIT WHEN NOT EXISTS (SELECT FROM tenancy.job WHERE kind = 'tenant.purge' AND finished_at IS NULL); PERFORM job_run_due(100); COMMIT; PERFORM pg_sleep(0.1); END LOOP; END $$;
RESET max_parallel_workers_per_gather;
SELECT is((SELECT string_agg(e->>'object', ', ') FROM tenancy.deletion_certificate c, jsonb_array_elements(c.document->'kept') e WHERE c.tenant_id = :'never'), 'tenancy.tenant', 'of a tenant without documents nothing is kept');
SELECT is(pg_temp.where_found(:'never_schema', :'never_role', :'never_owner', 'pu-never'), 'tenancy.deletion_certificate', 'its names are nowhere else');
SELECT is(pg_temp.where_found(:'never'), 'tenancy.deletion_certificate tenancy.job_done tenancy.outbox_event tenancy.tenant', 'nor is its id, but for the job that purged it');
-- nobody else lost anything
SELECT is((SELECT count(*) FROM pu_parent) || ' ' || (SELECT count(*) FROM pu_child) || ' ' || (SELECT count(*) FROM pg_class WHERE relnamespace = :'other_schema'::regnamespace AND relkind IN ('r', 'p', 'v')), '50 50 4', 'the other tenant has all that is its own');
-- a context purges nobody
BEGIN;
SELECT tenant_context_set('pu-other') \g /dev/null
SELECT throws_ok(q, '42501', NULL, 'not in a context') FROM (VALUES ('SELECT tenant_delete(''pu-other'')'), ('SELECT tenant_undelete(''pu-other'')'), ('SELECT tenant_purge(''pu-other'')'), ('SELECT tenant_purge_start(''pu-other'')')) v (q);
COMMIT;
SELECT * FROM finish();
