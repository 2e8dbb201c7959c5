-- What must be true of the library as a whole.
SELECT * FROM no_plan();
SELECT cmp_ok((SELECT count(*) FROM tenancy.gate_check()), '>', 80::bigint, 'every statement of the library can be prepared');
SELECT is((SELECT count(*) FROM (SELECT statement FROM tenancy.gate_check() GROUP BY 1 HAVING count(*) > 1) d), 0::bigint, 'under a name of its own');

-- states in the CHECK of the table and states in the machine
CREATE TEMP TABLE checked AS
    SELECT conrelid::regclass::text AS relation, (regexp_matches(pg_get_constraintdef(oid), '''([a-z_]+)''', 'g'))[1] AS state
      FROM pg_constraint WHERE contype = 'c' AND conname ~ '_state_check$' AND connamespace = 'tenancy'::regnamespace;
SELECT set_eq('SELECT relation, state FROM checked',
    'SELECT relation, from_state FROM tenancy.state_moves() UNION SELECT relation, to_state FROM tenancy.state_moves()',
    'the states of the machines are those of the CHECKs');

-- rights
SELECT is((SELECT count(*) FROM pg_class c WHERE relnamespace = 'tenancy'::regnamespace AND relkind IN ('r', 'v')
    AND relowner <> 'tenancy_owner'::regrole), 0::bigint, 'tenancy_owner owns the tables and views');
SELECT is((SELECT rolsuper OR rolcanlogin OR rolbypassrls FROM pg_roles WHERE rolname = 'tenancy_owner'), false, 'and is nobody');
SELECT is((SELECT string_agg(c.relname, ', ') FROM pg_class c, aclexplode(c.relacl) a
    WHERE c.relnamespace = 'tenancy'::regnamespace AND a.grantee = 0), NULL, 'PUBLIC has no right on a table');
SELECT is((SELECT string_agg(c.relname, ', ') FROM pg_class c, aclexplode(c.relacl) a
    WHERE c.relnamespace = 'tenancy'::regnamespace AND a.grantee <> c.relowner AND a.privilege_type <> 'SELECT' AND c.relkind <> 'v'), NULL, 'nobody else has more than SELECT on a table');

-- the gate is not to be captured by a search path, nor by settings
CREATE SCHEMA evil;
CREATE FUNCTION evil.lower(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'captured by %', current_user; END $$;
CREATE FUNCTION evil.texteq(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'captured by %', current_user; END $$;
CREATE OPERATOR evil.= (FUNCTION = evil.texteq, LEFTARG = text, RIGHTARG = text);
CREATE TABLE evil.tenant (id uuid);
SET search_path = evil, pg_catalog, public;
SELECT slug FROM public.tenant_create('acme') \g /dev/null
SELECT invoices FROM public.billing_run() \g /dev/null
SELECT metric FROM public.usage_record('acme', 'users', 1) \g /dev/null
RESET search_path;
SELECT pass('operators and tables of the caller''s path are not ours');
SET TimeZone = 'Asia/Kathmandu'; SET DateStyle = 'SQL, DMY'; SET IntervalStyle = 'sql_standard'; SET bytea_output = 'escape';
SELECT lives_ok($$SELECT usage_record('acme', 'users', 3, 'e1', '2026-01-02 03:04:05+00')$$, 'under foreign settings');
RESET ALL;
SELECT lives_ok($$SELECT usage_record('acme', 'users', 3.0, 'e1', '2026-01-02 03:04:05+00')$$, 'an event is the same event');

-- a trigger on our tables runs with our rights: so nobody may make one, and it gains nothing
CREATE ROLE gat_admin IN ROLE tenancy_admin;
SET ROLE gat_admin;
SELECT throws_ok($$CREATE TRIGGER t BEFORE INSERT ON tenancy.tenant EXECUTE FUNCTION suppress_redundant_updates_trigger()$$, '42501', NULL, 'no trigger on our tables');
RESET ROLE;
CREATE FUNCTION public.spy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO public.seen SELECT current_user, rolsuper FROM pg_roles WHERE rolname = current_user; RETURN NULL; END $$;
CREATE TABLE public.seen (who name, is_superuser boolean);
GRANT INSERT ON public.seen TO PUBLIC;
CREATE TRIGGER spy AFTER INSERT ON tenancy.tenant EXECUTE FUNCTION public.spy();
SELECT count(*) FROM tenant_create('spied') \g /dev/null
SELECT results_eq('SELECT who::text COLLATE "default", is_superuser FROM public.seen', $$VALUES ('tenancy_owner', false)$$, 'a trigger that a superuser made runs as tenancy_owner');
DROP TRIGGER spy ON tenancy.tenant;

-- read only
BEGIN READ ONLY;
SELECT is((tenant_get('acme')).slug, 'acme', 'a look-up in a read-only transaction');
SELECT throws_ok($$SELECT tenant_suspend('acme', 'x')$$, '25006', NULL, 'a change in one is refused');
COMMIT;
SELECT * FROM finish();
