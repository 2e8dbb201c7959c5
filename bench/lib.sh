# Helpers for benchmarks: two sides in one run, their rounds interleaved, medians, a ratio.
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bench_dir=$top/build/bench
mkdir -p "$bench_dir"
clusters=()

# bench_cluster NAME [options of test/cluster]: sets NAME_env to the environment to reach it.
bench_cluster() {
	local name=$1 environment
	shift
	environment=$("$top/test/cluster" start "$bench_dir/$name" --set shared_buffers=512MB \
		--set autovacuum=off --set max_wal_size=4GB "$@") || exit 1
	clusters+=("$bench_dir/$name")
	printf -v "${name}_env" '%s' "$environment"
}

bench_cleanup() {
	local dir
	for dir in "${clusters[@]}"; do "$top/test/cluster" stop "$dir"; done
}
trap bench_cleanup EXIT
trap 'exit 130' INT TERM

# on NAME COMMAND...: run it against that cluster.
on() {
	local name=$1_env
	shift
	(eval "${!name}"; "$@")
}

median() { sort -g | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

# interleave ROUNDS A B: calls the functions in the order A B B A …; they print one number.
# Leaves the numbers in $bench_dir/A and $bench_dir/B.
interleave() {
	local rounds=$1 a=$2 b=$3 i
	: > "$bench_dir/$a.txt"; : > "$bench_dir/$b.txt"
	for ((i = 0; i < rounds; i++)); do
		if ((i % 2 == 0)); then
			"$a" >> "$bench_dir/$a.txt"; "$b" >> "$bench_dir/$b.txt"
		else
			"$b" >> "$bench_dir/$b.txt"; "$a" >> "$bench_dir/$a.txt"
		fi
	done
}

# The median of the quotients of the pairs: less noisy than the quotient of the medians.
ratio() { paste "$bench_dir/$1.txt" "$bench_dir/$2.txt" | awk '{ print $1 / $2 }' | median; }
