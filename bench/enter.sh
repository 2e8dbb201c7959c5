#!/bin/bash
# BEGIN; enter; SELECT 1; COMMIT: what entering adds, against one more statement and against SET
#
# Added time is that of the transaction less that of the same without the step, all prepared and
# interleaved in one run.  The token enters many transactions (tenancy.token_replay = ttl), so its
# signature is checked once a backend; "verify" is what a token that was not seen before adds.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
rounds=${ROUNDS:-12}
seconds=${SECONDS_PER_ROUND:-2}
command -v openssl >/dev/null || { echo "there is no openssl to sign with" >&2; exit 1; }

bench_cluster enter --set tenancy.workers=off --set tenancy.metering=off --set tenancy.token_replay=ttl
on enter psql -Xq -v ON_ERROR_STOP=1 >/dev/null <<SQL
CREATE ROLE app LOGIN IN ROLE tenancy_app;
SELECT slug FROM tenant_create('bench');
DO \$\$ BEGIN EXECUTE format('GRANT %I TO app', (SELECT role_name FROM tenancy.tenant)); END \$\$;
SQL
value() { on enter psql -XAtqc "$1"; }
work=$bench_dir/enter.keys
mkdir -p "$work"
openssl genpkey -algorithm ed25519 -out "$work/key.pem" 2>/dev/null
key=$(openssl pkey -in "$work/key.pem" -pubout -outform DER | tail -c 32 | od -An -v -tx1 | tr -d ' \n')
key_id=$(value "SELECT key_id FROM tenant_token_key_add('\\x$key')")
head=$(value "SELECT encode('\\x01'::bytea || substr(int8send($key_id), 5)
	|| int8send(((tenant_token_audience()->>'system_identifier')::numeric)::bigint)
	|| int4send((tenant_token_audience()->>'database')::int) || uuid_send(id) || '\\x00', 'hex') FROM tenancy.tenant")
base64url() { base64 -w0 | tr '+/' '-_' | tr -d '='; }
token() { # token: one that lives for five minutes
	local hex
	hex=$(printf '%s%016x012c%s00' "$head" $(($(date +%s%N) / 1000000)) "$(openssl rand -hex 16)")
	printf "t1.%s" "$(printf "$(sed 's/../\\x&/g' <<< "$hex")" | base64url)" > "$work/signed"
	echo "$(cat "$work/signed").$(openssl pkeyutl -sign -inkey "$work/key.pem" -rawin -in "$work/signed" | base64url)"
}
role=$(value "SELECT quote_ident(role_name) FROM tenancy.tenant")
schema=$(value "SELECT quote_ident(schema_name) FROM tenancy.tenant")
id=$(value "SELECT id FROM tenancy.tenant")

script() { printf '%s\n' "BEGIN;" "$@" "SELECT 1;" "COMMIT;"; }
script > "$bench_dir/nothing.sql"
script "SELECT 1;" > "$bench_dir/select.sql"
script "SELECT tenant_context_set('$id');" > "$bench_dir/trusted.sql"
script "SET LOCAL ROLE $role;" "SET LOCAL search_path = $schema, public;" "SELECT set_config('app.tenant', '$id', true);" > "$bench_dir/set.sql"

# Microseconds of a transaction.
latency() { # latency SCRIPT
	on enter env PGUSER=app pgbench -n -M prepared -c 1 -T "$seconds" -f "$bench_dir/$1.sql" 2>/dev/null |
		awk '/^latency average/ { print $4 * 1000 }'
}
nothing() { latency nothing; }
select_one() { latency select; }
trusted() { latency trusted; }
set_role() { latency set; }
enter() {
	script "SELECT tenant_enter('$(token)');" > "$bench_dir/token.sql"
	latency token
}
for ((i = 0; i < rounds + 1; i++)); do
	for side in nothing select_one set_role trusted enter; do
		[ "$i" -gt 0 ] || : > "$bench_dir/$side.txt"
		"$side" > "$bench_dir/one"
		[ "$i" -eq 0 ] || cat "$bench_dir/one" >> "$bench_dir/$side.txt" # the first warms
	done
done
added() { paste "$bench_dir/$1.txt" "$bench_dir/nothing.txt" | awk '{ print $1 - $2 }' | median; }

# One statement checks 1,000 signatures that were not seen before.
checks=1000
{
	for ((i = 0; i < checks; i++)); do token; done
} > "$work/tokens"
on enter psql -Xq -v ON_ERROR_STOP=1 >/dev/null <<SQL
CREATE TABLE tokens (n serial, token text);
\copy tokens (token) from '$work/tokens'
CREATE FUNCTION enter_all() RETURNS void LANGUAGE plpgsql AS \$\$
DECLARE t text;
BEGIN FOR t IN SELECT token FROM tokens LOOP PERFORM tenant_enter(t); END LOOP; END \$\$;
CREATE FUNCTION enter_one() RETURNS void LANGUAGE plpgsql AS \$\$
DECLARE t text; one text := (SELECT token FROM tokens LIMIT 1);
BEGIN FOR t IN SELECT token FROM tokens LOOP PERFORM tenant_enter(one); END LOOP; END \$\$;
SQL
timing() { on enter env PGOPTIONS="-c client_min_messages=error" psql -Xq <<< "\\timing
SELECT count($1());" | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p'; }
verify=$(for _ in 1 2 3; do echo "$(timing enter_all) $(timing enter_one)"; done | awk -v n=$checks '{ print ($1 - $2) * 1000 / n }' | median)

echo "added µs: SELECT 1 $(added select_one), SET ROLE + search_path + set_config $(added set_role), tenant_context_set $(added trusted), tenant_enter $(added enter)"
echo "Ed25519 check of a token not seen before: $verify µs"
ratio_of() { awk -v a="$(added "$1")" -v b="$(added "$2")" 'BEGIN { print a / b }'; }
echo "enter_against_set ratio=$(ratio_of enter set_role)"
echo "enter ratio=$(ratio_of enter select_one)"
