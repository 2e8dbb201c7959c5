#!/bin/bash
# rate_limit_enforce against SELECT 1; and against Redis, the same client asking it before its read
#
# "limiter": prepared statements a second of the one against the other, by pgbench.  "redis": a
# Node.js client that serves requests, each of which asks the limiter and reads one row: in one
# statement here; there GCRA in Lua in a Redis on a Unix socket, and then the row.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
rounds=${ROUNDS:-12}
seconds=${SECONDS_PER_ROUND:-2}

bench_cluster limiter --set tenancy.workers=off
on limiter psql -Xq -v ON_ERROR_STOP=1 >/dev/null <<'SQL'
CREATE ROLE app LOGIN IN ROLE tenancy_app;
SELECT slug FROM tenant_create('bench');
SELECT rate_limit_configure('bench', '{"global_limits": [{"limit": 1000000000, "period_seconds": 1}]}');
CREATE TABLE item (id integer PRIMARY KEY, body text);
INSERT INTO item SELECT g, repeat('x', 100) FROM generate_series(1, 10000) g;
GRANT SELECT ON item TO app;
VACUUM ANALYZE item;
SQL
echo "SELECT 1;" > "$bench_dir/one.sql"
echo "SELECT (rate_limit_enforce('bench', '/api/items')).limited;" > "$bench_dir/limited.sql"
tps() {
	on limiter env PGUSER=app pgbench -n -M prepared -c 1 -T "$seconds" -f "$bench_dir/$1.sql" app 2>/dev/null | awk '/^tps/ { print $3 }'
}
one() { tps one; }
again() { tps one; }
limited() { tps limited; }
interleave 2 limited one # warm
interleave "$rounds" one again
echo "A/A       ratio=$(ratio again one)"
interleave "$rounds" limited one

node_modules=$top/build/node
redis=$(command -v redis-server || true)
if [ -n "$redis" ] && [ -d "$node_modules/node_modules/pg" ]; then
	socket=$bench_dir/redis.sock
	"$redis" --port 0 --unixsocket "$socket" --save '' --appendonly no --daemonize yes --pidfile "$bench_dir/redis.pid" --dir "$bench_dir" >/dev/null
	trap 'kill $(cat "$bench_dir/redis.pid"); bench_cleanup' EXIT
	serve() { on limiter env PGUSER=app NODE_MODULES="$node_modules" REDIS="$socket" SECONDS_PER_ROUND="$seconds" node "$top/bench/rate_limit.mjs" "$1"; }
	here() { serve here; }
	there() { serve there; }
	interleave 1 here there
	interleave "$rounds" here there
	echo "requests per second: here $(median < "$bench_dir/here.txt"), with Redis $(median < "$bench_dir/there.txt")"
	echo "redis ratio=$(ratio here there)"
else
	echo "redis: skipped, there is no redis-server (apt), or no build/node (make test makes it)"
fi
echo "rate_limit ratio=$(ratio limited one)"
