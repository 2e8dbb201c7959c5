#!/bin/bash
# The ledger from outside: COPY, and dumps that come back only as they were.
. "$(dirname "$0")/lib.sh"
cluster_start --set tenancy.workers=off

sql "SELECT slug FROM tenant_create('acme', isolation => 'pool')" >/dev/null
# as many transactions as the dump shows to be one COPY, and more than one block
psql -Xq -v ON_ERROR_STOP=1 <<'SQL'
INSERT INTO tenancy.ledger_transaction SELECT lpad(n::text, 32, '0')::uuid, 'acme'::regtenant, 'default', 'invoice', lpad(n::text, 32, '0')::uuid, '', 'USD', '2026-01-01', now(), ''
  FROM generate_series(1, 1001) n;
INSERT INTO tenancy.ledger_entry SELECT lpad(n::text, 32, '0')::uuid, p, 'acme'::regtenant, (ARRAY['receivable', 'revenue', 'tax_payable'])[p], 'USD', (ARRAY[n * 1.19, -n, -n * 0.19])[p]
  FROM generate_series(1, 1000) n, generate_series(1, 3) p;
SQL
is "$(sql "SELECT balance FROM tenancy.trial_balance WHERE account = 'receivable'")" "595595.00" "a thousand documents: 1.19 × 1000 × 1001 / 2"

copy() { # copy SQL-SETTING ROWS: as psql's COPY FROM STDIN
	printf "%s;\nCOPY tenancy.ledger_entry FROM STDIN;\n$2\\.\n" "$1" | psql -XAtq -v VERBOSITY=verbose 2>&1
}
tenant=$(sql "SELECT 'acme'::regtenant::uuid")
last=00000000-0000-0000-0000-000000001001
like "$(copy "SELECT" "$last\t1\t$tenant\treceivable\tUSD\t5\n")" 23514 "COPY of one half"
like "$(copy "SET session_replication_role = replica" "$last\t1\t$tenant\treceivable\tUSD\t5\n")" 23514 "and as a replica"
is "$(copy "SELECT" "$last\t1\t$tenant\treceivable\tUSD\t5\n$last\t2\t$tenant\trevenue\tUSD\t-5\n")" "" "COPY of a whole transaction"

pg_dump -Fc -f "$PGHOST/app.dump" app
createdb restored
pg_restore --exit-on-error -d restored "$PGHOST/app.dump" 2> "$PGHOST/errors"
ok $? "pg_restore"
sed 's/^/# /' "$PGHOST/errors"
is "$(sql "SELECT count(*), md5(string_agg(e::text, ',' ORDER BY e)) FROM tenancy.ledger_entry e" restored)" \
	"$(sql "SELECT count(*), md5(string_agg(e::text, ',' ORDER BY e)) FROM tenancy.ledger_entry e")" "brings every entry"
like "$(sql "DELETE FROM tenancy.ledger_entry" restored)" 55000 "which stay as they were"

# a dump that somebody has changed
pg_dump -f "$PGHOST/app.sql" app
is "$(sed -i "s/^\(00000000-0000-0000-0000-000000000007\t1\t.*\t\)8.33$/\18.34/w $PGHOST/changed" "$PGHOST/app.sql"; wc -l < "$PGHOST/changed")" 1 "an entry is changed in a dump"
createdb forged
like "$(psql -Xq -v ON_ERROR_STOP=1 -d forged -f "$PGHOST/app.sql" 2>&1)" 'ledger transaction "00000000-0000-0000-0000-000000000007" is not balanced' "which is then not restored"
done_testing
