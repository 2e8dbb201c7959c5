#!/bin/bash
# pg_cron drives the periodic work where the background workers are switched off.
# test/run: long
. "$(dirname "$0")/lib.sh"
[ -e "$(pg_config --pkglibdir)/pg_cron.so" ] || skip_all "pg_cron is not installed"
cluster_start --preload pg_cron --set cron.database_name=app --set cron.use_background_workers=on \
	--set tenancy.workers=off --set max_worker_processes=16
sql "CREATE EXTENSION pg_cron" >/dev/null
sql "SELECT slug FROM tenant_create('acme', plan => 'starter', starts_at => '2026-01-01 00:00+00')" >/dev/null
sql "SELECT cron.schedule('billing', '* * * * *', 'SELECT billing_run(''2026-02-15 00:00+00'')'); SELECT cron.schedule('tenancy', '* * * * *', 'SELECT job_run_due()')" >/dev/null
is "$(sql "SELECT count(*) FROM tenancy.invoice")" 0 "nothing is billed by itself"
# the next full minute is at most 60 seconds away
wait_for 75 "SELECT count(*) FROM tenancy.invoice WHERE period_start = '2026-01-01 00:00+00' AND total = 29" 1
ok $? "pg_cron bills"
wait_for 10 "SELECT count(*) >= 3 FROM tenancy.job_run WHERE state = 'succeeded'" t
ok $? "and runs what is due"
is "$(sql "SELECT string_agg(DISTINCT status, ',') FROM cron.job_run_details")" succeeded "without an error"
done_testing
