/* privacy: retention, legal holds, deletion. */

CREATE OR REPLACE FUNCTION tenancy.hold_check() RETURNS trigger
AS 'MODULE_PATHNAME', 'tenancy_hold_check'
LANGUAGE C;
COMMENT ON FUNCTION tenancy.hold_check() IS
'Trigger: keeps rows that are under legal hold; made by legal_hold_set(). Errors: 55000 for a held row.';
GRANT EXECUTE ON FUNCTION tenancy.hold_check() TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.hold_registered() RETURNS trigger
AS 'MODULE_PATHNAME', 'tenancy_hold_registered'
LANGUAGE C;
COMMENT ON FUNCTION tenancy.hold_registered() IS
'Trigger: a table that becomes a shared one is under the holds of tenants.';
REVOKE ALL ON FUNCTION tenancy.hold_registered() FROM PUBLIC;

CREATE OR REPLACE TRIGGER hold_registered AFTER INSERT ON tenancy.tenant_table
    FOR EACH ROW EXECUTE FUNCTION tenancy.hold_registered();
ALTER TABLE tenancy.tenant_table ENABLE ALWAYS TRIGGER hold_registered;

CREATE OR REPLACE FUNCTION @extschema@.legal_hold_set(
    scope text, reason text, case_id text, tenant @extschema@.regtenant DEFAULT NULL,
    relation regclass DEFAULT NULL, predicate text DEFAULT NULL, subject jsonb DEFAULT NULL,
    blocks_updates boolean DEFAULT true) RETURNS tenancy.legal_hold
AS 'MODULE_PATHNAME', 'tenancy_legal_hold_set'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.legal_hold_set(text, text, text, @extschema@.regtenant, regclass, text, jsonb, boolean) IS
'Puts data under legal hold: until a second person releases it nobody deletes it, owners, superusers and cascades included (55000), nor truncates, drops, detaches, renames or retypes a table that has some; retention passes it by and tenant_purge() is refused. scope: "tenant", all tables of its schemas and its rows of shared tables, also later ones; "subject", rows in these that have one of the values of subject; "relation", a table or the rows of it that fit the predicate. reason, case_id: for the record. tenant: slug or id; for a relation, its rows alone. relation: the table, with its partitions. predicate: a condition of columns, constants and immutable functions of the server, such as customer = 42. subject: columns and values, {"email": "a@example.com"}. blocks_updates: false lets held rows change, but not out of the hold. Result: the row of the hold. Errors: 22023 bad or missing arguments; 22004 a null; 42704 unknown tenant; 42809 no table; those of the predicate. Rights: tenancy_admin. Side effects: triggers tenancy_hold on what is covered; waits for its writers; the event legal_hold.set, of no tenant.';
REVOKE ALL ON FUNCTION @extschema@.legal_hold_set(text, text, text, @extschema@.regtenant, regclass, text, jsonb, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.legal_hold_set(text, text, text, @extschema@.regtenant, regclass, text, jsonb, boolean) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.legal_hold_release(hold uuid, reason text) RETURNS tenancy.legal_hold
AS 'MODULE_PATHNAME', 'tenancy_legal_hold_release'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.legal_hold_release(uuid, text) IS
'Releases a legal hold. hold: its id. reason: for the record. Result: the row of the hold, which stays. Errors: 42501 for the login (session_user) that has set it: a second person releases; 55000 it has been released; 42704 unknown; 22023 no reason. Rights: tenancy_admin. Side effects: triggers go where nothing is held any more; the event legal_hold.release, of no tenant.';
REVOKE ALL ON FUNCTION @extschema@.legal_hold_release(uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.legal_hold_release(uuid, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.retention_policy_set(
    relation regclass, "time" text, period interval, action text, legal_basis text,
    batch_rows integer DEFAULT 5000, anonymise jsonb DEFAULT NULL, filter text DEFAULT NULL)
RETURNS tenancy.retention_policy
AS 'MODULE_PATHNAME', 'tenancy_retention_policy_set'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.retention_policy_set(regclass, text, interval, text, text, integer, jsonb, text) IS
'Says how long rows of a table are kept, and what becomes of them then; one policy a table and action. relation: a shared table, one of a template, whose tenants'' copies it then is for, or any table that the caller owns. time: the column that a row''s age is counted from, or an expression of columns and immutable functions of the server; timestamptz, timestamp (of UTC) or date. period: how long; null for retention_days of the tenant''s configuration or else of its plan''s limits (-1: for ever). action: "delete"; "anonymise", by the argument of that name; "drop_partition", whole partitions of a table partitioned by ranges of that column. legal_basis: why, for the record. batch_rows: the most rows at once where an index has the time, 1 to 100000; else the table is read in parts. Batches are made as large as take 10 ms. anonymise: columns, and the constant that takes the place of what they hold, or {"expression": "…"}. filter: a condition, as for time; only rows that fit. Result: the policy. Errors: 22023, 42804 and 42703 for the arguments; 42501 not the owner; 42809 no table, or a tenant''s own or the extension''s. Rights: tenancy_admin. Side effects: enforced from the next run of the job retention.start on.';
REVOKE ALL ON FUNCTION @extschema@.retention_policy_set(regclass, text, interval, text, text, integer, jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.retention_policy_set(regclass, text, interval, text, text, integer, jsonb, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.retention_policy_remove(policy uuid) RETURNS tenancy.retention_policy
AS 'MODULE_PATHNAME', 'tenancy_retention_policy_remove'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.retention_policy_remove(uuid) IS
'Takes a retention policy back, with the periods of single tenants. policy: its id. Result: the row that was. Errors: 42704 unknown. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.retention_policy_remove(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.retention_policy_remove(uuid) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.retention_period_set(
    tenant @extschema@.regtenant, policy uuid, period interval) RETURNS tenancy.retention_period
AS 'MODULE_PATHNAME', 'tenancy_retention_period_set'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.retention_period_set(@extschema@.regtenant, uuid, interval) IS
'Gives a tenant a period of its own in the place of a policy''s. tenant: slug or id. policy: id. period: longer than nothing; null takes it back. Result: the row, or null where there was none to take back. Errors: 42704 unknown tenant or policy; 22023 a period of nothing. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.retention_period_set(@extschema@.regtenant, uuid, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.retention_period_set(@extschema@.regtenant, uuid, interval) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.retention_enforce(
    tenant @extschema@.regtenant DEFAULT NULL, dry_run boolean DEFAULT false,
    OUT policy_id uuid, OUT relation text, OUT tenant_id uuid, OUT action text, OUT rows bigint,
    OUT partitions integer, OUT oldest timestamptz, OUT held bigint, OUT referenced bigint,
    OUT reason text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tenancy_retention_enforce'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.retention_enforce(@extschema@.regtenant, boolean) IS
'Enforces all retention policies in the transaction of the caller, which keeps the rows locked until it commits; the job retention.start does the same in small transactions. As the owner of each table, in a restricted operation, in the order of foreign keys; rows that somebody else has locked are passed by. tenant: slug or id: its rows alone; null for all. dry_run: only count. Result: for each table, or partition, with something overdue: how many rows went or were anonymised, how many partitions were dropped, the oldest, how many stayed under legal hold, how many because others refer to them or their deletion failed, and why. Errors: 42704 unknown tenant; 42501 within a tenant context. Rights: tenancy_admin. Side effects: rows of tenancy.retention_log, events retention.enforce.';
REVOKE ALL ON FUNCTION @extschema@.retention_enforce(@extschema@.regtenant, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.retention_enforce(@extschema@.regtenant, boolean) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.tenant_delete(
    tenant @extschema@.regtenant, grace interval DEFAULT '30 days', reason text DEFAULT NULL)
RETURNS tenancy.tenant
AS 'MODULE_PATHNAME', 'tenancy_tenant_delete'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tenant_delete(@extschema@.regtenant, interval, text) IS
'Deletes a tenant, for the time being: it is deactivated, nobody enters it, and its data stays. tenant: slug or id. grace: from when on tenant_purge() may remove it for good. reason: for the record. Result: the row. Errors: 55000 in a state from which it cannot be deleted; 22023 a negative grace; 42704 unknown tenant. Rights: tenancy_admin. Side effects: subscriptions are cancelled to the end of their periods; a row of tenancy.tenant_deletion; the event tenant.deactivate.';
REVOKE ALL ON FUNCTION @extschema@.tenant_delete(@extschema@.regtenant, interval, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_delete(@extschema@.regtenant, interval, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.tenant_undelete(tenant @extschema@.regtenant) RETURNS tenancy.tenant
AS 'MODULE_PATHNAME', 'tenancy_tenant_undelete'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tenant_undelete(@extschema@.regtenant) IS
'Takes a deletion back, until the purge begins. tenant: slug or id. Result: the row, active. Errors: 55000 it is not deleted; 42704 unknown tenant. Rights: tenancy_admin. Side effects: subscriptions that the deletion cancelled and that have not ended go on; the event tenant.activate.';
REVOKE ALL ON FUNCTION @extschema@.tenant_undelete(@extschema@.regtenant) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_undelete(@extschema@.regtenant) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.tenant_purge(
    tenant @extschema@.regtenant, force boolean DEFAULT false, dry_run boolean DEFAULT false)
RETURNS tenancy.deletion_certificate
AS 'MODULE_PATHNAME', 'tenancy_tenant_purge'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tenant_purge(@extschema@.regtenant, boolean, boolean) IS
'Removes a deleted tenant for good, in the transaction of the caller: its rows of shared tables, its schemas, bound logins and roles, and its rows in the extension''s tables. What was provisioned for it outside of the database goes first, by jobs: then the rest goes by jobs, too, as in tenant_purge_start(). Issued documents, the books and what they refer to stay, as the certificate says, and an empty row of the tenant for them. tenant: slug or id. force: now, and not after the grace period. dry_run: does all of it and undoes it again. Result: the certificate, whose document lists what was removed and kept, with its hash; it is null while jobs are at it. Errors: 55000 under legal hold, not deleted, or in the grace period; 55006 sessions are in it; 2BP01 views or foreign keys of others depend on its tables; 42704 unknown tenant. Rights: tenancy_admin. Side effects: the event tenant.deprovision.';
REVOKE ALL ON FUNCTION @extschema@.tenant_purge(@extschema@.regtenant, boolean, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_purge(@extschema@.regtenant, boolean, boolean) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.tenant_purge_start(
    tenant @extschema@.regtenant, force boolean DEFAULT false)
RETURNS tenancy.deletion_certificate
AS 'MODULE_PATHNAME', 'tenancy_tenant_purge_start'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tenant_purge_start(@extschema@.regtenant, boolean) IS
'The same as tenant_purge() by jobs of the kind tenant.purge, which commit as they go, for tenants with much data. Called again for a tenant whose purge got stuck, it goes on. tenant: slug or id. force: now, and not after the grace period. Result: the certificate, whose document is null until all is removed. Errors: as of tenant_purge(). Rights: tenancy_admin. Side effects: the tenant cannot be undeleted any more.';
REVOKE ALL ON FUNCTION @extschema@.tenant_purge_start(@extschema@.regtenant, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_purge_start(@extschema@.regtenant, boolean) TO tenancy_admin;

CREATE OR REPLACE VIEW tenancy.retention AS
    SELECT o.relation, o.kept_for, o.legal_basis, o.set_by, o.oldest
      FROM (VALUES
        ('tenancy.job_done', current_setting('tenancy.job_retention')::interval,
         'operation of the service', 'tenancy.job_retention, tenancy.job_history',
         (SELECT min(d.finished_at) FROM tenancy.job_done d)),
        ('tenancy.job_run', interval '30 days',
         'operation of the service', 'the extension',
         (SELECT min(r.started_at) FROM tenancy.job_run r)),
        ('tenancy.latency_hour', nullif(current_setting('tenancy.latency_hour_retention')::interval, '0'),
         'operation of the service', 'tenancy.latency_hour_retention',
         (SELECT min(l.hour) FROM tenancy.latency_hour l)),
        ('tenancy.outbox_event', current_setting('tenancy.event_retention')::interval,
         'operation of the service', 'tenancy.event_retention',
         (SELECT min(e.created_at) FROM tenancy.outbox_event e)),
        ('tenancy.retention_log', current_setting('tenancy.retention_log_retention')::interval,
         'accountability', 'tenancy.retention_log_retention',
         (SELECT min(l.started_at) FROM tenancy.retention_log l)),
        ('tenancy.usage_event', nullif(current_setting('tenancy.usage_event_retention')::interval, '0'),
         'performance of the contract', 'tenancy.usage_event_retention',
         (SELECT min(u.occurred_at) FROM tenancy.usage_event u)),
        ('tenancy.usage_hour', nullif(current_setting('tenancy.usage_hour_retention')::interval, '0'),
         'performance of the contract', 'tenancy.usage_hour_retention',
         (SELECT min(u.hour) FROM tenancy.usage_hour u)),
        ('tenancy.usage_minute', current_setting('tenancy.usage_minute_retention')::interval,
         'operation of the service', 'tenancy.usage_minute_retention',
         (SELECT min(u.minute) FROM tenancy.usage_minute u))
      ) AS o (relation, kept_for, legal_basis, set_by, oldest)
    UNION ALL
    SELECT pg_catalog.format('%I.%I', p.schema_name, p.table_name)
               || CASE WHEN p.template IS NULL THEN '' ELSE ', of each tenant of template ' || p.template END,
           p.period, p.legal_basis, 'retention_policy_set(), to ' || p.action,
           (SELECT pg_catalog.max(l.cutoff) FROM tenancy.retention_log l WHERE l.policy_id = p.id AND l.finished_at IS NOT NULL)
      FROM tenancy.retention_policy p;
COMMENT ON VIEW tenancy.retention IS
'What is kept how long, and why: the extension''s own tables by its settings, those of applications by their policies. kept_for: null for ever or, of a policy, as long as the plan of each tenant says. oldest: the oldest row; of a policy the time up to which a run has enforced it, null for none yet. What is not here is kept as the comment of its table says.';
REVOKE ALL ON tenancy.retention FROM PUBLIC;
GRANT SELECT ON tenancy.retention TO tenancy_admin, tenancy_auditor;
