-- The logins of the catalogue as they are before every attack.
SELECT format('CREATE ROLE %I', r) FROM unnest(ARRAY['sx_owner', 'sx_a', 'sx_b', 'sx_pool', 'sx_admin', 'sx_nobody']) r
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) \gexec
ALTER ROLE sx_owner NOLOGIN NOSUPERUSER NOCREATEROLE NOBYPASSRLS NOREPLICATION;
ALTER ROLE sx_a LOGIN NOSUPERUSER NOCREATEROLE NOBYPASSRLS NOREPLICATION;
ALTER ROLE sx_b LOGIN NOSUPERUSER NOCREATEROLE NOBYPASSRLS NOREPLICATION;
ALTER ROLE sx_pool LOGIN INHERIT NOSUPERUSER NOCREATEROLE NOBYPASSRLS NOREPLICATION;
ALTER ROLE sx_admin LOGIN SUPERUSER;
SELECT format('ALTER ROLE %I NOSUPERUSER NOCREATEROLE NOBYPASSRLS NOREPLICATION', rolname) FROM pg_roles WHERE rolname ~ '^t_[a-z2-7]{26}$' \gexec
SELECT format('ALTER ROLE %I RESET ALL', rolname) FROM pg_roles WHERE rolname ~ '^(sx_.*|t_[a-z2-7]{26})$' \gexec
SELECT format('REVOKE %I FROM %I', g.rolname, m.rolname) FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
 WHERE m.rolname ~ '^(sx_.*|t_[a-z2-7]{26})$' AND g.rolname NOT IN ('tenancy_tenant') \gexec
GRANT tenancy_app TO sx_pool;
