#!/bin/bash
# Signed tokens: what enters, and that nothing else does.  Signed by OpenSSL, Node and Python.
. "$(dirname "$0")/lib.sh"
command -v openssl >/dev/null || skip_all "there is no openssl to sign with"
cluster_start --set tenancy.workers=off
work=$(mktemp -d)
trap 'rm -rf "$work"; cluster_stop' EXIT
psql -Xq -v ON_ERROR_STOP=1 app >/dev/null <<'SQL'
CREATE SCHEMA portal;
CREATE TABLE portal.note (id integer PRIMARY KEY, body text);
SELECT name FROM template_create('portal', 'portal');
SELECT slug FROM tenant_create('acme', template => 'portal');
SELECT slug FROM tenant_create('globex', template => 'portal', owns_ddl => true);
CREATE ROLE pool LOGIN;
CREATE ROLE admin LOGIN IN ROLE tenancy_admin;
SQL
export PGOPTIONS="-c client_min_messages=warning"
as() { # as USER SQL...
	local user=$1
	shift
	PGUSER=$user psql -XAtq -v VERBOSITY=verbose app "${@/#/-c}" 2>&1
}
id_of() { sql "SELECT id FROM tenancy.tenant WHERE slug = '$1'"; }
acme=$(id_of acme)
globex=$(id_of globex)

# The two keys of RFC 8032, 7.1, test 1 and test 2.
seed1=9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60
public1=d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a
seed2=4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb
public2=3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c
bytes() { printf "$(sed 's/../\\x&/g' <<< "$1")"; }
base64url() { base64 -w0 | tr '+/' '-_' | tr -d '='; }
for n in 1 2; do
	seed=seed$n
	bytes "302e020100300506032b657004220420${!seed}" | openssl pkey -inform DER -out "$work/key$n.pem"
done

like "$(as pool "SELECT tenant_token_key_add('\\x$public1')")" '42501' "a stranger adds no key"
key1=$(as admin "SELECT key_id FROM tenant_token_key_add('\\x$public1')")
like "$key1" '^[0-9]+$' "an admin adds a key"
is "$(as admin "SELECT key_id FROM tenant_token_key_add('\\x$public1')")" "$key1" "again, it is the same"
key2=$(as admin "SELECT key_id FROM tenant_token_key_add('\\x$public2')")
like "$(as admin "SELECT tenant_token_key_add('\\x00')")" '22023.*32 bytes, not 1' "a key has 32 bytes"
like "$(as admin "SELECT tenant_token_key_add(decode(repeat('00', 32), 'hex'))")" '22023.*invalid Ed25519' "of a point that is good"
like "$(as admin "SELECT tenant_token_key_add('\\x$public1', now(), now())")" '22023.*valid for some time' "and is valid for some time"
like "$(as admin "SELECT tenant_token_key_revoke(4711)")" '42704.*4711' "no unknown key is revoked"
is "$(sql "SELECT tenant_token_audience() = jsonb_build_object('system_identifier',
	(SELECT system_identifier::text FROM pg_control_system()), 'database',
	(SELECT oid::bigint FROM pg_database WHERE datname = current_database()))")" t "the audience is this database"

system=$(sql "SELECT system_identifier FROM pg_control_system()")
database=$(sql "SELECT oid FROM pg_database WHERE datname = 'app'")
now_ms() { echo $(($(date +%s%N) / 1000000)); }
# token [name=value]...: defaults make a good one for acme
token() {
	local version=1 key=$key1 system=$system database=$database tenant=$acme flags=0 issued ttl=60 id actor= signer=1 tail= actor_length
	issued=$(now_ms)
	id=$(openssl rand -hex 16)
	[ $# -eq 0 ] || local "$@"
	actor=$(printf %s "$actor" | od -An -v -tx1 | tr -d ' \n')$tail
	: "${actor_length:=$((${#actor} / 2))}"
	signed=t1.$(bytes "$(printf '%02x%08x%016x%08x%s%02x%016x%04x%s%02x%s' "$version" "$key" "$system" "$database" \
		"${tenant//-/}" "$flags" "$issued" "$ttl" "$id" "$actor_length" "$actor")" | base64url)
	printf %s "$signed" > "$work/signed"
	echo "$signed.$(openssl pkeyutl -sign -inkey "$work/key$signer.pem" -rawin -in "$work/signed" | base64url)"
}
enter() { # enter TOKEN [SQL]
	as pool "BEGIN; SELECT tenant_enter('$1') IS NULL; ${2:-SELECT current_tenant()}; COMMIT"
}
refused() { # refused TOKEN REASON NAME
	local got before
	before=$(wc -l < "$server_log")
	got=$(enter "$1")
	like "$got" '^ERROR:  28000: invalid tenant token'$'\n''HINT:  The server log says what is wrong with it.'$'\n''LOCATION:  refuse' "$3: refused, with the one error"
	like "$(tail -n +$((before + 1)) "$server_log")" "refused: .*$2" "$3: the log says why"
	[[ $(tail -n +$((before + 1)) "$server_log") != *t1.* ]]
	ok $? "$3: the log does not show the token"
}

good=$(token)
is "$(enter "$good")" "f
acme" "a stranger with a token enters"
refused "$good" 'used before' "a token used again, in another backend"
is "$(enter "$(token)" "SELECT count(*) FROM note")" "f
0" "the session is the tenant"
good=$(token)
like "$(as pool "SELECT tenant_enter('$good')")" 'WARNING:  25P01' "entering in autocommit warns"
like "$(enter "$(token)" "SELECT tenant_enter('$(token tenant=$globex)')")" '42501.*another tenant' "no second tenant, with a good token even"
like "$(enter "$(token "actor=ada@example.com")" "SELECT tenant_context()->>'actor', tenant_context()->'read_only'")" 'ada@example.com\|false' "the actor is known"
like "$(enter "$(token "actor=Jürgen")" "SELECT tenant_context()->>'actor'")" 'Jürgen' "whatever the name"
like "$(enter "$(token "actor=$(printf 'x%.0s' {1..255})")" "SELECT length(tenant_context()->>'actor')")" '255' "of 255 bytes"

# what is wrong with a token
refused "x" 'form' "no token"
refused "" 'form' "nothing"
refused "t1." 'form' "a prefix"
refused "t1..": 'payload has 0|signature' "empty parts"
refused "$(token).x" 'base64url' "a fourth part"
refused "$(token)=" 'base64url' "padding"
refused "$(token)AAAA" 'base64url' "a longer signature"
refused "$(token | sed 's/^t1/t2/')" 'form' "another prefix"
refused "$(token | sed 's/\.\([^.]*\)$/.AAAA\1/')" 'base64url' "a shifted signature"
refused "$(token | sed 's/.$//')" 'base64url|signature' "a cut signature"
refused "$(token | tr -d '\n' | sed 's/^t1\.A/t1.B/')" 'version|payload' "a changed version"
other=$(token tenant=$globex)
mine=$(token)
refused "t1.$(cut -d. -f2 <<< "$other").$(cut -d. -f3 <<< "$mine")" 'not that of key' "the signature of another payload"
refused "$(token signer=2)" 'not that of key' "the signature of another key"
refused "$(token key=4711)" 'unknown or revoked' "an unknown key"
refused "$(token version=2)" 'version is 2' "a later version"
refused "$(token system=1)" 'another database' "another cluster"
refused "$(token database=1)" 'another database' "another database"
refused "$(token flags=8)" 'unknown flags 0x08' "an unknown flag"
refused "$(token ttl=0)" 'between 1 and 300' "no time to live"
refused "$(token ttl=301)" 'between 1 and 300' "a long life"
refused "$(token issued=$(($(now_ms) - 61000)))" 'expired' "an old token"
refused "$(token issued=$(($(now_ms) + 15000)))" 'in the future' "a token of the future"
refused "$(token issued=18446744073709551615)" 'in the future' "a token of before 1970"
refused "$(token tail=00)" 'not UTF-8' "an actor with a zero byte"
refused "$(token tail=ff)" 'not UTF-8' "an actor that is no text"
refused "$(token actor_length=5)" 'actor of 5' "an actor that is missing"
refused "$(token tail=61 actor_length=0)" 'actor of 0' "bytes behind the actor"
is "$(enter "$(token issued=$(($(now_ms) + 5000)))")" "f
acme" "a clock that runs ahead a little is borne with"
like "$(enter "$(token tenant=00000000-0000-7000-8000-000000000000)")" '42704' "a tenant that does not exist"

# what a token takes away
like "$(enter "$(token flags=1)" "INSERT INTO note VALUES (1)")" '25006' "read-only: nothing is written"
for attempt in "SET TRANSACTION READ WRITE" "SET transaction_read_only = off" "RESET transaction_read_only" "SET transaction_read_only TO DEFAULT" \
	"SELECT set_config('transaction_read_only', 'off', false)" "SAVEPOINT s; SET TRANSACTION READ WRITE"; do
	like "$(enter "$(token flags=1)" "$attempt; INSERT INTO note VALUES (1)")" '25006|25001' "also after: $attempt"
done
like "$(enter "$(token flags=1)" "SELECT tenant_context()->'read_only'")" 'true' "tenant_context() says so"
is "$(enter "$(token tenant=$globex)" "CREATE TABLE mine (a integer)")" f "without a flag the owner of a schema defines"
for attempt in "CREATE TABLE other (a integer)" "CREATE TEMP TABLE t (a integer)" "SELECT 1 AS a INTO other" "DROP TABLE mine" "ALTER TABLE mine ADD b integer" \
	"DO 'BEGIN CREATE TABLE other (a integer); END'" "COMMENT ON TABLE mine IS 'x'" "GRANT SELECT ON mine TO CURRENT_USER"; do
	like "$(enter "$(token tenant=$globex flags=2)" "$attempt")" '42501.*allows no definitions' "no-ddl: $attempt"
done
is "$(enter "$(token tenant=$globex flags=2)" "INSERT INTO mine VALUES (1)")" f "no-ddl leaves data alone"
like "$(enter "$(token flags=4)" "SELECT tenant_context()->'support'")" 'true' "support is told"
like "$(enter "$(token)" "SELECT tenant_enter('$(token flags=1)') IS NULL; INSERT INTO note VALUES (1)")" '25006' "a second token can take away"
like "$(enter "$(token flags=1)" "SELECT tenant_enter('$(token)') IS NULL; INSERT INTO note VALUES (1)")" '25006' "and not give back"
like "$(enter "$(token flags=1)" "INSERT INTO note VALUES (1)")
$(enter "$(token)" "INSERT INTO note VALUES (1)")" '25006.*f$' "the next transaction of the connection is free"

# tokens that live
sql "ALTER SYSTEM SET tenancy.token_replay = 'ttl'" >/dev/null
set_and_reload tenancy.suspended_access none
good=$(token ttl=300)
is "$(enter "$good" "COMMIT; BEGIN; SELECT tenant_enter('$good') IS NULL; SELECT current_tenant()")" "f
f
acme" "ttl: one token, many transactions"
is "$(enter "$good")" "f
acme" "and many backends"
like "$(as pool "BEGIN; SELECT tenant_enter('$good') IS NULL; COMMIT" "\\! psql -XAtqc \"SELECT FROM tenant_suspend('acme', 'unpaid')\" -U postgres app" "BEGIN; SELECT tenant_enter('$good')")" \
	'55000.*suspended' "a cached entry notices that the tenant is suspended"
sql "SELECT FROM tenant_resume('acme')" >/dev/null
like "$(as pool "BEGIN; SELECT tenant_enter('$good') IS NULL; COMMIT" "\\! psql -XAtqc \"SELECT FROM tenant_token_key_revoke($key1)\" -U admin app" "BEGIN; SELECT tenant_enter('$good')")" \
	'28000' "a checked token notices that its key is revoked"
is "$(as admin "SELECT state FROM tenant_token_key_revoke($key1)")" revoked "revoking again is nothing new"
like "$(as admin "SELECT tenant_token_key_add('\\x$public1')")" '55000.*revoked' "a revoked key stays away"
is "$(enter "$(token key=$key2 signer=2)")" "f
acme" "the second key goes on"
sql "SELECT FROM tenant_token_key_add('\\x$public2', now() - interval '1 hour', now() - interval '1 minute')" >/dev/null
refused "$(token key=$key2 signer=2)" 'not valid now' "a key whose time is over"
sql "SELECT FROM tenant_token_key_add('\\x$public2')" >/dev/null

# used tokens: all that were refused or not, remembered and forgotten
sql "ALTER SYSTEM SET tenancy.token_replay = 'once'" >/dev/null
sql "ALTER SYSTEM SET tenancy.token_replay_capacity = 1024" >/dev/null
cluster_restart immediate >/dev/null
refused "$(token key=$key2 signer=2 issued=$(($(now_ms) - 30000)))" 'before the server was started' "a token of before a crash"
good=$(token key=$key2 signer=2)
is "$(as pool "BEGIN; SELECT tenant_enter('$good') IS NULL; SELECT 1/0" "ROLLBACK" "BEGIN; SELECT tenant_enter('$good')" 2>&1 | grep -cE '22012|28000')" 2 "a failed transaction has used its token"

# the vectors of the documentation: Ed25519 gives one signature for a key and a text
vectors=0
while read -r _ payload && read -r _ token; do
	vectors=$((vectors + 1))
	signed=t1.$(bytes "$payload" | base64url)
	printf %s "$signed" > "$work/signed"
	is "$signed.$(openssl pkeyutl -sign -inkey "$work/key1.pem" -rawin -in "$work/signed" | base64url)" "$token" "vector $vectors of doc/token.md"
done < <(grep -E '^    (payload [0-9a-f]+|token t1.*)$' "$top/doc/token.md")
is "$vectors" 2 "it has two"
is "$(grep -o 'key id is [0-9]*' "$top/doc/token.md")" "key id is $key1" "the key's id is that of the vectors"

for signer in "node:node $top/test/token/sign.mjs" "python3:python3 $top/test/token/sign.py"; do
	program=${signer%%:*}
	if $program --version >/dev/null 2>&1 && { [ $program = node ] || python3 -c 'import cryptography' 2>/dev/null; }; then
		is "$(enter "$(${signer#*:} "$work/key2.pem" "$key2" "$system" "$database" "$acme" "$program")" "SELECT tenant_context()->>'actor'")" "f
$program" "a token that $program has signed enters"
	else
		tap_count=$((tap_count + 1))
		echo "ok $tap_count - a token that $program has signed # SKIP there is no $program with Ed25519"
	fi
done
done_testing
