#!/bin/bash
# test/run: long
# Invoices written by billing runs against an independent program, from what went in alone.
. "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || skip_all "there is no python3"
count=600
output=$("$top/test/recompute/run" --runs $count 2>&1)
ok $? "$count invoices of billing runs come to the same by an independent program"
sed 's/^/# /' <<< "$output"
like "$output" "[0-9]{3,} invoices \(.*draft.*open.*uncollectible.*void\) with lines of advance credit late minimum one_off recurring usage, [1-9][0-9]* trials, [1-9][0-9]* add-ons, [1-9][0-9]* pauses of the service, [0-9]{5,} values compared, 0 differ" "line by line, of every kind and state"
done_testing
