#!/usr/bin/env bash
# pretix, from PyPI, on a database of its own in a PostgreSQL that runs: carts and orders of one ticket through its API.
# pretix.sh HOST PORT USER FOLDER    the folder keeps its packages; the first run takes some minutes
set -euo pipefail
host=$1 port=$2 user=$3 folder=$4
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$folder"
[ -x "$folder/venv/bin/gunicorn" ] || {
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install --quiet pretix gunicorn psycopg2-binary
}
database=pretix_$RANDOM
psql --quiet --host "$host" --port "$port" --username "$user" postgres --command "CREATE DATABASE $database"
data=$(mktemp -d)
listen=127.0.0.1:$((20000 + RANDOM % 20000))
cat >"$data/pretix.cfg" <<CONFIG
[pretix]
instance_name=Bench
url=http://$listen
datadir=$data
[database]
backend=postgresql
name=$database
user=$user
host=$host
port=$port
[django]
debug=off
secret=$(head -c 32 /dev/urandom | base64)
CONFIG
export PRETIX_CONFIG_FILE=$data/pretix.cfg DJANGO_SETTINGS_MODULE=pretix.settings
"$folder/venv/bin/python" -m pretix migrate >"$data/migrate.log" 2>&1
shop=$("$folder/venv/bin/python" -m pretix shell --command "exec(open('$here/pretix_shop.py').read())" | grep ^SHOP)
read -r _ token item <<<"$shop"
"$folder/venv/bin/gunicorn" pretix.wsgi --workers 2 --bind "$listen" >"$data/gunicorn.log" 2>&1 &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null; rm -rf "$data"' EXIT
until curl --silent --output /dev/null "http://$listen/api/v1/version"; do sleep 0.5; done
python3 "$here/pretix_load.py" "http://$listen" "$token" "$item" 5
