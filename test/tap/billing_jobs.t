#!/bin/bash
# test/run: long
# Billing by background workers: several at once, killed at any moment, each period billed once.
. "$(dirname "$0")/lib.sh"
kills=${KILLS:-20}
tenants=${TENANTS:-600}
cluster_start --set fsync=on --set tenancy.runner_idle_timeout=1s --set restart_after_crash=on

sql "SELECT kind FROM schedule_set('billing.run', enabled => false)" >/dev/null
sql "SELECT count(*) FROM metric_create('calls', 'call');
	SELECT count(*) FROM plan_create('metered', 'Metered', 'custom', '{\"type\": \"custom\", \"base_price\": 10, \"base_timing\": \"advance\", \"currency\": \"USD\", \"billing_period\": \"monthly\",
		\"charges\": [{\"id\": \"calls\", \"name\": \"Calls\", \"model\": \"graduated\", \"metric\": \"calls\", \"tiers\": [{\"up_to\": 10}, {\"unit_price\": 0.25}]}]}');
	INSERT INTO tenancy.tenant (id, slug, name, plan, isolation, state, role_name, owner_name, owns_ddl, configuration, metadata, created_at, updated_at)
	SELECT tenancy.id_new(), 'many-' || n, 'Many ' || n, 'metered', 'pool', 'active', 'r_' || n, 'o_' || n, false, '{}', '{}', now(), now() FROM generate_series(1, $tenants) n;
	SELECT count(*) FROM tenancy.tenant t, subscription_create(t.id, 'metered', '2026-01-01 00:00+00');
	SELECT recorded FROM usage_record_batch((SELECT jsonb_agg(jsonb_build_object('tenant', id, 'metric', 'calls', 'quantity', 12, 'event_id', 'e', 'occurred_at', '2026-01-10 00:00+00')) FROM tenancy.tenant))" >/dev/null

remaining() { sql "SELECT count(*) FROM tenancy.subscription WHERE bills_at <= '2026-07-01 00:00+00'"; }
sql "SELECT billing_run_start('2026-07-01 00:00+00', 2)" >/dev/null
# Kill now a worker, now the postmaster and all: whatever is there at a random moment.
for ((i = 1; i <= kills; i++)); do
	sleep "$((RANDOM % 2)).$((RANDOM % 9 + 1))"
	if ((i % 4 == 0)); then
		kill -9 "$(head -n 1 "$PGHOST/data/postmaster.pid")" 2>/dev/null
		# Its children notice, and let go of the shared memory, one after the other.
		for _ in {1..150}; do
			cluster_restart immediate >/dev/null 2>&1 && break
			sleep 0.2
		done
	else
		pid=$(psql -XAtqc "SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'pg_tenancy%' AND query <> '' OR backend_type LIKE '%job worker%' ORDER BY random() LIMIT 1" 2>/dev/null)
		[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null
		for _ in {1..150}; do psql -XAtqc "SELECT 1" >/dev/null 2>&1 && break; sleep 0.1; done
	fi
done
for _ in {1..600}; do [ "$(remaining)" = 0 ] && break; sleep 0.2; done
is "$(remaining)" 0 "after $kills kills all is billed"
is "$(sql "SELECT count(*) FROM tenancy.subscription WHERE period_number <> 6")" 0 "six months of each subscription"
is "$(sql "SELECT count(*) || ' ' || count(DISTINCT (subscription_id, period_start)) FROM tenancy.invoice WHERE purpose = 'cycle'")" "$((tenants * 6)) $((tenants * 6))" "an invoice a subscription and period, and no more"
is "$(sql "SELECT count(*) FROM tenancy.invoice WHERE purpose = 'change'")" "$tenants" "and one for the first month in advance"
is "$(sql "SELECT count(*) = max(substr(number, 5)::int) AND min(substr(number, 5)::int) = 1 AND count(DISTINCT number) = count(*) FROM tenancy.invoice")" t "numbers without gaps"
is "$(sql "SELECT count(*) FROM tenancy.invoice i WHERE (total, line_count) IS DISTINCT FROM (SELECT ROW(sum(amount), count(*)::int) FROM tenancy.invoice_line l WHERE l.invoice_id = i.id)")" 0 "whose lines are all there"
is "$(sql "SELECT sum(amount) FROM tenancy.ledger_entry WHERE account = 'receivable'")" "$(sql "SELECT sum(total) FROM tenancy.invoice")" "all posted"
is "$(sql "SELECT sum(total) FROM tenancy.invoice")" "$((tenants * 141 / 2)).00" "7 months of 10.00 in advance and 2 × 0.25 of calls"

# What came late for subscriptions that have ended is bounded by job, too: 4000 tenants, then the others.
over=4100
sql "SELECT count(*) FROM plan_create('pure', 'Pure', 'custom', '{\"type\": \"custom\", \"currency\": \"USD\", \"billing_period\": \"monthly\", \"charges\": [{\"id\": \"calls\", \"name\": \"Calls\", \"model\": \"per_unit\", \"metric\": \"calls\", \"unit_price\": 2}]}');
	INSERT INTO tenancy.tenant (id, slug, name, plan, isolation, state, role_name, owner_name, owns_ddl, configuration, metadata, created_at, updated_at)
	SELECT tenancy.id_new(), 'over-' || n, 'Over ' || n, 'pure', 'pool', 'active', 'over_' || n, 'over_o_' || n, false, '{}', '{}', now(), now() FROM generate_series(1, $over) n;
	SELECT count(*) FROM tenancy.tenant t, subscription_create(t.id, 'pure', '2026-01-01 00:00+00') s, subscription_cancel(s.id, 'over', at => '2026-01-20 00:00+00') WHERE t.slug LIKE 'over-%';
	SELECT invoices FROM billing_run('2026-02-01 00:00+00')" >/dev/null
sql "SELECT recorded FROM usage_record_batch((SELECT jsonb_agg(jsonb_build_object('tenant', id, 'metric', 'calls', 'quantity', 3, 'event_id', 'over', 'occurred_at', '2026-01-10 00:00+00')) FROM tenancy.tenant WHERE slug LIKE 'over-%'))" >/dev/null
sql "SELECT billing_run_start('2026-02-01 00:00+00', 1)" >/dev/null
late() { sql "SELECT count(*) || ' ' || count(DISTINCT subscription_id) || ' ' || coalesce(sum(total), 0) FROM tenancy.invoice WHERE purpose = 'late'"; }
for _ in {1..300}; do [ "$(late)" = "$over $over $((over * 6)).00" ] && break; sleep 0.2; done
is "$(late)" "$over $over $((over * 6)).00" "what came late for $over that have ended is billed once: 3 × 2"
is "$(sql "SELECT string_agg(result->>'invoices', ' ' ORDER BY (result->>'invoices')::int) FROM tenancy.job WHERE kind = 'billing.part' AND (result->>'invoices')::int > 0 AND arguments->>'at' LIKE '2026-02-01%'")" "$((over - 4000)) 4000" "by two jobs"
done_testing
