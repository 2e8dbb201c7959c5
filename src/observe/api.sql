/* observe: metrics, and what is to be scraped. */

CREATE OR REPLACE FUNCTION @extschema@.metrics_prometheus() RETURNS text
AS 'MODULE_PATHNAME', 'tenancy_metrics_prometheus'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.metrics_prometheus() IS
'The metrics of this database in the text format of Prometheus (0.0.4), as the door serves them at /metrics: tenants, statements and limits per tenant, queue, deliveries, workers, metering, the door. Tenants beyond tenancy.metrics_tenants are one, called _other; what is nobody''s is called _none. Result: the text; times in seconds, sizes in bytes; counters begin anew when the server starts. Errors: 42501 within a tenant context. Rights: tenancy_admin, tenancy_auditor.';
REVOKE ALL ON FUNCTION @extschema@.metrics_prometheus() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.metrics_prometheus() TO tenancy_admin, tenancy_auditor;

CREATE OR REPLACE FUNCTION @extschema@.scrape_target_set(
    tenant @extschema@.regtenant, target text, labels jsonb DEFAULT '{}')
RETURNS tenancy.scrape_target
AS 'MODULE_PATHNAME', 'tenancy_scrape_target_set'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.scrape_target_set(@extschema@.regtenant, text, jsonb) IS
'Has Prometheus scrape something of a tenant''s, or changes its labels. tenant: slug or id. target: host:port, the host a name or an address, one of version 6 in brackets. labels: an object of texts; names as Prometheus has them, of those that begin with two underscores only __metrics_path__, __scheme__, __scrape_interval__ and __scrape_timeout__, and not "tenant", which is the slug. Result: the row. Errors: 22023 bad target or labels; 42704 unknown tenant; 53400 a hundred targets a tenant are enough; 42501 within a tenant context. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.scrape_target_set(@extschema@.regtenant, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.scrape_target_set(@extschema@.regtenant, text, jsonb) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.scrape_target_remove(
    tenant @extschema@.regtenant, target text)
RETURNS tenancy.scrape_target
AS 'MODULE_PATHNAME', 'tenancy_scrape_target_remove'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.scrape_target_remove(@extschema@.regtenant, text) IS
'Takes back scrape_target_set(). tenant: slug or id. target: as it was set. Result: the former row. Errors: 42704 unknown tenant or target; 42501 within a tenant context. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.scrape_target_remove(@extschema@.regtenant, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.scrape_target_remove(@extschema@.regtenant, text) TO tenancy_admin;

