#!/bin/bash
# Rate limits under load, without room, and across a restart.
. "$(dirname "$0")/lib.sh"
cluster_start --set tenancy.max_rate_subjects=1024
psql -Xq -v ON_ERROR_STOP=1 app >/dev/null <<'SQL'
SELECT slug FROM tenant_create('acme');
SELECT slug FROM tenant_create('globex');
CREATE ROLE app LOGIN IN ROLE tenancy_app;
-- a bucket that does not leak while the test runs
SELECT rate_limit_configure('acme', '{"global_limits": [{"limit": 1000, "period_seconds": 31622400}]}');
SELECT rate_limit_configure('globex', '{"global_limits": [{"limit": 1000, "period_seconds": 31622400}], "endpoint_limits": [{"endpoint": "/a*", "limit": 700, "period_seconds": 31622400}],
	"user_limits": [{"limit": 1000, "period_seconds": 31622400}]}');
SQL
export PGOPTIONS="-c client_min_messages=warning"

# eight clients, far more requests than are allowed
stress() { # stress SQL: how many were let through
	echo "$1" > "$PGHOST/stress.sql"
	PGUSER=app pgbench -n -c 8 -t 400 -M prepared -f "$PGHOST/stress.sql" app > "$PGHOST/stress.out" 2>&1 || cat "$PGHOST/stress.out" >&2
}
allowed() { sql "SELECT allowed, limited FROM tenancy.rate_limit_stat WHERE slug = '$1' AND policy = '$2'"; }
stress "SELECT rate_limit_enforce('acme', '/');"
at=$(sql "SELECT clock_timestamp()")
is "$(allowed acme global)" "1000|2200" "one limit: exactly 1000 of 3200 at once are let through"
stress "\\set n random(1, 4)
SELECT rate_limit_enforce('globex', '/a', 'user' || :n);"
is "$(allowed globex 'endpoint /a*' | cut -d'|' -f1)" "700" "three limits: exactly 700, by the one that restricts most"
is "$(allowed globex global | cut -d'|' -f1)" "3200" "each of the others allowed all of them"
is "$(sql "SELECT (rate_limit_enforce('globex', '/b', NULL, 0)).remaining")" 300 "but counted those alone that went through"

# the table of redis-cell as it was published, where it is at hand
vectors=$top/../shared/vectors/gcra.csv
if [ -f "$vectors" ]; then
	sql "SELECT slug FROM tenant_create('cell')" >/dev/null
	sql "SELECT rate_limit_configure('cell', '{\"global_limits\": [{\"limit\": 1, \"period_seconds\": 1, \"burst\": 4}]}')" >/dev/null
	grep -v '^#' "$vectors" | tail -n +2 > "$PGHOST/wanted"
	while IFS=, read -r at quantity _; do
		echo "SET tenancy.test_clock = '2026-03-01 00:00:$(printf '%02d.%03d' $((at / 1000)) $((at % 1000)))+00';
SELECT $at, $quantity, (r).limited::int, (r).remaining, (r).reset_after_ms, (r).retry_after_ms FROM (SELECT rate_limit_enforce('cell', '/', NULL, $quantity) AS r OFFSET 0) x;"
	done < "$PGHOST/wanted" | psql -XAtq -F, app > "$PGHOST/got"
	is "$(cat "$PGHOST/got")" "$(cat "$PGHOST/wanted")" "the vectors of redis-cell, all $(wc -l < "$PGHOST/wanted")"
fi

# at once, by many sessions
sql "SELECT rate_limit_configure('globex', '{\"concurrency_limits\": [{\"limit\": 3}]}')" >/dev/null
for _ in 1 2 3 4 5 6; do
	PGUSER=app psql -XAtq app -c "BEGIN" -c "SELECT (rate_limit_enforce('globex', '/')).limited" -c "SELECT pg_sleep(600)" >> "$PGHOST/seen" 2>/dev/null &
done
for ((i = 0; i < 600; i++)); do [ "$(grep -c '^[tf]$' "$PGHOST/seen")" = 6 ] && break; sleep 0.1; done
is "$(sort "$PGHOST/seen" | paste -sd ' ')" "f f f t t t" "three of six sessions at once"
sql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND usename = 'app'" >/dev/null
wait $(jobs -p)
PGUSER=app psql -Xq app -c "BEGIN; SELECT rate_limit_enforce('globex', '/', NULL, 3); SELECT pg_sleep(60)" >/dev/null 2>&1 &
wait_for 30 "SELECT (rate_limit_enforce('globex', '/', NULL, 0)).remaining" 0
sql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND usename = 'app'" >/dev/null
wait_for 30 "SELECT (rate_limit_enforce('globex', '/', NULL, 0)).remaining" 3
ok $? "a session that is terminated gives back what it held"

# a change holds in sessions that have asked before
exec 3> >(PGUSER=app psql -XAtq app > "$PGHOST/open.out" 2>&1)
ask() { # ask FD: what is left, as the open session sees it
	echo "SELECT (rate_limit_enforce('globex', '/changed', NULL, 0)).\"limit\";" >&3
	for _ in $(seq 300); do [ "$(wc -l < "$PGHOST/open.out")" -ge "$1" ] && break; sleep 0.1; done
	tail -1 "$PGHOST/open.out"
}
sql "SELECT rate_limit_configure('globex', '{\"global_limits\": [{\"limit\": 7, \"period_seconds\": 60}]}')" >/dev/null
is "$(ask 1)" 7 "a limit"
sql "SELECT rate_limit_configure('globex', '{\"global_limits\": [{\"limit\": 9, \"period_seconds\": 60}]}')" >/dev/null
is "$(ask 2)" 9 "is another for a session that knew it, at once"
exec 3>&-
sql "SELECT rate_limit_configure('globex', '{\"concurrency_limits\": [{\"limit\": 3}]}')" >/dev/null

# what a session held that is killed; what has not been saved of the others goes with the server
wait_for 60 "SELECT count(*) > 0 FROM tenancy.rate_limit_state s JOIN tenancy.tenant t ON t.id = s.tenant_id WHERE slug = 'acme' AND saved_at > '$at'" t
PGUSER=app psql -Xq app -c "BEGIN; SELECT rate_limit_enforce('globex', '/', NULL, 3); SELECT pg_sleep(61)" >/dev/null 2>&1 &
wait_for 30 "SELECT (rate_limit_enforce('globex', '/', NULL, 0)).remaining" 0
crash "$(sql "SELECT pid FROM pg_stat_activity WHERE query LIKE '%pg_sleep(61)%' AND usename = 'app'")"
wait_for 30 "SELECT (rate_limit_enforce('globex', '/', NULL, 0)).remaining" 3
ok $? "a session that is killed gives back what it held"

# no room: 1024 subjects
sql "SELECT rate_limit_configure('globex', '{\"user_limits\": [{\"limit\": 1, \"period_seconds\": 31622400}]}')" >/dev/null
sql "SELECT count(*) FROM (SELECT rate_limit_enforce('globex', '/', 'u' || g) FROM generate_series(1, 3000) g) x" >/dev/null
is "$(sql "SELECT (rate_limit_enforce('globex', '/', 'someone else')).limited")" f "full: a limit that is open lets through"
sql "SELECT rate_limit_configure('globex', '{\"on_full\": \"closed\", \"user_limits\": [{\"limit\": 1, \"period_seconds\": 31622400}]}')" >/dev/null
is "$(sql "SELECT (r).limited, (r).policy, (r).retry_after_ms IS NULL FROM (SELECT rate_limit_enforce('globex', '/', 'someone else') AS r OFFSET 0) x")" "t|user|t" "and one that is closed denies"
is "$(sql "SELECT (rate_limit_enforce('acme', '/', NULL, 0)).remaining")" 0 "those that are known are counted as before"
sql "SELECT slug FROM tenant_create('initech')" >/dev/null
sql "SELECT rate_limit_configure('initech', '{\"on_full\": \"closed\", \"user_limits\": [{\"limit\": 1, \"period_seconds\": 60}]}')" >/dev/null
is "$(sql "SELECT (r).limited, (r).remaining FROM (SELECT rate_limit_enforce('initech', '/', 'ada') AS r OFFSET 0) x")" "f|0" "who names users without end takes no room from other tenants"
sql "SELECT rate_limit_configure('globex', '{\"user_limits\": [{\"limit\": 1, \"period_seconds\": 0.05}]}')" >/dev/null
cluster_restart >/dev/null
sql "SELECT count(*) FROM (SELECT rate_limit_enforce('globex', '/', 'u' || g) FROM generate_series(1, 900) g) x" >/dev/null
sleep 0.2
is "$(sql "SELECT bool_or((rate_limit_enforce('globex', '/', 'v' || g)).limited) FROM generate_series(1, 900) g")" f "those that have run out make room"

sleep 0.2 # and so do these

# a restart, clean or not
is "$(sql "SELECT (rate_limit_enforce('acme', '/', NULL, 0)).remaining")" 0 "a long period survives a restart"
sql "SELECT rate_limit_configure('globex', '{\"sliding_window\": true, \"global_limits\": [{\"limit\": 1000, \"period_seconds\": 86400}]}')" >/dev/null
sql "SELECT rate_limit_enforce('globex', '/', NULL, 400)" >/dev/null
id=$(sql "SELECT tenant_id FROM tenancy.rate_limit r JOIN tenancy.tenant t ON t.id = r.tenant_id WHERE slug = 'globex'")
wait_for 30 "SELECT count(*) FROM tenancy.rate_limit_state WHERE tenant_id = '$id' AND algorithm = 1" 1
ok $? "it is saved"
cluster_restart immediate >/dev/null
is "$(sql "SELECT (rate_limit_enforce('globex', '/', NULL, 0)).remaining")" 600 "and survives a crash"
is "$(sql "SELECT (rate_limit_enforce('acme', '/', NULL, 0)).remaining")" 0 "with all the others"
done_testing
