#!/bin/bash
# pg_cron drives the periodic work where the background workers are switched off.
# test/run: long
. "$(dirname "$0")/lib.sh"
[ -e "$(pg_config --pkglibdir)/pg_cron.so" ] || skip_all "pg_cron is not installed"
cluster_start --preload pg_cron --set cron.database_name=app --set cron.use_background_workers=on \
	--set tenancy.workers=off --set max_worker_processes=16
sql "CREATE EXTENSION pg_cron" >/dev/null
sql "SELECT slug FROM tenant_create('acme', plan => 'starter', starts_at => '2026-01-01 00:00+00')" >/dev/null
sql "CREATE ROLE doer; CREATE SCHEMA work AUTHORIZATION doer; SET ROLE doer; CREATE TABLE work.done (tenant uuid);
	CREATE FUNCTION work.note(j jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN INSERT INTO work.done VALUES (public.current_tenant_id()); RETURN NULL; END \$\$" >/dev/null
sql "SELECT count(*) FROM job_kind_define('note', 'work.note(jsonb)'); SELECT slug FROM tenant_create('other'); SELECT count(job_enqueue('note', tenant => t)) FROM unnest(ARRAY['acme', 'other']::regtenant[]) t; SELECT count(*) FROM schedule_set('notes', 'note', '1 second', arguments => '{\"by\": \"schedule\"}')" >/dev/null
psql -XAtqc "BEGIN; SELECT tenant_context_set('acme'); CREATE TEMP TABLE x AS SELECT 1; ROLLBACK" >/dev/null 2>&1
sql "CREATE TABLE shared (tenant_id uuid, id integer, at timestamptz, PRIMARY KEY (tenant_id, id)); CREATE INDEX ON shared (tenant_id, at); SELECT count(tenant_table_register('shared'));
	INSERT INTO shared SELECT id, g, now() - g * interval '1 day' FROM tenancy.tenant, generate_series(1, 200) g;
	SELECT count(retention_policy_set('shared', 'at', '100 days', 'delete', 'contract'))" >/dev/null
is "$(sql "SELECT count(*) FROM tenancy.invoice")" 0 "nothing is billed by itself"
is "$(sql "SELECT count(*) FROM shared")" 400 "nor does anything go"
echo '{"true": {"argv": ["/bin/true"]}}' > "$PGHOST/commands.json"
chmod 644 "$PGHOST/commands.json"
set_and_reload tenancy.command_file "$PGHOST/commands.json"
command=$(sql "SELECT id FROM job_enqueue('command.run', '{\"command\": \"true\"}')")
sql "SELECT id FROM endpoint_create('acme', 'https://example.com/'); SELECT id FROM event_publish('acme', 'order.shipped', '{}')" >/dev/null
event=$(sql "SELECT job_id FROM tenancy.delivery")
# when all is prepared: a minute may end at any time
sql "SELECT cron.schedule('billing', '* * * * *', 'SELECT billing_run(''2026-02-15 00:00+00'')'); SELECT cron_install()" >/dev/null
is "$(sql "SELECT schedule, command FROM cron.job WHERE jobname = 'pg_tenancy'")" "* * * * *|SELECT public.job_run_due((100)::integer)" "cron_install() registers the periodic work"
is "$(sql "SELECT cron_install('*/1 * * * *') = jobid FROM cron.job WHERE jobname = 'pg_tenancy'")" t "once"
# the next full minute is at most 60 seconds away
wait_for 75 "SELECT count(*) FROM tenancy.invoice WHERE period_start = '2026-01-01 00:00+00' AND total = 29" 1
ok $? "pg_cron bills"
wait_for 30 "SELECT count(*) >= 3 FROM tenancy.job_run WHERE state = 'succeeded'" t
ok $? "and runs what is due"
is "$(sql "SELECT count(DISTINCT tenant) FROM work.done")" 2 "also queued jobs, of several tenants at once"
is "$(sql "SELECT count(*) > 0 FROM tenancy.job_done WHERE schedule = 'notes' AND outcome = 'succeeded'")" t "and those of schedules"
is "$(sql "SELECT count(*) > 0 FROM tenancy.usage_hour")" t "and flushes what was metered"
# begun by one call, done by that or the next
wait_for 130 "SELECT count(*) FROM shared" 198
ok $? "pg_cron enforces retention"
is "$(sql "SELECT count(DISTINCT tenant_id), sum(rows) FROM tenancy.retention_log WHERE finished_at IS NOT NULL")" "2|202" "of each tenant, to the end"
is "$(sql "SELECT count(*) > 0 FROM tenancy.job_run WHERE kind = 'retention.start' AND state = 'succeeded'; SELECT count(*) > 0 FROM tenancy.job_done WHERE kind = 'retention.step' AND outcome = 'succeeded'")" "t
t" "by its jobs"
is "$(sql "SELECT kind, state, attempt FROM tenancy.job WHERE id IN ('$event', '$command') ORDER BY 1")" "command.run|ready|0
webhook.deliver|ready|0" "webhooks and commands wait for workers"
is "$(sql "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_tenancy%' AND backend_type NOT LIKE '%launcher%'")" 0 "no worker of the extension's own took part"
is "$(sql "SELECT cron_uninstall(); SELECT cron_uninstall(); SELECT count(*) FROM cron.job WHERE jobname = 'pg_tenancy'")" "t
f
0" "cron_uninstall() takes it back"
is "$(sql "SELECT string_agg(DISTINCT status, ',') FROM cron.job_run_details")" succeeded "without an error"
sql "CREATE DATABASE bare" postgres >/dev/null
like "$(sql "CREATE EXTENSION pg_tenancy; SELECT cron_install()" bare)" 55000 "without pg_cron there is nothing to install"
done_testing
