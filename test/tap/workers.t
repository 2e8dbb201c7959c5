#!/bin/bash
# Background workers: they come when there is work, leave when there is none, stay out of
# the way, and survive what a server survives.
. "$(dirname "$0")/lib.sh"
cluster_start --set tenancy.metering_flush_interval=200ms --set tenancy.runner_idle_timeout=1s \
	--set max_worker_processes=16

runner="SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_tenancy runner'"
launcher="SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_tenancy launcher'"
use() { # use TENANT: some work of the tenant
	psql -XAtqc "BEGIN; SELECT tenant_context_set('$1'); CREATE TEMP TABLE x AS SELECT 1; ROLLBACK" >/dev/null 2>&1
}
flushed="SELECT coalesce(sum(calls), 0) > 0 FROM tenancy.usage_hour h JOIN tenancy.tenant t ON t.id = h.tenant_id WHERE t.slug = 'acme'"

is "$(sql "$launcher")" 1 "the launcher runs"
wait_for 30 "SELECT count(DISTINCT kind) = (SELECT count(*) FROM tenancy.schedule) FROM tenancy.job_run WHERE state = 'succeeded'" t
ok $? "CREATE EXTENSION is work: the schedule is run"
sql "SELECT slug FROM tenant_create('acme', plan => 'starter', starts_at => '2026-01-01')" >/dev/null
like "$(sql "SELECT every FROM schedule_set('billing.run', every => '1 second')")" 00:00:01 "schedule_set is heard of"
use acme
wait_for 30 "$flushed" t
ok $? "a runner comes and flushes"
wait_for 30 "SELECT count(*) > 0 FROM tenancy.invoice" t
ok $? "and bills what is due"
is "$(sql "SELECT DISTINCT result ? 'tenants' FROM tenancy.job_run WHERE kind = 'storage.measure'")" t "a run says what it did"
sql "SELECT kind FROM schedule_set('billing.run', every => '1 hour'); UPDATE tenancy.schedule SET next_run_at = now() + interval '1 hour' WHERE kind = 'billing.run'" >/dev/null
# a run that has begun may still be at it
wait_for 30 "SELECT count(*) FROM tenancy.schedule WHERE kind = 'billing.run' AND lease_until IS NOT NULL" 0
billed=$(sql "SELECT count(*) FROM tenancy.invoice")
# this very query is work: so look from a database without the extension
psql -XAtqc "CREATE DATABASE other" postgres
left() { local i; for ((i = 0; i < 300; i++)); do [ "$(sql "$runner" postgres)" = 0 ] && return 0; sleep 0.1; done; return 1; }
left
ok $? "an idle runner leaves"
is "$(sql "SELECT count(*) FROM tenancy.worker WHERE database = 'other'")" 0 "a database without the extension is not looked after"
like "$(sql "SELECT role, pid IS NOT NULL FROM tenancy.worker WHERE role = 'launcher'")" 'launcher.t' "tenancy.worker shows it"

# statements that need a database to themselves
use acme
like "$(sql "CREATE DATABASE copy TEMPLATE app" postgres)" '^$' "CREATE DATABASE … TEMPLATE with a runner about"
is "$(sql "SELECT slug FROM tenancy.tenant" copy)" acme "the copy has the registry"
wait_for 30 "SELECT count(*) FROM tenancy.worker WHERE database = 'copy'" 1
ok $? "and is looked after"
wait_for 30 "$runner" 1 >/dev/null
like "$(sql "ALTER DATABASE copy RENAME TO renamed" postgres)" '^$' "RENAME"
use acme
like "$(sql "DROP DATABASE renamed" postgres)" '^$' "DROP DATABASE"
left
like "$(sql "CREATE DATABASE copy TEMPLATE app" postgres)" '^$' "CREATE DATABASE … TEMPLATE while idle"
like "$(sql "DROP DATABASE copy" postgres)" '^$' "DROP DATABASE while idle"

# DROP and CREATE EXTENSION
sql "CREATE DATABASE again" postgres >/dev/null
sql "CREATE EXTENSION pg_tenancy; SELECT slug FROM tenant_create('one')" again >/dev/null
# a run that has begun holds locks on what is dropped
for _ in $(seq 200); do
	[ "$(sql "SELECT count(*) FROM tenancy.schedule WHERE lease_until IS NOT NULL OR last_finished_at IS NULL" again)" != 0 ] || break
	sleep 0.1
done
is "$(sql "DROP EXTENSION pg_tenancy; CREATE EXTENSION pg_tenancy; SELECT count(*) FROM tenancy.tenant" again)" 0 "DROP EXTENSION and CREATE EXTENSION"
is "$(sql "SELECT slug FROM tenant_create('one')" again)" one "and it works again"
sql "DROP EXTENSION pg_tenancy" again >/dev/null
is "$(sql "SELECT 1" again)" 1 "a database without it is left alone"
like "$(sql "DROP DATABASE again" postgres)" '^$' "and dropped"

# restart
cluster_restart
is "$(sql "$launcher")" 1 "the launcher is back after a restart"
wait_for 30 "SELECT count(*) >= 1 FROM tenancy.job_run WHERE started_at > pg_postmaster_start_time() - interval '1 hour'" t
ok $? "and the work goes on"
is "$(sql "SELECT count(*) FROM tenancy.invoice")" "$billed" "nothing is billed twice"

# kill -9: the server starts over, and so do the workers
launcher_pid() { sql "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_tenancy launcher'" postgres; }
back() { # back FORMER: until another launcher is there
	local i
	for ((i = 0; i < 600; i++)); do [[ $(launcher_pid) =~ ^[0-9]+$ && ${BASH_REMATCH[0]} != "$1" ]] && return 0; sleep 0.1; done
	return 1
}
pid=$(launcher_pid)
crash "$pid" && back "$pid"
ok $? "kill -9 of the launcher"
before=$(sql "SELECT coalesce(sum(calls), 0) FROM tenancy.usage_hour")
use acme
wait_for 30 "SELECT coalesce(sum(calls), 0) > $before FROM tenancy.usage_hour" t
ok $? "it flushes again"
former=$(launcher_pid)
for ((i = 0; i < 50; i++)); do
	use acme
	pid=$(sql "SELECT max(pid) FROM pg_stat_activity WHERE backend_type = 'pg_tenancy runner'" postgres)
	# it may have left before it is hit
	[ -z "$pid" ] || { crash "$pid" 2>/dev/null && break; }
done
back "$former"
ok $? "kill -9 of a runner"
use acme
wait_for 30 "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'pg_tenancy runner'" t
ok $? "another comes"
is "$(sql "SELECT count(*) FROM tenancy.invoice")" "$billed" "nothing is billed twice"

pg_terminate() { sql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'pg_tenancy $1'" postgres; }
former=$(launcher_pid)
is "$(pg_terminate launcher)" t "pg_terminate_backend of the launcher"
back "$former"
ok $? "it comes back"

# a run that a crash cut off is taken up when its lease ends
sql "UPDATE tenancy.schedule SET next_run_at = now() - interval '1 hour', lease_until = now() + interval '1 second', fence = fence + 1 WHERE kind = 'storage.measure'" >/dev/null
use acme
wait_for 30 "SELECT lease_until IS NULL AND next_run_at > now() FROM tenancy.schedule WHERE kind = 'storage.measure'" t
ok $? "a lease that was left behind ends"

# switched off
set_and_reload tenancy.workers off
# a launcher that is busy reads the setting a little later, and may have sent a runner before
for ((i = 0; i < 20; i++)); do
	left
	use acme
	sleep 1
	[ "$(sql "$runner" postgres)" != 0 ] || break
done
is "$(sql "$runner" postgres)" 0 "tenancy.workers = off: no runner comes"
sql "ALTER SYSTEM RESET tenancy.workers" postgres >/dev/null
reload
use acme
cluster_restart fast
is "$(sql "$launcher")" 1 "a fast shutdown and a start"
done_testing
