-- Which statements are counted, of what kind, and for whom.
SET temp_buffers = 100;
SELECT * FROM no_plan();
CREATE SCHEMA portal;
CREATE TABLE portal.item (id integer PRIMARY KEY, body text);
SELECT count(*) FROM template_create('portal', 'portal') \g /dev/null
SELECT slug FROM tenant_create('acme', template => 'portal') \g /dev/null
SELECT slug FROM tenant_create('globex', template => 'portal') \g /dev/null
SELECT schema_name AS acme_schema, role_name AS acme_role, id AS acme FROM tenancy.tenant WHERE slug = 'acme' \gset
SELECT schema_name AS globex_schema, id AS globex FROM tenancy.tenant WHERE slug = 'globex' \gset

-- What was counted since the last look.
CREATE TABLE seen AS SELECT * FROM tenancy.tenant_stat WITH NO DATA;
CREATE FUNCTION since(who text) RETURNS tenancy.tenant_stat LANGUAGE plpgsql AS $$
DECLARE a tenancy.tenant_stat; b seen; r tenancy.tenant_stat;
BEGIN
    SELECT * INTO a FROM tenancy.tenant_stat s WHERE s.slug = who;
    SELECT * INTO b FROM seen s WHERE s.slug = who;
    DELETE FROM seen s WHERE s.slug = who;
    INSERT INTO seen SELECT a.*;
    r := a;
    r.calls := a.calls - coalesce(b.calls, 0);
    r.selects := a.selects - coalesce(b.selects, 0);
    r.inserts := a.inserts - coalesce(b.inserts, 0);
    r.updates := a.updates - coalesce(b.updates, 0);
    r.deletes := a.deletes - coalesce(b.deletes, 0);
    r.merges := a.merges - coalesce(b.merges, 0);
    r.utilities := a.utilities - coalesce(b.utilities, 0);
    r.rows := a.rows - coalesce(b.rows, 0);
    r.wal_records := a.wal_records - coalesce(b.wal_records, 0);
    r.wal_bytes := a.wal_bytes - coalesce(b.wal_bytes, 0);
    r.local_blocks_written := a.local_blocks_written - coalesce(b.local_blocks_written, 0);
    r.temp_blocks_written := a.temp_blocks_written - coalesce(b.temp_blocks_written, 0);
    RETURN r;
END $$;

-- both have a row
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
COMMIT;
BEGIN;
SELECT tenant_context_set('globex') \g /dev/null
COMMIT;
SELECT since('acme'), since('globex') \g /dev/null

-- by kind
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
INSERT INTO item SELECT g, 'x' FROM generate_series(1, 10) g;
UPDATE item SET body = 'y' WHERE id <= 4;
DELETE FROM item WHERE id = 10;
MERGE INTO item i USING (VALUES (1), (11)) v(id) ON i.id = v.id WHEN MATCHED THEN UPDATE SET body = 'z' WHEN NOT MATCHED THEN INSERT VALUES (v.id, 'm');
LOCK TABLE item IN ACCESS SHARE MODE;
SELECT id FROM item \g /dev/null
COMMIT;
SELECT results_eq($$SELECT selects, inserts, updates, deletes, merges, utilities, calls, rows FROM since('acme')$$,
    'VALUES (2::bigint, 1::bigint, 1::bigint, 1::bigint, 1::bigint, 1::bigint, 7::bigint, (1 + 10 + 4 + 1 + 2 + 10)::bigint)', 'calls by their kind');

-- a writing WITH query under a SELECT writes at its end
SELECT wal_records FROM since('acme') \g /dev/null
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
WITH w AS (INSERT INTO item SELECT g, 'x' FROM generate_series(1001, 2000) g) SELECT 1 \g /dev/null
COMMIT;
SELECT results_eq($$SELECT s.selects, s.inserts, s.wal_records >= 1000 FROM since('acme') s$$, 'VALUES (2::bigint, 0::bigint, true)', 'what a WITH query writes is counted');

-- what the planner runs, and what a commit runs, is used and is no call
CREATE FUNCTION public.folded() RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT count(*) FROM pg_catalog.pg_class); END $$;
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
SELECT public.folded() \g /dev/null
COMMIT;
SELECT results_eq($$SELECT s.calls, s.rows FROM since('acme') s$$, 'VALUES (2::bigint, 2::bigint)', 'a function that the planner evaluates is no call');
CREATE FUNCTION public.on_late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.late_log SELECT g FROM generate_series(1, 1000) g; RETURN NULL; END $$;
CREATE TABLE public.late (a integer);
CREATE TABLE public.late_log (a integer);
GRANT ALL ON public.late, public.late_log TO :acme_role;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON public.late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.on_late();
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
INSERT INTO public.late VALUES (1);
COMMIT;
SELECT is((SELECT count(*) FROM public.late_log), 1000::bigint, 'the deferred trigger ran');
SELECT results_eq($$SELECT s.calls, s.inserts, s.rows, s.wal_records >= 1000 FROM since('acme') s$$, 'VALUES (2::bigint, 1::bigint, 2::bigint, true)', 'a deferred trigger is no call, and what it used is counted');
CREATE RULE also AS ON INSERT TO public.late DO ALSO INSERT INTO public.late_log VALUES (0);
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
INSERT INTO public.late SELECT WHERE false;
COMMIT;
SELECT results_eq($$SELECT s.calls, s.inserts, s.rows FROM since('acme') s$$, 'VALUES (2::bigint, 1::bigint, 1::bigint)', 'nor is what a rule adds');

-- errors, before and after the first row
\set ON_ERROR_STOP 0
\set VERBOSITY terse
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
SELECT * FROM pg_catalog.pg_authid \g /dev/null
ROLLBACK;
SELECT results_eq($$SELECT s.selects FROM since('acme') s$$, 'VALUES (2::bigint)', 'a statement that permission is denied for is a call');
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
INSERT INTO item SELECT g, 'x' FROM generate_series(5000, 5999) g UNION ALL SELECT 1, 'twice' ORDER BY 1 DESC;
ROLLBACK;
SELECT results_eq($$SELECT s.inserts, s.wal_records >= 1000 FROM since('acme') s$$, 'VALUES (1::bigint, true)', 'a statement that fails is counted with what it wrote');
\set ON_ERROR_STOP 1

-- whose transaction it is
BEGIN;
SAVEPOINT a;
SELECT tenant_context_set('acme') \g /dev/null
SELECT 1 \g /dev/null
ROLLBACK;
SELECT results_eq($$SELECT s.calls FROM since('acme') s$$, 'VALUES (2::bigint)', 'entered in a savepoint, rolled back with the transaction');
BEGIN;
SAVEPOINT a;
SELECT tenant_context_set('acme') \g /dev/null
ROLLBACK TO a;
SELECT 1 \g /dev/null
COMMIT;
-- SAVEPOINT and ROLLBACK TO are no work of their own
SELECT results_eq($$SELECT s.calls FROM since('acme') s$$, 'VALUES (2::bigint)', 'the first tenant of a transaction stays the one that pays');
SELECT since('globex') \g /dev/null
SELECT count(*) FROM :acme_schema.item a, :globex_schema.item b \g /dev/null
SELECT results_eq($$SELECT s.calls FROM since('acme') s$$, 'VALUES (1::bigint)', 'without a context: the first tenant touched');
SELECT results_eq($$SELECT s.calls FROM since('globex') s$$, 'VALUES (0::bigint)', 'and not the second');
COPY :acme_schema.item TO '/dev/null';
SELECT results_eq($$SELECT s.utilities, s.rows > 1000 FROM since('acme') s$$, 'VALUES (1::bigint, true)', 'COPY touches too');
SELECT since('acme'), since('globex') \g /dev/null
SELECT 1 \g /dev/null
SELECT results_eq($$SELECT a.calls, g.calls FROM since('acme') a, since('globex') g$$, 'VALUES (0::bigint, 0::bigint)', 'what touches no tenant is no tenant''s');
SELECT cmp_ok((SELECT calls FROM tenancy.tenant_stat WHERE tenant_id = '00000000-0000-0000-0000-000000000000'), '>', 10::bigint, 'and counted as that');

-- rows of utility statements
SELECT rows FROM since('acme') \g /dev/null
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
CREATE TEMP TABLE t AS SELECT g FROM generate_series(1, 500) g;
COMMIT;
SELECT results_eq($$SELECT s.utilities, s.rows FROM since('acme') s$$, 'VALUES (1::bigint, 501::bigint)', 'CREATE TABLE AS');
CREATE MATERIALIZED VIEW :acme_schema.many AS SELECT i.id FROM :acme_schema.item i WHERE i.id <= 11 WITH NO DATA;
SELECT rows AS before FROM tenancy.tenant_stat WHERE slug IS NULL \gset
REFRESH MATERIALIZED VIEW :acme_schema.many;
SELECT rows - :before AS rows FROM tenancy.tenant_stat WHERE slug IS NULL \gset
SELECT is(:rows, 11, 'REFRESH MATERIALIZED VIEW (and one row for the look before)');

-- temporary tables and files
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
SET LOCAL work_mem = '64kB';
SELECT count(*) FROM (SELECT g FROM generate_series(1, 50000) g ORDER BY g DESC OFFSET 0) x \g /dev/null
COMMIT;
SELECT cmp_ok((SELECT s.temp_blocks_written FROM since('acme') s), '>', 0::bigint, 'blocks of temporary files');
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
CREATE TEMP TABLE big AS SELECT g, repeat('x', 500) FROM generate_series(1, 10000) g;
COMMIT;
SELECT cmp_ok((SELECT s.local_blocks_written FROM since('acme') s), '>', 0::bigint, 'blocks of temporary tables');

-- procedures that end transactions
CREATE PROCEDURE public.in_parts() LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..3 LOOP PERFORM 1; COMMIT; END LOOP; END $$;
SELECT calls AS before FROM tenancy.tenant_stat WHERE slug IS NULL \gset
CALL public.in_parts();
SELECT calls - :before AS calls FROM tenancy.tenant_stat WHERE slug IS NULL \gset
SELECT is(:calls, 2, 'a procedure that commits is one call (and one for the look before)');

-- who sees which counters
CREATE ROLE meter_watcher IN ROLE pg_monitor;
CREATE ROLE meter_nobody;
SET ROLE meter_watcher;
SELECT cmp_ok((SELECT count(*) FROM tenancy.tenant_stat), '>=', 3::bigint, 'pg_monitor sees all');
SELECT cmp_ok((SELECT capacity FROM tenancy.meter_read()), '>', 0::bigint, 'and how full the memory is');
SET ROLE meter_nobody;
SELECT throws_ok('SELECT * FROM tenancy.tenant_stat', '42501', NULL, 'others nothing');
SELECT throws_ok('SELECT * FROM tenancy.tenant_stat_read()', '42501', NULL, 'nor behind the view');
SELECT throws_ok('SELECT * FROM tenancy.meter_read()', '42501', NULL, 'nor how full the memory is');
SELECT throws_ok('SELECT usage_flush()', '42501', NULL, 'and flush nothing');
SELECT throws_ok('SELECT storage_measure()', '42501', NULL, 'and measure nothing');
RESET ROLE;
BEGIN;
SELECT tenant_context_set('acme') \g /dev/null
SELECT results_eq('SELECT DISTINCT slug FROM tenancy.tenant_stat', $$VALUES ('acme')$$, 'a tenant sees its own row');
CREATE FUNCTION pg_temp.peep(text) RETURNS boolean COST 0.0001 LANGUAGE plpgsql AS $$ BEGIN IF $1 <> 'acme' THEN RAISE EXCEPTION 'saw %', $1; END IF; RETURN true; END $$;
SELECT lives_ok('SELECT * FROM tenancy.tenant_stat WHERE pg_temp.peep(slug)', 'and a condition of its own no other');
SELECT throws_ok('SELECT usage_flush()', '42501', NULL, 'and does not flush');
ROLLBACK;

-- totals of all that was flushed, and of all that was counted
SELECT usage_flush() \g /dev/null
SELECT results_eq($$SELECT sum(selects), sum(inserts), sum(updates), sum(deletes), sum(merges), sum(utilities), sum(calls), sum(rows), sum(wal_bytes), sum(cpu_us) FROM tenancy.usage_hour h JOIN tenancy.tenant t ON t.id = h.tenant_id WHERE t.slug = 'globex'$$,
    $$SELECT selects::numeric, inserts::numeric, updates::numeric, deletes::numeric, merges::numeric, utilities::numeric, calls::numeric, rows::numeric, wal_bytes::numeric, (cpu_ms * 1000)::bigint::numeric FROM tenancy.tenant_stat WHERE slug = 'globex'$$, 'the hours add up to the live counters');
DROP ROLE meter_watcher, meter_nobody;
SELECT * FROM finish();
