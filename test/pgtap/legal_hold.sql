-- Legal holds: what they cover, every way around them, and who releases them.
SELECT * FROM no_plan();
\ir quiet.psql
CREATE ROLE lh_first SUPERUSER; CREATE ROLE lh_second LOGIN IN ROLE tenancy_admin; CREATE ROLE lh_nobody;
CREATE SCHEMA lh_portal;
CREATE TABLE lh_portal.customer (id integer PRIMARY KEY, email text, at timestamptz);
CREATE TABLE lh_portal.orders (id integer PRIMARY KEY, customer integer REFERENCES lh_portal.customer ON DELETE CASCADE ON UPDATE CASCADE, at timestamptz);
CREATE TABLE lh_portal.ticket (id integer PRIMARY KEY, customer integer REFERENCES lh_portal.customer ON DELETE SET NULL);
CREATE TABLE lh_portal.part (id integer, at timestamptz) PARTITION BY RANGE (id);
CREATE TABLE lh_portal.part_1 PARTITION OF lh_portal.part FOR VALUES FROM (0) TO (100);
SELECT template_create('lh', 'lh_portal') \g /dev/null
SELECT tenant_create('lh-a', template => 'lh', owns_ddl => true), tenant_create('lh-b', template => 'lh') \g /dev/null
SELECT id AS a, schema_name AS a_schema, role_name AS a_role FROM tenancy.tenant WHERE slug = 'lh-a' \gset
SELECT id AS b, schema_name AS b_schema FROM tenancy.tenant WHERE slug = 'lh-b' \gset
CREATE TABLE lh_shared (tenant_id uuid, id integer, email text, PRIMARY KEY (tenant_id, id));
SELECT tenant_table_register('lh_shared') \g /dev/null
INSERT INTO lh_shared SELECT t, g, 'c' || g FROM unnest(ARRAY[:'a', :'b']::uuid[]) t, generate_series(1, 5) g;
SELECT format('INSERT INTO %1$I.customer SELECT g, ''c'' || g FROM generate_series(1, 9) g; INSERT INTO %1$I.orders SELECT g, g FROM generate_series(1, 9) g; INSERT INTO %1$I.ticket SELECT g, g FROM generate_series(1, 9) g; INSERT INTO %1$I.part VALUES (1), (2)', s)
    FROM unnest(ARRAY[:'a_schema', :'b_schema']) s \gexec
-- what a statement comes to
CREATE FUNCTION pg_temp.held(statement text) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN EXECUTE statement; RAISE EXCEPTION USING ERRCODE = 'P0999'; EXCEPTION WHEN SQLSTATE 'P0999' THEN RETURN 'goes'; WHEN OTHERS THEN RETURN SQLSTATE || ' ' || SQLERRM; END $$;

-- arguments
SELECT throws_ok(q, s, m, w) FROM (VALUES
    ('SELECT legal_hold_set(NULL, ''r'', ''c'')', '22004', NULL, 'a scope is needed'),
    ('SELECT legal_hold_set(''world'', ''r'', ''c'')', '22023', 'invalid scope "world"', 'one of three'),
    ('SELECT legal_hold_set(''tenant'', '' '', ''c'', ''lh-a'')', '22023', 'argument "reason" must not be empty', 'with a reason'),
    ('SELECT legal_hold_set(''tenant'', ''r'', NULL, ''lh-a'')', '22004', NULL, 'and a case'),
    ('SELECT legal_hold_set(''tenant'', ''r'', ''c'')', '22004', NULL, 'of a tenant'),
    ('SELECT legal_hold_set(''tenant'', ''r'', ''c'', ''lh-none'')', '42704', NULL, 'that exists'),
    ('SELECT legal_hold_set(''tenant'', ''r'', ''c'', gen_random_uuid())', '42704', NULL, 'also by its id'),
    ('SELECT legal_hold_set(''tenant'', ''r'', ''c'', ''lh-a'', predicate => ''true'')', '22023', 'a hold on a tenant has no argument "predicate"', 'and nothing more'),
    ('SELECT legal_hold_set(''tenant'', ''r'', ''c'', ''lh-a'', blocks_updates => NULL)', '22004', NULL, 'updates are blocked or not'),
    ('SELECT legal_hold_set(''subject'', ''r'', ''c'', ''lh-a'')', '22023', NULL, 'a subject is named'),
    ('SELECT legal_hold_set(''subject'', ''r'', ''c'', ''lh-a'', subject => ''{}'')', '22023', NULL, 'by a column at least'),
    ('SELECT legal_hold_set(''subject'', ''r'', ''c'', ''lh-a'', subject => ''{"email": [1]}'')', '22023', NULL, 'and a value'),
    ('SELECT legal_hold_set(''subject'', ''r'', ''c'', subject => ''{"email": "a"}'')', '22004', NULL, 'of a tenant'),
    ('SELECT legal_hold_set(''relation'', ''r'', ''c'')', '22004', NULL, 'a relation is needed'),
    ('SELECT legal_hold_set(''relation'', ''r'', ''c'', relation => ''lh_shared_pkey'')', '42809', NULL, 'that is a table'),
    ('SELECT legal_hold_set(''relation'', ''r'', ''c'', relation => ''tenancy.tenant'')', '42809', NULL, 'and not one of ours'),
    ('SELECT legal_hold_set(''relation'', ''r'', ''c'', relation => ''lh_shared'', predicate => ''id'')', '42804', NULL, 'a predicate is a condition'),
    ('SELECT legal_hold_set(''relation'', ''r'', ''c'', relation => ''lh_shared'', predicate => ''nothing = 1'')', '42703', NULL, 'of columns that exist'),
    ('SELECT legal_hold_set(''relation'', ''r'', ''c'', relation => ''lh_shared'', predicate => ''id = 1; DROP TABLE lh_shared'')', '42601', NULL, 'and no more than that'),
    ('SELECT legal_hold_set(''relation'', ''r'', ''c'', relation => ''lh_shared'', predicate => ''id = 1 FROM pg_class'')', '22023', NULL, 'nor a query'),
    ('SELECT legal_hold_set(''relation'', ''r'', ''c'', relation => ''lh_shared'', predicate => ''id = (SELECT 1)'')', '0A000', NULL, 'nor has one'),
    ('SELECT legal_hold_set(''relation'', ''r'', ''c'', relation => ''lh_shared'', predicate => ''random() < id'')', '22023', NULL, 'it cannot change its mind'),
    ('SELECT legal_hold_set(''relation'', ''r'', ''c'', relation => ''lh_shared'', predicate => ''public.current_tenant_id() = tenant_id'')', '22023', NULL, 'nor call what others define'),
    ('SELECT legal_hold_set(''relation'', ''r'', ''c'', relation => ''lh_shared'', predicate => ''ctid IS NULL'')', '42P10', NULL, 'nor look at where the row is'),
    ('SELECT legal_hold_release(NULL, ''r'')', '22004', NULL, 'a hold is needed'),
    ('SELECT legal_hold_release(gen_random_uuid(), ''r'')', '42704', NULL, 'that exists')) v (q, s, m, w);
SELECT is((SELECT count(*) FROM tenancy.legal_hold WHERE case_id = 'c'), 0::bigint, 'nothing of that is a hold');

-- a tenant
SELECT id AS hold FROM legal_hold_set('tenant', 'suit', 'LH-1', 'lh-a') \gset
SELECT is((SELECT string_agg(tgrelid::regclass::text || ' ' || tgenabled::text, ', ' ORDER BY relname) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE tgname = 'tenancy_hold' AND (relnamespace = :'a_schema'::regnamespace OR relname = 'lh_shared')),
    format('%1$s.customer A, lh_shared A, %1$s.orders A, %1$s.part A, %1$s.part_1 A, %1$s.ticket A', :'a_schema'), 'all of its tables and the shared ones are guarded, always');
SELECT is(pg_temp.held(format(q, :'a_schema', :'a')), '55000 ' || m, w) FROM (VALUES
    ('DELETE FROM %I.orders WHERE id = 1', 'a row of table "orders" is under legal hold', 'DELETE'),
    ('UPDATE %I.orders SET at = now() WHERE id = 1', 'a row of table "orders" is under legal hold', 'UPDATE'),
    ('INSERT INTO %I.orders VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET at = now()', 'a row of table "orders" is under legal hold', 'ON CONFLICT DO UPDATE'),
    ('MERGE INTO %I.orders o USING (SELECT 1 AS id) s ON o.id = s.id WHEN MATCHED THEN DELETE', 'a row of table "orders" is under legal hold', 'MERGE'),
    ('WITH w AS (DELETE FROM %I.orders WHERE id = 1 RETURNING 1) SELECT count(*) FROM w', 'a row of table "orders" is under legal hold', 'WITH'),
    ('DELETE FROM %I.part_1', 'a row of table "part_1" is under legal hold', 'a partition'),
    ('DELETE FROM lh_shared WHERE tenant_id = %2$L', 'a row of table "lh_shared" is under legal hold', 'rows of a shared table'),
    ('UPDATE lh_shared SET email = NULL', 'a row of table "lh_shared" is under legal hold', 'also among those of others'),
    ('SET session_replication_role = replica; DELETE FROM %I.orders WHERE id = 1', 'a row of table "orders" is under legal hold', 'as a replica'),
    ('TRUNCATE %I.orders', 'table "orders" is under legal hold', 'TRUNCATE'),
    ('TRUNCATE %I.customer CASCADE', 'table "customer" is under legal hold', 'TRUNCATE CASCADE'),
    ('TRUNCATE lh_shared', 'table "lh_shared" is under legal hold', 'TRUNCATE of a shared table'),
    ('DROP TABLE %I.orders', 'table "orders" is under legal hold', 'DROP TABLE'),
    ('DROP TABLE lh_shared', 'table "lh_shared" is under legal hold', 'DROP of a shared table'),
    ('DROP TABLE %I.part_1', 'table "part_1" is under legal hold', 'DROP of a partition'),
    ('ALTER TABLE %1$I.part DETACH PARTITION %1$I.part_1', 'table "part_1" is under legal hold', 'DETACH'),
    ('ALTER TABLE %I.orders DROP COLUMN at', 'table "orders" is under legal hold', 'DROP COLUMN'),
    ('ALTER TABLE %I.orders ALTER COLUMN at TYPE date', 'table "orders" is under legal hold', 'ALTER TYPE'),
    ('ALTER TABLE %I.orders RENAME COLUMN at TO since', 'table "orders" is under legal hold', 'RENAME of a column'),
    ('ALTER TABLE %I.orders RENAME TO gone', 'table "orders" is under legal hold', 'RENAME'),
    ('ALTER TABLE %I.orders SET SCHEMA lh_portal', 'table "orders" is under legal hold', 'SET SCHEMA'),
    ('ALTER TABLE %I.orders SET UNLOGGED', 'table "orders" is under legal hold', 'SET UNLOGGED'),
    ('ALTER TABLE %I.orders DISABLE TRIGGER tenancy_hold', 'table "orders" is under legal hold', 'DISABLE TRIGGER'),
    ('ALTER TABLE %I.orders DISABLE TRIGGER ALL', 'table "orders" is under legal hold', 'DISABLE TRIGGER ALL'),
    ('ALTER TABLE %I.orders ENABLE TRIGGER USER', 'table "orders" is under legal hold', 'ENABLE TRIGGER, which is less than ALWAYS'),
    ('ALTER TABLE %I.orders ENABLE REPLICA TRIGGER tenancy_hold', 'table "orders" is under legal hold', 'ENABLE REPLICA TRIGGER'),
    ('DROP TRIGGER tenancy_hold ON %I.orders', 'table "orders" is under legal hold', 'DROP TRIGGER'),
    ('ALTER TRIGGER tenancy_hold ON %I.orders RENAME TO other', 'table "orders" is under legal hold', 'RENAME of the trigger')) v (q, m, w);
SELECT matches(pg_temp.held(format(q, :'a_schema')), '^55000 .* is under legal hold', w) FROM (VALUES
    ('DROP SCHEMA %I CASCADE', 'DROP SCHEMA'), ('DROP OWNED BY %I CASCADE', 'DROP OWNED')) v (q, w);
SELECT is(pg_temp.held(format(q, :'b_schema', :'b')), 'goes', w) FROM (VALUES
    ('DELETE FROM %I.orders', 'another tenant deletes'), ('DROP SCHEMA %I CASCADE', 'and is dropped'),
    ('DELETE FROM lh_shared WHERE tenant_id = %2$L', 'its rows of shared tables go'), ('ALTER TABLE lh_shared ADD COLUMN more text', 'tables grow'),
    ('DROP TABLE lh_portal.orders', 'the template is no tenant')) v (q, w);
SELECT is(pg_temp.held(format('INSERT INTO %I.orders VALUES (100, 1)', :'a_schema')), 'goes', 'rows are added');
SELECT throws_ok($$ SELECT tenant_purge('lh-a', force => true) $$, '55000', 'tenant "lh-a" is under legal hold', 'a tenant under hold is not purged');
-- later tables
SELECT format('CREATE TABLE %1$I.later (id integer); CREATE TABLE %1$I.later_as AS SELECT 1 AS id; CREATE TABLE %1$I.part_2 PARTITION OF %1$I.part FOR VALUES FROM (100) TO (200); CREATE TABLE lh_portal.move AS SELECT 1 AS id; ALTER TABLE lh_portal.move SET SCHEMA %1$I; INSERT INTO %1$I.later VALUES (1); INSERT INTO %1$I.part VALUES (101)', :'a_schema') \gexec
SELECT matches(pg_temp.held(format('DELETE FROM %I.%I', :'a_schema', t)), '^55000', 'a later table is held: ' || t) FROM unnest(ARRAY['later', 'later_as', 'part_2', 'move']) t;
CREATE TABLE lh_shared_2 (tenant_id uuid, id integer, PRIMARY KEY (tenant_id, id));
SELECT tenant_table_register('lh_shared_2') \g /dev/null
INSERT INTO lh_shared_2 VALUES (:'a', 1), (:'b', 1);
SELECT is(pg_temp.held(format('DELETE FROM lh_shared_2 WHERE tenant_id = %L', t)), e, 'a table that is shared later') FROM (VALUES (:'a', '55000 a row of table "lh_shared_2" is under legal hold'), (:'b', 'goes')) v (t, e);
-- the tenant itself is told no more than that, and can do no more
BEGIN;
SELECT tenant_context_set('lh-a') \g /dev/null
SELECT throws_ok('DELETE FROM orders', '55000', 'a row of table "orders" is under legal hold', 'the tenant deletes nothing');
SELECT throws_ok('DROP TABLE orders', '55000', 'table "orders" is under legal hold', 'nor drops what it owns');
SELECT throws_ok('DROP TRIGGER tenancy_hold ON orders', '55000', NULL, 'nor the trigger');
SELECT throws_ok('SELECT legal_hold_set(''tenant'', ''r'', ''c'', ''lh-a'')', '42501', NULL, 'holds are not the tenant''s');
COMMIT;

-- two persons
SELECT throws_ok(format('SELECT legal_hold_release(%L, ''over'')', :'hold'), '42501', format('legal hold "%s" was set by "%s"', :'hold', session_user), 'who set it does not release it');
SET SESSION AUTHORIZATION lh_nobody;
SELECT throws_ok(q, '42501', NULL, 'not for everybody') FROM (VALUES ('SELECT legal_hold_set(''relation'', ''r'', ''c'', relation => ''lh_shared'')'), ('SELECT legal_hold_release(gen_random_uuid(), ''r'')'), ('SELECT * FROM tenancy.legal_hold')) v (q);
SET SESSION AUTHORIZATION lh_second;
SELECT throws_ok(format('SELECT legal_hold_release(%L, '' '')', :'hold'), '22023', NULL, 'a release has a reason');
SELECT is((SELECT released_by::text || ' ' || release_reason FROM legal_hold_release(:'hold', 'over')), 'lh_second over', 'a second person does');
SELECT throws_ok(format('SELECT legal_hold_release(%L, ''over'')', :'hold'), '55000', NULL, 'once');
RESET SESSION AUTHORIZATION;
SELECT is((SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE tgname = 'tenancy_hold' AND (relnamespace = :'a_schema'::regnamespace OR relname LIKE 'lh_shared%')), 0::bigint, 'the triggers are gone');
SELECT is(pg_temp.held(format('DELETE FROM %I.orders', :'a_schema')), 'goes', 'and rows go again');
SELECT is((SELECT array_agg(type ORDER BY id) FROM tenancy.outbox_event WHERE payload->>'hold' = :'hold'), ARRAY['legal_hold.set', 'legal_hold.release'], 'both are events');
SELECT is((SELECT count(*) FROM tenancy.outbox_event WHERE payload->>'hold' = :'hold' AND tenant_id IS NOT NULL), 0::bigint, 'of which the tenant is not told');

-- rows by a predicate, cascades included
SELECT legal_hold_set('relation', 'suit', 'LH-2', relation => (:'a_schema' || '.orders')::regclass, predicate => 'id = 3 OR at > ''2030-01-01 00:00+00''') \g /dev/null
SELECT is((SELECT predicate FROM tenancy.legal_hold WHERE case_id = 'LH-2'), '((id = 3) OR (at > ''2030-01-01 00:00:00+00''::timestamp with time zone))', 'a predicate is kept as it was understood');
SELECT is(pg_temp.held(format(q, :'a_schema')), e, w) FROM (VALUES
    ('DELETE FROM %I.orders WHERE id = 3', '55000 a row of table "orders" is under legal hold', 'a row that fits'),
    ('DELETE FROM %I.orders WHERE id = 4', 'goes', 'one that does not'),
    ('DELETE FROM %I.customer WHERE id = 3', '55000 a row of table "orders" is under legal hold', 'a cascade to a row that fits'),
    ('DELETE FROM %I.customer WHERE id = 4', 'goes', 'to one that does not'),
    ('UPDATE %I.customer SET id = 33 WHERE id = 3', '55000 a row of table "orders" is under legal hold', 'a cascade of an update'),
    ('INSERT INTO %I.orders VALUES (50, 1, ''2031-01-01''); DELETE FROM %1$I.orders WHERE id = 50', '55000 a row of table "orders" is under legal hold', 'a row that came later'),
    ('TRUNCATE %I.orders', '55000 table "orders" is under legal hold', 'TRUNCATE asks for no rows')) v (q, e, w);
SELECT legal_hold_set('relation', 'suit', 'LH-3', relation => (:'a_schema' || '.ticket')::regclass, predicate => 'id = 5', blocks_updates => false) \g /dev/null
SELECT is(pg_temp.held(format(q, :'a_schema')), e, w) FROM (VALUES
    ('DELETE FROM %I.ticket WHERE id = 5', '55000 a row of table "ticket" is under legal hold', 'without blocked updates a row does not go'),
    ('UPDATE %I.ticket SET customer = 6 WHERE id = 5', 'goes', 'it changes'),
    ('DELETE FROM %I.customer WHERE id = 5', 'goes', 'also by ON DELETE SET NULL'),
    ('UPDATE %I.ticket SET id = 50 WHERE id = 5', '55000 a row of table "ticket" is under legal hold', 'but not out of the hold')) v (q, e, w);

-- a subject
SELECT legal_hold_set('subject', 'suit', 'LH-4', 'lh-b', subject => '{"email": "c2", "customer": 2}') \g /dev/null
SELECT is(pg_temp.held(format(q, :'b_schema', :'b', :'a')), e, w) FROM (VALUES
    ('DELETE FROM %I.orders WHERE id = 2', '55000 a row of table "orders" is under legal hold', 'a number'),
    ('DELETE FROM %I.orders WHERE id = 1', 'goes', 'of another subject'),
    ('DELETE FROM lh_shared WHERE tenant_id = %2$L AND id = 2', '55000 a row of table "lh_shared" is under legal hold', 'a text, in a shared table'),
    ('DELETE FROM lh_shared WHERE tenant_id = %2$L AND id = 1', 'goes', 'of another'),
    ('DELETE FROM lh_shared WHERE tenant_id = %3$L', 'goes', 'of another tenant'),
    ('DELETE FROM %I.customer WHERE id = 2', '55000 a row of table "customer" is under legal hold', 'and where it is a customer'),
    ('DELETE FROM %I.part', 'goes', 'a table without these columns')) v (q, e, w);
SELECT throws_ok($$ SELECT tenant_purge('lh-b', force => true) $$, '55000', 'tenant "lh-b" is under legal hold', 'a tenant with a held subject is not purged');
SELECT throws_ok($$ SELECT tenant_purge('lh-a', force => true) $$, '55000', 'table "orders" is under legal hold', 'nor one with held rows');

-- two holds on a table: the triggers stay for the second
SELECT id AS one FROM legal_hold_set('relation', 'suit', 'LH-5', relation => 'lh_shared_2') \gset
SELECT id AS two FROM legal_hold_set('relation', 'suit', 'LH-6', 'lh-b', relation => 'lh_shared_2') \gset
SET SESSION AUTHORIZATION lh_second;
SELECT legal_hold_release(:'one', 'over') \g /dev/null
RESET SESSION AUTHORIZATION;
SELECT is(pg_temp.held(format('DELETE FROM lh_shared_2 WHERE tenant_id = %L', t)), e, 'the second hold is of one tenant') FROM (VALUES (:'b', '55000 a row of table "lh_shared_2" is under legal hold'), (:'a', 'goes')) v (t, e);

SET SESSION AUTHORIZATION lh_second;
SELECT count(legal_hold_release(id, 'done')) FROM tenancy.legal_hold WHERE case_id LIKE 'LH-%' AND released_at IS NULL \g /dev/null
RESET SESSION AUTHORIZATION;
SELECT is((SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE tgname = 'tenancy_hold' AND (relnamespace = ANY (ARRAY[:'a_schema', :'b_schema']::regnamespace[]) OR relname LIKE 'lh_shared%')), 0::bigint, 'in the end nothing is left of them');
SELECT * FROM finish();
