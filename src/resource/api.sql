/* resource: giving, using, explaining, sizing. */

CREATE OR REPLACE FUNCTION @extschema@.resource_capacity_set(
    resource text, capacity numeric, overcommit numeric DEFAULT 1) RETURNS tenancy.resource_capacity
AS 'MODULE_PATHNAME', 'tenancy_resource_capacity_set'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.resource_capacity_set(text, numeric, numeric) IS
'Declares what the server has of a resource. resource: connections, cpu_seconds_per_minute (60 a core), memory_mb or storage_gb. capacity: in that unit. overcommit: how many times it may be promised. Result: the row. Errors: 22023 unknown resource, or negative; 53000 when more is promised already. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.resource_capacity_set(text, numeric, numeric) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.resource_capacity_set(text, numeric, numeric) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.resource_allocate(
    tenant @extschema@.regtenant, request jsonb) RETURNS tenancy.allocation
AS 'MODULE_PATHNAME', 'tenancy_resource_allocate'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.resource_allocate(@extschema@.regtenant, jsonb) IS
'Allocates resources to a tenant. tenant: slug or id. request: {requests, limits, scaling}; the first two each with connections, cpu_seconds_per_minute, memory_mb, storage_gb. Requests are promised out of the declared capacity. Limits hold: near the end of cpu_seconds_per_minute sessions are warned, beyond it statements wait, then are refused, and those that run are cancelled (53400); beyond connections no session enters or logs in (53300); beyond storage_gb nothing is added (53400); memory_mb becomes ceilings of work_mem (a quarter of a session''s share) and maintenance_work_mem (its share), where the share is memory_mb / connections, or an eighth. limits.settings: ceilings of settings as for ceiling_set(), in the place of the plan''s, as {"work_mem": "8MB"}. scaling: {resource: {min, max, target_percent}} for cpu_seconds_per_minute and storage_gb: how far resource_autoscale() may change a limit, and how full it is to be (70). Result: the row. Errors: 22023 for the document; 42704 unknown tenant; 53000 not enough capacity left; 55000 it has an allocation. Rights: tenancy_admin. Side effects: holds from the next statement, ceilings from the next transaction.';
REVOKE ALL ON FUNCTION @extschema@.resource_allocate(@extschema@.regtenant, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.resource_allocate(@extschema@.regtenant, jsonb) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.resource_scale(
    tenant @extschema@.regtenant, scaling jsonb) RETURNS tenancy.allocation
AS 'MODULE_PATHNAME', 'tenancy_resource_scale'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.resource_scale(@extschema@.regtenant, jsonb) IS
'Changes the allocation of a tenant. tenant: slug or id. scaling: as the request of resource_allocate(); what is left out stays, null takes away. Result: the row. Errors: 22023 for the document; 42704 unknown tenant; 53000 not enough capacity left; 55000 it has no allocation. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.resource_scale(@extschema@.regtenant, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.resource_scale(@extschema@.regtenant, jsonb) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.tenant_scale(
    tenant @extschema@.regtenant, scaling jsonb) RETURNS tenancy.allocation
AS 'MODULE_PATHNAME', 'tenancy_resource_scale'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tenant_scale(@extschema@.regtenant, jsonb) IS
'The same as resource_scale(), by the name that goes with the other functions of a tenant. Arguments, result, errors: those of resource_scale(). Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.tenant_scale(@extschema@.regtenant, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_scale(@extschema@.regtenant, jsonb) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.resource_deallocate(
    tenant @extschema@.regtenant, allocation uuid) RETURNS tenancy.allocation
AS 'MODULE_PATHNAME', 'tenancy_resource_deallocate'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.resource_deallocate(@extschema@.regtenant, uuid) IS
'Releases an allocation: its promises are free again, its limits hold no more. tenant: slug or id. allocation: of tenancy.allocation. Result: the row. Errors: 42704 unknown tenant or allocation; 55000 released before. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.resource_deallocate(@extschema@.regtenant, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.resource_deallocate(@extschema@.regtenant, uuid) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.resource_usage(tenant @extschema@.regtenant) RETURNS jsonb
AS 'MODULE_PATHNAME', 'tenancy_resource_usage'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.resource_usage(@extschema@.regtenant) IS
'What a tenant uses now and has used. tenant: slug or id. Result: cpu (seconds so far; budget_used, where 1 is a minute''s budget and more is debt), memory, storage (bytes), network (bytes sent, and received as far as the server shows them), database (connections, calls, rows, blocks, WAL), each with its limit; counters up to the last flush. Errors: 42704. Rights: the control plane, and a tenant for itself.';
REVOKE ALL ON FUNCTION @extschema@.resource_usage(@extschema@.regtenant) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.resource_usage(@extschema@.regtenant) TO tenancy_admin, tenancy_app, tenancy_auditor, tenancy_tenant;

CREATE OR REPLACE FUNCTION @extschema@.resource_metrics(
    tenant @extschema@.regtenant, from_time timestamptz, to_time timestamptz)
RETURNS TABLE (hour timestamptz, calls bigint, cpu_seconds numeric, elapsed_seconds numeric,
    rows bigint, blocks_hit bigint, blocks_read bigint, blocks_written bigint,
    temp_blocks_written bigint, wal_bytes bigint, storage_bytes bigint, bytes_sent bigint,
    bytes_received bigint)
AS 'MODULE_PATHNAME', 'tenancy_resource_metrics'
LANGUAGE C STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.resource_metrics(@extschema@.regtenant, timestamptz, timestamptz) IS
'What a tenant used, by the hour. tenant: slug or id. from_time, to_time: the second is excluded. Result: a row an hour in which it did something. Errors: 22023 bad times; 42704 unknown tenant. Rights: the control plane, and a tenant for itself.';
REVOKE ALL ON FUNCTION @extschema@.resource_metrics(@extschema@.regtenant, timestamptz, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.resource_metrics(@extschema@.regtenant, timestamptz, timestamptz) TO tenancy_admin, tenancy_app, tenancy_auditor, tenancy_tenant;

CREATE OR REPLACE FUNCTION tenancy.cpu_budget_used(tenant uuid) RETURNS double precision
AS 'MODULE_PATHNAME', 'tenancy_cpu_budget_used'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.cpu_budget_used(uuid) IS
'How much of its CPU budget a tenant has used: 1 is a minute''s budget, more is debt. Rights: the control plane, and a tenant for itself.';
REVOKE ALL ON FUNCTION tenancy.cpu_budget_used(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.cpu_budget_used(uuid) TO tenancy_admin, tenancy_app, tenancy_auditor, tenancy_tenant;

CREATE OR REPLACE FUNCTION tenancy.tenant_sessions(tenant uuid) RETURNS integer
AS 'MODULE_PATHNAME', 'tenancy_tenant_sessions'
LANGUAGE C STRICT VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.tenant_sessions(uuid) IS
'How many other sessions are in the tenant now. Rights: the control plane, and a tenant for itself.';
REVOKE ALL ON FUNCTION tenancy.tenant_sessions(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenancy.tenant_sessions(uuid) TO tenancy_admin, tenancy_app, tenancy_auditor, tenancy_tenant;

CREATE OR REPLACE FUNCTION @extschema@.limit_explain(tenant @extschema@.regtenant)
RETURNS TABLE (kind text, name text, used numeric, soft numeric, hard numeric, resets_at timestamptz,
    source text, explanation text, refusals bigint, last_refused_at timestamptz, last_refusal text)
AS 'MODULE_PATHNAME', 'tenancy_limit_explain'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.limit_explain(@extschema@.regtenant) IS
'Every limit of a tenant, where it comes from, what is used of it, what it does now, and what it has refused since the server started: why was this refused? tenant: slug or id. Result: quotas, CPU budget, connections, rate limits and ceilings of settings; a limit that is no more, for what it refused. refusals: how many; of a CPU budget also warnings and delays. last_refusal: what was used of which limit then, and what was wanted. Errors: 42704 unknown tenant. Rights: tenancy_admin, tenancy_app, tenancy_auditor, and a tenant for itself.';
REVOKE ALL ON FUNCTION @extschema@.limit_explain(@extschema@.regtenant) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.limit_explain(@extschema@.regtenant) TO tenancy_admin, tenancy_app, tenancy_auditor, tenancy_tenant;

CREATE OR REPLACE FUNCTION @extschema@.resource_enforce(tenant @extschema@.regtenant DEFAULT NULL)
RETURNS TABLE (tenant_id uuid, slug text, kind text, name text, used numeric, hard numeric, action text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
    SELECT t.id, t.slug, e.kind, e.name, e.used, e.hard, e.explanation
      FROM tenancy.tenant t, LATERAL @extschema@.limit_explain(t.id) e
     WHERE (resource_enforce.tenant IS NULL OR t.id = resource_enforce.tenant)
       AND t.state NOT IN ('purged', 'purging')
       AND e.kind IN ('quota', 'cpu budget', 'connections')
       AND e.used > 0 AND e.used >= coalesce(e.hard, e.soft)
     ORDER BY t.slug, e.kind, e.name;
END;
COMMENT ON FUNCTION @extschema@.resource_enforce(@extschema@.regtenant) IS
'Which limits are reached now, and what the server does about each: enforcement itself is in every statement and needs no call. tenant: slug or id; null for all. Result: a row a limit that is used up. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.resource_enforce(@extschema@.regtenant) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.resource_enforce(@extschema@.regtenant) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.resource_rightsize(
    tenant @extschema@.regtenant, dry_run boolean DEFAULT true)
RETURNS TABLE (resource text, current_request numeric, current_limit numeric, lower_bound numeric,
    target numeric, upper_bound numeric, confidence_days numeric, observations integer,
    new_request numeric, new_limit numeric, action text)
AS 'MODULE_PATHNAME', 'tenancy_resource_rightsize'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.resource_rightsize(@extschema@.regtenant, boolean) IS
'What a tenant should be allocated, by what it used in the last eight days: of cpu_seconds_per_minute the means of the hours, of storage_gb the peaks of the days; weights halve with each day. tenant: slug or id. dry_run: false changes the allocation. Result: a row a resource; the bounds are the 50th, 90th and 95th percentile with a margin of 15 percent, wider the fewer days (confidence_days) are known, as the Vertical Pod Autoscaler of Kubernetes has them. A request outside of the bounds becomes the target, a limit outside of target and upper bound that bound, where that changes it by more than a tenth. Bursts within an hour, memory and connections are not measured. Errors: 42704 unknown tenant; 53000 not enough capacity left. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.resource_rightsize(@extschema@.regtenant, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.resource_rightsize(@extschema@.regtenant, boolean) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.resource_optimize(tenant @extschema@.regtenant)
RETURNS TABLE (finding text, object text, numbers jsonb, recommendation text, bytes bigint)
AS 'MODULE_PATHNAME', 'tenancy_resource_optimize'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.resource_optimize(@extschema@.regtenant) IS
'What could be saved on a tenant with a schema of its own, with the numbers that say so: indexes that were never used, tables that are read from end to end, dead rows, cache misses of the last seven days, a tenant that did nothing in them. tenant: slug or id. Result: bytes is what would be freed, an estimate for dead rows; null where it is not space. PostgreSQL''s statistics count since they were reset. Errors: 42704. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.resource_optimize(@extschema@.regtenant) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.resource_optimize(@extschema@.regtenant) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.resource_autoscale(
    tenant @extschema@.regtenant DEFAULT NULL, dry_run boolean DEFAULT false)
RETURNS TABLE (tenant_id uuid, slug text, resource text, current_limit numeric, used numeric,
    new_limit numeric, action text, reason text)
AS 'MODULE_PATHNAME', 'tenancy_resource_autoscale'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.resource_autoscale(@extschema@.regtenant, boolean) IS
'Changes limits by what is used, within the ranges that allocations name (scaling of resource_allocate()), as the job limits.autoscale does every five minutes. tenant: slug or id; null for all. dry_run: only says what it would do. Result: a row a range; used is between the last two measurements. A limit becomes used / target, rounded up, unless that is within a tenth of it; it rises at once, to at most twice what it was or by four, and falls to what the last quarter of an hour wants, never below its request. Errors: 42704 unknown tenant. Rights: tenancy_admin. Side effects: takes a measurement; a row of tenancy.scaling_decision for each change.';
REVOKE ALL ON FUNCTION @extschema@.resource_autoscale(@extschema@.regtenant, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.resource_autoscale(@extschema@.regtenant, boolean) TO tenancy_admin;

CREATE OR REPLACE FUNCTION tenancy.usage_percentile(
    "values" double precision[], ages_days double precision[], fraction double precision)
RETURNS double precision
AS 'MODULE_PATHNAME', 'tenancy_usage_percentile'
LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.usage_percentile(double precision[], double precision[], double precision) IS
'The percentile that resource_rightsize() takes: of a histogram whose buckets grow by 5 percent from 0.01 and whose weights halve with each day of age; the end of the bucket. Errors: 22023. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.usage_percentile(double precision[], double precision[], double precision) TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.usage_confidence(
    estimate double precision, multiplier double precision, exponent double precision, confidence double precision)
RETURNS double precision
AS 'MODULE_PATHNAME', 'tenancy_usage_confidence'
LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.usage_confidence(double precision, double precision, double precision, double precision) IS
'How resource_rightsize() widens a bound: estimate × (1 + multiplier / confidence) ^ exponent. Errors: 22023. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.usage_confidence(double precision, double precision, double precision, double precision) TO PUBLIC;

CREATE OR REPLACE FUNCTION tenancy.scale_to_target(
    current_limit double precision, used_percent double precision, target_percent double precision)
RETURNS double precision
AS 'MODULE_PATHNAME', 'tenancy_scale_to_target'
LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tenancy.scale_to_target(double precision, double precision, double precision) IS
'How resource_autoscale() scales: current_limit × used_percent / target_percent, rounded up, or as it is within a tenth. Errors: 22023. Rights: anybody.';
GRANT EXECUTE ON FUNCTION tenancy.scale_to_target(double precision, double precision, double precision) TO PUBLIC;
