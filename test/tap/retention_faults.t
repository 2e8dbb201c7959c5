#!/bin/bash
# Retention where a table cannot be worked at: it is left, and no other is.
. "$(dirname "$0")/lib.sh"
cluster_start --set tenancy.workers=off
sql "CREATE SCHEMA portal; CREATE TABLE portal.entity (id integer PRIMARY KEY, at timestamptz NOT NULL, size integer, twice integer GENERATED ALWAYS AS (2) STORED);
	SELECT count(template_create('portal', 'portal'));
	SELECT count(tenant_create(s, template => 'portal', owns_ddl => s = 'b')) FROM unnest(ARRAY['a', 'b', 'c']) s;
	SELECT count(schedule_set('retention.start', every => '1 hour'))" >/dev/null
for tenant in a b c; do
	sql "BEGIN; SELECT tenant_context_set('$tenant'); INSERT INTO entity SELECT g, now() - g * interval '1 day', 1 FROM generate_series(1, 100) g; COMMIT" >/dev/null
done
policy() { sql "SELECT action FROM retention_policy_set('portal.entity', 'at', $1)"; }
is "$(policy "'30 days', 'delete', 'contract'")" delete "a policy for the tables of three tenants"
like "$(policy "'1001 years', 'delete', 'contract'")" '22023.*1000 years' "a period that is longer than time"
like "$(sql "SELECT retention_period_set('a', id, '178000000 years') FROM tenancy.retention_policy")" 22023 "also for one tenant"
like "$(policy "'1 day', 'anonymise', 'contract', anonymise => '{\"size\": \"big\"}'")" '22P02.*big' "what a column cannot become is refused at once"
like "$(policy "'1 day', 'anonymise', 'contract', anonymise => '{\"at\": null}'")" '23502.*cannot become null' "nor null, where it may not be"
like "$(policy "'1 day', 'anonymise', 'contract', anonymise => '{\"twice\": 3}'")" '428C9' "nor what is computed"

# what a tenant that owns its tables may do
as_b() { sql "BEGIN; SELECT tenant_context_set('b'); $1; COMMIT" >/dev/null; }
told() { sql "SELECT tenant_id::regtenant, rows, reason FROM $1 ORDER BY 1"; }
as_b "ALTER TABLE entity RENAME at TO seen"
expected="a|70|
b|0|column \"at\" does not exist
c|70|"
sql "UPDATE portal.entity SET id = id; UPDATE tenancy.retention_policy SET period = '30 days 12 hours'" >/dev/null
is "$(told "retention_enforce(dry_run => true)")" "$expected" "a dry run tells of a table without the column, and of the others"
is "$(psql -XAtqc "BEGIN" -c "SELECT tenant_id::regtenant, rows, reason FROM retention_enforce() ORDER BY 1" -c "ROLLBACK" app 2>&1)" "$expected" "so does a run in one transaction"
schema() { sql "SELECT schema_name FROM tenancy.tenant WHERE slug = '$1'"; }
run() { # run: the jobs of one run
	local i
	sql "UPDATE tenancy.schedule SET next_run_at = now() WHERE name = 'retention.start'; SELECT count(*) FROM job_run_due()" >/dev/null
	for ((i = 0; i < 100; i++)); do
		[ "$(sql "SELECT count(*) FROM tenancy.job_pending WHERE kind = 'retention.step'")" != 0 ] || return 0
		sql "UPDATE tenancy.job_pending SET run_at = now() WHERE kind = 'retention.step'; SELECT count(*) FROM job_run_due()" >/dev/null
	done
	return 1
}
run
ok $? "a run of jobs comes to its end"
is "$(told tenancy.retention_log)" "$expected" "and has worked at those behind it"
is "$(sql "SELECT count(*) FROM tenancy.job WHERE kind = 'retention.step' AND failures IS NOT NULL")" 0 "no job has failed"

# rows for which the condition cannot be computed
as_b "ALTER TABLE entity RENAME seen TO at"
sql "SELECT count(retention_policy_set('portal.entity', 'at', '30 days 12 hours', 'delete', 'contract', filter => '1 / size > 0')); DELETE FROM tenancy.retention_log;
	UPDATE $(schema b).entity SET size = 0 WHERE id = 50; INSERT INTO $(schema c).entity VALUES (200, now() - interval '200 days', 1)" >/dev/null
run
is "$(told tenancy.retention_log)" "b|0|division by zero
c|1|" "one row of a tenant stops only it"
sql "SELECT count(retention_policy_set('portal.entity', 'at', '30 days 12 hours', 'delete', 'contract')); DELETE FROM tenancy.retention_log; INSERT INTO $(schema c).entity VALUES (200, now() - interval '200 days', 1)" >/dev/null

# a table that somebody keeps locked
mkfifo "$PGHOST/locker"
lock() { # lock TENANT [TABLE]: until unlock
	rm -f "$PGHOST/locked"
	psql -XAtq -d app < "$PGHOST/locker" > "$PGHOST/locked" 2>&1 &
	exec 3> "$PGHOST/locker"
	echo "BEGIN; LOCK TABLE $(schema "$1").${2:-entity}; SELECT 'locked';" >&3
	local i
	for ((i = 0; i < 300; i++)); do [ -s "$PGHOST/locked" ] && break; sleep 0.1; done
}
unlock() {
	echo "ROLLBACK;" >&3
	exec 3>&-
	wait
}
lock b
run
ok $? "a run does not wait for ever for a table"
is "$(told tenancy.retention_log)" "b|0|somebody has locked it for too long
c|1|" "and goes on behind it"
unlock
sql "DELETE FROM tenancy.retention_log" >/dev/null
run
is "$(told tenancy.retention_log)" "b|70|" "the next run finds it"

# one that is locked now and then, and worked at in between
steps() { sql "SELECT $1 FROM tenancy.job_pending WHERE kind = 'retention.step'"; }
step() { sql "UPDATE tenancy.job_pending SET run_at = now() WHERE kind = 'retention.step'; SELECT count(*) FROM job_run_due()" >/dev/null; }
sql "DELETE FROM tenancy.retention_log; INSERT INTO $(schema c).entity SELECT g, now() - interval '200 days', 1 FROM generate_series(1001, 100000) g; UPDATE tenancy.schedule SET next_run_at = now() WHERE name = 'retention.start'" >/dev/null
lock c
for ((i = 0; i < 30; i++)); do
	step
	[ "$(steps "(arguments->>'waits')::integer > 1")" != t ] || break
done
is "$(steps "tenant_id IS NULL AND (arguments->>'waits')::integer > 1")" t "a step notes that it has waited"
unlock
step
is "$(steps "arguments->>'waits', arguments->>'relation'")" "0|$(schema c).entity" "and forgets it when it has worked"
run
is "$(told tenancy.retention_log)" "c|99000|" "to the end"

# a table that goes while the run waits for one before it
sql "DELETE FROM tenancy.retention_log; INSERT INTO $(schema a).entity VALUES (200, now() - interval '200 days', 1); INSERT INTO $(schema c).entity VALUES (200, now() - interval '200 days', 1)" >/dev/null
lock a
sql "SELECT tenant_id::regtenant, rows, reason FROM retention_enforce()" > "$PGHOST/enforced" &
enforcing=$!
wait_for 30 "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = '$(schema a).entity'::regclass" 1
ok $? "a run waits for a table"
as_b "DROP TABLE entity"
is "$(sql "SELECT to_regclass('$(schema b).entity') IS NULL")" t "another is dropped"
unlock
wait $enforcing
is "$(sort "$PGHOST/enforced")" "a|1|
c|1|" "and passed by"

# the same where partitions are dropped
sql "CREATE SCHEMA parts; CREATE TABLE parts.log (at timestamptz NOT NULL) PARTITION BY RANGE (at); CREATE TABLE parts.log_old PARTITION OF parts.log FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2020-02-01 00:00+00');
	SELECT count(template_create('parts', 'parts')); SELECT count(tenant_create(s, template => 'parts', owns_ddl => s = 'e')) FROM unnest(ARRAY['d', 'e', 'f']) s;
	SELECT count(retention_policy_set('parts.log', 'at', '30 days', 'drop_partition', 'contract'))" >/dev/null
lock d log_old
sql "SELECT tenant_id::regtenant, partitions, reason FROM retention_enforce()" > "$PGHOST/enforced" &
enforcing=$!
wait_for 30 "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = '$(schema d).log_old'::regclass" 1
ok $? "a run waits for a partition"
sql "BEGIN; SELECT tenant_context_set('e'); DROP TABLE log; COMMIT" >/dev/null
is "$(sql "SELECT to_regclass('$(schema e).log') IS NULL")" t "another table is dropped"
unlock
wait $enforcing
is "$(sort "$PGHOST/enforced")" "d|1|
f|1|" "and passed by"
done_testing
