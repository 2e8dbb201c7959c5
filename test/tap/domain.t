#!/bin/bash
# Which domains are served survives crashes, restores, too little memory and commits side by side.
. "$(dirname "$0")/lib.sh"
cluster_start --set tenancy.workers=off --set tenancy.max_domains=64 --set tenancy.base_domain=app.example.net

claim() { # claim TENANT DOMAIN: claimed and proven
	sql "SELECT tenant_domain_add('$1', '$2'); SELECT (tenant_domain_verify('$2', array_agg(record_value))).state FROM tenancy.domain WHERE domain = '$2'" > /dev/null
}
allowed() { sql "SELECT string_agg(domain_allowed(d)::text, ' ' ORDER BY n) FROM unnest('{$1}'::text[]) WITH ORDINALITY u(d, n)" "${2:-app}"; }

sql "SELECT count(tenant_create(s, isolation => 'pool')) FROM unnest(ARRAY['acme', 'globex']) s" > /dev/null
claim acme acme.example
claim globex globex.example
all=acme.example,globex.example,other.example,acme.app.example.net,other.app.example.net
is "$(allowed $all)" "true true false true false" "proven domains and slugs are served"

cluster_restart
is "$(allowed $all)" "true true false true false" "after a restart"
psql -XAtq -d app -c "BEGIN" -c "SELECT tenant_domain_remove('acme.example')" -c "SELECT pg_sleep(60)" > /dev/null 2>&1 &
wait_for 30 "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'" 1
crash "$(sql "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'")"
wait
is "$(allowed $all)" "true true false true false" "after kill -9 of what was removing one"
sql "SELECT tenant_suspend('globex', 'test')" > /dev/null
cluster_restart immediate
is "$(allowed $all)" "true false false true false" "a suspended one is not served after a crash"
sql "SELECT tenant_resume('globex')" > /dev/null

# Two sessions change one tenant by turns, and a third asks for it to be loaded.
for n in 1 2; do
	for _ in $(seq 40); do
		echo "SELECT tenant_suspend('acme', '$n'); SELECT tenant_resume('acme');"
	done | psql -XAtq -d app > /dev/null 2>&1 &
done
for _ in $(seq 20); do
	sql "BEGIN; CREATE TABLE x (); ROLLBACK; SELECT domain_allowed('acme.example')" > /dev/null
done
wait
wrong=0
for n in $(seq 10); do
	for _ in 1 2 3; do
		sql "SELECT tenant_suspend('acme', '$n')" > /dev/null 2>&1 &
		sql "SELECT tenant_resume('acme')" > /dev/null 2>&1 &
	done
	wait
	state=$(sql "SELECT state = 'active' AND count(*) = 1 FROM tenancy.tenant WHERE slug = 'acme' GROUP BY state")
	[ "$(sql "SELECT CASE WHEN domain_allowed('acme.example') THEN 't' ELSE 'f' END")" = "$state" ] || wrong=$((wrong + 1))
done
is $wrong 0 "commits side by side leave what the tables say"
sql "SELECT tenant_resume('acme')" > /dev/null 2>&1

# Claims that are not proven stand for nothing: a tenant that makes many changes nothing that is known.
known() { sql "SELECT substring(metrics_prometheus() FROM 'domain_memory_names (\d+)')"; }
allowed $all > /dev/null
before=$(known)
is "$(sql "SELECT tenant_context_set('globex') IS NULL; SELECT count(tenant_domain_add('globex', 'n' || n || '.example')), count(tenant_domain_remove('n' || n || '.example')) FROM generate_series(1, 1200) n" | tail -1)" "1200|1200" "a tenant claims and gives up very many"
is "$(known)" "$before" "and shared memory knows what it knew"

# Databases are told apart, and what is gone is forgotten.
sql "CREATE DATABASE two" postgres > /dev/null
sql "CREATE EXTENSION pg_tenancy" two > /dev/null
is "$(allowed acme.example two)" false "another database knows nothing of it"
pg_dump -Fc app > "$PGHOST/app.dump"
sql "DROP DATABASE two" postgres > /dev/null
sql "CREATE DATABASE two" postgres > /dev/null
pg_restore -d two "$PGHOST/app.dump" 2>&1 | grep -v '^$' | head -5
is "$(allowed $all two)" "true true false true false" "a restored database serves what was dumped"
sql "DROP EXTENSION pg_tenancy CASCADE; CREATE EXTENSION pg_tenancy" two > /dev/null
is "$(allowed acme.example two)" false "an extension that is made anew knows nothing"

# More names than there is room for.
sql "SELECT count(tenant_create('t' || n, isolation => 'pool')) FROM generate_series(1, 100) n" > /dev/null
is "$(sql "SELECT count(*) FROM generate_series(1, 120) n WHERE domain_allowed('t' || n || '.app.example.net')")" 100 "beyond shared memory the tables answer"
cluster_restart
is "$(sql "SELECT count(*) FROM generate_series(1, 120) n WHERE domain_allowed('t' || n || '.app.example.net')")" 100 "also after a restart"
like "$(sql "ALTER SYSTEM SET tenancy.base_domain = 'App.example.net'")" "22023" "a base that is no name is refused"
like "$(sql "ALTER SYSTEM SET tenancy.reserved_domains = 'a b*'")" "22023" "and reserved ones"
done_testing
