#!/usr/bin/env bash
# slowhttptest against the gateway: 500 clients that send heads slowly (-H), bodies slowly (-B), read slowly (-X) or ask for
# absurd ranges (-R). Each second it asks once more and says whether that was answered; here, how long slow clients live.
# Needs slowhttptest, Python and ss: apt-get install -y --no-install-recommends slowhttptest python3 iproute2
# TESSERA names a binary that is built already. What it finds is printed; the figures go into bench/gateway/slow.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT

if [ -z "${TESSERA:-}" ]; then
  cargo build --release -p tessera-tessera
  TESSERA=target/release/tessera
fi
# Each slow client is an open file on both sides of the gateway.
ulimit -n "$(ulimit -Hn)"

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
service=$(free_port) door=$(free_port) own=$(free_port)
cat >"$work/service.py" <<'PYTHON'
import asyncio, sys

BODY = b"x" * (256 << 10)

async def serve(reader, writer):
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = [line[15:] for line in head.split("\r\n") if line.startswith("content-length:")]
            await reader.readexactly(int(length[0]) if length else 0)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), backlog=1024)
    await server.serve_forever()

asyncio.run(main())
PYTHON
python3 "$work/service.py" "$service" &
cat >"$work/gateway.yaml" <<YAML
version: 1
listeners: [{ address: "127.0.0.1:$door" }]
access_log: { format: "off" }
limits: { head_timeout: 5s, body_timeout: 5s, write_timeout: 5s }
upstreams: { s: { endpoints: ["http://127.0.0.1:$service"] } }
routes: [{ name: all, match: { path: /* }, upstream: s, timeout: 10s }]
YAML
"$TESSERA" serve gateway --gateway "$work/gateway.yaml" --data "$work/data" --listen "127.0.0.1:$own" >"$work/log" 2>&1 &
url=http://127.0.0.1:$door/
for _ in $(seq 300); do curl -sfo /dev/null "$url" && break; sleep 0.1; done

report=bench/gateway/slow.md
connections=500
# What the clients do, the deadline that ends them, and options.
run() {
  local name=$1 deadline=$2; shift 2
  # What the gateway's side has of them, connections that it closed and the system still keeps among them: a client that was reset
  # may go on reading what it had received.
  while sleep 1; do echo "$SECONDS $(ss -tanH "sport = :$door" | awk '$1 != "LISTEN" && $1 != "TIME-WAIT" { count += 1; bytes += $3 } END { print count + 0, bytes + 0 }')"; done >"$work/kept" &
  local watching=$!
  (cd "$work" && slowhttptest -c $connections -r 250 -l 30 -p 2 -u "$url" -g -o result "$@" >out 2>&1) || true
  sleep 3
  kill "$watching"
  # All were there, or as many as ever, at `there`; the last was seen at `seen`. The test's own request may be one of them.
  gone=$(awk '$2 > most { most = $2; there = $1 } $2 > 1 { seen = $1 } $3 > bytes { bytes = $3 } END { last = $1
    printf "%s | %.0f MB", (seen == last ? "not within 30 s" : sprintf("%d s after the last came", seen + 1 - there)), bytes / 1e6 }' "$work/kept")
  # Each line: second, closed, pending, connected, and 0 where the service was not available.
  answered=$(awk -F, 'NR > 1 { seconds += 1; away += $5 == 0 } END { printf "%d of %d s", seconds - away, seconds }' "$work/result.csv")
  row="| $name | $deadline | $gone | $answered |"
  sed 's/\x1b\[[0-9;]*m//g' "$work/out" | sed -n '/Exit status/p'
  echo "$row"
  grep -vF "| $name |" "$report" >"$work/report" || true
  echo "$row" >>"$work/report"
  cp "$work/report" "$report"
}
run "heads, a line every 2 s" "\`head_timeout\` 5 s" -H -i 2 -x 24
run "heads, a line every 8 s" "\`head_timeout\` 5 s" -H -i 8 -x 24
run "bodies, a little every 2 s" "the route's \`timeout\` 10 s" -B -i 2 -s 8192 -x 24
run "bodies, a little every 8 s" "\`body_timeout\` 5 s" -B -i 8 -s 8192 -x 24
run "readers, 5 bytes a second" "\`write_timeout\` 5 s" -X -w 8 -y 16 -n 1 -z 5 -k 3
run "ranges, 400 in one head" "none is needed" -R -a 1 -b 400
