#!/bin/bash
# test/run: long
# Allocations: promises within the capacity, and limits that hold.
. "$(dirname "$0")/lib.sh"
cluster_start --set tenancy.workers=off --set max_parallel_workers_per_gather=0
psql -Xq -v ON_ERROR_STOP=1 app >/dev/null <<'SQL'
SELECT slug FROM tenant_create('hog');
SELECT slug FROM tenant_create('victim');
CREATE ROLE app LOGIN IN ROLE tenancy_app;
CREATE ROLE hog_bi LOGIN;
SELECT role_name FROM tenant_login_bind('hog_bi', 'hog');
SQL
export PGOPTIONS="-c client_min_messages=warning"
as_tenant() { # as_tenant SLUG SQL
	PGUSER=app psql -XAtq -v VERBOSITY=verbose app 2>&1 <<< "BEGIN; SELECT tenant_context_set('$1') \\g /dev/null
$2
COMMIT;"
}

# promises
like "$(sql "SELECT resource_capacity_set('cpu_seconds_per_minute', 120, 1.5)")" '120,1.5' "capacity is declared"
like "$(sql "SELECT resource_capacity_set('disks', 1)")" 22023 "of a resource that there is"
hog=$(sql "SELECT id FROM resource_allocate('hog', '{\"requests\": {\"cpu_seconds_per_minute\": 100}, \"limits\": {\"cpu_seconds_per_minute\": 110}}')")
like "$hog" '^[0-9a-f-]{36}$' "an allocation"
like "$(sql "SELECT resource_allocate('hog', '{}')")" 55000 "one a tenant"
like "$(sql "SELECT resource_allocate('victim', '{\"requests\": {\"cpu_seconds_per_minute\": 81}}')")" '53000.*not enough cpu_seconds_per_minute.*181 would be requested of 180' "no more than there is, with overcommit"
like "$(sql "SELECT resource_allocate('victim', '{\"requests\": {\"memory_mb\": 2}, \"limits\": {\"memory_mb\": 1}}')")" 22023 "a request is not above its limit"
like "$(sql "SELECT resource_allocate('victim', '{\"requests\": {\"cpu\": 2}}')")" 22023 "nor of something else"
is "$(sql "SELECT state FROM resource_allocate('victim', '{\"requests\": {\"cpu_seconds_per_minute\": 80}}')")" active "what fits is promised"
like "$(sql "SELECT resource_scale('victim', '{\"requests\": {\"cpu_seconds_per_minute\": 90}}')")" 53000 "nor does scaling promise more"
like "$(sql "SELECT resource_capacity_set('cpu_seconds_per_minute', 100)")" 53000 "nor is capacity taken from under promises"
is "$(sql "SELECT limits FROM tenant_scale('hog', '{\"requests\": {\"cpu_seconds_per_minute\": null}, \"limits\": {\"cpu_seconds_per_minute\": 1}}')")" '{"cpu_seconds_per_minute": 1}' "tenant_scale() changes what it names"

# the CPU budget: a second a minute
burn="DO \$\$ BEGIN FOR i IN 1..2000000000 LOOP NULL; END LOOP; END \$\$;"
got=$(as_tenant hog "$burn")
like "$got" '53400: the CPU budget of tenant "hog" is used up.*1.000 s of CPU a minute' "a statement that overdraws the budget by a minute is cancelled, and told why"
is "$(sql "SELECT cpu_ms BETWEEN 1500 AND 4000 FROM tenancy.tenant_stat WHERE slug = 'hog'")" t "after about two seconds of CPU"
like "$(as_tenant hog "$burn")" '53400.*used up' "the next that burns does not get far"
like "$(PGUSER=hog_bi psql -XAtq -v VERBOSITY=verbose app -c "$burn" 2>&1)" '53400' "in every session of the tenant"
is "$(as_tenant victim "SELECT 1;")" 1 "and in no other's"
like "$(sql "SELECT explanation FROM limit_explain('hog') WHERE kind = 'cpu budget'")" 'overdrawn' "limit_explain() says so"
[ "$(sql "SELECT (resource_usage('hog')->'cpu'->>'budget_used')::numeric > 1.2")" = t ]
ok $? "and so does resource_usage()"
is "$(sql "SELECT limits FROM resource_scale('hog', '{\"limits\": {\"cpu_seconds_per_minute\": 60000}}')")" '{"cpu_seconds_per_minute": 60000}' "the operator gives more"
deadline=$((SECONDS + 90))
while like_now=$(as_tenant hog "SELECT 1;"); [[ $like_now == *53400* && $SECONDS -lt $deadline ]]; do sleep 1; done
is "$like_now" 1 "what was overdrawn is paid off in a minute at most, and it works again"
sql "SELECT limits FROM resource_scale('hog', '{\"limits\": {\"cpu_seconds_per_minute\": 30}}')" >/dev/null
is "$(as_tenant hog "DO \$\$ BEGIN FOR i IN 1..10000000 LOOP NULL; END LOOP; END \$\$; SELECT 1;")" 1 "what stays within the budget just runs"


# the sum of all sessions counts, also while they run; and the tenant is warned
sql "SELECT slug FROM tenant_create('many')" >/dev/null
sql "SELECT id FROM resource_allocate('many', '{\"limits\": {\"cpu_seconds_per_minute\": 2}}')" >/dev/null
many_id=$(sql "SELECT id FROM tenancy.tenant WHERE slug = 'many'")
started=$SECONDS
for _ in 1 2 3 4 5 6; do as_tenant many "$burn" > /dev/null & done
wait $(jobs -p)
used=$(sql "SELECT tenancy.cpu_budget_used('$many_id')")
# in a minute one is paid off
awk -v u="$used" -v seconds=$((SECONDS - started + 1)) 'BEGIN { exit !(u > 1.9 - seconds / 60 && u < 2.6) }'
ok $? "six sessions at once overdraw the budget by a minute, together ($used)"
is "$(sql "SELECT refusals BETWEEN 1 AND 6 AND hard = 2 FROM tenancy.refusal_read('$many_id') WHERE what LIKE 'cancelled%'")" t "their cancelling is told"
sql "SELECT slug FROM tenant_create('warned')" >/dev/null
# what runs is charged each tenth of a second: a twentieth of this budget
sql "SELECT id FROM resource_allocate('warned', '{\"limits\": {\"cpu_seconds_per_minute\": 2}}')" >/dev/null
like "$(PGOPTIONS= as_tenant warned "DO \$\$ BEGIN WHILE tenancy.cpu_budget_used(current_tenant_id()) < 0.85 LOOP NULL; END LOOP; END \$\$;
SELECT 1;")" 'WARNING: .*the CPU budget of tenant "warned" is nearly used up.*1$' "who has used four fifths of it is warned, and goes on"
sql "SELECT slug FROM tenant_create('parallel')" >/dev/null
sql "SELECT id FROM resource_allocate('parallel', '{\"limits\": {\"cpu_seconds_per_minute\": 1}}')" >/dev/null
like "$(as_tenant parallel "SET LOCAL max_parallel_workers_per_gather = 2; SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0; SET LOCAL min_parallel_table_scan_size = 0;
SELECT count(*) FROM pg_class a, pg_class b, pg_class c WHERE a.relname < b.relname || c.relname || random();")" '53400.*used up' "a query with parallel workers is cancelled, too"

# connections
sql "SELECT limits FROM resource_scale('hog', '{\"limits\": {\"connections\": 2, \"cpu_seconds_per_minute\": null}}')" >/dev/null
for _ in 1 2; do as_tenant hog "SELECT pg_sleep(600);" >/dev/null & done
hog_id=$(sql "SELECT id FROM tenancy.tenant WHERE slug = 'hog'")
wait_for 30 "SELECT tenancy.tenant_sessions('$hog_id')" 2
like "$(as_tenant hog "SELECT 1;")" '53300.*too many connections for tenant "hog"' "a third session does not enter"
like "$(PGUSER=hog_bi psql -XAtq app -c "SELECT 1" 2>&1)" 'FATAL: .*too many connections for tenant "hog"' "nor does a bound login"
is "$(as_tenant victim "SELECT 1;")" 1 "another tenant's does"
sql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'" >/dev/null
wait_for 30 "SELECT tenancy.tenant_sessions('$hog_id')" 0
is "$(as_tenant hog "SELECT 1;")" 1 "when they are gone there is room"

# storage is a quota
sql "SELECT limits FROM resource_scale('hog', '{\"limits\": {\"storage_gb\": 7}}')" >/dev/null
is "$(sql "SELECT (q).hard FROM (SELECT quota_check('hog', 'storage') AS q OFFSET 0) x")" 7 "the storage limit is the tenant's quota"
is "$(sql "SELECT source FROM limit_explain('hog') WHERE kind = 'quota' AND name = 'storage'")" "resource_allocate()" "and says where it comes from"
is "$(sql "SELECT count(*) > 8 FROM limit_explain('hog') WHERE kind = 'ceiling'")" t "limit_explain() shows the ceilings, too"
is "$(sql "SELECT state FROM resource_deallocate('hog', '$hog')")" released "an allocation is released"
like "$(sql "SELECT resource_deallocate('hog', '$hog')")" 55000 "once"
is "$(sql "SELECT (q).hard IS NULL FROM (SELECT quota_check('hog', 'storage') AS q OFFSET 0) x")" t "and its limits are gone"
sql "SELECT usage_flush()" >/dev/null
is "$(sql "SELECT count(*) > 0 AND min(cpu_seconds) > 0 FROM resource_metrics('hog', now() - interval '2 hours', now() + interval '1 hour')")" t "resource_metrics() has what it used"
done_testing
