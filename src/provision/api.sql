/* provision: what tenants have outside of the database. */

CREATE OR REPLACE FUNCTION @extschema@.provision_infrastructure(
    tenant @extschema@.regtenant, spec jsonb DEFAULT '{}')
RETURNS tenancy.provision
AS 'MODULE_PATHNAME', 'tenancy_provision_infrastructure'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.provision_infrastructure(@extschema@.regtenant, jsonb) IS
'Provides what a tenant needs of the machine. tenant: slug or id. spec: {"allocation": as the request of resource_allocate(), "pooled": an entry of the pooler for it (true), "pool_size", "max_connections", "tablespace": one of its own (false)}. Result: the row, which is pending until a background worker has done it. Asked for again as it is, it is left alone. Errors: 22023; 42704 unknown tenant, or no command provision.infrastructure in tenancy.command_file; 55000 the tenant is not active, no command file, or it is being worked on; 42501 within a tenant context. Rights: tenancy_admin. Side effects: the events tenant.provision.active and .failed.';
REVOKE ALL ON FUNCTION @extschema@.provision_infrastructure(@extschema@.regtenant, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.provision_infrastructure(@extschema@.regtenant, jsonb) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.provision_database(
    tenant @extschema@.regtenant, config jsonb DEFAULT '{}')
RETURNS tenancy.provision
AS 'MODULE_PATHNAME', 'tenancy_provision_database'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.provision_database(@extschema@.regtenant, jsonb) IS
'Sees that the database of a tenant is there: the schema and role that tenant_create() has made. tenant: slug or id. config: {"own": a database beside this one (false)}. Result: the row, which is pending until a background worker has done it. Asked for again as it is, it is left alone. Errors: 22023; 42704 unknown tenant, or no command provision.database in tenancy.command_file; 55000 the tenant is not active, no command file, or it is being worked on; 42501 within a tenant context. Rights: tenancy_admin. Side effects: the events tenant.provision.active and .failed.';
REVOKE ALL ON FUNCTION @extschema@.provision_database(@extschema@.regtenant, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.provision_database(@extschema@.regtenant, jsonb) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.provision_application(
    tenant @extschema@.regtenant, config jsonb DEFAULT '{}')
RETURNS tenancy.provision
AS 'MODULE_PATHNAME', 'tenancy_provision_application'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.provision_application(@extschema@.regtenant, jsonb) IS
'Deploys the application of a tenant: runs the migrations of a bundle that have not been run, and routes its hosts to it. tenant: slug or id. config: {"hosts": [names] (its slug below tenancy.base_domain), "upstream": "host:port" of tenancy.upstreams, "bundle": name of a directory of migrations}; the command has defaults for the last two. The hosts must be proven by tenant_domain_verify(), or be below its slug. Result: the row, which is pending until a background worker has done it. Asked for again as it is, it is left alone. Errors: 22023, also for an upstream that the setting does not have; 42704 unknown tenant, or no command provision.application in tenancy.command_file; 23505 a host is another tenant''s; 55000 a host is not proven, the tenant is not active, no command file, or it is being worked on; 42501 within a tenant context. Rights: tenancy_admin. Side effects: the events tenant.provision.active and .failed.';
REVOKE ALL ON FUNCTION @extschema@.provision_application(@extschema@.regtenant, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.provision_application(@extschema@.regtenant, jsonb) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.provision_dns(
    tenant @extschema@.regtenant, config jsonb DEFAULT '{}')
RETURNS tenancy.provision
AS 'MODULE_PATHNAME', 'tenancy_provision_dns'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.provision_dns(@extschema@.regtenant, jsonb) IS
'Publishes a name of a tenant in the Domain Name System, with a record that says whose it is, and looks it up. tenant: slug or id. config: {"domain": a host name (its slug below tenancy.base_domain), "addresses": [IP addresses] or "target": another name (the default of the command), "ttl": seconds (300)}. Result: the row, which is pending until a background worker has done it. Asked for again as it is, it is left alone. Errors: 22023; 42704 unknown tenant, or no command provision.dns in tenancy.command_file; 55000 the tenant is not active, no command file, or it is being worked on; 23505 the name is another tenants; 42501 within a tenant context. Rights: tenancy_admin. Side effects: the events tenant.provision.active and .failed.';
REVOKE ALL ON FUNCTION @extschema@.provision_dns(@extschema@.regtenant, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.provision_dns(@extschema@.regtenant, jsonb) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.provision_ssl(
    tenant @extschema@.regtenant, domain text DEFAULT NULL, method text DEFAULT 'on-demand')
RETURNS tenancy.provision
AS 'MODULE_PATHNAME', 'tenancy_provision_ssl'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.provision_ssl(@extschema@.regtenant, text, text) IS
'Sees that a certificate is served for a name of a tenant; it is renewed by the job provision.check. tenant: slug or id. domain: a host name, its slug below tenancy.base_domain where it is null. method: "on-demand": the server asks domain_allowed() and gets it with the first connection, or "dns-01": it is got by a record of the Domain Name System. Result: the row, which is pending until a background worker has done it. Asked for again as it is, it is left alone. Errors: 22023; 42704 unknown tenant, or no command provision.ssl in tenancy.command_file; 55000 the tenant is not active, no command file, or it is being worked on; 23505 the name is another tenants; 42501 within a tenant context. Rights: tenancy_admin. Side effects: the events tenant.provision.active and .failed.';
REVOKE ALL ON FUNCTION @extschema@.provision_ssl(@extschema@.regtenant, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.provision_ssl(@extschema@.regtenant, text, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.provision_monitoring(
    tenant @extschema@.regtenant, config jsonb DEFAULT '{}')
RETURNS tenancy.provision
AS 'MODULE_PATHNAME', 'tenancy_provision_monitoring'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.provision_monitoring(@extschema@.regtenant, jsonb) IS
'Has a tenant monitored: a target to scrape, and rules. tenant: slug or id. config: {"target": "host:port" of tenancy.upstreams, "path"}; without a target the command has one. Result: the row, which is pending until a background worker has done it. Asked for again as it is, it is left alone. Errors: 22023; 42704 unknown tenant, or no command provision.monitoring in tenancy.command_file; 55000 the tenant is not active, no command file, or it is being worked on; 42501 within a tenant context. Rights: tenancy_admin. Side effects: the events tenant.provision.active and .failed.';
REVOKE ALL ON FUNCTION @extschema@.provision_monitoring(@extschema@.regtenant, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.provision_monitoring(@extschema@.regtenant, jsonb) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.provision_backups(
    tenant @extschema@.regtenant, config jsonb DEFAULT '{}')
RETURNS tenancy.provision
AS 'MODULE_PATHNAME', 'tenancy_provision_backups'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.provision_backups(@extschema@.regtenant, jsonb) IS
'Has a tenant backed up by a policy; makes a first backup at once and restores it in a drill. tenant: slug or id. config: {"every": interval (1 day), "keep_for": interval (30 days), "keep": how many, as backup_policy_set() has them, "drill": whether the first one is restored (true)}. Result: the row, which is pending until background workers have done it. Asked for again as it is, it is left alone. Errors: 22023, 22007; 42704 unknown tenant, or no command backup in tenancy.command_file; 55000 the tenant is not active, or it is being worked on; 42501 within a tenant context. Rights: tenancy_admin. Side effects: the events tenant.provision.active and .failed.';
REVOKE ALL ON FUNCTION @extschema@.provision_backups(@extschema@.regtenant, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.provision_backups(@extschema@.regtenant, jsonb) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.tenant_provision(
    tenant @extschema@.regtenant, spec jsonb DEFAULT '{}')
RETURNS tenancy.workflow
AS 'MODULE_PATHNAME', 'tenancy_tenant_provision'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tenant_provision(@extschema@.regtenant, jsonb) IS
'Provides all that a tenant needs outside of the database, by the workflow "provisioning". tenant: slug or id. spec: {component: what the function provision_<component>() takes, or false to leave it out}; what is not named gets its defaults. Result: the workflow, or the one that runs already; onboarding_progress() and onboarding_recover() are for it, too. Errors: 22023; 42704 unknown tenant; 42501 within a tenant context. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.tenant_provision(@extschema@.regtenant, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_provision(@extschema@.regtenant, jsonb) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.provision_check(
    tenant @extschema@.regtenant, component text DEFAULT NULL, repair boolean DEFAULT false)
RETURNS SETOF tenancy.provision
AS 'MODULE_PATHNAME', 'tenancy_provision_check'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.provision_check(@extschema@.regtenant, text, boolean) IS
'Has what a tenant has outside of the database looked at again, as the job provision.check does once a day. tenant: slug or id. component: one, or null for all. repair: do it again and then look. Result: the rows; background workers bring checked_at, or the state drifted with its error. Errors: 22023 unknown component; 42704, 55000 no command. Rights: tenancy_admin. Side effects: the event tenant.provision.drifted.';
REVOKE ALL ON FUNCTION @extschema@.provision_check(@extschema@.regtenant, text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.provision_check(@extschema@.regtenant, text, boolean) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.provision_remove(
    tenant @extschema@.regtenant, component text DEFAULT NULL, name text DEFAULT NULL)
RETURNS SETOF tenancy.provision
AS 'MODULE_PATHNAME', 'tenancy_provision_remove'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.provision_remove(@extschema@.regtenant, text, text) IS
'Removes what a tenant has outside of the database. tenant: slug or id, in whatever state. component: one, or null for all, the last first. name: of one domain, or null. Result: the rows; those with a command are removing until a background worker has done it. Called again it does again what has failed. Errors: 22023 unknown component; 42704, 55000 no command; 55000 it is being worked on just now. Rights: tenancy_admin. Side effects: the events tenant.provision.removed and .removal_failed.';
REVOKE ALL ON FUNCTION @extschema@.provision_remove(@extschema@.regtenant, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.provision_remove(@extschema@.regtenant, text, text) TO tenancy_admin;
