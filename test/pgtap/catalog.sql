-- Importing entities of Backstage's catalog: forms, faults by row, limits, tables of the tenant.
SELECT * FROM no_plan();
CREATE SCHEMA portal_catalog;
CREATE TABLE portal_catalog.entities (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind text NOT NULL, name text NOT NULL,
	metadata jsonb NOT NULL, title text CHECK (title <> 'Bad'), label text GENERATED ALWAYS AS (kind || ' ' || name) STORED, UNIQUE (kind, name));
CREATE TABLE portal_catalog.other (n integer);
SELECT template_create('portal_catalog', 'portal_catalog') \g /dev/null
SELECT count(tenant_create(s, template => 'portal_catalog', plan => 'starter')) FROM unnest(ARRAY['cat-a', 'cat-b', 'cat-owning']) s \g /dev/null
SELECT count(tenant_create('cat-pool', isolation => 'pool')) \g /dev/null
CREATE FUNCTION entity(name text, kind text DEFAULT 'Component', more jsonb DEFAULT '{}') RETURNS text LANGUAGE sql AS
	$$ SELECT jsonb_build_object('apiVersion', 'backstage.io/v1alpha1', 'kind', kind, 'metadata', jsonb_build_object('name', name) || more)::text $$;

SELECT results_eq(format('SELECT * FROM catalog_import(%L, %L)', 'cat-a', concat_ws(E'\n', entity('one'), '{"broken', entity('Two', more => '{"namespace": "Devex"}'), '', '{"kind": "API"}', entity('ONE'), '3')),
	$$VALUES (1, 'component:default/one', true, NULL), (2, NULL, false, 'invalid input syntax for type json'), (3, 'component:devex/two', true, NULL),
	(4, NULL, false, 'it is no object with "apiVersion", "kind" and "metadata.name"'), (5, 'component:default/one', false, 'entity "component:default/one" is there already'),
	(6, NULL, false, 'it is no object with "apiVersion", "kind" and "metadata.name"')$$, 'a document a line, each fault told of and keeping no other');
SELECT results_eq(format('SELECT imported, error FROM catalog_import(%L, %L)', 'cat-a', entity('one')), $$VALUES (false, 'entity "component:default/one" is there already')$$, 'what is there stays');
SELECT results_eq(format('SELECT entity_row, entity_ref, imported FROM catalog_import(%L, %L)', 'cat-a', E'\n [' || entity('three') || ', 7, ' || entity('four') || ']'),
	$$VALUES (1, 'component:default/three', true), (2, NULL, false), (3, 'component:default/four', true)$$, 'an array');
SELECT results_eq(format('SELECT entity_ref, imported FROM catalog_import(%L, %L)', 'cat-a',
	jsonb_pretty(entity('five{"', more => '{"description": "a } and a \" in it"}')::jsonb) || E'\n' || jsonb_pretty(entity('six')::jsonb)),
	$$VALUES ('component:default/five{"', true), ('component:default/six', true)$$, 'documents one after another, as yq writes them');
SELECT is((SELECT count(*) FROM catalog_import('cat-a', E' \n ')), 0::bigint, 'nothing');
SELECT is((SELECT entity->'metadata'->>'name' FROM tenancy.catalog_entity WHERE tenant_id = 'cat-a'::regtenant AND entity_ref = 'component:devex/two'), 'Two', 'an entity is kept as it came');

-- the plan's limit, of what is there and what comes
SELECT is((SELECT string_agg(imported::text || coalesce(error, ''), ',' ORDER BY entity_row) FROM (SELECT * FROM catalog_import('cat-b', (SELECT string_agg(entity('n' || n), E'\n' ORDER BY n) FROM generate_series(1, 98) n))) f WHERE NOT imported), NULL, 'starter has room for 98');
SELECT is((SELECT string_agg(imported::text || coalesce(': ' || error, ''), ', ' ORDER BY entity_row) FROM catalog_import('cat-b', concat_ws(E'\n', entity('n1'), entity('o1'), entity('o2'), entity('o3')))),
	'false: entity "component:default/n1" is there already, true, false: the plan allows no more entities, false: the plan allows no more entities', 'and for 100, of which a repeat takes none');
SELECT tenant_configure('cat-b', '{"feature_limits": {"max_entities": -1}}') \g /dev/null
SELECT is((SELECT count(*) FROM catalog_import('cat-b', (SELECT string_agg(entity('p' || n), E'\n') FROM generate_series(1, 1200) n)) WHERE imported), 1200::bigint, 'a tenant without that limit has none');

-- a table of the tenant's
SELECT results_eq(format('SELECT entity_row, imported, error FROM catalog_import(%L, %L, %L)', 'cat-a',
	concat_ws(E'\n', entity('one', more => '{"title": "One"}'), entity('two', more => '{"title": "Bad"}'), entity('one'), entity('one', 'API')), 'entities'),
	$$VALUES (1, true, NULL), (2, false, 'new row for relation "entities" violates check constraint "entities_title_check"'), (3, false, 'entity "component:default/one" is there already'), (4, true, NULL)$$,
	'a table of the tenant takes what its constraints allow');
SELECT schema_name AS a_schema, role_name AS a_role, owner_name AS a_owner FROM tenancy.tenant WHERE slug = 'cat-a' \gset
SELECT results_eq(format('SELECT kind, name, title, metadata, label FROM %I.entities ORDER BY id', :'a_schema'),
	$$VALUES ('Component', 'one', 'One', '{"name": "one", "title": "One"}'::jsonb, 'Component one'), ('API', 'one', NULL, '{"name": "one"}', 'API one')$$, 'in the columns that it has');
SELECT results_eq(format('SELECT imported, error FROM catalog_import(%L, %L, %L)', 'cat-a', entity('one'), 'entities'), $$VALUES (false, 'entity "component:default/one" is there already')$$, 'and once');
SELECT is((SELECT count(*) FROM catalog_import('cat-a', (SELECT string_agg(entity('m' || n, more => jsonb_build_object('title', CASE WHEN n = 777 THEN 'Bad' ELSE 'Good' END)), E'\n' ORDER BY n) FROM generate_series(1, 1300) n), 'entities') WHERE imported), 1299::bigint,
	'one that is wrong keeps no other from a table');
SELECT is((SELECT count(*) FROM tenancy.catalog_entity WHERE tenant_id = 'cat-a'::regtenant), 6::bigint, 'ours has none of them');

-- its triggers run as the tenant, in its context, and can do no more
CREATE TABLE public.seen_as (role text, tenant uuid);
GRANT INSERT ON public.seen_as TO PUBLIC;
SET ROLE :a_owner;
CREATE FUNCTION :a_schema.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	INSERT INTO public.seen_as VALUES (current_user, public.current_tenant_id()); RETURN new; END $$;
CREATE TRIGGER note BEFORE INSERT ON :a_schema.entities FOR EACH ROW EXECUTE FUNCTION :a_schema.note();
RESET ROLE;
SELECT is((SELECT imported FROM catalog_import('cat-a', entity('seen'), 'entities')), true, 'a table with a trigger');
SELECT results_eq('SELECT role, tenant FROM public.seen_as', format('VALUES (%L, %L::uuid)', :'a_role', 'cat-a'::regtenant::uuid), 'which runs as the tenant, in its context');
SET ROLE :a_owner;
CREATE OR REPLACE FUNCTION :a_schema.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RESET ROLE; RETURN new; END $$;
RESET ROLE;
SELECT ok((SELECT NOT imported AND error ~ 'role' FROM catalog_import('cat-a', entity('escape'), 'entities')), 'and cannot become anybody else');
SELECT is(current_user::text, session_user::text, 'nor leave a trace');
SELECT is(current_tenant_id(), NULL, 'nor a context');

SELECT throws_ok($$SELECT * FROM catalog_import('cat-a', '{}', 'nowhere')$$, '42P01', NULL, 'no such table');
SELECT throws_ok($$SELECT * FROM catalog_import('cat-a', '{}', 'other')$$, '22023', NULL, 'no column for an entity');
SELECT throws_ok($$SELECT * FROM catalog_import('cat-pool', '{}', 'entities')$$, '55000', NULL, 'no schema');
SELECT throws_ok($$SELECT * FROM catalog_import('nobody', '{}')$$, '42704', NULL, 'no such tenant');
SELECT throws_ok($$SELECT * FROM catalog_import('cat-a', '[{]')$$, '22P02', NULL, 'an array that is none');
SELECT throws_ok($$SELECT * FROM catalog_import(NULL, '{}')$$, '22004', NULL, 'no tenant');
SELECT throws_ok($$SELECT * FROM catalog_import('cat-a', NULL)$$, '22004', NULL, 'no entities');
SELECT throws_ok($$SELECT * FROM catalog_import('cat-a', repeat(E'{}\n', 100001))$$, '22023', NULL, 'too many');
SELECT count(*) FROM tenant_suspend('cat-owning', 'unpaid') \g /dev/null
SELECT throws_ok(format('SELECT * FROM catalog_import(%L, %L, %L)', 'cat-owning', entity('x'), 'entities'), '55000', NULL, 'a tenant that is suspended');
BEGIN;
SELECT tenant_context_set('cat-a') \g /dev/null
SELECT throws_ok($$SELECT * FROM catalog_import('cat-a', '{}')$$, '42501', NULL, 'a tenant does not');
ROLLBACK;
SET ROLE tenancy_app;
SELECT throws_ok($$SELECT * FROM public.catalog_import('cat-a', '{}')$$, '42501', NULL, 'nor the application');
RESET ROLE;
SELECT * FROM finish();
