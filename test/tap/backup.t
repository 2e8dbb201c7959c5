#!/bin/bash
# Backups of tenants by pg_dump, restored into new tenants and into scratch databases.
. "$(dirname "$0")/lib.sh"
command -v python3 > /dev/null || skip_all "there is no python3"
files=$(mktemp -d /tmp/pg_tenancy_backup.XXXXXX)
trap 'rm -rf "$files"' EXIT
cluster_start --set "tenancy.command_file=$files/commands.json" --set tenancy.metering_flush_interval=200ms --set tenancy.runner_idle_timeout=1s --set max_worker_processes=20
trap 'cluster_stop; rm -rf "$files"' EXIT
server=$(stat -c %U "$PGHOST/data")
cp "$top/recipes/backup" "$files/recipe"
cp "$top/recipes/recipe.py" "$files"
# Waits where it is told to, so that it can be killed in the middle.
cat > "$files/slow" <<'S'
#!/bin/sh
if [ -e "$(dirname "$0")/wait_$1" ]; then echo $$ > "$(dirname "$0")/waits"; sleep 60; fi
exec "$(dirname "$0")/recipe" "$1"
S
mkdir "$files/backups"
[ "$(id -u)" -ne 0 ] || chown -R "$server" "$files"
chmod 755 "$files" "$files/slow" "$files/recipe"
commands() { # commands VERIFY_USER
	cat > "$files/commands.json" <<J
{"backup": {"argv": ["$files/slow", "\${action}"], "timeout_seconds": 120, "environment": {"PGHOST": "$PGHOST", "PGPORT": "5432", "PGUSER": "postgres", "VERIFY_USER": "$1"}}}
J
}
as_tenant() { printf '%s\n' "BEGIN; SELECT tenant_context_set('$1') \\g /dev/null" "$2;" "COMMIT;" | psql -XAtq -d app 2>&1; }
backup() { # backup TENANT: sets id when it has ended
	id=$(sql "SELECT id FROM tenant_backup('$1')")
	wait_for 40 "SELECT count(*) FROM tenancy.backup WHERE id = '$id' AND state IN ('succeeded', 'failed')" 1
}
state() { sql "SELECT state FROM tenancy.backup WHERE id = '$id'"; }
archive() { echo "$files/backups/$(sql "SELECT tenant_id FROM tenancy.backup WHERE id = '$1'")/$1.tar"; }
restore() { # restore TENANT BACKUP SLUG: waits for its end
	sql "SELECT slug FROM tenant_restore('$1', '$2', '$3')"
	wait_for 40 "SELECT r.state IN ('succeeded', 'failed') FROM tenancy.restoration r JOIN tenancy.tenant t ON t.id = r.tenant_id WHERE t.slug = '$3'" t
}
letters() { sql "SELECT substr(role_name, 3) FROM tenancy.tenant WHERE slug = '$1'"; }

like "$(sql "SELECT tenant_backup('none')")" 42704 "an unknown tenant"
sql "SELECT tenant_create('acme', isolation => 'pool')" > /dev/null
like "$(sql "SELECT tenant_backup('acme')")" '55000.*no place' "without a directory there are no backups"
set_and_reload tenancy.backup_directory "$files/backups"
like "$(sql "SELECT tenant_backup('acme')")" 'could not open file' "nor without commands"
echo '{}' > "$files/commands.json"
like "$(sql "SELECT tenant_backup('acme')")" '42704.*command "backup"' "nor without this one"
like "$(sql "ALTER SYSTEM SET tenancy.backup_directory = 'relative'")" 22023 "a directory has a whole path"
commands tenancy_restore
sql "SELECT tenant_rename('acme', 'pool')" > /dev/null

# two tenants of a template with all sorts of things, and shared tables
sql "CREATE ROLE tenancy_restore LOGIN" > /dev/null
psql -Xq -o /dev/null -v ON_ERROR_STOP=1 -d app <<'S'
CREATE SCHEMA portal;
CREATE FUNCTION portal.entities() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT count(*) FROM portal.entity); END $$;
CREATE TYPE portal.mood AS ENUM ('sad', 'ok');
CREATE DOMAIN portal.note AS text CHECK (VALUE <> '');
CREATE TABLE portal.entity (id serial PRIMARY KEY, name text NOT NULL, shout text GENERATED ALWAYS AS (upper(name)) STORED, mood portal.mood, parent integer REFERENCES portal.entity, data jsonb, tenant_id uuid DEFAULT current_tenant_id(), bytes bytea, at timestamptz, number numeric, real double precision);
CREATE TABLE portal.tag (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, entity integer NOT NULL REFERENCES portal.entity ON DELETE CASCADE, note portal.note, UNIQUE (entity, note));
CREATE TABLE portal.event (at date NOT NULL, what text) PARTITION BY RANGE (at);
CREATE TABLE portal.event_2026 PARTITION OF portal.event FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE portal.empty (id integer);
CREATE INDEX ON portal.entity ((data ->> 'a'));
CREATE VIEW portal.tagged AS SELECT e.id, e.name, t.note FROM portal.entity e JOIN portal.tag t ON t.entity = e.id;
CREATE MATERIALIZED VIEW portal.counted AS SELECT count(*) AS n FROM portal.tag;
CREATE FUNCTION portal.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.number := coalesce(NEW.number, 0) + 1; RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON portal.entity FOR EACH ROW EXECUTE FUNCTION portal.touch();
COMMENT ON TABLE portal.entity IS 'it''s a table';
SELECT quota_count_table('entities', 'portal.entity');
SELECT name FROM template_create('portal', 'portal');
SELECT slug FROM tenant_create('acme', 'Acme', template => 'portal', plan => 'starter', metadata => '{"crm": 7}');
SELECT slug FROM tenant_create('globex', template => 'portal');
SELECT label FROM tenant_schema_add('acme', 'extra');
CREATE TABLE item (tenant_id uuid, id integer, name text, doc json, hidden text GENERATED ALWAYS AS (id::text) STORED, PRIMARY KEY (tenant_id, id));
CREATE TABLE detail (tenant_id uuid, id integer, item integer, PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, item) REFERENCES item (tenant_id, id));
SELECT tenant_table_register('detail'), tenant_table_register('item');
S
fill="INSERT INTO entity (name, mood, data, tenant_id, bytes, at, real) SELECT 'n' || n || E'\\t\\\\x\\\\.\\nline \\u00e4', 'ok', jsonb_build_object('a', n, 'schema', current_schema()), current_tenant_id(), decode('00ff5c', 'hex'), now(), 0.1 FROM generate_series(1, 50) n;
UPDATE entity SET parent = 1 WHERE id > 1; INSERT INTO entity (name, parent) VALUES ('null', NULL);
INSERT INTO tag (entity, note) SELECT id, 'note' FROM entity; INSERT INTO event VALUES ('2026-05-01', 'x');
INSERT INTO item (id, name, doc) SELECT n, E'it\\n\\\\' || n, '{\"a\":  1, \"a\": 2}' FROM generate_series(1, 20) n; INSERT INTO detail (id, item) SELECT n, n FROM generate_series(1, 20) n"
is "$(as_tenant acme "$fill")" "" "rows of a tenant"
is "$(as_tenant globex "INSERT INTO entity (name) VALUES ('globex secret'); INSERT INTO item (id, name) VALUES (1, 'globex secret')")" "" "and of another"
is "$(as_tenant pool "INSERT INTO item (id, name) SELECT n, 'p' FROM generate_series(1, 5) n; INSERT INTO detail (id, item) VALUES (1, 1)")" "" "and of the pool"

# a backup, and its evidence by other programs
backup acme
is "$(state)" succeeded "a tenant is backed up"
acme=$id
tar=$(archive "$acme")
is "$(sha256sum < "$tar" | cut -d' ' -f1) $(stat -c %s "$tar")" "$(sql "SELECT sha256, size_bytes FROM tenancy.backup WHERE id = '$acme'" | tr '|' ' ')" "its digest and size are those of the file"
is "$(stat -c '%a %U' "$tar" "$(dirname "$tar")" | tr '\n' ' ')" "600 $server 700 $server " "which nobody else reads"
is "$(ls "$(dirname "$tar")" | wc -l)" 2 "nothing else is left but the evidence"
is "$(tar -tf "$tar" | tr '\n' ' ')" "manifest.json schemas.dump shared_0.copy shared_1.copy " "it holds a dump and shared rows"
is "$(tar -xOf "$tar" schemas.dump | pg_restore -f - | grep -c 'globex')$(tar -xOf "$tar" shared_0.copy shared_1.copy | grep -c globex)" 00 "and nothing of another tenant's"
is "$(sql "SELECT string_agg(regexp_replace(key, '^t_.{26}', 't') || '=' || (value->>'rows'), ' ' ORDER BY regexp_replace(key, '^t_.{26}', 't') COLLATE \"C\") FROM tenancy.backup, jsonb_each(evidence->'tables') WHERE id = '$acme'")" \
	"public.detail=20 public.item=20 t.empty=0 t.entity=51 t.event_2026=1 t.tag=51" "rows are counted, table by table"
like "$(sql "SELECT evidence->>'pg_dump' FROM tenancy.backup WHERE id = '$acme'")" '^pg_dump \(PostgreSQL\) [0-9]' "and the version of pg_dump is known"
is "$(sql "SELECT count(*) FROM tenancy.outbox_event WHERE type = 'backup.succeed' AND payload->>'backup' = '$acme'")" 1 "it is told"

# restored into a new tenant
is "$(restore acme "$acme" again)" again "it is to be restored"
is "$(sql "SELECT r.state, t.state, r.error FROM tenancy.restoration r JOIN tenancy.tenant t ON t.id = r.tenant_id")" "succeeded|active|" "and is"
old=$(letters acme) new=$(letters again)
pg_dump -s -n "t_$old*" app | sed "s/$old/LETTERS/g" | grep -v '^\\' > "$files/old.sql"
pg_dump -s -n "t_$new*" app | sed "s/$new/LETTERS/g" | grep -v '^\\' > "$files/new.sql"
is "$(diff "$files/old.sql" "$files/new.sql")" "" "the structure is the same, by pg_dump"
dump_rows() { as_tenant "$1" "SELECT id, name, shout, mood, parent, data - 'schema', bytes, at, number, real FROM entity ORDER BY id; SELECT * FROM tag ORDER BY id; SELECT * FROM event; SELECT * FROM tagged ORDER BY 1; SELECT n FROM counted; SELECT id, name, doc, hidden FROM item ORDER BY id; SELECT id, item FROM detail ORDER BY id; SELECT entities()"; }
# the materialized view of the old one is empty as it was made
sql "SET ROLE o_$old; REFRESH MATERIALIZED VIEW t_$old.counted" > /dev/null
is "$(dump_rows again)" "$(dump_rows acme)" "and so are the rows, also of shared tables"
is "$(as_tenant again "SELECT count(*), min(data->>'schema') FROM entity WHERE tenant_id = current_tenant_id()")" "51|t_$old" "a tenant_id is the new one's; what only looks like a name stays"
is "$(as_tenant again "INSERT INTO entity (name) VALUES ('next') RETURNING id")" 52 "sequences go on"
is "$(sql "SELECT (quota_check('again', 'entities', 0)).used")" 52 "rows are counted for quotas"
is "$(sql "SELECT name, plan, metadata, isolation, template FROM tenancy.tenant WHERE slug = 'again'")" 'Acme||{"crm": 7}|schema|portal' "name and metadata are the old one's, and there is no plan"
is "$(sql "SELECT label FROM tenancy.tenant_schema WHERE tenant_id = 'again'::regtenant ORDER BY 1" | tr '\n' ' ')" "extra main " "with its further schemas"
wait_for 30 "SELECT count(*) FROM tenancy.job WHERE kind = 'backup.command' AND finished_at IS NULL" 0
is "$(ls "$(dirname "$tar")" | wc -l)" 2 "what was unpacked is removed"
like "$(sql "SELECT tenant_restore('acme', '$acme', 'again')")" 23505 "a slug that is taken"
like "$(sql "SELECT tenant_restore('globex', '$acme', 'x')")" 42704 "a backup of another tenant"
like "$(sql "SELECT tenant_restore('acme', '00000000-0000-0000-0000-000000000001')")" 42704 "no backup"
backup pool
is "$(state)" succeeded "a tenant of the pool is backed up"
restore pool "$id" pool-again > /dev/null
is "$(as_tenant pool-again "SELECT count(*), min(name) FROM item; SELECT id, item FROM detail")" "5|p
1|1" "and restored"
is "$(sql "SELECT count(*) FROM item")" 51 "nobody else's rows are touched"

# a tenant that owns its schemas, and is up to no good
psql -Xq -o /dev/null -d app -c "SELECT slug FROM tenant_create('evil', owns_ddl => true)"
hostile="CREATE TABLE log (who text);
CREATE FUNCTION grab() RETURNS integer LANGUAGE plpgsql IMMUTABLE AS \$f\$ BEGIN
	BEGIN EXECUTE 'RESET SESSION AUTHORIZATION'; EXCEPTION WHEN OTHERS THEN NULL; END;
	BEGIN EXECUTE 'RESET ROLE'; EXCEPTION WHEN OTHERS THEN NULL; END;
	BEGIN EXECUTE 'CREATE ROLE pwned SUPERUSER'; EXCEPTION WHEN OTHERS THEN NULL; END;
	BEGIN EXECUTE 'COPY (SELECT 1) TO ''$files/pwned'''; EXCEPTION WHEN OTHERS THEN NULL; END;
	RETURN 1; END \$f\$;
CREATE TABLE trap (id integer DEFAULT grab() CHECK (grab() = 1), g integer GENERATED ALWAYS AS (grab()) STORED);
CREATE INDEX ON trap ((grab()));
CREATE VIEW v AS SELECT grab() AS g; CREATE MATERIALIZED VIEW mv AS SELECT grab() AS g;
CREATE TABLE \"odd \"\"name\"\" COPY x (y) FROM stdin;\" (\"a b\" text, tenant_id text);
INSERT INTO \"odd \"\"name\"\" COPY x (y) FROM stdin;\" VALUES (E'\\\\.\\n\\\\.', current_tenant_id()), ('COPY tenancy.tenant (id) FROM stdin;', 'x');
INSERT INTO trap (id) VALUES (1)"
is "$(as_tenant evil "$hostile")" "" "a hostile tenant"
backup evil
is "$(state)" succeeded "is backed up"
evil=$id
restore evil "$evil" evil2 > /dev/null
is "$(sql "SELECT state, error FROM tenancy.restoration WHERE tenant_id = 'evil2'::regtenant")" "succeeded|" "and restored"
is "$(as_tenant evil2 'SELECT "a b", tenant_id = current_tenant_id()::text FROM "odd ""name"" COPY x (y) FROM stdin;" ORDER BY 2')" "COPY tenancy.tenant (id) FROM stdin;|f
\\.
\\.|t" "with its odd rows"
sql "SELECT backup_verify('$evil')" > /dev/null
wait_for 40 "SELECT verified_at IS NOT NULL OR error IS NOT NULL FROM tenancy.backup WHERE id = '$evil'" t
is "$(sql "SELECT verified_at IS NOT NULL, error FROM tenancy.backup WHERE id = '$evil'")" "t|" "and verified"
is "$(sql "SELECT count(*) FROM pg_roles WHERE rolname = 'pwned'")$(ls "$files" | grep -c pwned)" 00 "and has got nothing by it"

# the drill
sql "SELECT backup_verify('$acme')" > /dev/null
wait_for 40 "SELECT verified_at IS NOT NULL OR error IS NOT NULL FROM tenancy.backup WHERE id = '$acme'" t
is "$(sql "SELECT verified_at IS NOT NULL, error, verification->'tables' = evidence->'tables' FROM tenancy.backup WHERE id = '$acme'")" "t||t" "a drill finds what was backed up"
is "$(sql "SELECT count(*) FROM pg_database WHERE datname LIKE 'pg_tenancy_drill%'")" 0 "and leaves no database"
sql "ALTER ROLE tenancy_restore CREATEROLE" > /dev/null
sql "SELECT backup_verify('$acme')" > /dev/null
wait_for 40 "SELECT error IS NOT NULL FROM tenancy.backup WHERE id = '$acme'" t
like "$(sql "SELECT error FROM tenancy.backup WHERE id = '$acme'")" 'no role tenancy_restore that may log in and nothing else' "not as a role that has rights"
sql "ALTER ROLE tenancy_restore NOCREATEROLE" > /dev/null
cp "$tar" "$files/kept.tar"
[ "$(dd if="$tar" bs=1 skip=5000 count=1 2> /dev/null | tr -d '\0')" = x ] && byte=y || byte=x
printf $byte | dd of="$tar" bs=1 seek=5000 conv=notrunc 2> /dev/null
sql "UPDATE tenancy.backup SET error = NULL WHERE id = '$acme'; SELECT backup_verify('$acme')" > /dev/null
wait_for 40 "SELECT error IS NOT NULL FROM tenancy.backup WHERE id = '$acme'" t
like "$(sql "SELECT verified_at IS NULL, error FROM tenancy.backup WHERE id = '$acme'")" 't\|.*SHA-256 is another one' "an archive that was changed is found out"
restore acme "$acme" broken > /dev/null
is "$(sql "SELECT r.state, t.state FROM tenancy.restoration r JOIN tenancy.tenant t ON t.id = r.tenant_id WHERE slug = 'broken'")" "failed|failed" "and not restored"
cat "$files/kept.tar" > "$tar"

# what cannot be applied leaves nothing
sql "ALTER TABLE item ADD CONSTRAINT few CHECK (id < 10) NOT VALID" > /dev/null
restore acme "$acme" refused > /dev/null
like "$(sql "SELECT r.state, t.state, r.error FROM tenancy.restoration r JOIN tenancy.tenant t ON t.id = r.tenant_id WHERE slug = 'refused'")" '^failed\|failed\|.*constraint "few"' "a constraint of today refuses rows of yesterday"
is "$(sql "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 't_$(letters refused)'")" 0 "and nothing of it stays"
sql "ALTER TABLE item DROP CONSTRAINT few" > /dev/null

# kill -9 in the middle
worker() { sql "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_tenancy job worker' ORDER BY backend_start LIMIT 1"; }
touch "$files/wait_dump"
id=$(sql "SELECT id FROM tenant_backup('globex')")
for _ in $(seq 300); do [ -e "$files/waits" ] && break; sleep 0.1; done
is "$(state)" running "a backup is running"
rm -f "$files/wait_dump"
crash "$(worker)"
wait_for 60 "SELECT state FROM tenancy.backup WHERE id = '$id'" succeeded
ok $? "after kill -9 it is made again"
globex=$id
touch "$files/wait_unpack"; rm -f "$files/waits"
sql "SELECT tenant_restore('globex', '$globex', 'globex2')" > /dev/null
for _ in $(seq 300); do [ -e "$files/waits" ] && break; sleep 0.1; done
rm -f "$files/wait_unpack"
psql -XAtq -d app -c "BEGIN" -c "LOCK TABLE item IN EXCLUSIVE MODE" -c "SELECT pg_sleep(600)" > /dev/null 2>&1 &
wait_for 30 "SELECT count(*) FROM pg_locks WHERE relation = 'item'::regclass AND mode = 'ExclusiveLock' AND granted" 1
crash "$(worker)"
wait
psql -XAtq -d app -c "BEGIN" -c "LOCK TABLE item IN EXCLUSIVE MODE" -c "SELECT pg_sleep(600)" > /dev/null 2>&1 &
wait_for 60 "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND backend_type = 'pg_tenancy job worker'" 1
ok $? "a restoration waits in the middle of applying"
crash "$(sql "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND backend_type = 'pg_tenancy job worker'")"
wait
wait_for 60 "SELECT state FROM tenancy.restoration WHERE tenant_id = 'globex2'::regtenant" succeeded
ok $? "after kill -9 it is done again"
is "$(as_tenant globex2 "SELECT name FROM entity; SELECT name FROM item")" "globex secret
globex secret" "and once"

like "$(sql "SELECT metrics_prometheus()")" 'pg_tenancy_backups\{state="succeeded"\} [1-9]' "Prometheus is told"

# what fails says so
chmod 500 "$files/backups"
[ "$server" != root ] && id=$(sql "SELECT id FROM tenant_backup('$(sql "SELECT slug FROM tenant_create('new', isolation => 'pool')")')")
wait_for 40 "SELECT state FROM tenancy.backup WHERE id = '$id'" failed
like "$(sql "SELECT error FROM tenancy.backup WHERE id = '$id'")" 'Permission denied' "a directory that cannot be written to"
chmod 700 "$files/backups"
like "$(sql "SELECT tenant_restore('new', '$id')")" 55000 "what has failed is not restored"
like "$(sql "SELECT backup_verify('$id')")" 55000 "nor verified"

# policies
for bad in "'178000000 years'" "'1 day', '102 years'" "'30 seconds'" "'1 hour', '0'" "'1 hour', keep => 0" NULL; do
	like "$(sql "SELECT backup_policy_set('acme', $bad)")" '2200[34]|22023' "no policy: $bad"
done
sql "SELECT schedule_set('backup.maintain', every => '1 second')" > /dev/null
is "$(sql "SELECT every, keep_for, keep FROM backup_policy_set('acme', '1 day', keep => 1)")" "1 day|30 days|1" "a policy"
wait_for 60 "SELECT string_agg(state, ' ' ORDER BY requested_at) FROM tenancy.backup WHERE tenant_id = 'acme'::regtenant" "expired succeeded"
ok $? "a backup is made at once, and the one that is too many expires"
is "$(ls "$tar" 2>/dev/null)" "" "its file is gone"
like "$(sql "SELECT removed_at IS NOT NULL, expires_at IS NULL FROM tenancy.backup WHERE id = '$acme'")" 't\|t' "and the row says when"
sql "UPDATE tenancy.backup SET expires_at = now() - interval '1 day' WHERE state = 'succeeded'; UPDATE tenancy.backup_policy SET next_at = now() - interval '5 days'" > /dev/null
wait_for 60 "SELECT string_agg(state, ' ' ORDER BY requested_at) FROM tenancy.backup WHERE tenant_id = 'acme'::regtenant" "expired expired succeeded"
ok $? "the last one is kept, however old"
is "$(sql "SELECT next_at - now() BETWEEN interval '23 hours' AND interval '1 day' FROM tenancy.backup_policy")" t "for all times that were missed one backup is made, and the next in its time"
like "$(sql "SELECT backup_remove('$acme')")" 55000 "what is gone is not removed again"
sql "SELECT backup_remove('$evil')" > /dev/null
wait_for 40 "SELECT state FROM tenancy.backup WHERE id = '$evil'" expired
ok $? "one is removed"
is "$(ls "$(dirname "$(archive "$evil")")" 2>/dev/null)" "" "with its directory"
# a purge takes the files with it
purged=$(sql "SELECT id FROM tenancy.tenant WHERE slug = 'globex'")
sql "SELECT tenant_delete('globex', reason => 'test', grace => '0'); SELECT tenant_purge('globex')" > "$files/purge" 2>&1
wait_for 60 "SELECT state FROM tenancy.backup WHERE id = '$globex'" expired
ok $? "a purged tenant's backups are removed" || cat "$files/purge"
is "$(ls "$files/backups/$purged" 2>/dev/null)$(sql "SELECT source FROM tenancy.backup WHERE id = '$globex'")" "" "files, and what the row said of the tenant"
is "$(sql "SELECT keep FROM backup_policy_reset('acme')")" 1 "a policy is taken back"
like "$(sql "SELECT backup_policy_reset('acme')")" 42704 "once"

# who may
for call in "tenant_backup('acme')" "tenant_restore('acme', '$acme')" "backup_verify('$acme')" "backup_remove('$acme')" "backup_policy_set('acme', '1 day')" "backup_policy_reset('acme')"; do
	like "$(as_tenant acme "SELECT $call")" 'permission denied|within a tenant' "no tenant: ${call%%(*}"
	like "$(sql "SELECT $(sed "s/'acme'/NULL/; s/'$acme'/NULL/" <<< "$call")")" 22004 "no null: ${call%%(*}"
done
done_testing
