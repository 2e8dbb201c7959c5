#!/bin/bash
# test/run: long
# The postmaster is killed under load, again and again: events that were confirmed are there,
# once; counters lose what was counted since the last flush and no more.
. "$(dirname "$0")/lib.sh"
cluster_start --set tenancy.metering_flush_interval=200ms --set fsync=on
psql -Xq -v ON_ERROR_STOP=1 app >/dev/null <<'SQL'
SELECT slug FROM tenant_create('acme');
SELECT slug FROM tenant_create('globex');
SELECT slug FROM tenant_create('steady');
CREATE ROLE app LOGIN IN ROLE tenancy_app;
SQL
export PGOPTIONS="-c client_min_messages=warning"
confirmed=$PGHOST/confirmed
rounds=20
lost_counters=0
lost_flushed=0
postmaster() { head -n 1 "$PGHOST/data/postmaster.pid"; }
# A client: each id that the server has confirmed is written down.
client() { # client ROUND NUMBER
	local n=0 id out
	{
		while [ $n -lt 100000 ]; do
			n=$((n + 1))
			echo "SELECT event_id FROM usage_record('acme', 'api_calls', 1, 'r$1-c$2-$n');"
		done
	} | PGUSER=app psql -XAtq app 2>/dev/null >> "$confirmed.$1.$2"
}
# A tenant that goes on steadily: each transaction is two calls, and says when it was.
steady() { # steady ROUND
	while echo "BEGIN; SELECT tenant_context_set('steady'); SELECT 'at', extract(epoch FROM clock_timestamp()); COMMIT;"; do
		sleep 0.01
	done 2>/dev/null | PGUSER=app psql -XAtq app 2>/dev/null | grep '^at' > "$PGHOST/steady.$1"
}
flushed_calls() { sql "SELECT coalesce(sum(h.calls), 0) FROM tenancy.usage_hour h JOIN tenancy.tenant t ON t.id = h.tenant_id WHERE slug = '$1'"; }
steady_before=0
# or as many as there is time for
for ((round = 1; round <= rounds && (round <= 5 || SECONDS < 120); round++)); do
	for c in 1 2 3; do client "$round" "$c" & done
	steady "$round" &
	# statement counters of another tenant: known calls, flushed before the crash
	PGUSER=app psql -Xq app >/dev/null <<< "BEGIN; SELECT tenant_context_set('globex'); SELECT 1; SELECT 2; COMMIT;"
	wait_for 30 "SELECT coalesce(sum(h.calls), 0) FROM tenancy.usage_hour h JOIN tenancy.tenant t ON t.id = h.tenant_id WHERE slug = 'globex'" $((3 * round))
	# what has ended by now is in the flush after next, which begins when the next is in the tables
	at=$EPOCHREALTIME
	for _ in 1 2; do
		known=$(flushed_calls steady)
		wait_for 30 "SELECT sum(h.calls) > $known FROM tenancy.usage_hour h JOIN tenancy.tenant t ON t.id = h.tenant_id WHERE slug = 'steady'" t
	done
	kill -9 "$(postmaster)"
	wait $(jobs -p) 2>/dev/null
	# its children notice, and let go of the shared memory
	for _ in $(seq 150); do
		cluster_restart immediate >/dev/null 2>&1 && break
		sleep 0.2
	done
	calls=$(flushed_calls globex)
	# entering, and two statements
	[ "$calls" = $((3 * round)) ] || { lost_counters=$((lost_counters + 1)); echo "# $calls calls after crash $round"; }
	# of the transactions before that moment one may have been about to end
	kept=$((($(flushed_calls steady) - steady_before) / 2))
	steady_before=$(flushed_calls steady)
	awk -F'|' -v kept="$kept" -v at="${at/,/.}" -v round="$round" '
		NR > kept && $2 < at { lost++ }
		END { if (NR < 5 || lost > 1) { printf "# crash %d: %d of %d transactions kept, %d lost that had been flushed\n", round, kept, NR, lost; exit 1 } }' \
		"$PGHOST/steady.$round" || lost_flushed=$((lost_flushed + 1))
done
cat "$confirmed".*.* > "$confirmed"
count=$(wc -l < "$confirmed")
rounds=$((round - 1))
[ "$count" -gt 100 ]
ok $? "$count events were confirmed before $rounds crashes"
sql "CREATE TABLE confirmed (event_id text)" >/dev/null
psql -Xq app -c "\\copy confirmed FROM '$confirmed'"
is "$(sql "SELECT count(*) FROM confirmed c WHERE NOT EXISTS (SELECT FROM tenancy.usage_event e WHERE e.event_id = c.event_id)")" 0 "none of them is lost"
is "$(sql "SELECT count(*) - count(DISTINCT (tenant_id, event_id)) FROM tenancy.usage_event")" 0 "none is there twice"
extra=$(sql "SELECT count(*) FROM tenancy.usage_event e WHERE NOT EXISTS (SELECT FROM confirmed c WHERE c.event_id = e.event_id)")
[ "$extra" -le $((3 * rounds)) ]
ok $? "at most one a client and crash is there that was not confirmed ($extra)"
is "$(sql "SELECT (SELECT quantity FROM usage_report('acme', '2026-01-01', now() + interval '1 hour', 'api_calls')) = (SELECT sum(quantity) FROM tenancy.usage_event WHERE metric = 'api_calls')")" t "the report adds them up"
is "$lost_flushed" 0 "counters lose at most what was counted since the last flush"
is "$lost_counters" 0 "what was flushed before a crash is there after it, and not twice"
is "$(sql "SELECT quantity FROM usage_record('acme', 'api_calls', 1, '$(head -n 1 "$confirmed")')")" 1 "an event that is sent again counts once"
done_testing
