#!/usr/bin/env bash
# sslyze against the gateway's TLS profiles: each is compared with Mozilla's configuration of the same name, and everything else
# that sslyze knows of is tried (old versions, Heartbleed, ROBOT, renegotiation, compression, early data, resumption).
# Needs Python 3.10 or newer and openssl; sslyze comes from PyPI into target/tls-venv. TESSERA names a binary that is built already.
# What it finds is printed; the figures go into bench/gateway/tls.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
release=6.3.1
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT

if [ -z "${TESSERA:-}" ]; then
  cargo build --release -p tessera-tessera
  TESSERA=target/release/tessera
fi
scanner=$PWD/target/tls-venv
if ! "$scanner/bin/python" -m sslyze --help 2>/dev/null | grep -qF "version $release"; then
  rm -rf "$scanner" && python3 -m venv "$scanner"
  "$scanner/bin/python" -m pip install --quiet --disable-pip-version-check "sslyze==$release"
fi

# An authority of our own that sslyze is told of, and certificates as a public one would issue them.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj "/CN=ca" -addext keyUsage=critical,keyCertSign,cRLSign \
  -keyout "$work/ca.key" -out "$work/ca.pem" 2>"$work/openssl.log"
issue() {
  local name=$1; shift
  openssl req -new -newkey "$@" -nodes -subj /CN=localhost -keyout "$work/$name.key" -out "$work/$name.csr" 2>"$work/openssl.log"
  printf 'subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=serverAuth\n' >"$work/extensions"
  openssl x509 -req -in "$work/$name.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial -days 30 -extfile "$work/extensions" -out "$work/$name.pem" 2>"$work/openssl.log"
}
issue ecdsa ec -pkeyopt ec_paramgen_curve:prime256v1
issue rsa rsa:2048

# What sslyze found, as a row: versions taken, cipher suites of TLS 1.2, Mozilla's check, and what else can be attacked.
cat >"$work/row.py" <<'PYTHON'
import json, sys

found = json.load(open(sys.argv[1]))["server_scan_results"][0]["scan_result"]
result = {name: scan["result"] for name, scan in found.items() if scan["status"] == "COMPLETED"}
not_run = sorted(name for name, scan in found.items() if scan["status"] == "ERROR")
versions = ["ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2", "tls_1_3"]
suites = {version: [suite["cipher_suite"]["name"] for suite in result[f"{version}_cipher_suites"]["accepted_cipher_suites"]] for version in versions}
taken = [version[:3].upper() + " " + version[4:].replace("_", ".") for version in versions if suites[version]]
weak = {
    "compression": result["tls_compression"]["supports_compression"],
    "CCS injection": result["openssl_ccs_injection"]["is_vulnerable_to_ccs_injection"],
    "Heartbleed": result["heartbleed"]["is_vulnerable_to_heartbleed"],
    "ROBOT": not result["robot"]["robot_result"].startswith("NOT_VULNERABLE"),
    "renegotiation": result["session_renegotiation"]["is_vulnerable_to_client_renegotiation_dos"],
    "early data": result["tls_1_3_early_data"]["supports_early_data"],
}
weak = [name for name, is_weak in weak.items() if is_weak] + [f"{name} was not tried" for name in not_run]
text = open(sys.argv[2]).read()
faults = [line.strip(" *") for line in text[text.index("COMPLIANCE"):].splitlines() if line.startswith("        *")]
verdict = "compliant" if "OK - Compliant" in text else "; ".join(faults)
print(f" {', '.join(taken)} | {len(suites['tls_1_2'])} | {verdict} | {', '.join(weak) or 'nothing'} |")
PYTHON

report=bench/gateway/tls.md
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
for subject in intermediate:ecdsa intermediate:rsa modern:ecdsa; do
  profile=${subject%:*} certificate=${subject#*:}
  port=$(free_port) own=$(free_port)
  cat >"$work/gateway.yaml" <<YAML
version: 1
listeners:
  - address: 127.0.0.1:$port
    tls: { profile: $profile, certificates: [{ chain: $certificate.pem, key: $certificate.key }] }
access_log: { format: "off" }
routes: [{ name: all, match: { path: /* }, respond: { body: hello } }]
YAML
  "$TESSERA" serve gateway --gateway "$work/gateway.yaml" --data "$work/data" --listen "127.0.0.1:$own" >"$work/log" 2>&1 &
  gateway=$!
  for _ in $(seq 300); do curl -sfo /dev/null --cacert "$work/ca.pem" "https://localhost:$port/" && break; sleep 0.1; done
  "$scanner/bin/python" -W ignore -m sslyze --mozilla_config "$profile" --early_data --certinfo_ca_file "$work/ca.pem" \
    --json_out "$work/result.json" "localhost:$port" >"$work/out" || true
  kill "$gateway"
  wait "$gateway" || true
  # One row for each, the newest figures.
  row="| $profile | $certificate |$("$scanner/bin/python" "$work/row.py" "$work/result.json" "$work/out")"
  echo "$row"
  grep -vF "| $profile | $certificate |" "$report" >"$work/report" || true
  echo "$row" >>"$work/report"
  cp "$work/report" "$report"
done
