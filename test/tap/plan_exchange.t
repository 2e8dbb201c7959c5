#!/bin/bash
# Plans go from one database to another as documents, and are the same there.
. "$(dirname "$0")/lib.sh"
cluster_start --set tenancy.workers=off
sql "CREATE DATABASE other" postgres >/dev/null
sql "CREATE EXTENSION pg_tenancy" other >/dev/null

sql "SELECT count(*) FROM metric_create('calls.made', 'call')" >/dev/null
sql "SELECT id FROM plan_create('world', 'World', 'custom', '{\"type\": \"hybrid\", \"currency\": \"USD\", \"billing_period\": \"quarterly\", \"base_price\": 99.5,
    \"base_timing\": \"advance\", \"trial_days\": 14, \"trial_usage\": \"free\", \"minimum\": 100, \"maximum\": 1000, \"proration_unit\": \"day\", \"tax_rates\": [\"vat\"],
    \"charges\": [{\"id\": \"c\", \"model\": \"graduated\", \"metric\": \"calls.made\", \"limit\": \"few\", \"tiers\": [{\"up_to\": 10, \"unit_price\": 0.000000000001}, {\"flat_fee\": 2}]}],
    \"currency_options\": {\"JPY\": {\"base_price\": 15000, \"maximum\": 100000}, \"BHD\": {\"base_price\": 37.123}}}',
    '{\"few\": 10, \"all\": -1}', '{\"sso\": true}', '{\"hours\": [9, 17]}', '{\"uptime\": 99.95}', family => 'main', changes_to => '{starter}')" >/dev/null
sql "SELECT count(*) FROM plan_price_change('world', '{\"type\": \"fixed\", \"currency\": \"EUR\", \"billing_period\": \"quarterly\", \"base_price\": 89}', '2027-01-01 00:00+00')" >/dev/null
sql "SELECT count(*) FROM plan_retire('world', '2030-01-01 00:00+00')" >/dev/null
exported=$(sql "SELECT plan_export('world')")
like "$exported" '^\{.*"prices": ' "a plan is exported"
like "$(sql "SELECT plan_import('$exported')" other)" "42704: metric \"calls.made\" does not exist" "what it meters must be there"
sql "SELECT count(*) FROM metric_create('calls.made', 'call')" other >/dev/null
is "$(sql "SELECT (plan_import('$exported')).id" other)" world "then it is imported"
is "$(sql "SET timezone = 'America/New_York'; SELECT plan_export('world')" other)" "$exported" "and exports to the same document, wherever"
is "$(sql "SELECT string_agg(version || currency || is_main, ' ' ORDER BY version, currency) FROM tenancy.plan_price WHERE plan = 'world'" other)" "1BHDfalse 1JPYfalse 1USDtrue 2EURtrue" "with all versions and currencies"
is "$(sql "SELECT (plan_import('$exported')).id" other)" world "once more changes nothing"
is "$(sql "SELECT count(*) FROM tenancy.plan_price WHERE plan = 'world'" other)" 4 "at all"

# what is shipped is the same everywhere
for plan in starter professional enterprise; do
	is "$(sql "SELECT (plan_import(plan_export('$plan'))).id" other)" "$plan" "$plan is there already"
done
done_testing
