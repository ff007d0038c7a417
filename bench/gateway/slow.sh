#!/usr/bin/env bash
# slowhttptest against the gateway: 500 clients that send heads slowly (-H), bodies slowly (-B), read slowly (-X) or ask for
# absurd ranges (-R). Each second it asks once more and says whether that was answered; here, how long slow clients live.
# Needs slowhttptest and Python: apt-get install -y --no-install-recommends slowhttptest python3
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
  (cd "$work" && slowhttptest -c $connections -r 250 -l 90 -p 2 -u "$url" -g -o result "$@" >out 2>&1) || true
  # Each line: second, closed, pending, connected, and 0 where the service was not available. All were there at `there`, and the
  # last was seen at `seen`.
  row=$(awk -F, -v name="$name" -v deadline="$deadline" -v all=$connections '
    NR > 1 { seconds += 1; away += $5 == 0; if ($4 > 0) seen = $1; if (!there && $2 + $4 >= all) there = $1 }
    END { printf "| %s | %s | %s | %d of %d s |", name, deadline, (seconds > 90 ? "not within 90 s" : sprintf("%d s after the last came", seen + 1 - there)), seconds - away, seconds }' \
    "$work/result.csv")
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
