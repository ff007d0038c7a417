#!/usr/bin/env bash
# What proxying a JSON answer of 1 KiB costs on connections that are kept: ours, nginx and HAProxy by turns, in one run; then
# what a proxy adds to the time of an answer at a fixed rate, and what 1,000 connections take of memory.
# Needs nginx and haproxy: apt-get install -y --no-install-recommends nginx-light haproxy
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --profile "${PROFILE:-dist}" -p tessera-bench-gateway
bench="target/${PROFILE:-dist}/tessera-bench-gateway"
"$bench" compare "$@"
"$bench" compare --rate 2000 --rounds 3 "$@"
"$bench" compare --connections 1000 --rounds 3 "$@"
