#!/usr/bin/env bash
# The benchmarks of rides: `locations`, positions in memory and over HTTP, beside Redis where it is installed; `routes`, on the
# packaged extract, beside OSRM where OSRM names a folder with osrm-extract, osrm-contract, osrm-routed and profiles/car.lua
# (PyPI's osrm-bindings holds them); `match`, how long riders wait for an offer, beside the server on an embedded store; `policies`, a city
# in virtual time under each policy of matching; `fleet`, what a continent's drivers send in a day. The first argument names one, without
# it all run; further arguments go to the program.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
case "${1:-}" in
  locations | routes | match | policies | fleet) parts=("$1") && shift ;;
  *) parts=(locations routes match policies fleet) ;;
esac
"${CARGO:-cargo}" build --profile dist -p tessera-bench-rides
"${CARGO:-cargo}" build --profile dist -p tessera-tessera
folder=$(mktemp -d "${TMPDIR:-/tmp}/tessera-bench-XXXXXX")
servers=()
trap 'kill "${servers[@]}" 2>/dev/null; wait; rm -rf "$folder"' EXIT

# Waits until somebody listens on a port.
listens() {
  for _ in $(seq 200); do
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
    sleep 0.05
  done
  echo "nobody listens on port $1" >&2
  return 1
}

locations() {
  local peer=() port
  if command -v redis-server >/dev/null; then
    port=$((20000 + RANDOM % 20000))
    redis-server --port "$port" --bind 127.0.0.1 --save '' --appendonly no --dir "$folder" >/dev/null &
    servers+=($!)
    listens "$port"
    peer=(--redis "127.0.0.1:$port" --redis-pid $!)
  else
    echo "there is no redis-server; it is left out" >&2
  fi
  "$target/dist/bench-rides-locations" --tessera "$target/dist/tessera" "${peer[@]}" "$@"
}

routes() {
  local peer=() port extract=crates/rides/assets/porto.osm.pbf
  if [ -n "${OSRM:-}" ]; then
    cp "$extract" "$folder/city.osm.pbf"
    "$OSRM/osrm-extract" -p "$OSRM/profiles/car.lua" "$folder/city.osm.pbf" >/dev/null
    "$OSRM/osrm-contract" "$folder/city.osrm" >/dev/null
    port=$((20000 + RANDOM % 20000))
    "$OSRM/osrm-routed" -i 127.0.0.1 -p "$port" -t 1 "$folder/city.osrm" >/dev/null &
    servers+=($!)
    listens "$port"
    peer=(--osrm "127.0.0.1:$port" --osrm-pid $!)
  else
    echo "OSRM names no folder with OSRM's programs; it is left out" >&2
  fi
  "$target/dist/bench-rides-routes" --extract "$extract" "${peer[@]}" "$@"
}

match() {
  "$target/dist/bench-rides-match" --tessera "$target/dist/tessera" "$@"
}

policies() {
  "$target/dist/bench-rides-policies" "$@"
}

fleet() {
  "$target/dist/bench-rides-fleet" "$@"
}

for part in "${parts[@]}"; do
  "$part" "$@"
done
