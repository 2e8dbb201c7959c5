#!/bin/bash
# test/run: long
# Webhooks: a receiver with the official library verifies what is sent; retries, 410, redirects,
# timeouts; addresses that must not be reached.
. "$(dirname "$0")/lib.sh"
[ -n "$(find /usr/include -path "*curl/curl.h" -print -quit)" ] || skip_all "libcurl is not installed"
install_node_modules || skip_all "there is no Node.js with npm, or no network: nobody to receive webhooks"
cluster_start --set tenancy.metering_flush_interval=200ms --set tenancy.runner_idle_timeout=2s \
	--set max_worker_processes=24 --set tenancy.webhook_timeout=5 --set tenancy.webhook_allowed_networks=127.0.0.1/32
inbox=$(mktemp -d)
node "$top/test/node/receiver.mjs" "$inbox" "$node_modules" 2> "$inbox/errors" &
receiver=$!
trap 'kill $receiver 2>/dev/null; cluster_stop; rm -rf "$inbox"' EXIT
for ((i = 0; i < 300; i++)); do [ -s "$inbox/port" ] && break; sleep 0.1; done
port=$(cat "$inbox/port") || skip_all "the receiver did not start: $(cat "$inbox/errors")"
base=http://127.0.0.1:$port
received() { grep "\"name\":\"$1\"" "$inbox/log" 2>/dev/null; }
came() { # came NAME COUNT
	local i
	for ((i = 0; i < 300; i++)); do [ "$(received "$1" | wc -l)" -ge "$2" ] && return 0; sleep 0.1; done
	return 1
}
create() { # create NAME TENANT [further arguments]: makes an endpoint; the receiver knows its key
	sql "SELECT id, key FROM endpoint_create($2, '$base/$1'${3:+, $3})" > "$inbox/created"
	cut -d'|' -f2 "$inbox/created" > "$inbox/key.$1"
	cut -d'|' -f1 "$inbox/created"
}
publish() { sql "SELECT id FROM event_publish('$1', '$2', '{\"text\": \"Grüße, \\\"you\\\"\", \"n\": 1.50}')"; }

sql "SELECT count(tenant_create(s, isolation => 'pool')) FROM unnest(ARRAY['a', 'b']) s" >/dev/null
ok_endpoint=$(create ok "'a'" "ARRAY['order.*']")
like "$(cat "$inbox/key.ok")" '^whsec_' "a secret"
create pair "'a'" "scheme => 'v1a'" >/dev/null
like "$(cat "$inbox/key.pair")" '^whpk_' "and a public key"
create all NULL "ARRAY['order.shipped', 'tenant.activate']" >/dev/null

event=$(publish a order.shipped)
came ok 1 && came pair 1 && came all 1
ok $? "an event is delivered to those who have subscribed"
is "$(received ok | head -n 1 | node -pe 'const r = JSON.parse(require("fs").readFileSync(0)); [r.id, r.genuine, r.type, r.body.data.text, r.body.data.n, r.body.version].join("|")')" \
	"$event|true|order.shipped|Grüße, \"you\"|1.5|1" "the library of Standard Webhooks takes it for genuine"
is "$(received pair | node -pe 'JSON.parse(require("fs").readFileSync(0)).genuine[0]')" true "and so does Node's Ed25519"
wait_for 30 "SELECT count(*) FROM tenancy.delivery WHERE event_id = '$event' AND state = 'succeeded' AND status = 200" 3
ok $? "the log of deliveries says so"
is "$(sql "SELECT result->>'answer' FROM tenancy.delivery WHERE endpoint_id = '$ok_endpoint'")" "thank you" "with what was answered"
publish b order.shipped >/dev/null
came all 2
ok $? "the operator hears of all tenants"
publish a invoice.paid_late >/dev/null
came pair 2
sleep 0.5
is "$(received ok | wc -l)" 1 "a tenant not of others, nor of what it has not subscribed to"
like "$(sql "SELECT state FROM delivery_replay('$event', '$ok_endpoint')")" 'ready|running' "a delivery is replayed"
came ok 2
is "$(received ok | tail -n 1 | grep -c "$event")" 1 "under the same id"

# rotation: signed with both keys for a while
cp "$inbox/key.ok" "$inbox/old"
sql "SELECT key FROM endpoint_rotate('$ok_endpoint')" | cat "$inbox/old" - > "$inbox/key.ok"
publish a order.paid >/dev/null
came ok 3
is "$(received ok | tail -n 1 | node -pe 'JSON.parse(require("fs").readFileSync(0)).genuine.join()')" "true,true" "the old key and the new one are good"
sql "SELECT key FROM endpoint_rotate('$ok_endpoint', '0')" | cat "$inbox/key.ok" - > "$inbox/keys" && mv "$inbox/keys" "$inbox/key.ok"
publish a order.paid >/dev/null
came ok 4
is "$(received ok | tail -n 1 | node -pe 'JSON.parse(require("fs").readFileSync(0)).genuine.join()')" "true,false,true" "the one that has expired is not"

# receivers that do not take it
state_of() { sql "SELECT state, attempt, status, error FROM tenancy.delivery WHERE endpoint_id = '$1' ORDER BY job_id DESC LIMIT 1"; }
busy=$(create busy "'b'" "ARRAY['busy.x']")
publish b busy.x >/dev/null
came busy 1
wait_for 30 "SELECT state FROM tenancy.delivery WHERE endpoint_id = '$busy'" scheduled
is "$(sql "SELECT extract(epoch FROM next_attempt_at - (failures->0->>'failed_at')::timestamptz)::int FROM tenancy.delivery WHERE endpoint_id = '$busy'")" 5 "503 is tried again after 5 seconds"
came busy 2
wait_for 30 "SELECT state, attempt FROM tenancy.delivery WHERE endpoint_id = '$busy'" "succeeded|2"
ok $? "then it succeeds"
fail=$(create fail "'b'" "ARRAY['fail.x']")
redirect=$(create redirect "'b'" "ARRAY['redirect.x']")
slow=$(create slow "'b'" "ARRAY['slow.x']")
gone=$(create gone "'b'" "ARRAY['gone.x']")
closed=$(sql "SELECT id FROM endpoint_create('b', 'http://127.0.0.1:1/x', ARRAY['closed.x'])")
for type in fail redirect slow gone closed; do publish b $type.x >/dev/null; done
wait_for 30 "SELECT count(*) FROM tenancy.delivery WHERE failures IS NOT NULL AND endpoint_id IN ('$fail', '$redirect', '$slow', '$gone', '$closed')" 5
# the first may have been tried again when the last has failed
failure_of() { sql "SELECT finished_at IS NULL, failures->0->'evidence'->>'status', failures->0->>'error' FROM tenancy.delivery WHERE endpoint_id = '$1'"; }
is "$(failure_of "$fail")" "t|500|the receiver answered with status 500" "500 is tried again"
is "$(failure_of "$redirect")" "t|302|the receiver answered with status 302" "a redirect is no success, and not followed"
like "$(failure_of "$slow")" '^t.0.*timed out' "who does not answer has not taken it"
like "$(failure_of "$closed")" '^t.0.*onnect' "nor who is not there"
is "$(state_of "$gone")" "discarded|1|410|the receiver answered with status 410" "410 is final"
is "$(sql "SELECT enabled, disabled_reason FROM tenancy.endpoint WHERE id = '$gone'")" "f|the receiver answered with status 410" "and disables the endpoint"
publish b gone.x >/dev/null
is "$(sql "SELECT count(*) FROM tenancy.delivery WHERE endpoint_id = '$gone'")" 1 "which gets nothing more"
is "$(sql "SELECT enabled, disabled_reason FROM endpoint_set('$gone', enabled => true)")" "t|" "until it is enabled"
is "$(sql "SELECT max_attempts FROM tenancy.job WHERE kind = 'webhook.deliver' LIMIT 1")" 10 "ten attempts, as Standard Webhooks recommends"

# addresses: by name, by number in all its ways, by what a name resolves to
i=0
for url in http://127.0.0.2:$port/x http://localhost:$port/x https://127.0.0.2:$port/x http://[::1]:$port/x http://2130706434:$port/x http://0x7f.0.0.2:$port/x \
	http://0.0.0.0:$port/x http://[::ffff:127.0.0.2]:$port/x https://169.254.169.254/latest https://10.0.0.1/ https://[fd00::1]/ https://192.168.1.1/ https://100.64.0.1/; do
	i=$((i + 1))
	[ "$url" != "http://localhost:$port/x" ] || getent ahosts localhost | grep -q '^::1' || continue
	endpoint=$(sql "SELECT id FROM endpoint_create('b', '$url', ARRAY['ssrf.n$i'])")
	publish b "ssrf.n$i" >/dev/null
	wait_for 30 "SELECT failures IS NOT NULL OR finished_at IS NOT NULL FROM tenancy.delivery WHERE endpoint_id = '$endpoint'" t
	if [ "$url" = "http://localhost:$port/x" ]; then
		like "$(state_of "$endpoint")" 'not public|succeeded' "$url goes to what is allowed, or nowhere"
	else
		is "$(state_of "$endpoint")" "discarded|1|0|the address of the endpoint is not public" "$url is refused"
	fi
done
is "$(received x | grep -v localhost | wc -l)" "$(sql "SELECT count(*) FROM tenancy.delivery d JOIN tenancy.endpoint e ON e.id = d.endpoint_id WHERE e.url LIKE '%localhost%' AND d.state = 'succeeded'")" "and nothing came through"

for networks in x 10.0.0.0/33 10.0.0.0/ 10.0.0/8 ::1/129 10.0.0.0/8/8; do
	like "$(sql "ALTER SYSTEM SET tenancy.webhook_allowed_networks = '$networks'")" 22023 "no networks: $networks"
done

# who carries libcurl
is "$(psql -XAtq -c "SELECT count(*) FROM pg_read_file('/proc/self/maps') m WHERE m LIKE '%libcurl%'")" 0 "no session carries libcurl"
publish b fail.x >/dev/null
wait_for 30 "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_tenancy webhook worker'" 1
ok $? "a worker of its own does"

# kill -9 in the middle: delivered again
before=$(received slow | wc -l)
publish b slow.x >/dev/null
came slow $((before + 1))
crash "$(sql "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_tenancy webhook worker'" postgres)"
wait_for 60 "SELECT count(*) > 0 FROM tenancy.delivery WHERE endpoint_id = '$slow' AND failures @> '[{\"sqlstate\": \"57P02\"}]'" t
ok $? "a delivery that was cut off is tried again"
kill "$receiver"
done_testing
