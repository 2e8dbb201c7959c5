#!/bin/bash
# The tour with a real application: Backstage's catalog schema as template, its real entities
# as data of several tenants, and the statements that a real backend sent.
. "$(dirname "$0")/lib.sh"
data=$top/../shared/data/backstage
[ -d "$data" ] || skip_all "Backstage's data is not there (../shared/data/backstage)"
cluster_start --set tenancy.workers=off

psql -Xq -f "$data/schema.sql" app >/dev/null
is "$(sql "SELECT name FROM template_create('backstage', 'catalog')")" backstage "the catalog schema is a template"
is "$(sql "SELECT count(*) FROM pg_tables WHERE schemaname = 'catalog'")" 11 "of 11 tables"

# Tenants are the repositories' owners with most entities; each gets its own entities.
psql -Xq -v ON_ERROR_STOP=1 app <<SQL
CREATE TABLE entity (line integer GENERATED ALWAYS AS IDENTITY, document jsonb);
CREATE TABLE source (line integer GENERATED ALWAYS AS IDENTITY, ref text, path text);
\copy entity (document) FROM PROGRAM 'sed "s/\\\\\\\\/\\\\\\\\\\\\\\\\/g" $data/entities.jsonl'
\copy source (ref, path) FROM '$data/sources.tsv' WITH (FORMAT text, DELIMITER E'\t')
CREATE ROLE loader LOGIN IN ROLE tenancy_app;
SQL
is "$(sql "SELECT count(*) FROM entity")" "$(wc -l < "$data/entities.jsonl")" "all entities are read"
total=$(sql "SELECT count(*) FROM entity")
i=0
for tenant in alpha beta gamma; do
	sql "SELECT slug FROM tenant_create('$tenant', plan => 'professional', template => 'backstage', starts_at => '2026-01-01 00:00+00')" >/dev/null
done
# spread by a hash of the repository, so that a repository stays together
sql "CREATE TABLE share AS SELECT e.line, e.document, (ARRAY['alpha', 'beta', 'gamma'])[1 + abs(hashtext(split_part(coalesce(s.path, e.line::text), '/', 1))) % 3] AS tenant
	FROM entity e LEFT JOIN source s USING (line); GRANT SELECT ON share TO tenancy_tenant" >/dev/null
for tenant in alpha beta gamma; do
	PGUSER=loader psql -Xq -v ON_ERROR_STOP=1 app >/dev/null 2> "$PGHOST/errors" <<SQL
BEGIN;
SELECT tenant_context_set('$tenant');
WITH mine AS (
    SELECT line, document, lower(format('%s:%s/%s', document->>'kind', coalesce(document->'metadata'->>'namespace', 'default'), document->'metadata'->>'name')) AS ref
      FROM public.share WHERE tenant = '$tenant'),
once AS (SELECT DISTINCT ON (ref) * FROM mine ORDER BY ref, line),
state AS (INSERT INTO refresh_state (entity_id, entity_ref, unprocessed_entity, errors, next_update_at, last_discovery_at)
    SELECT md5(ref), ref, document::text, '', now(), now() FROM once)
INSERT INTO final_entities (entity_id, entity_ref, hash, final_entity) SELECT md5(ref), ref, md5(document::text), document::text FROM once;
COMMIT;
SQL
	ok $? "entities of $tenant are loaded in its context"
	sed 's/^/# /' "$PGHOST/errors"
done
counts=""
for tenant in alpha beta gamma; do
	expected=$(sql "SELECT count(DISTINCT lower(format('%s:%s/%s', document->>'kind', coalesce(document->'metadata'->>'namespace', 'default'), document->'metadata'->>'name'))) FROM share WHERE tenant = '$tenant'")
	is "$(sql "BEGIN; SELECT tenant_context_set('$tenant') IS NULL; SELECT count(*) FROM final_entities; COMMIT" | tail -n 1)" "$expected" "$tenant has its own $expected entities"
done
alpha=$(sql "SELECT schema_name FROM tenancy.tenant WHERE slug = 'alpha'")
like "$(sql "GRANT USAGE ON SCHEMA $alpha TO PUBLIC; GRANT SELECT ON ALL TABLES IN SCHEMA $alpha TO PUBLIC; BEGIN; SELECT tenant_context_set('beta'); SELECT count(*) FROM $alpha.final_entities; COMMIT")" 42501 "beta does not read alpha's, in spite of grants"

# the recorded statements of a real backend, in a tenant
before=$(sql "SELECT calls FROM tenancy.tenant_stat WHERE slug = 'alpha'")
nobody=$(sql "SELECT calls FROM tenancy.tenant_stat WHERE slug = 'beta'")
{
	echo "BEGIN; SELECT tenant_context_set('alpha');"
	cat "$data/workload.sql"
	echo "COMMIT;"
} > "$PGHOST/workload.sql"
PGUSER=loader psql -Xq -v ON_ERROR_STOP=0 -v ON_ERROR_ROLLBACK=on -f "$PGHOST/workload.sql" app > "$PGHOST/workload.out" 2> "$PGHOST/workload.err"
executed=$(grep -c '^EXECUTE' "$data/workload.sql")
prepared=$(grep -c '^PREPARE' "$data/workload.sql")
errors=$(grep -c 'ERROR' "$PGHOST/workload.err")
echo "# $prepared statements prepared, $executed executed, $errors errors"
# The recording has statements of other plugins' tables too, which this template does not have.
unexpected() {
	grep ERROR "$PGHOST/workload.err" | sed 's/^[^ ]* //' |
		grep -vE 'relation "(backstage_backend_|knex_|pg_)[a-z_]*" does not exist|prepared statement "w[0-9]*" does not exist'
}
unexpected | sort | uniq -c | sed 's/^/# /'
is "$(unexpected | wc -l)" 0 "no statement on the catalog's tables fails"
grep -q . "$PGHOST/workload.out"
ok $? "the statements of a real backend run"
is "$(grep -c 'permission denied' "$PGHOST/workload.err")" 0 "none is refused"
calls=$(sql "SELECT calls - $before FROM tenancy.tenant_stat WHERE slug = 'alpha'")
ok "$((calls >= executed ? 0 : 1))" "they are counted for the tenant: $calls calls"
is "$(sql "SELECT calls FROM tenancy.tenant_stat WHERE slug = 'beta'")" "$nobody" "and for no other"

sql "SELECT count(*) FROM usage_record('alpha', 'users', 53, 'u', '2026-01-15 00:00+00')" >/dev/null
is "$(sql "SELECT invoices FROM billing_run('2026-02-01 00:00+00')")" 3 "the month is billed"
is "$(sql "SELECT total FROM tenancy.invoice WHERE tenant_id = 'alpha'::regtenant")" 144.00 "99 + 3 × 15 = 144.00"
done_testing
