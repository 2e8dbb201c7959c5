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
milliseconds() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }
between() { # between LOW VALUE HIGH NAME
	ok "$(awk -v low="$1" -v value="$2" -v high="$3" 'BEGIN { print !(value >= low - 10 && value <= high + 10) }')" "$4: $1 <= $2 <= $3"
}
before=$(milliseconds)
coproc SESSION { exec psql -XAtq -U acme_bi -d app; }
pid=$SESSION_PID
echo "SELECT 1;" >&"${SESSION[1]}"
read -r _ <&"${SESSION[0]}"
there=$(milliseconds)
sleep 1.5
low=$(($(milliseconds) - there))
between $low "$(stat connection_ms)" $(($(milliseconds) - before)) "how long a connection lasts so far"
low=$(($(milliseconds) - there))
echo '\q' >&"${SESSION[1]}"
wait "$pid"
between $low "$(stat connection_ms)" $(($(milliseconds) - before)) "and how long it lasted"
is "$(stat connections)" 1 "it is one"
set_and_reload tenancy.workers on
coproc SESSION { exec psql -XAtq -d app; }
pid=$SESSION_PID
echo "BEGIN; LOCK TABLE t; SELECT 'locked';" >&"${SESSION[1]}"
read -r _ <&"${SESSION[0]}"
before=$(milliseconds)
as acme "SELECT * FROM t" &
waiter=$!
# who waits is looked at once a second
wait_for 30 "SELECT lock_wait_ms > 1000 FROM tenancy.tenant_stat WHERE slug = 'acme'" t
echo 'COMMIT; \q' >&"${SESSION[1]}"
wait "$pid" "$waiter"
between 1000 "$(stat lock_wait_ms)" $(($(milliseconds) - before + 1000)) "a wait for a lock, of some seconds"
is "$(stat "lock_waits >= 1")" t "it is counted"
is "$(sql "SELECT count(*) FROM tenancy.tenant_stat WHERE slug IS NOT NULL AND slug <> 'acme' AND lock_waits > 0")" 0 "nobody else waited"
done_testing
