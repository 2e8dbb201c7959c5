#!/bin/bash
# test/run: long
# kill -9 in the middle of dunning runs: what was cut off is done by the next run, once.
. "$(dirname "$0")/lib.sh"
cluster_start --set tenancy.workers=off --set fsync=on
tenants=150
psql -Xq -v ON_ERROR_STOP=1 app >/dev/null <<SQL
SET tenancy.test_clock = '2026-02-01 00:00:00+00';
SELECT count(tenant_create('dun-' || n, plan => 'starter', isolation => 'pool', starts_at => '2026-01-01 00:00+00')) FROM generate_series(1, $tenants) n;
SELECT count(*) FROM billing_run('2026-02-01 00:00+00');
SELECT count(payment_method_add('dun-' || n, 'manual', 'token')) FROM generate_series(1, $tenants, 3) n;
SELECT id IS NULL FROM dunning_policy_set('default', '{"first_attempt": "due", "retries": [3], "reminders": [-3, 7], "suspend_after_days": 10}');
SQL

# A run at a time, in a backend that is killed after a while; says whether it was cut off.
cut_off() { # cut_off DAY SECONDS
	local pid client
	rm -f "$PGHOST/pid"
	psql -XAtq app > "$PGHOST/out" 2>&1 <<SQL &
\\o $PGHOST/pid
SELECT pg_backend_pid();
\\o
SET tenancy.test_clock = '$1 00:00:00+00';
SELECT * FROM dunning_run('$1 00:00+00');
SQL
	client=$!
	until [ -s "$PGHOST/pid" ]; do sleep 0.01; done
	sleep "$2"
	pid=$(cat "$PGHOST/pid")
	# where it is not done already
	crash "$pid" 2>/dev/null
	wait "$client"
	grep -qE '^[0-9]+\|' "$PGHOST/out" || echo cut
}
run() { sql "SET tenancy.test_clock = '$1 00:00:00+00'; SELECT * FROM dunning_run('$1 00:00+00')"; }

cuts=0
for seconds in 0.01 0.05 0.1 0.2; do
	for day in 2026-02-12 2026-02-15; do
		[ "$(cut_off $day $seconds)" != cut ] || cuts=$((cuts + 1))
	done
done
[ "$cuts" -gt 2 ]
ok $? "runs were cut off ($cuts)"
run 2026-02-12 >/dev/null
run 2026-02-15 >/dev/null
is "$(run 2026-02-15)" "0|0|0|0|0|0|0" "then nothing is left to do"
with=$(((tenants + 2) / 3))
is "$(sql "SELECT count(*), count(DISTINCT invoice_id) FROM tenancy.payment")" "$with|$with" "one attempt an invoice"
is "$(sql "SELECT count(*) FROM tenancy.outbox_event WHERE type = 'payment.requested'")" "$with" "and one command"
is "$(sql "SELECT count(*) - count(DISTINCT invoice_id) FROM tenancy.dunning_reminder WHERE step = -3")" 0 "no invoice is reminded twice"
is "$(sql "SELECT count(*) FROM tenancy.outbox_event e WHERE type = 'invoice.reminder' AND NOT EXISTS (SELECT FROM tenancy.dunning_reminder r WHERE r.event_id = e.id)")" 0 "each reminder has one event"

# suspensions
sql "SELECT count(payment_result(id, 'succeeded')) FROM tenancy.payment" >/dev/null
for seconds in 0.02 0.1; do cut_off 2026-02-25 $seconds >/dev/null; done
run 2026-02-25 >/dev/null
is "$(run 2026-02-25)" "0|0|0|0|0|0|0" "what was cut off is done, once"
is "$(sql "SELECT count(*) FROM tenancy.tenant WHERE state = 'suspended'")" $((tenants - with)) "who has not paid is suspended"
is "$(sql "SELECT count(*) FROM tenancy.outbox_event WHERE type = 'tenant.deactivate'")" $((tenants - with)) "and told so once"
is "$(sql "SELECT count(*) FROM tenancy.ledger_mismatch")" 0 "the books agree"
done_testing
