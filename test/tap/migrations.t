#!/bin/bash
# test/run: long
# A real application's own migrations, by two tenants of one database: Backstage's catalog looks
# indexes up by bare name, and without own_catalog the second tenant silently loses three.
. "$(dirname "$0")/lib.sh"
install_node_modules || skip_all "there is no node with npm, or npm could not install knex"
package=@backstage/plugin-catalog-backend@4.0.0
backstage=$node_modules/backstage-4.0.0
(
	flock 9
	[ -d "$backstage" ] && exit
	cd "$node_modules" && file=$(npm pack --silent "$package" 2>> log) && mkdir "$backstage" && tar xzf "$file" -C "$backstage" --strip-components=1 package/migrations
) 9> "$node_modules/lock" || skip_all "npm could not fetch $package"
# knex loads the migrations as CommonJS
echo '{}' > "$backstage/package.json"
cluster_start --set tenancy.workers=off
psql -Xq -v ON_ERROR_STOP=1 app >/dev/null <<'SQL'
SELECT format('CREATE ROLE %I LOGIN', x) FROM unnest(ARRAY['one', 'two', 'three', 'four', 'five', 'six']) x \gexec
SELECT tenant_create(x, owns_ddl => true) IS NULL FROM unnest(ARRAY['one', 'two', 'three', 'four']) x;
SELECT tenant_login_bind(slug::regrole, slug, own_catalog => true) IS NULL FROM tenancy.tenant;
CREATE DATABASE control;
\c control
CREATE EXTENSION pg_tenancy;
SELECT tenant_create(x, owns_ddl => true) IS NULL FROM unnest(ARRAY['five', 'six']) x;
SELECT tenant_login_bind(slug::regrole, slug, own_catalog => false) IS NULL FROM tenancy.tenant;
SQL
migrate() { # migrate TENANT up|down|status [DATABASE]
	PGUSER=$1 PGDATABASE=${3:-app} NODE_MODULES=$node_modules node "$top/test/node/migrate.mjs" "$backstage/migrations" "$2" 2>&1
}
schema_of() { sql "SELECT schema_name FROM tenancy.tenant WHERE slug = '$1'" "${2:-app}"; }
indexes() { sql "SELECT count(*) FROM pg_indexes WHERE schemaname = '$(schema_of "$@")'" "${2:-app}"; }
structure() { pg_dump -s --no-owner -n "$(schema_of "$1")" app | sed "s/$(schema_of "$1")/TENANT/g" | grep -vE '^\\(un)?restrict '; }
count=$(find "$backstage/migrations" -name '*.js' | wc -l)

is "$(migrate one up)" "$count" "a tenant runs all migrations"
is "$(migrate two up)" "$count" "and a second one after it"
is "$(migrate one status) $(migrate one up)" "$count 0" "again, there is nothing to do"
is "$(indexes one)" 24 "it has all 24 indexes"
is "$(indexes two)" "$(indexes one)" "and so has the other"
is "$(structure two)" "$(structure one)" "pg_dump finds no difference"

migrate three up > "$PGHOST/three" &
migrate four up > "$PGHOST/four" &
wait $(jobs -p)
is "$(cat "$PGHOST/three") $(cat "$PGHOST/four")" "$count $count" "two tenants migrate at once"
is "$(structure three)" "$(structure one)" "without difference"
is "$(structure four)" "$(structure one)" "for either"

is "$(PGUSER=two psql -XAtqc "SELECT count(*) FROM pg_class WHERE relname = 'search_entity_id_idx' OR relname = 'refresh_state'" app)" \
	"$(sql "SELECT count(*) FROM pg_class WHERE relnamespace = '$(schema_of two)'::regnamespace AND relname IN ('search_entity_id_idx', 'refresh_state')")" "a tenant's catalog has its own tables alone"
like "$(PGUSER=two psql -XAtqc "SELECT count(*) FROM $(schema_of one).refresh_state" app 2>&1)" "ERROR" "and reaches no other's"
is "$(migrate two down)" "$count" "one rolls its migrations back"
is "$(structure one)" "$(structure four)" "which the other does not notice"
is "$(migrate two up)" "$count" "and forth"
is "$(structure two)" "$(structure one)" "to the same end"

# the control: without a catalog of its own
is "$(migrate five up control) $(migrate six up control)" "$count $count" "control: without own_catalog both say that all migrations ran"
is "$(indexes five control) $(indexes six control)" "24 21" "control: and the second has lost three indexes"
done_testing
