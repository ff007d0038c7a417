#!/usr/bin/env bash
# RFC 9111: the public suite http-cache-tests against the gateway, with a cache in memory and nothing else configured.
# Needs node (20 or newer) and npm. The suite comes from the package registry, or from a folder: `cache-tests.sh FOLDER [DATE]` (a
# checkout of its repository, which is newer than the package).
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT

# A gateway that is built already is named by GATEWAY.
if [ -z "${GATEWAY:-}" ]; then
  cargo build -p tessera-bench-gateway
  GATEWAY=target/debug/tessera-bench-gateway
fi

if [ $# -gt 0 ]; then
  suite=$work/suite
  mkdir "$suite" && cp -r "$1"/{tests,test-engine,package.json} "$suite"
  name="the repository, ${2:-$(git -C "$1" log -1 --format=%cs)}"
  (cd "$suite" && npm install --silent --no-save --omit=dev undici@7 >/dev/null)
else
  (cd "$work" && npm pack --silent http-cache-tests >/dev/null && tar xzf http-cache-tests-*.tgz && npm install --silent --no-save node-fetch@2 >/dev/null)
  suite=$work/package
  name="the package, $(node -p "require('$suite/package.json').version")"
fi
engine=$suite; [ -d "$suite/test-engine" ] && engine=$suite/test-engine

free_port() { node -e 'const s = require("net").createServer().listen(0, () => { console.log(s.address().port); s.close() })'; }
service_port=$(free_port) gateway_port=$(free_port)
(cd "$suite" && npm_config_protocol=http npm_config_port=$service_port npm_config_pidfile="$work/pid" exec node "$engine/server/server.mjs" >"$work/service.log" 2>&1) &
cat >"$work/gateway.yaml" <<YAML
version: 1
listeners: [{ address: "127.0.0.1:$gateway_port" }]
access_log: { format: "off" }
upstreams: { origin: { endpoints: ["http://127.0.0.1:$service_port"], outliers: { failures: 0 }, idle_timeout: 2s } }
routes: [{ name: all, match: { path: /* }, upstream: origin, cache: {} }]
YAML
"$GATEWAY" gateway "$work/gateway.yaml" >"$work/gateway.log" 2>&1 &
for _ in $(seq 100); do
  node -e "require('http').get('http://127.0.0.1:$gateway_port/', () => process.exit(0)).on('error', () => process.exit(1))" && break
  sleep 0.1
done
(cd "$suite" && npm_config_base="http://127.0.0.1:$gateway_port" npm_package_config_id='' node --no-warnings "$engine/cli.mjs") >"$work/results.json"

node bench/gateway/cache-tests.mjs "$suite" "$work/results.json" --failed | grep : || true
counts=$(node bench/gateway/cache-tests.mjs "$suite" "$work/results.json")
row="| $name |$(echo "$counts" | sed 's/^[a-z]* \([0-9]*\) \([0-9]*\)$/ \1 of \2 |/' | tr -d '\n')"
echo "$row"
# One row for each suite, the newest figures.
report=$root/bench/gateway/cache-tests.md
grep -vF "| $name |" "$report" >"$work/report" || true
echo "$row" >>"$work/report"
cp "$work/report" "$report"
