#!/bin/bash
# test/run: long
# A pool in transaction mode: what one client leaves never decides what the next one sees.
. "$(dirname "$0")/lib.sh"
[ -x /usr/sbin/pgbouncer ] || command -v pgbouncer >/dev/null || skip_all "there is no pgbouncer"
cluster_start --set tenancy.workers=off
pooler_dir=$cluster_dir.pooler
trap '"$top/test/pooler" stop "$pooler_dir"; cluster_stop' EXIT
psql -Xq -v ON_ERROR_STOP=1 app >/dev/null <<'SQL'
CREATE SCHEMA portal;
CREATE TABLE portal.note (id serial, owner text);
SELECT name FROM template_create('portal', 'portal');
CREATE ROLE pool LOGIN IN ROLE tenancy_app;
CREATE ROLE acme_app LOGIN;
CREATE ROLE globex_app LOGIN;
CREATE SCHEMA shared;
CREATE TABLE shared.note (tenant_id uuid, id serial, owner text, PRIMARY KEY (tenant_id, id));
SELECT relation FROM tenant_table_register('shared.note');
GRANT USAGE ON SCHEMA shared TO pool;
GRANT SELECT ON shared.note TO pool;
SELECT slug FROM tenant_create('acme', template => 'portal');
SELECT slug FROM tenant_create('globex', template => 'portal');
SELECT tenant_login_bind('acme_app', 'acme') IS NULL, tenant_login_bind('globex_app', 'globex') IS NULL;
-- the usual design, for control
CREATE ROLE owners LOGIN;
CREATE SCHEMA usual;
CREATE TABLE usual.note (owner text);
INSERT INTO usual.note VALUES ('acme'), ('globex');
ALTER TABLE usual.note ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON usual.note USING (owner = current_setting('app.tenant', true));
GRANT USAGE ON SCHEMA usual TO owners;
GRANT SELECT ON usual.note TO owners;
BEGIN; SELECT tenant_context_set('acme'); INSERT INTO note (owner) VALUES ('acme'); INSERT INTO shared.note (owner) VALUES ('acme'); COMMIT;
BEGIN; SELECT tenant_context_set('globex'); INSERT INTO note (owner) VALUES ('globex'); INSERT INTO shared.note (owner) VALUES ('globex'); COMMIT;
SQL
direct="$PGHOST $PGPORT"
eval "$("$top/test/pooler" start "$pooler_dir" default_pool_size=1 query_wait_timeout=60)" || { echo "Bail out! no pooler"; exit 1; }

# Two clients of one connection, each a psql that is told what to do in turns.
client() { # client NAME USER: starts it
	local in=$pooler_dir/$1.in
	mkfifo "$in"
	PGUSER=$2 psql -XAtq -v VERBOSITY=sqlstate app < "$in" > "$pooler_dir/$1.out" 2>&1 &
	eval "$1_pid=$!"
	exec {fd}> "$in"
	eval "$1_fd=$fd"
}
say() { # say NAME SQL: what it answers
	local fd=${1}_fd out=$pooler_dir/$1.out before
	before=$(wc -l < "$out")
	printf '%s\n\\echo -done-\n' "$2" >&"${!fd}"
	for _ in $(seq 6000); do
		tail -n +$((before + 1)) "$out" | grep -qx -- -done- && break
		sleep 0.01
	done
	tail -n +$((before + 1)) "$out" | grep -vx -- -done- | paste -sd ' '
}
client one pool
client two pool
backend=$(say one "SELECT pg_backend_pid();")
is "$(say two "SELECT pg_backend_pid();")" "$backend" "two clients share a connection"
is "$(say one "BEGIN; SELECT tenant_context_set('acme') IS NULL; SELECT owner FROM note; COMMIT;")" "f acme" "one is acme"
is "$(say two "BEGIN; SELECT current_tenant() IS NULL; COMMIT;")" "t" "the other is nobody"
is "$(say two "SELECT count(*) FROM note;")" "ERROR:  42P01" "and has no tables"
is "$(say two "BEGIN; SELECT tenant_context_set('globex') IS NULL; SELECT owner FROM note; SELECT owner FROM shared.note; COMMIT;")" "f globex globex" "until it is globex"
leave="SET work_mem = '1MB'; SET search_path = pg_catalog; CREATE TEMP TABLE note (owner text); INSERT INTO note VALUES ('trap'); PREPARE look AS SELECT owner FROM note;"
is "$(say one "BEGIN; SELECT tenant_context_set('acme') IS NULL; $leave COMMIT;")" "f" "one leaves settings, a temporary table, a prepared statement"
is "$(say two "BEGIN; SELECT tenant_context_set('globex') IS NULL; SELECT owner FROM note; SHOW work_mem; COMMIT;")" "f globex 4MB" "the other sees none of it"
is "$(say two "EXECUTE look;")" "ERROR:  26000" "not even by name"
is "$(say one "BEGIN; SELECT tenant_context_set('acme') IS NULL; $leave SELECT 1/0;")" "f ERROR:  22012" "one fails amid a transaction"
kill -9 "$one_pid"
is "$(say two "BEGIN; SELECT tenant_context_set('globex') IS NULL; SELECT owner FROM note; COMMIT;")" "f globex" "and vanishes: the other goes on"

# the check query of the pooler: a connection that somebody made his own is not handed on
"$top/test/pooler" stop "$pooler_dir"
read -r PGHOST PGPORT <<< "$direct"
eval "$("$top/test/pooler" start "$pooler_dir" default_pool_size=1 server_check_delay=0 "server_check_query=SELECT public.connection_check(true)")"
client three pool
client four pool
backend=$(say three "SELECT pg_backend_pid();")
is "$(say four "SELECT pg_backend_pid();")" "$backend" "server_check_query: a clean connection is shared"
say three "SET work_mem = '1MB'; CREATE TEMP TABLE trap (x int);" >/dev/null
dirty=$(say four "SELECT pg_backend_pid();")
[[ $dirty =~ ^[0-9]+$ && $dirty != "$backend" ]]
ok $? "a connection with leftovers of a client that entered nothing is closed"
is "$(say four "SHOW work_mem;")" 4MB "and the next client gets a fresh one"

# bound logins: a pool each
is "$(PGUSER=acme_app psql -XAtqc "SELECT owner FROM note" -c "SELECT current_tenant()" app)" "acme
acme" "a bound login is in its tenant through the pooler too"
is "$(PGUSER=globex_app psql -XAtqc "SELECT owner FROM note" app)" "globex" "and so is the other"
"$top/test/pooler" stop "$pooler_dir"
read -r PGHOST PGPORT <<< "$direct"

# drivers
if ! install_node_modules; then
	ok 0 "drivers of Node interleave # SKIP there is no node with npm, or npm could not install them"
else
	for size in 1 2; do
		environment=$("$top/test/pooler" start "$pooler_dir" default_pool_size=$size)
		(eval "$environment"; NODE_MODULES=$node_modules timeout 240 node "$top/test/node/interleave.mjs") > "$pooler_dir/tap" 2>&1
		while read -r line; do
			case $line in
				"ok "*) ok 0 "pool of $size: ${line#* - }" ;;
				"not ok "*) ok 1 "pool of $size: ${line#* - }" ;;
				1..*) plan=$size ;;
				*) echo "# $line" ;;
			esac
		done < "$pooler_dir/tap"
		is "${plan:-}" "$size" "pool of $size: the program came to its end"
		"$top/test/pooler" stop "$pooler_dir"
	done
fi
done_testing
