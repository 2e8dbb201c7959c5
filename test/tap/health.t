#!/bin/bash
# Whether /healthz says that jobs are late: where nobody works on any, not where a tenant has many.
. "$(dirname "$0")/lib.sh"
command -v curl > /dev/null || skip_all "there is no curl"
[ -e "$top/pg_tenancy_door.so" ] || skip_all "there is no libmicrohttpd"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cluster_start --set tenancy.http_listen=127.0.0.1:$port --set tenancy.http_database=app --set tenancy.http_refresh_interval=500ms \
	--set tenancy.health_max_delay=5s --set tenancy.max_job_workers=1 --set tenancy.runner_idle_timeout=1s --set max_worker_processes=20

health() { curl -s -m 10 "http://127.0.0.1:$port/healthz" -w ' %{http_code}'; }
wait_health() { # wait_health SECONDS REGEX
	local deadline=$((SECONDS + $1))
	until [[ "$(health)" =~ $2 ]]; do
		[ $SECONDS -lt $deadline ] || { health; return 1; }
		sleep 0.2
	done
}

wait_health 30 ' 200$'
ok $? "all is well"
sql "CREATE ROLE worker_role; CREATE SCHEMA work AUTHORIZATION worker_role; SELECT slug FROM tenant_create('acme', isolation => 'pool')" > /dev/null
sql "SET ROLE worker_role; CREATE FUNCTION work.slow(j jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN PERFORM pg_sleep((j->>'s')::float); RETURN j; END \$\$" > /dev/null
sql "GRANT USAGE ON SCHEMA work TO tenancy_tenant; SELECT name FROM job_kind_define('report', 'work.slow(jsonb)', for_tenants => true)" > /dev/null
enqueue() { # enqueue COUNT SECONDS: by a tenant, for yesterday
	sql "SELECT tenant_context_set('acme') IS NULL; SELECT count(job_enqueue('report', '{\"s\": $2}', run_at => now() - interval '1 day')) FROM generate_series(1, $1)" | tail -1
}
is "$(enqueue 1 7)" 1 "a tenant has something to do that takes longer than a delay may"
is "$(enqueue 100 1)" 100 "and very much else, since yesterday"
is "$(sql "SELECT count(*) FROM tenancy.job WHERE run_at < enqueued_at - interval '1 second'")" 0 "which is today"
worst=
end=$((SECONDS + 14)) # they take 107 s at least
while [ $SECONDS -lt $end ]; do
	[[ "$(health)" =~ ' 200'$ ]] || worst=$(health)
	sleep 0.3
done
is "$worst" "" "all is well while that is worked on"
ok "$(sql "SELECT CASE WHEN clock_timestamp() - min(run_at) > '10 s' THEN 0 ELSE 1 END FROM tenancy.job_pending")" "though some has waited for long"
sql "SELECT count(job_cancel(id)) FROM tenancy.job WHERE kind = 'report' AND finished_at IS NULL" > /dev/null
wait_for 60 "SELECT count(*) FROM tenancy.job_pending WHERE kind = 'report'" 0
set_and_reload tenancy.max_job_workers 0
wait_for 30 "SELECT count(*) FROM tenancy.worker WHERE role = 'job worker'" 0
# a launcher that is held up reads the setting later, and may send a worker before
deadline=$((SECONDS + 60))
until [[ "$(health)" =~ 'the oldest job is late by '.*' 503'$ ]] || [ $SECONDS -gt $deadline ]; do
	[ "$(sql "SELECT count(*) FROM tenancy.job_pending WHERE kind = 'report'")" != 0 ] || enqueue 1 0 > /dev/null
	sleep 0.2
done
like "$(health)" 'the oldest job is late by .* 503$' "what nobody works on is late"
set_and_reload tenancy.max_job_workers 1
wait_health 40 ' 200$'
ok $? "until somebody does"
done_testing
