#!/bin/bash
# test/run: long
# Three years of billing, payments and corrections at random, from several seeds: what must always hold.
#   SEEDS="0.7 -0.2" TENANTS=40 test/tap/billing_property.t
. "$(dirname "$0")/lib.sh"
cluster_start --set tenancy.workers=off --set max_locks_per_transaction=256
for seed in ${SEEDS:-0.2 0.77 -0.3}; do
	createdb simulated && sql "CREATE EXTENSION pg_tenancy; CREATE EXTENSION pgtap" simulated >/dev/null || skip_all "there is no pgTAP"
	output=$(PGOPTIONS="-c billing.seed=$seed -c billing.tenants=${TENANTS:-12}" psql -XAtq -v ON_ERROR_STOP=1 -d simulated -f "$top/test/pgtap/billing_property.sql" 2>&1)
	! grep -v '^ok ' <<< "$output" | grep -qv '^1\.\.[1-9]'
	ok $? "seed $seed: $(grep -c '^ok ' <<< "$output") statements hold"
	grep -v '^ok ' <<< "$output" | sed 's/^/# /'
	dropdb -f simulated
done
done_testing
