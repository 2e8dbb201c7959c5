#!/bin/bash
# test/run: long
# The same catalogue of attacks through PgBouncer in transaction mode with one connection.
. "$(dirname "$0")/lib.sh"
catalogue=$top/../shared/vectors/attacks.json
[ -f "$catalogue" ] || skip_all "the catalogue of attacks is not there: $catalogue"
[ -x /usr/sbin/pgbouncer ] || command -v pgbouncer >/dev/null || skip_all "there is no pgbouncer"
trap 'kill %% 2>/dev/null; exit 130' INT TERM
"$top/test/attacks/run" --through pgbouncer "$catalogue" | grep -v ' passed, '
exit "${PIPESTATUS[0]}"
