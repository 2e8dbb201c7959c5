/* tenant: templates. */

CREATE TABLE tenancy.template (
    name            text NOT NULL,
    schema_name     name NOT NULL,
    captured_at     timestamptz NOT NULL,
    statement_count integer NOT NULL,
    fingerprint     bytea NOT NULL,
    CONSTRAINT template_pkey PRIMARY KEY (name)
);
COMMENT ON TABLE tenancy.template IS
'Template schemas whose structure new tenants get. Kept until template_drop().';
COMMENT ON COLUMN tenancy.template.fingerprint IS 'BLAKE2b-256 of the statements, to tell when the schema has moved on';
REVOKE ALL ON tenancy.template FROM PUBLIC;
GRANT SELECT ON tenancy.template TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.template', '');

CREATE TABLE tenancy.template_statement (
    template        text NOT NULL,
    position        integer NOT NULL,
    kind            text NOT NULL,
    ddl             text NOT NULL,
    CONSTRAINT template_statement_pkey PRIMARY KEY (template, position),
    CONSTRAINT template_statement_template_fkey FOREIGN KEY (template) REFERENCES tenancy.template (name)
);
COMMENT ON TABLE tenancy.template_statement IS
'The DDL that rebuilds a template, in order; @tenant_schema@, @tenant_owner@ and @tenant_role@ stand for those of the tenant. Kept as long as the template.';
REVOKE ALL ON tenancy.template_statement FROM PUBLIC;
GRANT SELECT ON tenancy.template_statement TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.template_statement', '');

ALTER TABLE tenancy.tenant ADD CONSTRAINT tenant_template_fkey
    FOREIGN KEY (template) REFERENCES tenancy.template (name);

