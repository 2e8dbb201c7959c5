/* revenue: what is earned, and when. */

CREATE TABLE tenancy.revenue_recognition (
    invoice_id      uuid NOT NULL,
    tenant_id       uuid NOT NULL,
    recognized      numeric NOT NULL,
    recognized_at   timestamptz NOT NULL,
    is_complete     boolean NOT NULL,
    CONSTRAINT revenue_recognition_pkey PRIMARY KEY (invoice_id),
    CONSTRAINT revenue_recognition_invoice_fkey FOREIGN KEY (invoice_id) REFERENCES tenancy.invoice (id)
);
COMMENT ON TABLE tenancy.revenue_recognition IS
'How much of what each invoice billed in advance has been earned, up to when. Kept for ever.';
COMMENT ON COLUMN tenancy.revenue_recognition.is_complete IS 'all service periods have ended: only a credit note changes it now';
CREATE INDEX revenue_recognition_open_idx ON tenancy.revenue_recognition (recognized_at) WHERE NOT is_complete;
ALTER TABLE tenancy.revenue_recognition ENABLE ROW LEVEL SECURITY;
CREATE POLICY control_plane ON tenancy.revenue_recognition FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
REVOKE ALL ON tenancy.revenue_recognition FROM PUBLIC;
GRANT SELECT ON tenancy.revenue_recognition TO tenancy_admin, tenancy_auditor;
SELECT pg_catalog.pg_extension_config_dump('tenancy.revenue_recognition', '');

/* Invoices that have billed something in advance. */
CREATE INDEX invoice_deferred_idx ON tenancy.invoice (issued_at) WHERE deferred <> 0;

