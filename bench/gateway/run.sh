#!/usr/bin/env bash
# What proxying a JSON answer of 1 KiB costs on connections that are kept: ours, nginx and HAProxy by turns, in one run.
# Needs nginx and haproxy: apt-get install -y --no-install-recommends nginx-light haproxy
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --profile "${PROFILE:-dist}" -p tessera-bench-gateway
"target/${PROFILE:-dist}/tessera-bench-gateway" compare "$@"
