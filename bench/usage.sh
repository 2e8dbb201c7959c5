#!/bin/bash
# usage_record and usage_record_batch against a bare INSERT … ON CONFLICT DO NOTHING
#
# The bare table has the columns of tenancy.usage_event, its index by time and a key on tenant and id,
# and the statement the same values.  Events a second, so 1.00 is "costs nothing".
set -euo pipefail
. "$(dirname "$0")/lib.sh"
rounds=${ROUNDS:-12}
seconds=${SECONDS_PER_ROUND:-2}
size=1000

bench_cluster usage --set tenancy.workers=off
on usage psql -Xq -v ON_ERROR_STOP=1 >/dev/null <<'SQL'
CREATE ROLE app LOGIN IN ROLE tenancy_app;
SELECT slug FROM tenant_create('bench');
CREATE TABLE bare (LIKE tenancy.usage_event);
ALTER TABLE bare DROP COLUMN month_of_year;
ALTER TABLE bare ADD PRIMARY KEY (tenant_id, event_id);
CREATE INDEX ON bare (tenant_id, metric, occurred_at) WHERE cancelled_at IS NULL;
GRANT INSERT ON bare TO app;
SQL
id=$(on usage psql -XAtqc "SELECT id FROM tenancy.tenant")
cat > "$bench_dir/record.sql" <<SQL
\\set a random(1, 1000000000)
SELECT usage_record('$id', 'api_calls', 3, 'event-' || :a || '-' || :client_id, now(), '{"path": "/x"}') IS NULL;
SQL
cat > "$bench_dir/bare.sql" <<SQL
\\set a random(1, 1000000000)
INSERT INTO bare VALUES ('$id', 'event-' || :a || '-' || :client_id, 'api_calls', 3, now(), clock_timestamp(), '{"path": "/x"}') ON CONFLICT DO NOTHING;
SQL
# The same number of values by parameters of the client: a document here, rows there.
rows=$(for ((i = 0; i < size; i++)); do
	printf "%s('%s', 'b-' || :a || '-%d', 'api_calls', 3, now(), clock_timestamp(), '{\"path\": \"/x\"}')" "$([ "$i" = 0 ] || echo ,)" "$id" "$i"
done)
printf '\\set a random(1, 1000000000)\nINSERT INTO bare (tenant_id, event_id, metric, quantity, occurred_at, recorded_at, properties) VALUES %s ON CONFLICT DO NOTHING;\n' "$rows" > "$bench_dir/bare_batch.sql"
document=$(for ((i = 0; i < size; i++)); do
	printf '%s{"tenant": "%s", "event_id": "b-@-%d", "metric": "api_calls", "quantity": 3, "properties": {"path": "/x"}}' "$([ "$i" = 0 ] || echo ,)" "$id" "$i"
done)
printf "\\\\set a random(1, 1000000000)\nSELECT recorded FROM usage_record_batch(replace('[%s]', '@', :a::text)::jsonb);\n" "$document" > "$bench_dir/record_batch.sql"

tps() { # tps SCRIPT MODE
	on usage env PGUSER=app pgbench -n -M "$2" -c 1 -T "$seconds" -f "$bench_dir/$1.sql" app 2>/dev/null | awk '/^tps/ { print $3 }'
}
record() { tps record prepared; }
bare() { tps bare prepared; }
again() { tps bare prepared; }
record_batch() { tps record_batch simple; }
bare_batch() { tps bare_batch simple; }
interleave 1 record bare
interleave "$rounds" bare again
echo "A/A       ratio=$(ratio again bare)"
interleave "$rounds" record bare
interleave 1 record_batch bare_batch
interleave "$rounds" record_batch bare_batch
echo "events per second: record $(median < "$bench_dir/record.txt"), bare $(median < "$bench_dir/bare.txt"); in batches of $size: record $(median < "$bench_dir/record_batch.txt" | awk -v n=$size '{ print $1 * n }'), bare $(median < "$bench_dir/bare_batch.txt" | awk -v n=$size '{ print $1 * n }')"
echo "usage ratio=$(ratio record bare) batch=$(ratio record_batch bare_batch)"
