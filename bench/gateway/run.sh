#!/usr/bin/env bash
# What proxying a JSON answer of 1 KiB costs on connections that are kept: ours, nginx and HAProxy by turns, in one run; then
# what a proxy adds to the time of an answer at a fixed rate, what 1,000 connections take of memory, what an answer costs
# that is kept, beside nginx's proxy_cache, and how long answers take while configs of 10,000 routes are swapped.
# Needs nginx and haproxy: apt-get install -y --no-install-recommends nginx-light haproxy
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --profile "${PROFILE:-dist}" -p tessera-bench-gateway
bench="target/${PROFILE:-dist}/tessera-bench-gateway"
# Each connection is an open file on both sides.
ulimit -n "$(ulimit -Hn)"
"$bench" compare "$@"
"$bench" compare --rate 2000 --rounds 3 "$@"
"$bench" compare --connections 1000 --rounds 3 "$@"
"$bench" compare --connections 1000 --rate 2000 --rounds 3 "$@"
"$bench" cache
"$bench" reload
