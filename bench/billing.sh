#!/bin/bash
# billing_run against one hand-written set-based statement for the same invoices
#
#   SUBSCRIPTIONS=100000 EVENTS=1000000 bench/run billing
#
# Each subscription has a base price and five metrics with graduated tiers.  The statement knows
# the one plan, the one period and the prices, aggregates the events of the month in one pass, and
# writes the rows that the run writes: invoices, lines with their traces, the ledger and the
# moves of the subscriptions.  Both write the same tables, with their keys and triggers; the
# totals are compared.  1.00 is "as fast as by hand".
#
# What a backend's memory comes to at its peak is measured for all subscriptions and for a tenth
# of them: its own, and as VmHWM says, with the shared buffers that it has touched.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
subscriptions=${SUBSCRIPTIONS:-100000}
events=${EVENTS:-1000000}
rounds=${ROUNDS:-3}

bench_cluster billing --set tenancy.workers=off --set work_mem=64MB
sql() { on billing psql -XAtq -v ON_ERROR_STOP=1 "$@"; }

sql >/dev/null <<SQL
SELECT count(*) FROM generate_series(1, 5) n, metric_create('m' || n, 'unit');
SELECT plan_create('metered', 'Metered', 'custom', jsonb_build_object('type', 'custom', 'base_price', 10, 'currency', 'USD',
    'billing_period', 'monthly', 'charges', (SELECT jsonb_agg(jsonb_build_object('id', 'c' || n, 'name', 'Metric ' || n, 'model', 'graduated',
        'metric', 'm' || n, 'unit', 'unit', 'tiers', '[{"up_to": 10, "unit_price": 0}, {"up_to": 50, "unit_price": 0.25, "flat_fee": 1}, {"unit_price": 0.125}]'::jsonb)) FROM generate_series(1, 5) n)));
INSERT INTO tenancy.tenant (id, slug, name, plan, isolation, state, role_name, owner_name, owns_ddl, configuration, metadata, created_at, updated_at)
    SELECT tenancy.id_new(), 'bench-' || n, 'Bench ' || n, 'metered', 'pool', 'active', 'r_' || n, 'o_' || n, false, '{}', '{}', now(), now()
      FROM generate_series(1, $subscriptions) n;
SELECT count(*) FROM tenancy.tenant t, subscription_create(t.id, 'metered', '2026-01-01 00:00+00') WHERE t.slug LIKE 'bench-%';
SQL
sql >/dev/null <<SQL
COPY (SELECT t.id, 'm' || 1 + (n / $subscriptions) % 5, 1 + n % 37, 'e' || n, '2026-01-01 00:00+00'::timestamptz + (n * 2.6) * interval '1 second', '{}'
      FROM generate_series(1, $events) n JOIN (SELECT id, row_number() OVER (ORDER BY id) - 1 AS k FROM tenancy.tenant WHERE slug LIKE 'bench-%') t ON t.k = n % $subscriptions)
    TO '/tmp/pg_tenancy_bench_events.csv' (FORMAT csv);
COPY tenancy.usage_inbox (tenant, metric, quantity, event_id, occurred_at, properties) FROM '/tmp/pg_tenancy_bench_events.csv' (FORMAT csv);
SQL
rm -f /tmp/pg_tenancy_bench_events.csv
sql -c "VACUUM ANALYZE" >/dev/null

cat > "$bench_dir/by_hand.sql" <<'SQL'
SET search_path = pg_catalog;
WITH due AS MATERIALIZED (
    SELECT s.id AS subscription_id, s.tenant_id, s.period_start, s.period_end, tenancy.id_new() AS invoice_id,
           i.line, row_number() OVER (ORDER BY s.tenant_id) AS n, t.slug, t.name
      FROM tenancy.subscription s JOIN tenancy.subscription_item i ON i.subscription_id = s.id AND i.superseded_at = 'infinity'
      JOIN tenancy.tenant t ON t.id = s.tenant_id
     WHERE s.bills_at <= '2026-02-01 00:00+00'),
used AS (
    SELECT e.tenant_id, e.metric, sum(e.quantity) AS quantity
      FROM tenancy.usage_event e
     WHERE e.occurred_at >= '2026-01-01 00:00+00' AND e.occurred_at < '2026-02-01 00:00+00' AND e.cancelled_at IS NULL
     GROUP BY e.tenant_id, e.metric),
lines AS MATERIALIZED (
    SELECT d.invoice_id, 1 AS position, d.tenant_id, d.subscription_id, d.line, 'base' AS charge, 'recurring' AS kind,
           'Metered' AS description, NULL AS metric, 1::numeric AS quantity, NULL AS unit, 10::numeric AS unit_price, 10.00 AS amount,
           d.period_start, d.period_end, jsonb_build_object('rule', 'flat', 'used', 1, 'price_version', 1) AS trace
      FROM due d
    UNION ALL
    SELECT d.invoice_id, 1 + row_number() OVER (PARTITION BY d.invoice_id ORDER BY u.metric), d.tenant_id, d.subscription_id, d.line,
           'c' || substr(u.metric, 2), 'usage', 'Metric ' || substr(u.metric, 2), u.metric, u.quantity, 'unit', NULL,
           round(CASE WHEN u.quantity > 10 THEN 1 ELSE 0 END + 0.25 * greatest(0, least(u.quantity, 50) - 10) + 0.125 * greatest(0, u.quantity - 50), 2),
           d.period_start, d.period_end, jsonb_build_object('rule', 'graduated', 'used', u.quantity, 'price_version', 1)
      FROM due d JOIN used u ON u.tenant_id = d.tenant_id),
totals AS MATERIALIZED (SELECT invoice_id, count(*) AS lines, sum(amount) AS total FROM lines GROUP BY invoice_id),
number AS (
    INSERT INTO tenancy.invoice_series AS n (name, next_number) SELECT 'INV', 1 + count(*) FROM due
    ON CONFLICT (name) DO UPDATE SET next_number = n.next_number + excluded.next_number - 1
    RETURNING n.next_number - (SELECT count(*) FROM due) AS first),
invoices AS (
    INSERT INTO tenancy.invoice (id, tenant_id, legal_entity, subscription_id, purpose, number, state, period_number, period_start,
        period_end, currency, line_count, tax_count, discount_count, subtotal, discount, tax, inclusive_tax, total, deferred, usage_cutoff,
        payment_terms_days, seller, customer, issued_at, due_at, created_at)
    SELECT d.invoice_id, d.tenant_id, 'default', d.subscription_id, 'cycle', 'INV-' || lpad((x.first + d.n - 1)::text, 6, '0'), 'open', 0,
        d.period_start, d.period_end, 'USD', t.lines, 0, 0, t.total, 0.00, 0.00, 0.00, t.total, 0, now(), 14,
        jsonb_strip_nulls(jsonb_build_object('legal_entity', e.id, 'name', e.name, 'address', e.address, 'bank_account', e.bank_account)),
        jsonb_strip_nulls(jsonb_build_object('slug', d.slug, 'name', d.name, 'address', '{}'::jsonb)), now(), now() + interval '14 days', now()
      FROM due d JOIN totals t USING (invoice_id), number x, tenancy.legal_entity e WHERE e.id = 'default'
    RETURNING 1),
written AS (
    INSERT INTO tenancy.invoice_line (invoice_id, position, tenant_id, subscription_id, item_line, plan, price_version, charge, kind,
        description, metric, quantity, unit, unit_price, amount, discount, tax, net, tax_rates, period_start, period_end, trace)
    SELECT l.invoice_id, l.position, l.tenant_id, l.subscription_id, l.line, 'metered', 1, l.charge, l.kind, l.description, l.metric,
        l.quantity, l.unit, l.unit_price, l.amount, 0, 0, l.amount, '{}', l.period_start, l.period_end, l.trace
      FROM lines l WHERE (SELECT count(*) FROM invoices) > 0
    RETURNING 1),
posted AS MATERIALIZED (SELECT tenancy.id_new() AS id, d.invoice_id, d.tenant_id, t.total, d.n, x.first FROM due d JOIN totals t USING (invoice_id), number x),
transactions AS (
    INSERT INTO tenancy.ledger_transaction (id, tenant_id, legal_entity, kind, document_id, purpose, currency, effective_at, recorded_at, description)
    SELECT p.id, p.tenant_id, 'default', 'invoice', p.invoice_id, '', 'USD', now(), now(), 'INV-' || lpad((p.first + p.n - 1)::text, 6, '0') FROM posted p
    RETURNING 1),
entries AS (
    INSERT INTO tenancy.ledger_entry (transaction_id, position, tenant_id, account, currency, amount)
    SELECT p.id, a.position, p.tenant_id, a.account, 'USD', a.sign * p.total
      FROM posted p, (VALUES (1, 'receivable', 1), (2, 'revenue', -1)) a(position, account, sign) WHERE (SELECT count(*) FROM transactions) > 0
    RETURNING 1),
moved AS (
    UPDATE tenancy.subscription s SET period_number = 1, period_start = d.period_end, period_end = '2026-03-01 00:00+00', bills_at = '2026-03-01 00:00+00'
      FROM due d WHERE s.id = d.subscription_id RETURNING 1)
SELECT (SELECT count(*) FROM due), (SELECT count(*) FROM written), (SELECT sum(total) FROM totals), (SELECT count(*) FROM entries), (SELECT count(*) FROM moved);
SQL
seconds() { # seconds NAME SQL...: the time of a transaction that is rolled back
	local started ended
	started=${EPOCHREALTIME/[.,]/}
	sql -c BEGIN -f "$2" -c ROLLBACK > "$bench_dir/$1.out"
	ended=${EPOCHREALTIME/[.,]/}
	# What was undone is out of the way of the next.
	sql -c "VACUUM tenancy.invoice, tenancy.invoice_line, tenancy.ledger_transaction, tenancy.ledger_entry, tenancy.subscription, tenancy.outbox_event" >/dev/null
	awk -v us=$((ended - started)) 'BEGIN { print us / 1000000 }'
}
echo "SELECT invoices, lines, (total->>'USD')::numeric FROM billing_run('2026-02-01 00:00+00')" > "$bench_dir/run.sql"
by_hand() { seconds by_hand "$bench_dir/by_hand.sql"; }
run() { seconds run "$bench_dir/run.sql"; }
interleave "$rounds" by_hand run
cut -d'|' -f1-3 "$bench_dir/by_hand.out" > "$bench_dir/by_hand.totals"
if ! diff "$bench_dir/by_hand.totals" "$bench_dir/run.out"; then
	echo "the totals differ" >&2
	exit 1
fi

# peak_memory: of a backend that bills what is due and rolls back, in MB: its own, VmHWM.  Its
# own has no high-water mark in Linux, so it is looked at every 20 ms.
peak_memory() {
	sql <<-PEAK
		SELECT pg_backend_pid() AS pid \gset
		\setenv BACKEND :pid
		\! while kill -0 \$BACKEND && cat /proc/\$BACKEND/status && sleep 0.02; do :; done 2>/dev/null >$bench_dir/memory.out &
		BEGIN;
		\o /dev/null
		\i $bench_dir/run.sql
		\o
		ROLLBACK;
	PEAK
	awk '$1 == "RssAnon:" && $2 > own { own = $2 } $1 == "VmHWM:" && $2 > all { all = $2 }
		END { printf "%.1f %.1f", own / 1024, all / 1024 }' "$bench_dir/memory.out"
}
sql -c "UPDATE tenancy.subscription SET bills_at = 'infinity' WHERE (uuid_hash(id) & 2147483647) % 10 <> 0" >/dev/null
read -r tenth_own tenth_all <<<"$(peak_memory)"
sql -c "UPDATE tenancy.subscription SET bills_at = period_end" -c "VACUUM ANALYZE tenancy.subscription" >/dev/null
read -r full_own full_all <<<"$(peak_memory)"

# For good, and once more.
started=${EPOCHREALTIME/[.,]/}
sql -f "$bench_dir/run.sql" >/dev/null
middle=${EPOCHREALTIME/[.,]/}
sql -f "$bench_dir/run.sql" >/dev/null
ended=${EPOCHREALTIME/[.,]/}
echo "$subscriptions subscriptions, $events events; invoices, lines and total: $(cat "$bench_dir/run.out")"
echo "by hand $(median < "$bench_dir/by_hand.txt") s, billing_run $(median < "$bench_dir/run.txt") s; a second run is $(awk -v a=$((middle - started)) -v b=$((ended - middle)) 'BEGIN { printf "%.0f", a / b }') times as fast"
echo "peak memory of the backend: $full_own MB of its own ($full_all MB with shared buffers), for a tenth of the subscriptions $tenth_own ($tenth_all) MB: $(awk -v a="$full_own" -v b="$tenth_own" 'BEGIN { printf "%.2f", a / b }') times as much"
echo "billing ratio=$(ratio by_hand run)"
