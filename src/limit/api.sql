/* limit: asking and setting. */

CREATE OR REPLACE FUNCTION @extschema@.rate_limit_configure(
    tenant @extschema@.regtenant, limits jsonb) RETURNS SETOF tenancy.rate_limit
AS 'MODULE_PATHNAME', 'tenancy_rate_limit_configure'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.rate_limit_configure(@extschema@.regtenant, jsonb) IS
'Sets the rate limits of a tenant, all at once: what is not in the document is no more. tenant: slug or id; null for all tenants, where a tenant''s own limit of the same name takes its place. limits: global_limits (of the tenant as a whole), endpoint_limits, user_limits (each user of the tenant), concurrency_limits (at once, until the end of the transaction), service_limits (all tenants together, for null alone); each a list of {limit, period_seconds, endpoint, name, burst, shadow}; and burst_allowance, sliding_window, shadow, on_full for all of them. endpoint: a pattern in which * stands for anything. burst: how many beyond the first may come at once; left out, limit - 1. sliding_window: true counts by windows instead of an even pace (GCRA). shadow: counts, denies nothing. on_full: open or closed, when shared memory has no room (tenancy.max_rate_subjects). Result: the rows. Errors: 22023 for the document; 42704 unknown tenant. Rights: tenancy_admin. Side effects: holds from the next request; counts stay where algorithm, subject and period do.';
REVOKE ALL ON FUNCTION @extschema@.rate_limit_configure(@extschema@.regtenant, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.rate_limit_configure(@extschema@.regtenant, jsonb) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.rate_limit_enforce(
    tenant @extschema@.regtenant, endpoint text, user_id text DEFAULT NULL, cost integer DEFAULT 1)
RETURNS tenancy.rate_limit_result
AS 'MODULE_PATHNAME', 'tenancy_rate_limit_enforce'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.rate_limit_enforce(@extschema@.regtenant, text, text, integer) IS
'May this request come now? Counts it if so, by all limits that match or by none. tenant: slug or id. endpoint: what the patterns are matched against, such as GET /api/things. user_id: whose request it is; null leaves limits per user out. cost: how much it counts; 0 asks without counting. Result: limited, and the rest of tenancy.rate_limit_result; times in milliseconds. Counted in shared memory: also in READ ONLY transactions, and also when the transaction fails. Errors: 22023 negative cost, or too long; 42704 unknown tenant. Rights: tenancy_admin, tenancy_app, and a tenant for itself.';
REVOKE ALL ON FUNCTION @extschema@.rate_limit_enforce(@extschema@.regtenant, text, text, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.rate_limit_enforce(@extschema@.regtenant, text, text, integer) TO tenancy_admin, tenancy_app, tenancy_tenant;

CREATE OR REPLACE FUNCTION tenancy.rate_limit_read(
    OUT policy_id uuid, OUT tenant_id uuid, OUT allowed bigint, OUT limited bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tenancy_rate_limit_read'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION tenancy.rate_limit_read() IS
'The subjects of rate limits that shared memory knows, with how many requests each was let through and denied since it is known. Rights: tenancy_admin, tenancy_app, tenancy_auditor; a tenant in its context is shown its own alone.';
REVOKE ALL ON FUNCTION tenancy.rate_limit_read() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.rate_limit_read() TO tenancy_admin, tenancy_app, tenancy_auditor, tenancy_tenant;

CREATE OR REPLACE VIEW tenancy.rate_limit_stat AS
    SELECT s.tenant_id, t.slug, r.name AS policy, r.shadow, pg_catalog.count(*) AS subjects,
           pg_catalog.sum(s.allowed)::bigint AS allowed, pg_catalog.sum(s.limited)::bigint AS limited
      FROM tenancy.rate_limit_read() s
      JOIN tenancy.rate_limit r ON r.id = s.policy_id
      LEFT JOIN tenancy.tenant t ON t.id = s.tenant_id
     GROUP BY s.tenant_id, t.slug, r.name, r.shadow;
COMMENT ON VIEW tenancy.rate_limit_stat IS
'Requests let through and denied per tenant and rate limit, of subjects that shared memory still knows; for a shadow limit, limited is what it would have denied.';
REVOKE ALL ON tenancy.rate_limit_stat FROM PUBLIC;
GRANT SELECT ON tenancy.rate_limit_stat TO tenancy_admin, tenancy_auditor;

CREATE OR REPLACE FUNCTION @extschema@.quota_check(
    tenant @extschema@.regtenant, resource text, amount numeric DEFAULT 1) RETURNS tenancy.quota_result
AS 'MODULE_PATHNAME', 'tenancy_quota_check'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.quota_check(@extschema@.regtenant, text, numeric) IS
'May the tenant use this much more of a resource? Asks, counts nothing: counted tables and storage are enforced by themselves, other metrics are counted by usage_record(). tenant: slug or id. resource: a metric; users, entities, plugins, storage, api_calls and custom_domains have limits in the plans. amount: in its unit. Result: allowed, what is used of which limit, when it begins anew (sums each calendar month in UTC, levels never), and why. A limit beyond which the plan has a price is soft. Answered from shared memory, where events are counted as they commit. Errors: 42704 unknown tenant or metric. Rights: tenancy_admin, tenancy_app, and a tenant for itself.';
REVOKE ALL ON FUNCTION @extschema@.quota_check(@extschema@.regtenant, text, numeric) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.quota_check(@extschema@.regtenant, text, numeric) TO tenancy_admin, tenancy_app, tenancy_tenant;

CREATE OR REPLACE FUNCTION @extschema@.quota_set(
    tenant @extschema@.regtenant, resource text, soft numeric, hard numeric,
    refuses_events boolean DEFAULT false) RETURNS tenancy.quota
AS 'MODULE_PATHNAME', 'tenancy_quota_set'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.quota_set(@extschema@.regtenant, text, numeric, numeric, boolean) IS
'Sets the quota of a tenant for a metric, in the place of its plan''s. tenant: slug or id. resource: the metric. soft: beyond it quota_check() says so; hard: beyond it statements are refused; null or -1 for no limit. refuses_events: whether usage_record() and its kin also refuse (53400) an event that would pass the hard limit; otherwise they record what has happened, whatever the limit. A sum or count is then exact under concurrency; a level is refused when it is above the limit itself. Result: the row. Errors: 22023 negative, soft above hard, or events of a metric that cannot be refused (unique, weighted_sum); 42704 unknown tenant or metric. Rights: tenancy_admin. Side effects: holds from the next statement.';
REVOKE ALL ON FUNCTION @extschema@.quota_set(@extschema@.regtenant, text, numeric, numeric, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.quota_set(@extschema@.regtenant, text, numeric, numeric, boolean) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.quota_limit_set(
    limit_key text, metric text, refuses_events boolean DEFAULT false) RETURNS tenancy.quota_limit
AS 'MODULE_PATHNAME', 'tenancy_quota_limit_set'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.quota_limit_set(text, text, boolean) IS
'Makes a limit that plans name (plan_create(), or feature_limits of tenant_configure()) a quota of a metric. limit_key: the name in the plans. metric: whose use it limits. refuses_events: as for quota_set(), for all tenants that have the limit from their plan. Result: the row; it comes before the shipped one of that limit. Errors: 22023 a name too long, or events that cannot be refused; 42704 unknown metric. Rights: tenancy_admin. Side effects: holds from the next statement.';
REVOKE ALL ON FUNCTION @extschema@.quota_limit_set(text, text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.quota_limit_set(text, text, boolean) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.quota_reset(tenant @extschema@.regtenant, resource text)
RETURNS tenancy.quota
AS 'MODULE_PATHNAME', 'tenancy_quota_reset'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.quota_reset(@extschema@.regtenant, text) IS
'Takes back quota_set(): the plan''s limit holds again. tenant: slug or id. resource: the metric. Result: the former row. Errors: 42704 unknown tenant, or nothing set. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.quota_reset(@extschema@.regtenant, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.quota_reset(@extschema@.regtenant, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION tenancy.quota_count() RETURNS trigger
AS 'MODULE_PATHNAME', 'tenancy_quota_count'
LANGUAGE C;
COMMENT ON FUNCTION tenancy.quota_count() IS
'Trigger: counts the rows of a table for a quota; made by quota_count_table(). Errors: 53400 when the statement would pass the hard limit; 0A000 when a row would move to another tenant, or all of a shared table be truncated.';
GRANT EXECUTE ON FUNCTION tenancy.quota_count() TO PUBLIC;

CREATE OR REPLACE FUNCTION @extschema@.quota_count_table(metric text, relation regclass) RETURNS regclass
AS 'MODULE_PATHNAME', 'tenancy_quota_count_table'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.quota_count_table(text, regclass) IS
'Makes a metric the number of rows of a table, exact under concurrency, and its hard quota one that no statement can pass (53400); deletes always work. Several tables may count for one metric. metric: a level (max or latest). relation: a table of a tenant, a shared table, or one of a template, whose tenants then count theirs; its partitions and children too, also those that it gets later. Result: the table. Errors: 42501 not the owner; 42704 no such level; 42809 not a table. Rights: tenancy_admin, and owner of the table. Side effects: triggers that no tenant can take away; waits for writers of the table; rows of a shared table cannot move to another tenant by UPDATE.';
REVOKE ALL ON FUNCTION @extschema@.quota_count_table(text, regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.quota_count_table(text, regclass) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.quota_uncount_table(relation regclass) RETURNS regclass
AS 'MODULE_PATHNAME', 'tenancy_quota_uncount_table'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.quota_uncount_table(regclass) IS
'Takes back quota_count_table(): the rows of the table count for no quota any more. relation: the table, with its partitions and children; of a template, for tenants that come later. Result: the table. Errors: 42501 not the owner; 42704 not counted; 42809 not a table. Rights: tenancy_admin, and owner of the table. Side effects: waits for writers of the table.';
REVOKE ALL ON FUNCTION @extschema@.quota_uncount_table(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.quota_uncount_table(regclass) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.quota_recount(tenant @extschema@.regtenant, metric text) RETURNS bigint
AS 'MODULE_PATHNAME', 'tenancy_quota_recount'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.quota_recount(@extschema@.regtenant, text) IS
'Counts the rows of a tenant''s counted tables anew: after rows came by what fires no triggers for each statement, such as the apply worker of logical replication. tenant: slug or id. metric: what they count for. Result: how many rows there are. Errors: 25001 this transaction has changed such rows; 42704 unknown tenant, or no such level. Rights: tenancy_admin. Side effects: waits for writers of the tables, and they for the end of the transaction.';
REVOKE ALL ON FUNCTION @extschema@.quota_recount(@extschema@.regtenant, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.quota_recount(@extschema@.regtenant, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION tenancy.quota_read(
    tenant uuid, OUT resource text, OUT used numeric, OUT soft numeric, OUT hard numeric,
    OUT source text, OUT resets_at timestamptz)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tenancy_quota_read'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION tenancy.quota_read(uuid) IS
'The quotas of a tenant, where they come from and what is used. Rights: tenancy_admin, tenancy_app, tenancy_auditor, and a tenant for itself.';
REVOKE ALL ON FUNCTION tenancy.quota_read(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.quota_read(uuid) TO tenancy_admin, tenancy_app, tenancy_auditor, tenancy_tenant;

CREATE OR REPLACE FUNCTION tenancy.refusal_read(
    tenant uuid, OUT kind text, OUT name text, OUT what text, OUT refusals bigint,
    OUT refused_at timestamptz, OUT used numeric, OUT hard numeric, OUT wanted numeric)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tenancy_refusal_read'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION tenancy.refusal_read(uuid) IS
'What a tenant was refused since the server started: per limit how often, and of the last time when, what was used, the limit, and what was wanted on top. tenant: id. Errors: 42704. Rights: tenancy_admin, tenancy_app, tenancy_auditor, and a tenant for itself.';
REVOKE ALL ON FUNCTION tenancy.refusal_read(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.refusal_read(uuid) TO tenancy_admin, tenancy_app, tenancy_auditor, tenancy_tenant;

CREATE OR REPLACE FUNCTION tenancy.refusal_count_read(
    OUT tenant_id uuid, OUT kind text, OUT what text, OUT refusals bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'tenancy_refusal_count_read'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION tenancy.refusal_count_read() IS
'How often tenants were refused something since the server started: a row per tenant and limit. Errors: 42501 within a tenant context. Rights: tenancy_admin, tenancy_auditor.';
REVOKE ALL ON FUNCTION tenancy.refusal_count_read() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.refusal_count_read() TO tenancy_admin, tenancy_auditor;
