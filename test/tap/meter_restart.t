#!/bin/bash
# What is counted survives a clean stop and the promotion of a standby; connections and waits.
. "$(dirname "$0")/lib.sh"
cluster_start --set tenancy.workers=off --set wal_level=replica --set tenancy.metering_flush_interval=200ms

as() { # as TENANT STATEMENT: one transaction of the tenant, two calls
	psql -XAtq -d app -o /dev/null -c "BEGIN" -c "SELECT tenant_context_set('$1')" -c "$2" -c "COMMIT"
}
flushed() { sql "SELECT coalesce(sum($1), 0) FROM tenancy.$2 h JOIN tenancy.tenant t ON t.id = h.tenant_id WHERE slug = 'acme'"; }
sql "SELECT slug FROM tenant_create('acme')" >/dev/null

# nobody has flushed when the server stops
as acme "SELECT 1"
cluster_restart fast
is "$(sql "SELECT usage_flush() > 0")" t "after a clean stop there is something to flush"
is "$(flushed calls usage_hour)|$(flushed rows usage_hour)|$(flushed statements latency_hour)" "2|2|2" "all that was counted"
cluster_restart fast
sql "SELECT usage_flush()" >/dev/null
is "$(flushed calls usage_hour)" 2 "once"
as acme "SELECT 1"
cluster_restart fast
as acme "SELECT 1"
cluster_restart fast
sql "SELECT usage_flush()" >/dev/null
is "$(flushed calls usage_hour)" 6 "and after two stops in a row"
as acme "SELECT 1"
cluster_restart immediate
sql "SELECT usage_flush()" >/dev/null
is "$(flushed calls usage_hour)" 6 "an immediate stop loses what was not flushed, and repeats nothing"

# a standby counts from its promotion on
as_server() ( cd / && if [ "$(id -u)" -eq 0 ]; then exec setpriv --reuid "$(stat -c %u "$PGHOST/data")" --regid "$(stat -c %g "$PGHOST/data")" --clear-groups "$@"; else exec "$@"; fi )
bindir=$(pg_config --bindir)
as_server "$bindir/pg_basebackup" -h "$PGHOST" -U postgres -D "$PGHOST/standby" -R -X stream -c fast
ok $? "a standby is made"
trap 'as_server "$bindir/pg_ctl" -D "$PGHOST/standby" -m immediate -s stop; cluster_stop' EXIT
as_server "$bindir/pg_ctl" -D "$PGHOST/standby" -o "-p 5433" -l "$PGHOST/standby.log" -w -s start
ok $? "and started"
standby() { PGPORT=5433 sql "$@"; }
is "$(standby "SELECT pg_is_in_recovery(), count(*) FROM tenancy.tenant_stat")" "t|0" "it counts nothing"
PGPORT=5433 psql -XAtq -d app -c "SELECT pg_sleep(30)" > /dev/null &
session=$!
as_server "$bindir/pg_ctl" -D "$PGHOST/standby" -w -s promote
ok $? "it is promoted"
PGPORT=5433 as acme "SELECT 1"
is "$(standby "SELECT usage_flush() > 0")" t "counts, and flushes"
is "$(PGPORT=5433 flushed calls usage_hour)" 8 "what came before is there, and what comes after is added"
is "$(flushed calls usage_hour)" 6 "the primary has its own"
kill $session 2>/dev/null
as_server "$bindir/pg_ctl" -D "$PGHOST/standby" -m immediate -s stop
trap cluster_stop EXIT

# connections of a bound login, while it is idle too, and who waits for a lock
sql "CREATE ROLE acme_bi LOGIN" >/dev/null
sql "SELECT tenant_login_bind('acme_bi', 'acme') IS NOT NULL" >/dev/null
sql "CREATE TABLE t (a integer); GRANT ALL ON t TO tenancy_tenant" >/dev/null
stat() { sql "SELECT $1 FROM tenancy.tenant_stat WHERE slug = 'acme'"; }
{ echo "SELECT 1;"; sleep 3; } | psql -XAtq -U acme_bi -d app >/dev/null &
sleep 1.5
like "$(stat "connections = 1 AND connection_ms BETWEEN 500 AND 20000")" t "a connection, and how long it lasts so far"
wait
like "$(stat "connections = 1 AND connection_ms BETWEEN 2500 AND 30000")" t "and how long it lasted"
sql "ALTER SYSTEM SET tenancy.workers = on" postgres >/dev/null
sql "SELECT pg_reload_conf()" postgres >/dev/null
psql -XAtq -d app -c "BEGIN" -c "LOCK TABLE t" -c "SELECT pg_sleep(4)" -c "COMMIT" >/dev/null &
wait_for 10 "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'" 1
as acme "SELECT * FROM t"
wait
like "$(stat "lock_waits >= 1 AND lock_wait_ms BETWEEN 1000 AND 8000")" t "a wait for a lock, of some seconds: $(stat lock_wait_ms) ms"
is "$(sql "SELECT count(*) FROM tenancy.tenant_stat WHERE slug IS NOT NULL AND slug <> 'acme' AND lock_waits > 0")" 0 "nobody else waited"
done_testing
