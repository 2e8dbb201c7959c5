#!/bin/bash
# Real entities of Backstage's catalogs, imported as lines and as an onboarding's request.
. "$(dirname "$0")/lib.sh"
data=$(cd "$(dirname "$0")/../../.." && pwd)/shared/data/backstage/entities.jsonl
[ -e "$data" ] || skip_all "there is no collection of entities beside this checkout"
cluster_start --set tenancy.workers=off
# counted by somebody else: documents, and distinct references
read -r documents references < <(python3 - "$data" <<'EOT'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8") if line.strip()]
refs = {f"{r['kind']}:{r['metadata'].get('namespace', 'default')}/{r['metadata']['name']}".lower() for r in rows
        if r.get("apiVersion") and r.get("kind") and r.get("metadata", {}).get("name")}
print(len(rows), len(refs))
EOT
)
ok $((documents < 100)) "$documents documents with $references references"
sql "SELECT count(tenant_create(s, plan => 'enterprise')) FROM unnest(ARRAY['lines', 'pretty']) s" >/dev/null
with() { printf '\\set t `cat %s`\n%s\n' "$1" "$2" | psql -XAtq; } # with FILE SQL: the file's text is :'t'
pretty=$(mktemp)
trap 'cluster_stop; rm -f "$pretty"' EXIT
is "$(with "$data" "SELECT count(*), count(*) FILTER (WHERE imported) FROM catalog_import('lines', :'t')")" "$documents|$references" "as lines"
python3 -c 'import json, sys
for line in open(sys.argv[1], encoding="utf-8"):
    if line.strip(): print(json.dumps(json.loads(line), indent=2, ensure_ascii=False))' "$data" > "$pretty"
is "$(with "$pretty" "SELECT count(*), count(*) FILTER (WHERE imported) FROM catalog_import('pretty', :'t')")" "$documents|$references" "as documents one after another"
is "$(sql "SELECT count(*) FROM (SELECT entity_ref, entity FROM tenancy.catalog_entity WHERE tenant_id = 'lines'::regtenant EXCEPT SELECT entity_ref, entity FROM tenancy.catalog_entity WHERE tenant_id = 'pretty'::regtenant) d")" 0 "which is the same"
sql "CREATE SCHEMA portal; CREATE TABLE portal.entities (entity_ref text PRIMARY KEY, kind text, spec jsonb); SELECT template_create('portal', 'portal')" >/dev/null
id=$(with "$data" "SELECT id FROM onboarding_start(jsonb_build_object('slug', 'whole', 'plan', 'enterprise', 'template', 'portal', 'entities', :'t'::text, 'entities_table', 'entities'))")
sql "SELECT count(*) FROM job_run_due()" >/dev/null
sql "SELECT state FROM onboarding_step_execute('$id', 'github_integration', '{\"installation_id\": 4711, \"webhook_secret\": \"0123456789abcdef\"}')" >/dev/null
sql "SELECT count(*) FROM job_run_due()" >/dev/null
is "$(sql "SELECT result->'imported' FROM tenancy.workflow_step WHERE workflow_id = '$id' AND step = 'initial_catalog_import'")" "$references" "an onboarding imports them"
schema=$(sql "SELECT schema_name FROM tenancy.tenant WHERE slug = 'whole'")
is "$(sql "SELECT count(*), count(DISTINCT kind) > 3 FROM $schema.entities")" "$references|t" "into the tenant's table"
done_testing
