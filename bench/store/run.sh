#!/usr/bin/env bash
# What the store does per second, durably: claims and lines on SQLite, and on PostgreSQL and Redis where their URLs are
# given: POSTGRES=postgres://… REDIS=redis://… cargo xtask bench store
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --profile dist -p tessera-bench-store
bench=target/dist/tessera-bench-store
folder=$(mktemp -d "${TMPDIR:-/tmp}/tessera-bench-XXXXXX")
trap 'rm -rf "$folder"' EXIT
"$bench" "sqlite:$folder/bench.db" "$@"
if [ -n "${POSTGRES:-}" ]; then "$bench" "$POSTGRES" "$@"; fi
if [ -n "${REDIS:-}" ]; then "$bench" "$REDIS" "$@"; fi
