#!/bin/bash
# The source keeps its rules: floors, the one gate, exports, sizes, versions, every test run.
cd "$(dirname "$0")/../.." || exit 1
count=0
failed=0
check() { # check NAME < FAULTS
	local faults
	faults=$(cat)
	count=$((count + 1))
	if [ -z "$faults" ]; then echo "ok $count - $1"; else
		echo "not ok $count - $1"
		echo "$faults" | head -n 20 | sed 's/^/# /'
		failed=1
	fi
}

floors=$(sed -n 's/^FLOORS = //p' Makefile)
place() { local i=0 f; for f in $floors; do i=$((i + 1)); [ "$f" = "$1" ] && echo $i; done; }
wrong_floors() {
	local file own folder other
	for file in src/*/*.[ch]; do
		own=$(place "$(basename "$(dirname "$file")")")
		# PostgreSQL has headers in folders called as ours: those that we have are ours
		sed -n 's/^#include "\([a-z]*\/[a-z_]*\.h\)".*/\1/p' "$file" | while read -r header; do
			[ -e "src/$header" ] || continue
			folder=${header%%/*}
			other=$(place "$folder")
			[ "${other:-0}" -le "$own" ] || echo "$file includes $header, which is above it"
		done
	done
}
version=$(sed -n "s/^default_version *= *'\(.*\)'/\1/p" pg_tenancy.control)
wrong_versions() {
	[ "$(grep -c "\"version\": \"$version\"" META.json)" -eq 2 ] || echo "META.json has another version than $version"
	[ "$(sed -n 's/^## //p' CHANGELOG.md | head -n 1)" = "$version" ] || echo "CHANGELOG.md begins with another version"
}
setting_names() { sed -n 's/^\t\t\.name = "\(tenancy\..*\)",/\1/p' src/core/settings.c; }
without() { local file; for file in "${@:2}"; do eval "$1" || echo "$file"; done; }

check "a file includes its own floor and those below" < <(wrong_floors)
check "every folder is a floor" < <(ls -d src/*/ | xargs -n 1 basename | grep -vxF "$(tr ' ' '\n' <<< "$floors")")
check "only the gate includes executor/spi.h" < <(grep -l '#include "executor/spi.h"' src/*/*.[ch] | grep -v '^src/catalog/gate.c$')
check "versions differ in core/compat.h alone" < <(grep -n 'PG_VERSION_NUM' src/*.c src/*/*.[ch] | grep -v '^src/core/compat.h')
check "exported symbols" < <(readelf --dyn-syms -W pg_tenancy.so | awk '$6 == "DEFAULT" && $5 != "LOCAL" && $7 != "UND" { print $8 }' | grep -vxE '(pg_finfo_)?tenancy_[a-z0-9_]*|_PG_init|Pg_magic_func')
check "no file is longer than 800 lines" < <(wc -l src/*.c src/*/*.[ch] | awk '$2 != "total" && $1 > 800')
check "nothing is put off" < <(grep -nwE 'TODO|FIXME|XXX' -r src sql test bench doc README.md Makefile | grep -v '^test/lint/')
check "no PL/pgSQL is installed" < <(grep -niE 'language plpgsql' src/*.sql src/*/*.sql)
check "settings are sorted" < <(diff <(setting_names) <(setting_names | LC_ALL=C sort))
check "there are settings to be sorted" < <([ "$(setting_names | wc -l)" -gt 5 ] || echo none)
check "one version everywhere" < <(wrong_versions)
# test/run takes these folders, each by its pattern; a test anywhere else would not run.
check "every test file is where test/run finds it" < <(find sql test -type f \( -name '*.sql' -o -name '*.spec' -o -name '*.t' \) |
	grep -vE '^(sql/[^/]*\.sql|test/pgtap/[^/]*\.sql|test/isolation/specs/[^/]*\.spec|test/(tap|lint)/[^/]*\.t|test/tap/hostile_template\.sql|test/attacks/(roles|fixture)\.sql|test/demo/portal\.sql)$')
check "every regression test has its expected output" < <(without '[ -e "expected/$(basename "${file%.sql}").out" ]' sql/*.sql)
check "every test program can be executed" < <(without '[ -x "$file" ]' test/tap/*.t test/lint/*.t)
check "nothing that is built is kept" < <(git ls-files 2>/dev/null | grep -E '\.(o|so|d)$|^build/')
echo "1..$count"
exit $failed
