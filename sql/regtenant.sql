-- The type regtenant: input, output, casts, and who may see whom.
SELECT slug FROM tenant_create('acme');
SELECT 'acme'::regtenant;
SELECT 'acme'::regtenant::uuid = id AS same, id::regtenant AS shown FROM tenancy.tenant WHERE slug = 'acme';
SELECT regtenant 'nobody';
-- a uuid is taken as it is, and shown where nobody has it
SELECT '01a20b92-6d50-7821-8b4d-b9678de6407d'::regtenant;
SELECT '{01A20B926D5078218B4DB9678DE6407D}'::regtenant;
SELECT '01a20b92-6d50'::regtenant;
-- typed text and varchar, as drivers send them
SELECT (tenant_get(slug)).slug, (tenant_get(slug::varchar)).slug FROM tenancy.tenant WHERE slug = 'acme';
PREPARE get(text) AS SELECT (tenant_get($1)).slug;
EXECUTE get('acme');
-- compared with a column of type uuid
SELECT slug FROM tenancy.tenant WHERE id = 'acme'::regtenant;
SELECT count(*) FROM tenancy.tenant WHERE id = current_tenant();
-- COPY, a default, a generic plan
CREATE TEMP TABLE argument (tenant regtenant);
COPY argument FROM STDIN;
acme
\.
COPY argument TO STDOUT;
-- who may not see a tenant is told that there is none
CREATE ROLE regress_stranger;
SET ROLE regress_stranger;
SELECT 'acme'::regtenant;
RESET ROLE;
SELECT set_config('regress.id', id::text, false) IS NOT NULL AS kept FROM tenancy.tenant WHERE slug = 'acme';
SET ROLE regress_stranger;
SELECT current_setting('regress.id')::uuid::regtenant::text = current_setting('regress.id') AS shows_the_id;
RESET ROLE;
DROP ROLE regress_stranger;
