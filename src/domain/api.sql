/* domain: host names of tenants. */

CREATE OR REPLACE FUNCTION @extschema@.tenant_domain_add(
    tenant @extschema@.regtenant, domain text)
RETURNS tenancy.domain
AS 'MODULE_PATHNAME', 'tenancy_tenant_domain_add'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tenant_domain_add(@extschema@.regtenant, text) IS
'Claims a domain for a tenant. Others may claim it, too; it is the tenant''s when tenant_domain_verify() has seen the record. tenant: slug or id. domain: a host name (RFC 1123), in the encoded form where it is an international one; upper case and a dot at the end do not matter. Result: the row, with the name and the value of the TXT record to publish; that of a claim that is there already, and after a domain was lost a new value. Errors: 22023 no host name, an address or a wildcard; 42939 below the domain of the platform, or reserved; 42704 unknown tenant; 53400 beyond the quota custom_domains, in which claims count. Rights: tenancy_admin, and a tenant for itself.';
REVOKE ALL ON FUNCTION @extschema@.tenant_domain_add(@extschema@.regtenant, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_domain_add(@extschema@.regtenant, text) TO tenancy_admin, tenancy_tenant;

CREATE OR REPLACE FUNCTION @extschema@.tenant_domain_verify(
    domain text, observed text[])
RETURNS tenancy.domain
AS 'MODULE_PATHNAME', 'tenancy_tenant_domain_verify'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tenant_domain_verify(text, text[]) IS
'Gives a domain to the tenant whose record was seen. A tenant that has it keeps it as long as its own record is among those observed; where it is gone and another''s is there, the domain goes over. domain: a host name. observed: the values of all TXT records at _tenant-challenge.<domain>, as the caller has looked them up. Result: the row of who has it now. Errors: 22023 no host name; 42704 nobody claims it; 55000 no claim''s record is among them: nothing changes; 42501 within a tenant context. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.tenant_domain_verify(text, text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_domain_verify(text, text[]) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.tenant_domain_remove(
    domain text, tenant @extschema@.regtenant DEFAULT NULL)
RETURNS tenancy.domain
AS 'MODULE_PATHNAME', 'tenancy_tenant_domain_remove'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tenant_domain_remove(text, @extschema@.regtenant) IS
'Takes back a claim, verified or not. domain: a host name. tenant: slug or id; null for the one that has the domain, or else the only one that claims it, and within a context for its tenant. Result: the former row. Errors: 22023 no host name, or several claim it and none is named; 42704 not claimed, or unknown tenant. Rights: tenancy_admin, and a tenant for itself. Side effects: the name is served no longer as soon as this commits.';
REVOKE ALL ON FUNCTION @extschema@.tenant_domain_remove(text, @extschema@.regtenant) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_domain_remove(text, @extschema@.regtenant) TO tenancy_admin, tenancy_tenant;

CREATE OR REPLACE FUNCTION @extschema@.domain_allowed(
    domain text)
RETURNS boolean
AS 'MODULE_PATHNAME', 'tenancy_domain_allowed'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.domain_allowed(text) IS
'May the name be served, and have a certificate? Yes for a verified domain of an active tenant, and for the slug of one below tenancy.base_domain. domain: any text; upper case and a dot at the end do not matter. Result: false for what is no host name; as the last commit left it, answered from shared memory. Rights: tenancy_admin, tenancy_app, tenancy_auditor.';
REVOKE ALL ON FUNCTION @extschema@.domain_allowed(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.domain_allowed(text) TO tenancy_admin, tenancy_app, tenancy_auditor;

