#!/usr/bin/env bash
# Holds, confirmations and the page of an event over HTTP, beside a raw loop on SQLite, a raw statement on a PostgreSQL of
# its own where one is installed, and a bare axum server. Arguments go to the program; `--help` lists them.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
"${CARGO:-cargo}" build --profile dist -p tessera-tessera -p tessera-bench-tickets --bin tessera --bin bench-tickets-holds

peer=()
bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -1)
if [ -n "$bin" ]; then
  folder=$(mktemp -d "${TMPDIR:-/tmp}/tessera-bench-pg-XXXXXX")
  as=()
  # PostgreSQL refuses to run as root.
  if [ "$(id -u)" = 0 ]; then
    chown nobody "$folder"
    as=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
  fi
  port=$((20000 + RANDOM % 20000))
  (cd / && "${as[@]}" "$bin/initdb" --auth=trust --username=tessera --encoding=UTF8 --no-locale -D "$folder/data" >/dev/null)
  # What is not named is PostgreSQL's default; commits are flushed.
  (cd / && exec "${as[@]}" "$bin/postgres" -D "$folder/data" -k "$folder" -h 127.0.0.1 -p "$port" -c shared_buffers=1GB \
    -c max_wal_size=8GB >"$folder/log" 2>&1) &
  server=$!
  trap 'kill -INT $server 2>/dev/null; wait $server 2>/dev/null; rm -rf "$folder"' EXIT
  until "$bin/pg_isready" -q -h 127.0.0.1 -p "$port"; do sleep 0.2; done
  peer=(--postgres "postgres://tessera@127.0.0.1:$port/postgres")
  [ -x "$bin/pgbench" ] && peer+=(--pgbench "$bin/pgbench")
else
  echo "there is no PostgreSQL; it is left out" >&2
fi
"$target/dist/bench-tickets-holds" --tessera "$target/dist/tessera" "${peer[@]}" "$@"
