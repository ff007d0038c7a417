#!/usr/bin/env bash
# h2spec against the gateway, over TLS and over plain TCP, with its strict cases, too.
# H2SPEC names the program (2.6 or newer, `go build ./cmd/h2spec` of its repository; no package has it), TESSERA a binary that is
# built already. Needs openssl. What it finds is printed; the figures go into bench/gateway/h2spec.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${H2SPEC:?it names the program h2spec: H2SPEC=/path/to/h2spec $0}"
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT

if [ -z "${TESSERA:-}" ]; then
  cargo build --release -p tessera-tessera
  TESSERA=target/release/tessera
fi
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
  -keyout "$work/key.pem" -out "$work/chain.pem" 2>"$work/openssl.log"
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
service=$(free_port) plain=$(free_port) tls=$(free_port) own=$(free_port)
# A service that takes bodies, so that requests are really forwarded.
cat >"$work/service.py" <<'PYTHON'
import http.server, sys

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer()

    def do_POST(self):
        if "chunked" in self.headers.get("transfer-encoding", ""):
            while size := int(self.rfile.readline(), 16):
                self.rfile.read(size + 2)
            self.rfile.readline()
        else:
            self.rfile.read(int(self.headers.get("content-length", 0)))
        self.answer()

    do_HEAD = do_GET

    def answer(self):
        body = b"hello from the service\n" * 16
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
PYTHON
python3 "$work/service.py" "$service" 2>/dev/null &
cat >"$work/gateway.yaml" <<YAML
version: 1
listeners:
  - address: 127.0.0.1:$plain
  - address: 127.0.0.1:$tls
    tls: { certificates: [{ chain: chain.pem, key: key.pem }] }
access_log: { format: "off" }
upstreams: { s: { endpoints: ["http://127.0.0.1:$service"] } }
routes: [{ name: all, match: { path: /* }, upstream: s }]
YAML
"$TESSERA" serve gateway --gateway "$work/gateway.yaml" --data "$work/data" --listen "127.0.0.1:$own" >"$work/log" 2>&1 &
for _ in $(seq 300); do curl -sfko /dev/null "https://localhost:$tls/" && break; sleep 0.1; done

report=bench/gateway/h2spec.md
run() {
  local name=$1; shift
  "$H2SPEC" -h localhost "$@" >"$work/out" 2>&1 || true
  # Of the failures, the sections and the cases.
  sed -n '/^Failures/,$p' "$work/out"
  row="| $name | $(sed -n 's/^\([0-9]*\) tests, \([0-9]*\) passed, \([0-9]*\) skipped, \([0-9]*\) failed$/\2 of \1 | \3 | \4/p' "$work/out") |"
  echo "$row"
  grep -vF "| $name |" "$report" >"$work/report" || true
  echo "$row" >>"$work/report"
  cp "$work/report" "$report"
}
run "TLS" -t -k -p "$tls"
run "TLS, strict" -t -k -p "$tls" --strict
run "plain TCP" -p "$plain"
