/* backup: copies of tenants, outside of the database. */

CREATE OR REPLACE FUNCTION @extschema@.tenant_backup(
    tenant @extschema@.regtenant)
RETURNS tenancy.backup
AS 'MODULE_PATHNAME', 'tenancy_tenant_backup'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tenant_backup(@extschema@.regtenant) IS
'Asks for a backup of a tenant: of its schemas by pg_dump, and of its rows in shared tables, all in one snapshot. A job does it, by the command "backup" of tenancy.command_file. tenant: slug or id. Result: the row, which says later how it went. Errors: 42704 unknown tenant, or no such command; 55000 tenancy.backup_directory is not set, or there are no commands; 42501 within a tenant context. Rights: tenancy_admin. Side effects: a file below tenancy.backup_directory.';
REVOKE ALL ON FUNCTION @extschema@.tenant_backup(@extschema@.regtenant) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_backup(@extschema@.regtenant) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.tenant_restore(
    tenant @extschema@.regtenant, backup uuid, into_slug text DEFAULT NULL)
RETURNS tenancy.tenant
AS 'MODULE_PATHNAME', 'tenancy_tenant_restore'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tenant_restore(@extschema@.regtenant, uuid, text) IS
'Restores a backup into a new tenant, in two jobs: a command unpacks it, and one transaction fills the schemas as their owner, without more rights than he has, and compares the rows with those of the backup; then the tenant is active. Where that fails nothing of it stays but the tenant''s row, roles and empty schemas, failed. tenant: whose backup it is; an id where it is gone. backup: its id. into_slug: of the new tenant; null for that of the old one with -restored behind it. Result: the row of the new tenant, which is being provisioned, has the configuration of the old one, no plan, and no domain; tenancy.restoration says how it went. Errors: 42704 no such backup of this tenant; 55000 it has not succeeded or is gone; 22023, 42939, 23505 as tenant_create(); 42501 within a tenant context. Rights: tenancy_admin. Side effects: roles and schemas; files below tenancy.backup_directory, for the time being.';
REVOKE ALL ON FUNCTION @extschema@.tenant_restore(@extschema@.regtenant, uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_restore(@extschema@.regtenant, uuid, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.backup_verify(
    backup uuid)
RETURNS tenancy.backup
AS 'MODULE_PATHNAME', 'tenancy_backup_verify'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.backup_verify(uuid) IS
'Asks for a drill: a job restores the backup into a scratch database, compares number and digest of the rows of every table, records what it found in the row, and drops the database. backup: its id. Result: the row; verified_at is set when it is done and all is the same, error says what is not. Errors: 42704 unknown backup; 55000 it has not succeeded or is gone; 42501 within a tenant context. Rights: tenancy_admin. Side effects: a database, for the time being.';
REVOKE ALL ON FUNCTION @extschema@.backup_verify(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.backup_verify(uuid) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.backup_remove(
    backup uuid)
RETURNS tenancy.backup
AS 'MODULE_PATHNAME', 'tenancy_backup_remove'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.backup_remove(uuid) IS
'Has the file of a backup removed; the row stays. backup: its id. Result: the row, expiring. Errors: 42704 unknown backup; 55000 it has not ended, or is gone; 42501 within a tenant context. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.backup_remove(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.backup_remove(uuid) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.backup_policy_set(
    tenant @extschema@.regtenant, every interval, keep_for interval DEFAULT '30 days', keep integer DEFAULT NULL)
RETURNS tenancy.backup_policy
AS 'MODULE_PATHNAME', 'tenancy_backup_policy_set'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.backup_policy_set(@extschema@.regtenant, interval, interval, integer) IS
'Says how often a tenant is backed up, from now on, and which of its backups are kept; the last one that succeeded always is. tenant: slug or id. every: at least a minute. keep_for: how long; null for ever. keep: how many that have succeeded; null for all. Result: the row. Errors: 22023 bad values; 42704 unknown tenant; 42501 within a tenant context. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.backup_policy_set(@extschema@.regtenant, interval, interval, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.backup_policy_set(@extschema@.regtenant, interval, interval, integer) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.backup_policy_reset(
    tenant @extschema@.regtenant)
RETURNS tenancy.backup_policy
AS 'MODULE_PATHNAME', 'tenancy_backup_policy_reset'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.backup_policy_reset(@extschema@.regtenant) IS
'Takes back backup_policy_set(): the tenant is backed up no more by itself, and what there is is kept. tenant: slug or id. Result: the former row. Errors: 42704 unknown tenant, or no policy; 42501 within a tenant context. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.backup_policy_reset(@extschema@.regtenant) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.backup_policy_reset(@extschema@.regtenant) TO tenancy_admin;

