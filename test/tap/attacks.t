#!/bin/bash
# test/run: long
# The catalogue of attacks: what the extension can stop is stopped, what remains is documented.
. "$(dirname "$0")/lib.sh"
catalogue=$top/../shared/vectors/attacks.json
[ -f "$catalogue" ] || skip_all "the catalogue of attacks is not there: $catalogue"
trap 'kill %% 2>/dev/null; exit 130' INT TERM
"$top/test/attacks/run" "$catalogue" | grep -v ' passed, '
exit "${PIPESTATUS[0]}"
