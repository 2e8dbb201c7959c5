#!/bin/bash
# A purge beside work that had begun before it: nothing is written of a tenant that is gone, or not for long.
. "$(dirname "$0")/lib.sh"
# without counters of statements, which a flush and a purge both write, one after the other
cluster_start --set tenancy.workers=off --set tenancy.metering=off
sql "SELECT count(tenant_create(s)) FROM unnest(ARRAY['gone', 'other']) s;
	SELECT count(quota_set(t, 'api_calls', 10, 100)) FROM unnest(ARRAY['gone', 'other']::regtenant[]) t;
	SELECT count(usage_record(t, 'api_calls', 50)) FROM unnest(ARRAY['gone', 'other']::regtenant[]) t;
	SELECT count(quota_check(t, 'api_calls')) FROM unnest(ARRAY['gone', 'other']::regtenant[]) t;
	SELECT (tenant_delete('gone', '0')).state" >/dev/null
# the operator is told of purges
sql "SELECT id FROM endpoint_create(NULL, 'https://example.com/', ARRAY['tenant.deprovision'])" >/dev/null
gone=$(sql "SELECT id FROM tenancy.tenant WHERE slug = 'gone'")

# the watcher of quotas reads the tenant as it was, and writes when the purge has committed
coproc PURGER { exec psql -XAtq app; }
say() { echo "$1" >&"${PURGER[1]}"; }
say "BEGIN; SELECT 'purged' FROM tenant_purge('gone');"
read -r line <&"${PURGER[0]}"
is "$line" "purged" "a purge has done its work, and not committed"
sql "SELECT kind, error FROM job_run_due() WHERE state = 'failed'" > "$PGHOST/watched" 2>&1 &
watcher=$!
ok "$(wait_for 30 "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%job_run_due%' AND wait_event_type = 'Lock'" 1; echo $?)" "what would warn of its quotas waits for it"
say "COMMIT; SELECT 'committed';"
read -r line <&"${PURGER[0]}"
is "$line" "committed" "the purge commits"
wait $watcher
is "$(cat "$PGHOST/watched")" "" "the other goes on"
is "$(sql "SELECT count(*) FROM tenancy.quota_event WHERE tenant_id = '$gone'")" 0 "and warns of nobody who is gone"
is "$(sql "SELECT string_agg(type, ' ') FROM tenancy.outbox_event WHERE tenant_id = '$gone'")" "tenant.deprovision" "nor tells of it"
is "$(sql "SELECT string_agg(threshold_percent::text, ' ' ORDER BY threshold_percent) FROM tenancy.quota_event JOIN tenancy.tenant t ON t.id = tenant_id WHERE t.slug = 'other'")" "80 100" "but of the others"

# whatever else came too late of what it used and might use is swept up; what is to be done is done
sql "INSERT INTO tenancy.quota_event (tenant_id, metric, threshold_percent, period_start, used, quota, recorded_at) SELECT id, 'api_calls', 80, '2001-01-01', 1, 1, now() FROM tenancy.tenant;
	INSERT INTO tenancy.storage_measurement VALUES ('$gone', 0, now());
	INSERT INTO tenancy.quota (tenant_id, metric, hard, refuses_events, changed_at) VALUES ('$gone', 'users', 1, false, now())" >/dev/null
late() { sql "SELECT (SELECT count(*) FROM tenancy.quota_event WHERE tenant_id = '$gone'), (SELECT count(*) FROM tenancy.storage_measurement WHERE tenant_id = '$gone'), (SELECT count(*) FROM tenancy.quota WHERE tenant_id = '$gone'), (SELECT count(*) FROM tenancy.job_pending WHERE tenant_id = '$gone')"; }
is "$(late)" "1|1|1|1" "rows of the tenant come after its purge"
others() { sql "SELECT (SELECT count(*) FROM tenancy.quota_event WHERE tenant_id <> '$gone'), (SELECT count(*) FROM tenancy.storage_measurement WHERE tenant_id <> '$gone')"; }
before=$(others)
sql "SELECT name FROM schedule_set('retention.start', every => '1 second')" >/dev/null
sleep 1
is "$(sql "SELECT kind, state, error FROM job_run_due() WHERE kind = 'retention.start' OR state = 'failed'")" "retention.start|succeeded|" "retention sweeps up"
is "$(late)" "0|0|0|1" "what was written after the purge is gone, but for what is to be delivered"
is "$(sql "SELECT count(*) FROM tenancy.outbox_event WHERE tenant_id = '$gone'")" 1 "what stays has stayed"
is "$(others)" "$before" "and the others' rows are theirs"
say '\q'
done_testing
