#!/usr/bin/env bash
# Ten million contended attempts at seats, on a durable PostgreSQL of its own, with processes that are killed meanwhile.
# Arguments go to the program; `--help` lists them. `PROFILE` is the profile to build with, `dist` where not set.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
profile=${PROFILE:-dist}
if [ -z "${NO_BUILD:-}" ]; then
  "${CARGO:-cargo}" build --profile "$profile" -p tessera-tessera -p tessera-bench-tickets \
    --bin tessera --bin bench-tickets-contention
fi
bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin | sort -V | tail -1)
folder=$(mktemp -d "${TMPDIR:-/tmp}/tessera-bench-pg-XXXXXX")
as=()
# PostgreSQL refuses to run as root.
if [ "$(id -u)" = 0 ]; then
  chown nobody "$folder"
  as=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
fi
port=$((20000 + RANDOM % 20000))
(cd / && "${as[@]}" "$bin/initdb" --auth=trust --username=tessera --encoding=UTF8 --no-locale -D "$folder/data" >/dev/null)
(cd / && exec "${as[@]}" "$bin/postgres" -D "$folder/data" -k "$folder" -h 127.0.0.1 -p "$port" -c shared_buffers=512MB \
  -c max_wal_size=4GB >"$folder/log" 2>&1) &
server=$!
trap 'kill -INT $server 2>/dev/null; wait $server 2>/dev/null; rm -rf "$folder"' EXIT
until "$bin/pg_isready" -q -h 127.0.0.1 -p "$port"; do sleep 0.2; done
"$target/$profile/bench-tickets-contention" --tessera "$target/$profile/tessera" \
  --store "postgres://tessera@127.0.0.1:$port/postgres" "$@"
