-- The life of a tenant: creating, naming, configuring, suspending, looking after.
SELECT * FROM no_plan();
SELECT is((tenant_create('acme', 'Acme Inc.', metadata => '{"crm": 7}')).name, 'Acme Inc.', 'a tenant is created');
SELECT is(state, 'active', 'it is active') FROM tenancy.tenant WHERE slug = 'acme';
SELECT matches(schema_name::text, '^t_[a-z2-7]{26}$', 'its schema has an opaque name') FROM tenancy.tenant;
SELECT is(role_name, schema_name, 'as its role has') FROM tenancy.tenant;
SELECT is(owner_name::text, 'o_' || substr(schema_name, 3), 'its objects have an owner of their own') FROM tenancy.tenant;
SELECT schema_owner_is(schema_name, owner_name) FROM tenancy.tenant;
SELECT is((SELECT rolcanlogin OR rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication FROM pg_roles WHERE rolname = role_name),
    false, 'the role has no attribute') FROM tenancy.tenant;
SELECT is((SELECT array_agg(roleid::regrole::text) FROM pg_auth_members WHERE member = role_name::regrole), '{tenancy_tenant}', 'and one membership') FROM tenancy.tenant;

SELECT throws_ok($$SELECT tenant_create('acme')$$, '23505', 'tenant "acme" already exists', 'a slug is unique');
SELECT throws_ok($$SELECT tenant_create('Acme')$$, '22023', NULL, 'upper case');
SELECT throws_ok($$SELECT tenant_create('a_b')$$, '22023', NULL, 'underscore');
SELECT throws_ok($$SELECT tenant_create('-a')$$, '22023', NULL, 'leading hyphen');
SELECT throws_ok($$SELECT tenant_create('a-')$$, '22023', NULL, 'trailing hyphen');
SELECT throws_ok($$SELECT tenant_create('')$$, '22023', NULL, 'empty');
SELECT throws_ok($$SELECT tenant_create(repeat('a', 64))$$, '22023', NULL, '64 characters');
SELECT throws_ok($$SELECT tenant_create('xn--bcher-kva')$$, '22023', NULL, 'punycode');
SELECT throws_ok($$SELECT tenant_create('bücher')$$, '22023', NULL, 'not ASCII');
SELECT throws_ok($$SELECT tenant_create('01a20b92-6d50-7821-8b4d-b9678de6407d')$$, '22023', NULL, 'shaped like a uuid');
SELECT throws_ok($$SELECT tenant_create('www')$$, '42939', NULL, 'reserved');
SELECT throws_ok($$SELECT tenant_create(NULL)$$, '22004', NULL, 'null');
SELECT throws_ok($$SELECT tenant_create('b', plan => 'none')$$, '42704', 'plan "none" does not exist', 'unknown plan');
SELECT throws_ok($$SELECT tenant_create('b', template => 'none')$$, '42704', 'template "none" does not exist', 'unknown template');
SELECT throws_ok($$SELECT tenant_create('b', isolation => 'none')$$, '22023', NULL, 'unknown isolation');
SELECT throws_ok($$SELECT tenant_create('b', configuration => '{"colour": 1}')$$, '22023', 'invalid configuration: "colour" is unknown', 'bad configuration');
SELECT throws_ok($$SELECT tenant_create('b', metadata => '[]')$$, '22023', NULL, 'metadata that is no object');
SELECT lives_ok($$SELECT tenant_create(repeat('a', 63))$$, '63 characters are fine');
SELECT lives_ok($$SELECT tenant_create('0')$$, 'so is a digit');
SELECT is((SELECT count(*) FROM tenancy.tenant), 3::bigint, 'failures leave no row');
SELECT is((SELECT count(*) FROM pg_roles r WHERE rolname ~ '^[to]_[a-z2-7]{26}$'
    AND EXISTS (SELECT FROM pg_shdepend d JOIN pg_database b ON b.oid = d.dbid AND b.datname = current_database() WHERE d.refobjid = r.oid)),
    6::bigint, 'no schema and no role');

CREATE SCHEMA broken;
CREATE FUNCTION broken.one() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE FUNCTION public.only_here(integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE TABLE broken.a (id integer CHECK (public.only_here(id)));
SELECT count(*) FROM template_create('broken', 'broken') \g /dev/null
ALTER FUNCTION public.only_here(integer) RENAME TO elsewhere;
SELECT throws_ok($$SELECT tenant_create('half', template => 'broken')$$, '42883', NULL, 'DDL that fails half way');
SELECT is((SELECT count(*) FROM tenancy.tenant WHERE slug = 'half'), 0::bigint, 'leaves nothing');
ALTER FUNCTION public.elsewhere(integer) RENAME TO only_here;
SELECT lives_ok($$SELECT tenant_create('half', template => 'broken')$$, 'and is made when it can be');
SELECT lives_ok($$SELECT tenant_create('dom', domain => 'portal.example.com')$$, 'a domain');
SELECT lives_ok($$SELECT tenant_create('dom2', domain => 'portal.example.com')$$, 'is claimed by another, too');
SELECT throws_ok($$SELECT tenant_create('dom3', domain => '*.example.com')$$, '22023', NULL, 'a wildcard is no domain');
SELECT results_eq($$SELECT domain, state FROM tenancy.domain WHERE tenant_id = 'dom'::regtenant$$, $$VALUES ('portal.example.com', 'pending')$$, 'it is to be proven');

-- a tenant that owns its schemas
SELECT lives_ok($$SELECT tenant_create('owner', owns_ddl => true, template => 'broken')$$, 'owns_ddl');
BEGIN;
SELECT tenant_context_set('owner') \g /dev/null
SELECT lives_ok('CREATE TABLE mine (id integer); ALTER TABLE a ADD COLUMN b text', 'creates and alters in its own schema');
COMMIT;
BEGIN;
SELECT tenant_context_set('half') \g /dev/null
SELECT throws_ok('CREATE TABLE mine (id integer)', '42501', NULL, 'others do not');
ROLLBACK;
SELECT is((tenant_schema_add('owner', 'auth')).label, 'auth', 'a further schema');
SELECT throws_ok($$SELECT tenant_schema_add('owner', 'auth')$$, '42P06', NULL, 'once');
SELECT throws_ok($$SELECT tenant_schema_add('owner', 'No')$$, '22023', NULL, 'with a plain name');
BEGIN;
SELECT tenant_context_set('owner') \g /dev/null
SELECT matches(current_setting('search_path'), '^(t_[a-z2-7]{26}), \1_auth, pg_catalog, public, pg_temp$', 'it follows the main one in the search path');
COMMIT;
SELECT (tenant_create('pooled', isolation => 'pool')).schema_name IS NULL AS no_schema \gset
SELECT ok(:'no_schema', 'a tenant of the pool has no schema');
SELECT throws_ok($$SELECT tenant_schema_add('pooled', 'x')$$, '55000', NULL, 'and gets none');

-- names
SELECT is((tenant_rename('acme', slug => 'apex')).slug, 'apex', 'a slug changes');
SELECT is((tenant_get('apex')).name, 'Acme Inc.', 'the rest stays');
SELECT throws_ok($$SELECT tenant_rename('apex', slug => 'half')$$, '23505', NULL, 'not to one that is taken');
SELECT throws_ok($$SELECT 'acme'::regtenant$$, '42704', 'tenant "acme" does not exist', 'the old one is gone');

-- configuration
SELECT is(tenant_configure('apex', '{"branding": {"primary_color": "#aabbcc"}, "features": {"search": true}}'),
    '{"branding": {"primary_color": "#aabbcc"}, "features": {"search": true}}', 'a configuration is set');
SELECT is(tenant_configure('apex', '{"branding": {"display_name": "Apex"}}')->'branding',
    '{"primary_color": "#aabbcc", "display_name": "Apex"}', 'merged (RFC 7396)');
SELECT is(tenant_configure('apex', '{"branding": null}'), '{"features": {"search": true}}', 'null removes');
SELECT throws_ok($$SELECT tenant_configure('apex', '{"branding": {"primary_color": "red"}}')$$, '22023',
    'invalid configuration: "branding.primary_color" must be a color such as "#1a2b3c"', 'a fault is named by its path');
SELECT throws_ok($$SELECT tenant_configure('apex', '{"authentication": {"providers": ["github", "x"]}}')$$, '22023',
    'invalid configuration: "authentication.providers[1]" must be one of "password", "github", "google", "microsoft", "oidc", "okta", "saml"', 'also in an array');
SELECT throws_ok($$SELECT tenant_configure('apex', '{"security": {"password_min_length": 4}}')$$, '22023',
    'invalid configuration: "security.password_min_length" must be at least 8', 'a number too small');
SELECT throws_ok($$SELECT tenant_configure('apex', '{"security": {"password_min_length": 8.5}}')$$, '22023', NULL, 'a number that is not whole');
SELECT throws_ok($$SELECT tenant_configure('apex', '[]')$$, '22023', NULL, 'no object');
SELECT count(*) FROM subscription_create('apex', 'starter') \g /dev/null
SELECT is(tenant_configuration('apex')->'feature_limits'->>'max_users', '10', 'the limits of the plan are below it');
SELECT is(tenant_configuration('apex')->'features', '{"search": true}', 'its own above');

-- states
SELECT is((tenant_suspend('apex', 'payment')).state_reason, 'payment', 'suspended, with the reason');
SELECT throws_ok($$SELECT tenant_suspend('apex', 'x')$$, '55000', 'cannot suspend tenant "apex": it is suspended', 'once');
SELECT is((tenant_resume('apex')).state, 'active', 'resumed');
SELECT throws_ok($$SELECT tenant_resume('apex')$$, '55000', NULL, 'once');

-- health
SELECT is((SELECT count(*) FROM tenant_health('half') WHERE status <> 'ok'), 0::bigint, 'a sound tenant');
SELECT role_name FROM tenancy.tenant WHERE slug = 'half' \gset
ALTER ROLE :role_name CREATEROLE;
SELECT is((SELECT status FROM tenant_health('half') WHERE check_name = 'role'), 'critical', 'an attribute is found');
ALTER ROLE :role_name NOCREATEROLE;
ALTER TABLE :role_name.a OWNER TO CURRENT_USER;
SELECT is((SELECT status FROM tenant_health('half') WHERE check_name = 'ownership'), 'critical', 'a foreign owner is found');

SELECT throws_ok(format('ALTER SCHEMA %I RENAME TO plain', :'role_name'), '55000', NULL, 'the schema of a tenant is not renamed');

-- who may
CREATE ROLE ten_nobody;
SET ROLE ten_nobody;
SELECT throws_ok($$SELECT tenant_create('x')$$, '42501', NULL, 'a role without rights creates nothing');
RESET ROLE;
CREATE ROLE ten_admin IN ROLE tenancy_admin;
SET ROLE ten_admin;
SELECT lives_ok($$SELECT tenant_create('by-admin', template => 'broken', plan => 'professional')$$, 'the control plane needs no superuser');
SELECT is((SELECT count(*) > 0 FROM tenancy.tenant), true, 'and sees the registry');
SELECT throws_ok($$DELETE FROM tenancy.tenant$$, '42501', NULL, 'which it cannot change by hand');
RESET ROLE;
SELECT * FROM finish();
