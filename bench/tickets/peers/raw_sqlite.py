"""Holds in a loop over SQLite: a statement a seat, a hundred seats a transaction, each transaction flushed.

raw_sqlite.py FOLDER SECONDS prints seats a second."""

import os
import sqlite3
import sys
import time

SEATS = 250_000
BATCH = 100

folder, seconds = sys.argv[1], float(sys.argv[2])
db = sqlite3.connect(f"{folder}/raw.db", isolation_level=None)
db.execute("PRAGMA journal_mode = WAL")
db.execute("PRAGMA synchronous = FULL")
db.execute("PRAGMA cache_size = -65536")
db.execute("PRAGMA wal_autocheckpoint = 8192")
db.execute(
    "CREATE TABLE claims (id BLOB PRIMARY KEY, holder BLOB NOT NULL, token BIGINT NOT NULL, "
    "expires_at BIGINT NOT NULL) WITHOUT ROWID"
)
HOLD = (
    "INSERT INTO claims VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET holder = excluded.holder, "
    "token = excluded.token, expires_at = excluded.expires_at WHERE claims.expires_at < excluded.token"
)
event = os.urandom(12)
began = time.monotonic()
held = 0
while time.monotonic() - began < seconds:
    now = time.time_ns() // 1000
    rows = [
        ((event + ((held + n) % SEATS).to_bytes(4, "big")), os.urandom(16), now, now + 600_000_000)
        for n in range(BATCH)
    ]
    db.execute("BEGIN IMMEDIATE")
    db.executemany(HOLD, rows)
    db.execute("COMMIT")
    held += BATCH
print(held / (time.monotonic() - began))
