#!/bin/bash
# Published cases of billing, from the documentation and the test suites of other engines.
. "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || skip_all "there is no python3"
trap 'exit 130' INT TERM

files=("$top/test/vectors/billing.json")
shared=$top/../shared/vectors/billing.json
[ ! -r "$shared" ] || files+=("$shared")
last=
while read -r line; do
	case $line in
		"ok "*) ok 0 "${line#ok }" ;;
		"not ok "*) ok 1 "${line#not ok }" ;;
		*" passed, "*" failed") last=$line ;;
		*) echo "# $line" ;;
	esac
done < <("$top/test/vectors/run" billing "${files[@]}" 2>&1)
like "$last" ', 0 failed$' "all of them"
if [ ${#files[@]} -eq 1 ]; then
	tap_count=$((tap_count + 1))
	echo "ok $tap_count - the larger collection # SKIP there is no ../shared/vectors/billing.json"
fi

# A file with a fault says so, and fails.
broken=$(mktemp)
trap 'rm -f "$broken"' EXIT
echo '[{"id": "a", "kind": "rounding", "input": {"amount": "1.005", "currency": "USD"}, "expected": {"amount": "1.00"}},
 {"id": "b", "kind": "no such kind", "input": {}, "expected": {}},
 {"id": "c", "kind": "graduated", "input": {"quantity": "1"}, "expected": {"amount": "1"}}]' > "$broken"
output=$("$top/test/vectors/run" billing "$broken")
is "$?" 1 "a case that fails fails the run"
is "$(tail -n 1 <<< "$output")" "0 passed, 3 failed" "and is counted"
like "$output" 'not ok a \(rounding\): amount: 1\.01, expected 1\.00' "with what was computed and expected"
done_testing
