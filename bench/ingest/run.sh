#!/usr/bin/env bash
# Builds what is measured with the profile of the images, prepares dlt where Python is there, and runs the benchmark.
# Arguments go to it; `--help` lists them.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
"${CARGO:-cargo}" build --profile dist -p tessera-tessera -p tessera-bench-ingest

peers=()
venv=$target/bench-venv
wanted=bench/ingest/peers/requirements.txt
if command -v python3 >/dev/null; then
  if cmp -s "$wanted" "$venv/installed.txt" ||
    { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$wanted" &&
      cp "$wanted" "$venv/installed.txt"; }; then
    peers=(--python "$venv/bin/python")
  else
    echo "dlt cannot be installed (see above); it is left out" >&2
  fi
else
  echo "there is no python3; dlt is left out" >&2
fi
exec "$target/dist/bench-ingest" --scratch "$target/bench-ingest" --results bench/ingest "${peers[@]}" "$@"
