#!/bin/bash
# Backups that age encrypts: made for a public key, verified and restored by whoever has the secret one.
. "$(dirname "$0")/lib.sh"
command -v python3 > /dev/null || skip_all "there is no python3"
command -v age > /dev/null || skip_all "age is not installed: no backup can be encrypted"
files=$(mktemp -d /tmp/pg_tenancy_backup.XXXXXX)
trap 'rm -rf "$files"' EXIT
cluster_start --set "tenancy.command_file=$files/commands.json" --set tenancy.metering_flush_interval=200ms --set tenancy.runner_idle_timeout=1s --set max_worker_processes=20
trap 'cluster_stop; rm -rf "$files"' EXIT
cp "$top/recipes/backup" "$top/recipes/recipe.py" "$files"
mkdir "$files/backups"
age-keygen -o "$files/identity" 2> /dev/null
age-keygen -o "$files/other" 2> /dev/null
age-keygen -y "$files/identity" > "$files/recipients"
echo nonsense > "$files/nobody"
[ "$(id -u)" -ne 0 ] || chown -R "$(stat -c %U "$PGHOST/data")" "$files"
chmod 755 "$files"
commands() { # commands VARIABLES: as JSON, each with a comma before it
	cat > "$files/commands.json" <<J
{"backup": {"argv": ["$files/backup", "\${action}"], "timeout_seconds": 120, "environment": {"PGHOST": "$PGHOST", "PGPORT": 5432, "PGUSER": "postgres"$1}}}
J
	chmod 644 "$files/commands.json"
}
recipients=", \"AGE_RECIPIENTS\": \"$files/recipients\""
identity=", \"AGE_IDENTITY\": \"$files/identity\""
backup() { # backup: sets id and state when it has ended
	id=$(sql "SELECT id FROM tenant_backup('acme')")
	wait_for 40 "SELECT count(*) FROM tenancy.backup WHERE id = '$id' AND state IN ('succeeded', 'failed')" 1
	state=$(sql "SELECT state FROM tenancy.backup WHERE id = '$id'")
}
drill() { # drill: of the backup id
	sql "UPDATE tenancy.backup SET error = NULL, verified_at = NULL WHERE id = '$id'; SELECT id FROM backup_verify('$id')" > /dev/null
	wait_for 40 "SELECT verified_at IS NOT NULL OR error IS NOT NULL FROM tenancy.backup WHERE id = '$id'" t
	sql "SELECT verified_at IS NOT NULL, error FROM tenancy.backup WHERE id = '$id'"
}
kept() { (cd "$files/backups" && find . -type f -name "$1*" ! -name '*.json' | sed 's/.*\.tar/.tar/' | sort | tr '\n' ' '); }

sql "CREATE ROLE tenancy_restore LOGIN; CREATE SCHEMA portal; CREATE TABLE portal.entity (id integer PRIMARY KEY, body text)" > /dev/null
sql "ALTER SYSTEM SET tenancy.backup_directory = '$files/backups'" > /dev/null
sql "SELECT pg_reload_conf(); SELECT count(template_create('portal', 'portal')); SELECT count(tenant_create('acme', template => 'portal'))" > /dev/null
sql "BEGIN; SELECT tenant_context_set('acme'); INSERT INTO entity SELECT g, 'secret word ' || g FROM generate_series(1, 20000) g; COMMIT" > /dev/null
commands ""
backup
is "$state" succeeded "a backup in clear"
is "$(kept "$id")" ".tar " "is a tar"
plain=$id

commands "$recipients$identity"
backup
is "$state" succeeded "an encrypted one"
is "$(kept "$id")" ".tar.age " "and nothing beside it is in clear"
file=$(find "$files/backups" -name "$id.tar.age")
is "$(head -c 21 "$file")" "age-encryption.org/v1" "is in the format of age"
is "$(sql "SELECT sha256 = '$(sha256sum < "$file" | cut -d' ' -f1)' AND size_bytes = $(stat -c %s "$file") FROM tenancy.backup WHERE id = '$id'")" t "its evidence is that of the file"
is "$(age -d -i "$files/identity" "$file" | tar -t | tr '\n' ' ')" "manifest.json schemas.dump " "age and tar open it"
is "$(drill)" "t|" "a drill finds all rows"
sql "SELECT slug FROM tenant_restore('acme', '$id', 'again')" > /dev/null
wait_for 40 "SELECT state FROM tenancy.tenant WHERE slug = 'again'" active
is "$(psql -XAtqc "BEGIN" -c "SELECT tenant_context_set('again')" -c "SELECT count(*), max(body) FROM entity" -c "ROLLBACK" app | tail -n 1)" "20000|secret word 9999" "and it is restored"
for ((i = 0; i < 100; i++)); do [ -n "$(find "$files/backups" -name '*.d')" ] || break; sleep 0.1; done
is "$(find "$files/backups" -name '*.d' -o -name '*.drill' -o -name '*.work' | wc -l)" 0 "what was in clear meanwhile is gone"

commands "$recipients"
like "$(drill)" 'AGE_IDENTITY is not set' "without the secret key there is no drill"
commands "$recipients, \"AGE_IDENTITY\": \"$files/other\""
like "$(drill)" 'f.*age: .*no identity matched' "nor with another"
encrypted=$id
id=$plain
is "$(drill)" "t|" "what was made in clear is still read"
commands ", \"AGE_RECIPIENTS\": \"$files/nobody\""
backup
is "$state" failed "nothing is written where there is nobody to encrypt for"
like "$(sql "SELECT error FROM tenancy.backup WHERE id = '$id'")" 'age: .*recipient' "as its error says"
is "$(kept "$id" | sed 's/\.tar\.age\.part //')" "" "least of all in clear"
is "$(find "$files/backups" -name '*.d' -o -name '*.drill' -o -name '*.work' | wc -l)" 0 "nor does what failed leave anything in clear"
commands "$recipients$identity"
sql "SELECT id FROM backup_remove('$encrypted')" > /dev/null
wait_for 20 "SELECT state FROM tenancy.backup WHERE id = '$encrypted'" expired
is "$(find "$files/backups" -name "$encrypted*" | wc -l)" 0 "an encrypted backup is removed"
done_testing
