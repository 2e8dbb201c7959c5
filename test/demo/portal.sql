-- The template of the demo: a small developer portal.
CREATE SCHEMA portal;
COMMENT ON SCHEMA portal IS 'a developer portal: the structure that each tenant gets';
CREATE TYPE portal.entity_kind AS ENUM ('Component', 'API', 'Resource', 'System', 'Group', 'User');

CREATE TABLE portal.entities (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    kind        portal.entity_kind NOT NULL,
    name        text NOT NULL CHECK (name ~ '^[a-z0-9-]+$'),
    metadata    jsonb NOT NULL DEFAULT '{}',
    spec        jsonb,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (kind, name)
);
CREATE INDEX ON portal.entities USING gin (metadata);
CREATE TABLE portal.relations (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source  uuid NOT NULL REFERENCES portal.entities ON DELETE CASCADE,
    type    text NOT NULL,
    target  uuid NOT NULL REFERENCES portal.entities ON DELETE CASCADE
);
CREATE TABLE portal.audit (at timestamptz NOT NULL DEFAULT now(), entity uuid, action text NOT NULL)
    PARTITION BY RANGE (at);
CREATE TABLE portal.audit_default PARTITION OF portal.audit DEFAULT;

CREATE FUNCTION portal.on_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO portal.audit (entity, action) VALUES (NEW.id, lower(TG_OP));
    NEW.updated_at := now();
    RETURN NEW;
END $$;
CREATE TRIGGER on_change BEFORE INSERT OR UPDATE ON portal.entities
    FOR EACH ROW EXECUTE FUNCTION portal.on_change();
CREATE VIEW portal.overview AS
    SELECT kind, count(*) AS entities, max(updated_at) AS last_change FROM portal.entities GROUP BY kind;

-- A table that all tenants share, told apart by row security.
CREATE TABLE announcement (
    tenant_id uuid, id integer, body text NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
