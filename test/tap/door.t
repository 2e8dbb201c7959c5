#!/bin/bash
# The door for HTTP: what it answers, whom it refuses, and what it survives.
. "$(dirname "$0")/lib.sh"
command -v curl > /dev/null || skip_all "there is no curl"
[ -e "$top/pg_tenancy_door.so" ] || skip_all "there is no libmicrohttpd"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
base=http://127.0.0.1:$port
cluster_start --set tenancy.http_listen=127.0.0.1:$port --set tenancy.http_database=app --set tenancy.http_refresh_interval=500ms \
	--set tenancy.base_domain=app.example.net --set max_worker_processes=20

status() { curl -s -m 10 -o /dev/null -w '%{http_code}' "$@"; }
wait_status() { # wait_status SECONDS STATUS ARGUMENT...
	local deadline=$((SECONDS + $1)) wanted=$2
	shift 2
	while [ "$(status "$@")" != "$wanted" ]; do
		[ $SECONDS -lt $deadline ] || return 1
		sleep 0.1
	done
}
targets() { curl -s "$base/sd" | python3 -c 'import json, sys; print(sorted((t["targets"][0], t["labels"]["tenant"], t["labels"].get("job", "-")) for t in json.load(sys.stdin)))'; }
wait_targets() { # wait_targets COUNT: the door reads them twice a second, on a quiet machine
	local i
	for ((i = 0; i < 300; i++)); do [ "$(targets | grep -o backstage | wc -l)" = "$1" ] && break; sleep 0.1; done
}

wait_status 30 200 "$base/healthz"
ok $? "the door opens and all is well"
sql "SELECT tenant_create('acme', isolation => 'pool'); SELECT tenant_create('globex', isolation => 'pool')" > /dev/null
sql "SELECT tenant_domain_add('acme', 'portal.acme.example'); SELECT tenant_domain_verify(domain, ARRAY[record_value]) FROM tenancy.domain" > /dev/null

# /ask
for question in domain=acme.app.example.net:200 domain=portal.acme.example:200 domain=PORTAL.acme.example.:200 domain=other.app.example.net:403 domain=acme.example:403 \
	domain=:403 domain=%2a.acme.example:403 domain=portal.acme.example%00:403 domain=portal.acme.example%00.evil.example:403 "domain=portal.acme.example%20:403" \
	domain=127.0.0.1:403 x=1:400 :400 domain=other.example\&domain=portal.acme.example:403; do
	is "$(status "$base/ask?${question%:*}")" "${question##*:}" "/ask?${question%:*} says ${question##*:}"
done
sql "SELECT tenant_suspend('acme', 'test')" > /dev/null
is "$(status "$base/ask?domain=portal.acme.example")" 403 "a suspended tenant's domain is refused at once"
sql "SELECT tenant_resume('acme')" > /dev/null
is "$(status "$base/ask?domain=portal.acme.example")" 200 "and allowed again"

# /metrics and /sd
sql "SELECT scrape_target_set('acme', 'backstage:7007', '{\"job\": \"portal\"}')" > /dev/null
sql "SELECT scrape_target_set('globex', 'backstage:7008')" > /dev/null
wait_targets 2
is "$(targets)" \
	"[('backstage:7007', 'acme', 'portal'), ('backstage:7008', 'globex', '-')]" "/sd lists what is to be scraped"
like "$(curl -si "$base/sd" | tr -d '\r')" 'Content-Type: application/json' "as JSON"
like "$(curl -si "$base/metrics" | tr -d '\r' | head -8)" 'Content-Type: text/plain; version=0.0.4' "/metrics is in the text format"
is "$(curl -s "$base/metrics" | grep '^# TYPE' | sort)" "$(sql "SELECT metrics_prometheus()" | grep '^# TYPE' | sort)" "with the metrics that the function gives"
like "$(curl -s "$base/metrics")" 'pg_tenancy_door_requests_total\{page="/ask",code="200"\} [1-9]' "the door counts what it answers"
if command -v promtool > /dev/null; then
	curl -s "$base/metrics" | promtool check metrics > "$PGHOST/promtool" 2>&1
	is "$? $(cat "$PGHOST/promtool")" "0 " "promtool has no complaints"
else
	skip "promtool has no complaints" "there is no promtool (apt-get install prometheus)"
fi
sql "SELECT tenant_suspend('globex', 'test')" > /dev/null
wait_targets 1
is "$(curl -s "$base/sd" | grep -c globex)" 0 "of active tenants alone"

# what is refused
is "$(status "$base/")" 404 "all else is not found"
is "$(status "$base/ask/")" 404 "nor a path that is longer"
is "$(status --path-as-is "$base/../../etc/passwd")" 404 "nor a file"
for method in POST PUT DELETE HEAD OPTIONS PATCH TRACE FOO; do
	option="-X $method"
	[ $method != HEAD ] || option=-I
	is "$(status $option "$base/metrics")" 405 "$method is refused"
done
is "$(status -X GET -d body "$base/ask?domain=acme.app.example.net")" 413 "GET with a body is refused"
is "$(status -X GET -H 'Transfer-Encoding: chunked' -d body "$base/healthz")" 413 "also in chunks"
like "$(status "$base/ask?domain=$(printf 'a%.0s' $(seq 9000))")" '^4[0-9][0-9]$' "a request line of 9000 bytes is refused"
like "$(status -H "X-Long: $(printf 'a%.0s' $(seq 9000))" "$base/healthz")" '^(4[0-9][0-9]|000)$' "and such a header"
like "$(printf 'nonsense\r\n\r\n' | timeout 5 python3 -c '
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1]))); s.sendall(sys.stdin.buffer.read()); print(s.recv(100)[:10].decode())' "$port" 2>&1)" '^(HTTP/1.[01] 4)?$' "what is no HTTP gets an error, or nothing"
like "$(sql "ALTER SYSTEM SET tenancy.http_listen = '0.0.0.0:80'")" 22023 "it listens for nobody else: 0.0.0.0"
for listen in '*:80' 'localhost:80' '127.0.0.2:80' '[::]:80' '127.0.0.1' '127.0.0.1:0' '127.0.0.1:65536' '127.0.0.1:80x' '10.0.0.1:80' 'socket' "/$(printf 'a%.0s' $(seq 200))"; do
	like "$(sql "ALTER SYSTEM SET tenancy.http_listen = '$listen'")" 22023 "nor: ${listen:0:20}"
done
is "$(ss -Hltn "sport = :$port" 2>/dev/null | awk '{ print $4 }')" "127.0.0.1:$port" "it is bound to the loopback alone"

# slow clients, and many
python3 - "$port" > "$PGHOST/slow" <<'P'
import socket, sys, time, http.client
port = int(sys.argv[1])
slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
for s in slow: s.sendall(b"GET /ask?domain=acme.app.example.net HTTP/1.1\r\nHost: x\r\nX-Slow: ")
started = time.time()
worst = 0
for _ in range(500):
    at = time.time()
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    c.request("GET", "/ask?domain=acme.app.example.net")
    assert c.getresponse().status == 200
    c.close()
    worst = max(worst, time.time() - at)
# the dawdlers are cut off after ten seconds
print("others:", "prompt" if worst < 8 else worst)
for _ in range(14):
    time.sleep(1)
    for s in slow:
        try: s.sendall(b"x")
        except OSError: pass
gone = 0
for s in slow:
    s.settimeout(2)
    try: gone += s.recv(1000) == b""
    except ConnectionError: gone += 1
    except OSError: pass
print("cut off:", gone)
many = []
for _ in range(500):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    c.request("GET", "/ask?domain=acme.app.example.net")
    many.append(c)
print("many:", sum(c.getresponse().status == 200 for c in many))
P
is "$(sed -n 's/^others: //p' "$PGHOST/slow")" prompt "200 dawdling clients hold up nobody"
is "$(sed -n 's/^cut off: //p' "$PGHOST/slow")" 200 "and are cut off"
is "$(sed -n 's/^many: //p' "$PGHOST/slow")" 500 "500 connections at once"

# a statement that holds up the reader does not hold up the answers
coproc LOCKER { exec psql -XAtq -d app; }
locker=$LOCKER_PID
echo "BEGIN; LOCK TABLE tenancy.tenant; SELECT 'locked';" >&"${LOCKER[1]}"
read -r _ <&"${LOCKER[0]}"
is "$(status "$base/ask?domain=acme.app.example.net")" 200 "/ask does not wait for a lock on the tenants"
wait_status 30 503 "$base/metrics"
ok $? "metrics that are too old are not told"
wait_status 30 503 "$base/healthz"
ok $? "and /healthz says so"
like "$(curl -s "$base/healthz")" 'has not been read for too long' "with the reason"
echo "ROLLBACK; \\q" >&"${LOCKER[1]}"
wait "$locker"
wait_status 30 200 "$base/healthz"
ok $? "then all is well again"

# who wants the database for himself
like "$(sql "CREATE DATABASE copy TEMPLATE app" postgres)" '^$' "CREATE DATABASE … TEMPLATE"
set_and_reload tenancy.http_database copy
wait_for 30 "SELECT database FROM tenancy.worker WHERE role = 'door reader'" copy
ok $? "another database is read"
like "$(sql "DROP DATABASE copy" postgres)" '^$' "DROP DATABASE"
wait_status 30 503 "$base/ask?domain=acme.app.example.net"
ok $? "what is gone is not known"
set_and_reload tenancy.http_database app
wait_status 30 200 "$base/ask?domain=acme.app.example.net"
ok $? "and the former one is, again"

# kill -9
pid=$(for p in $(pgrep -f 'pg_tenancy door'); do [ "$(readlink /proc/$p/cwd)" = "$(readlink -f "$PGHOST/data")" ] && ! grep -aq reader /proc/$p/cmdline && echo $p; done | head -1)
crash "$pid"
wait_status 30 200 "$base/ask?domain=portal.acme.example"
ok $? "after kill -9 of the door the answers are the same"
wait_for 30 "SELECT count(pid) FROM tenancy.worker WHERE role = 'door reader'" 1
crash "$(sql "SELECT pid FROM tenancy.worker WHERE role = 'door reader'")"
wait_status 30 200 "$base/ask?domain=portal.acme.example"
ok $? "and after kill -9 of the reader"
wait_status 30 200 "$base/healthz"
ok $? "all is well again"

# another address
socket=$PGHOST/door.sock
set_and_reload tenancy.http_listen "$socket"
wait_status 30 200 --unix-socket "$socket" http://x/healthz
ok $? "a reload moves it to a Unix-domain socket"
is "$(status "$base/healthz")" 000 "and nobody listens at the former address"
set_and_reload tenancy.http_listen ''
for _ in $(seq 300); do [ -e "$socket" ] || break; sleep 0.1; done
is "$(status --unix-socket "$socket" http://x/healthz)$(ls "$socket" 2>/dev/null)" 000 "switched off it is gone, with its socket"
set_and_reload tenancy.http_listen "127.0.0.1:$port"
wait_status 30 200 "$base/healthz"
ok $? "switched on again it is there"
done_testing
