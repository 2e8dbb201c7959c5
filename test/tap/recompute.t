#!/bin/bash
# Random invoices against an independent program in exact fractions.
. "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || skip_all "there is no python3"
count=1000
output=$("$top/test/recompute/run" $count 2>&1)
ok $? "$count random invoices come to the same by an independent program"
sed 's/^/# /' <<< "$output"
like "$output" "^$count documents, [0-9]{5,} values compared, 0 differ" "to the last digit, line by line"

# The comparison tells what differs.
output=$(cd "$top/test/recompute" && PYTHONPATH=$top/test/python PYTHONDONTWRITEBYTECODE=1 python3 -c "
import invoices
comparison = invoices.Comparison()
comparison.same('1.10', invoices.Fraction('1.1'), 'equal')
comparison.same('1.10', invoices.Fraction('1.09'), 'an amount')
print(comparison.compared, comparison.faults)")
is "$output" "an amount: 11/10, recomputed 109/100
2 1" "a difference is counted and shown"
done_testing
