#!/usr/bin/env bash
# The OpenAPI fuzzer schemathesis against the `/openapi.json` that the gateway merges, through the gateway, in front of
# tickets, rides, accounts and ingest with the data of `up --demo`: `fuzz.sh [EXAMPLES]`, so many for each call (20).
# Needs Python 3.10 or newer; schemathesis comes from PyPI into target/fuzz-venv. TESSERA names a binary that is built already.
# What it finds is printed; the figures go into bench/gateway/fuzz.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
examples=${1:-20}
release=4.32.5
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT

if [ -z "${TESSERA:-}" ]; then
  cargo build -p tessera-tessera
  TESSERA=target/debug/tessera
fi
fuzzer=$PWD/target/fuzz-venv
if ! "$fuzzer/bin/schemathesis" --version 2>/dev/null | grep -qF "$release"; then
  rm -rf "$fuzzer" && python3 -m venv "$fuzzer"
  "$fuzzer/bin/python" -m pip install --quiet --disable-pip-version-check "schemathesis==$release"
fi

free_port() { "$fuzzer/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
door=$(free_port) direct=$(free_port) demo=$(free_port)
cat >"$work/gateway.yaml" <<YAML
version: 1
listeners: [{ address: "127.0.0.1:$door" }]
access_log: { format: "off" }
documents: { title: Tessera, every: 1s }
upstreams: { products: { endpoints: ["http://127.0.0.1:$direct"], openapi: /openapi.json, outliers: { failures: 0 } } }
routes:
  - { name: document, match: { path: /openapi.json }, docs: document }
  - { name: all, match: { path: /* }, upstream: products }
YAML
TESSERA__DEMO__ADDRESS=127.0.0.1:$demo \
  "$TESSERA" up --demo --data "$work/data" --listen "127.0.0.1:$direct" --gateway "$work/gateway.yaml" >"$work/log" 2>&1 &
base=http://127.0.0.1:$door
for _ in $(seq 600); do
  curl -sf "$base/openapi.json" | grep -qF '"/booking/reserve"' && break
  sleep 0.1
done
token=$("$TESSERA" token --data "$work/data" --subject fuzzer --role fan,organiser,door,rider,driver,operator,admin)

# Streams do not end, so there is nothing of them to compare. The fuzzer leaves a folder where it runs.
run() {
  (cd "$work" && "$fuzzer/bin/schemathesis" run "$base/openapi.json" --header "Authorization: Bearer $token" \
    --exclude-path-regex '/stream$' --max-examples "$examples" --seed 1 --request-timeout 20 --continue-on-failure --no-color --no-shrink \
    --suppress-health-check all --generation-database none --warnings off --report json --report-json-path "$work/$1.json" \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance \
    --phases "$2" >"$work/$1.out" 2>&1) || true
  sed -n '/FAILURES/,/SUMMARY/p' "$work/$1.out"
  sed -n '/SUMMARY/,$p' "$work/$1.out"
}
run coverage examples,coverage
run fuzzing fuzzing
grep -c '"level":"ERROR"' "$work/log" | sed 's/^/lines of errors in the log: /' || true
grep '"level":"ERROR"' "$work/log" | head -20 || true

# One row for each part, the newest figures.
report=bench/gateway/fuzz.md
for part in coverage fuzzing; do
  cases=$(grep -oE '[0-9]+ generated' "$work/$part.out" | cut -d' ' -f1)
  count() { sed -n '/SUMMARY/,$p' "$work/$part.out" | sed -nE "s/.* ($1)[^:]*: ([0-9]+).*/\\2/p" | awk '{ all += $1 } END { print all + 0 }'; }
  row="| $part | ${cases:-0} | $(count 'Server error') | $(count 'Response violates schema') | $(count 'Undocumented') |"
  echo "$row"
  grep -vF "| $part |" "$report" >"$work/report" || true
  echo "$row" >>"$work/report"
  cp "$work/report" "$report"
done
