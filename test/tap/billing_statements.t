#!/bin/bash
# What the server has counted, metered, billed and explained: statements and storage are metrics like others.
. "$(dirname "$0")/lib.sh"
cluster_start --set tenancy.workers=off
psql -Xq -v ON_ERROR_STOP=1 app >/dev/null <<'SQL'
CREATE SCHEMA shop;
CREATE TABLE shop.note (id integer, body text);
SELECT template_create('shop', 'shop');
SELECT plan_create('counted', 'Counted', 'custom', '{"type": "custom", "base_price": 0, "currency": "EUR", "billing_period": "monthly", "charges": [
    {"id": "calls", "name": "Statements", "model": "per_unit", "metric": "statement.calls", "unit": "call", "unit_price": 0.5},
    {"id": "rows", "name": "Rows", "model": "graduated", "metric": "statement.rows_written", "unit": "row", "tiers": [{"up_to": 100}, {"unit_price": 0.01}]},
    {"id": "wal", "name": "WAL", "model": "package", "metric": "statement.wal_bytes", "unit": "B", "unit_price": 0.02, "package_size": 1024},
    {"id": "cpu", "name": "CPU", "model": "per_unit", "metric": "statement.cpu_seconds", "unit": "s", "unit_price": 3},
    {"id": "storage", "name": "Storage", "model": "per_unit", "metric": "storage.bytes", "unit": "B", "unit_price": 0.0000125}]}');
SELECT tenant_create('acme', plan => 'counted', template => 'shop', starts_at => '2026-01-01 00:00+00');
SELECT tenant_create('idle', plan => 'counted', template => 'shop', starts_at => '2026-01-01 00:00+00');
SQL
# One transaction of three statements, that writes a hundred rows; as often as said.
work() { # work TIMES
	local i
	for ((i = 0; i < $1; i++)); do
		printf "BEGIN; SELECT tenant_context_set('acme');\nINSERT INTO note SELECT g, repeat('x', 100) FROM generate_series(1, 100) g;\nSELECT count(*) FROM note;\nCOMMIT;\n"
	done | psql -Xq -v ON_ERROR_STOP=1 app >/dev/null
}
at() { # at TIME STATEMENT: by the clock of the test
	psql -XAtq -v ON_ERROR_STOP=1 app -c "SET tenancy.test_clock = '$1'; SET timezone = 'UTC'" -c "$2"
}
work 7
at '2026-01-15 10:20+00' "SELECT usage_flush(); SELECT storage_measure(100)" >/dev/null
work 2
at '2026-01-31 23:59:59+00' "SELECT usage_flush(); SELECT storage_measure(100)" >/dev/null
january_storage=$(sql "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c JOIN tenancy.tenant t ON t.schema_name = c.relnamespace::regnamespace::text WHERE t.slug = 'acme' AND c.relkind = 'r'")
work 1
at '2026-02-01 00:00+00' "SELECT usage_flush()" >/dev/null

# the counters' table, by hand and by month
counted() { # counted EXPRESSION MONTH
	at '2026-03-01 00:00+00' "SELECT $1 FROM tenancy.usage_hour h JOIN tenancy.tenant t ON t.id = h.tenant_id WHERE t.slug = 'acme' AND date_trunc('month', h.hour) = '2026-$2-01'"
}
is "$(counted "sum(calls) || ' ' || sum(inserts) || ' ' || sum(rows_written)" 01)" "27 9 900" "January has nine transactions of three statements"
is "$(counted "sum(calls) || ' ' || sum(inserts) || ' ' || sum(rows_written)" 02)" "3 1 100" "February one"
is "$(counted "max(storage_bytes)" 01)" "$january_storage" "storage is what PostgreSQL says of the tables"

is "$(at '2026-02-01 06:00+00' "SELECT invoices, failed FROM billing_run('2026-02-01 00:00+00')")" "2|0" "January is billed: to one for work and storage, to the other for storage"
line() { # line CHARGE: quantity and amount of January
	at '2026-03-01 00:00+00' "SELECT trim_scale(l.quantity), l.amount FROM tenancy.invoice_line l JOIN tenancy.invoice i ON i.id = l.invoice_id JOIN tenancy.tenant t ON t.id = i.tenant_id AND t.slug = 'acme' WHERE i.period_start = '2026-01-01' AND l.charge = '$1' AND l.kind = 'usage'"
}
is "$(line calls)" "27|13.50" "27 statements of 0.50"
is "$(line rows)" "900|8.00" "900 rows, 100 of them free, at 0.01"
is "$(line wal)" "$(counted "sum(wal_bytes) || '|' || round(0.02 * ceil(sum(wal_bytes) / 1024.0), 2)" 01)" "WAL by the kilobyte that is begun"
is "$(line cpu)" "$(counted "trim_scale(sum(cpu_us) / 1000000.0) || '|' || round(3 * sum(cpu_us) / 1000000.0, 2)" 01)" "CPU time by the microsecond"
is "$(line storage)" "$(at now "SELECT $january_storage || '|' || round(0.0000125 * $january_storage, 2)")" "the most storage"
explained=$(at '2026-03-01 00:00+00' "SELECT s FROM tenancy.invoice i JOIN tenancy.tenant t ON t.id = i.tenant_id AND t.slug = 'acme', invoice_explain(i.id) s WHERE i.period_start = '2026-01-01'")
like "$explained" '27 of metric "statement.calls" were used' "the explanation names the metric and what was counted"
like "$explained" '900 of metric "statement.rows_written" were used' "before what is free"
like "$explained" "$january_storage of metric \"storage.bytes\" were used" "and the storage"
for metric in statement.calls statement.rows_written statement.wal_bytes statement.cpu_seconds storage.bytes; do
	is "$(at '2026-03-01 00:00+00' "SELECT trim_scale((l.trace->>'used')::numeric) = trim_scale(r.quantity) FROM tenancy.invoice_line l JOIN tenancy.invoice i ON i.id = l.invoice_id JOIN tenancy.tenant t ON t.id = i.tenant_id AND t.slug = 'acme', usage_report('acme', '2026-01-01', '2026-02-01', '$metric') r WHERE i.period_start = '2026-01-01' AND l.metric = '$metric'")" t "the report says the same of $metric"
done
# the next month: what was flushed at its first moment is its own, and a level carries over
is "$(at '2026-03-01 06:00+00' "SELECT invoices, failed FROM billing_run('2026-03-01 00:00+00')")" "2|0" "February is billed"
is "$(at '2026-03-01 06:00+00' "SELECT string_agg(l.charge || ' ' || trim_scale(l.quantity), ', ' ORDER BY l.charge) FROM tenancy.invoice_line l JOIN tenancy.invoice i ON i.id = l.invoice_id JOIN tenancy.tenant t ON t.id = i.tenant_id AND t.slug = 'acme' WHERE i.period_start = '2026-02-01' AND l.charge IN ('calls', 'storage') AND l.kind = 'usage'")" \
	"calls 3, storage $january_storage" "with its own statements, and the storage that was measured last"
is "$(at '2026-03-01 06:00+00' "SELECT count(*) FROM tenancy.invoice_line l WHERE l.kind = 'late'")" 0 "and nothing late"
is "$(sql "SELECT count(*) FROM tenancy.invoice_line l JOIN tenancy.tenant t ON t.id = l.tenant_id WHERE t.slug = 'idle' AND l.metric LIKE 'statement.%'")" 0 "who did nothing pays for no statement"
done_testing
