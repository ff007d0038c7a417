#!/usr/bin/env bash
# The benchmarks of reading and waiting: `search` over a million events, beside PostgreSQL on a server of its own where one is
# installed; `queue`, a waiting room in a rush; `watch`, a seat map with thousands of watchers. The first argument names one,
# without it all run; further arguments go to the program, whose `--help` lists them. `run.sh holds …`
# measures holds, confirmations and the page of an event instead.
set -euo pipefail
if [ "${1:-}" = holds ]; then
  shift
  exec "$(dirname "$0")/holds.sh" "$@"
fi
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
case "${1:-}" in
  search | queue | watch) parts=("$1") && shift ;;
  *) parts=(search queue watch) ;;
esac
"${CARGO:-cargo}" build --profile dist -p tessera-bench-tickets
[ "${parts[*]}" = search ] || "${CARGO:-cargo}" build --profile dist -p tessera-tessera

search() {
  local peer=() as=() bin folder port
  bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -1)
  if [ -n "$bin" ]; then
    folder=$(mktemp -d "${TMPDIR:-/tmp}/tessera-bench-pg-XXXXXX")
    # PostgreSQL refuses to run as root.
    if [ "$(id -u)" = 0 ]; then
      chown nobody "$folder"
      as=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
    fi
    port=$((20000 + RANDOM % 20000))
    (cd / && "${as[@]}" "$bin/initdb" --auth=trust --username=tessera --encoding=UTF8 --no-locale -D "$folder/data" >/dev/null)
    (cd / && exec "${as[@]}" "$bin/postgres" -D "$folder/data" -k "$folder" -h 127.0.0.1 -p "$port" -c shared_buffers=2GB \
      -c effective_cache_size=6GB -c work_mem=64MB -c maintenance_work_mem=1GB -c random_page_cost=1.1 -c jit=off \
      -c max_wal_size=8GB -c synchronous_commit=off >"$folder/log" 2>&1) &
    server=$!
    trap 'kill -INT $server 2>/dev/null; wait $server 2>/dev/null; rm -rf "'"$folder"'"' EXIT
    until "$bin/pg_isready" -q -h 127.0.0.1 -p "$port"; do sleep 0.2; done
    peer=(--postgres "postgres://tessera@127.0.0.1:$port/postgres")
  else
    echo "there is no PostgreSQL; it is left out" >&2
  fi
  "$target/dist/bench-tickets-search" --index "$target/bench-tickets-search" "${peer[@]}" "$@"
}

queue() {
  "$target/dist/bench-tickets-queue" --tessera "$target/dist/tessera" "$@"
}

watch() {
  # Each watcher is an open file on both sides.
  ulimit -n "$(ulimit -Hn)"
  "$target/dist/bench-tickets-watch" --tessera "$target/dist/tessera" "$@"
}

for part in "${parts[@]}"; do
  "$part" "$@"
done
