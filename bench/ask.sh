#!/bin/bash
# /ask of the door with 10,000 domains, against a fixed answer of Caddy on the same machine.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
command -v caddy > /dev/null || { echo "there is no caddy (apt-get install caddy)" >&2; exit 1; }
ports=$(python3 -c 'import socket
s = [socket.socket() for _ in range(2)]
for x in s: x.bind(("127.0.0.1", 0))
print(*[x.getsockname()[1] for x in s])')
read -r door caddy <<< "$ports"
bench_cluster ask --set tenancy.http_listen=127.0.0.1:$door --set tenancy.http_database=app --set max_worker_processes=20
on ask psql -Xq -v ON_ERROR_STOP=1 > /dev/null <<'SQL'
SELECT slug FROM tenant_create('acme', isolation => 'pool');
INSERT INTO tenancy.domain SELECT 'acme'::regtenant, 'd' || n || '.example', 'verified', 'x', 'x', now(), now(), now() FROM generate_series(1, 10000) n;
SQL
caddy respond --listen "127.0.0.1:$caddy" --status 200 allowed > /dev/null 2>&1 &
caddy_pid=$!
trap 'kill $caddy_pid; bench_cleanup' EXIT
sleep 4
curl -s "http://127.0.0.1:$door/ask?domain=d1.example" > /dev/null # has the names loaded
sleep 1
# Both by turns, over one connection that is kept, a request at a time.
python3 - "$door" "$caddy" <<'PYTHON'
import http.client, sys, time
ports = dict(zip(("door", "caddy"), map(int, sys.argv[1:])))
times = {name: [] for name in ports}
for turn in range(20):
    for name, port in ports.items():
        c = http.client.HTTPConnection("127.0.0.1", port)
        for n in range(500):
            at = time.perf_counter()
            c.request("GET", f"/ask?domain=d{(turn * 500 + n) % 10000 + 1}.example")
            answer = c.getresponse()
            answer.read()
            if n >= 50: times[name].append(time.perf_counter() - at)
            assert answer.status == 200, (name, answer.status)
        c.close()
at = lambda name, q: sorted(times[name])[int(q * len(times[name]))] * 1e6
for name in ports:
    print(f"{name}: p50 {at(name, .5):.0f} us, p99 {at(name, .99):.0f} us")
print(f"ask ratio={at('door', .5) / at('caddy', .5):.2f}")
PYTHON
