-- The fixture of the catalogue, rebuilt with the extension: tenants a and b, shared tables, a
-- pool's login, a bound login each.  Roles belong to the cluster and are made by roles.sql.
CREATE SCHEMA shared AUTHORIZATION sx_owner;
SELECT slug FROM tenant_create('a', owns_ddl => true);
SELECT slug FROM tenant_create('b', owns_ddl => true);
SELECT label FROM tenant_schema_add('a', 'ws');
SELECT label FROM tenant_schema_add('b', 'ws');
SELECT id AS a_id, role_name AS a_role FROM tenancy.tenant WHERE slug = 'a' \gset
SELECT id AS b_id, role_name AS b_role FROM tenancy.tenant WHERE slug = 'b' \gset

SET ROLE sx_owner;
CREATE TABLE shared.customers (
    tenant_id uuid NOT NULL, id serial, email text, secret text, amount integer NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, email));
CREATE TABLE shared.orders (
    tenant_id uuid NOT NULL, id serial, customer_id integer, note text, PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, customer_id) REFERENCES shared.customers ON DELETE CASCADE ON UPDATE CASCADE);
INSERT INTO shared.customers (tenant_id, email, secret, amount) SELECT :'a_id', 'a' || g || '@a.example', 'AAA-' || g, g FROM generate_series(1, 50) g;
INSERT INTO shared.customers (tenant_id, email, secret, amount) VALUES (:'b_id', 'ceo@b.example', 'CANARY_B_SECRET_1', 777001);
INSERT INTO shared.customers (tenant_id, email, secret, amount) SELECT :'b_id', 'b' || g || '@b.example', 'CANARY_B_SECRET_' || (g + 1), g FROM generate_series(1, 200) g;
INSERT INTO shared.orders (tenant_id, customer_id, note) SELECT tenant_id, id, 'order of ' || secret FROM shared.customers;
RESET ROLE;
SELECT tenant_table_register('shared.customers'), tenant_table_register('shared.orders');
GRANT USAGE ON SCHEMA shared TO sx_pool, tenancy_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON shared.customers, shared.orders TO sx_pool;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA shared TO sx_pool, tenancy_tenant;

SET ROLE :a_role;
CREATE TABLE :a_role.notes (body text, id serial PRIMARY KEY);
INSERT INTO :a_role.notes (body) VALUES ('AAA note');
SET ROLE :b_role;
CREATE TABLE :b_role.notes (body text, id serial PRIMARY KEY);
INSERT INTO :b_role.notes (body) VALUES ('CANARY_B_NOTE');
RESET ROLE;
ANALYZE;
