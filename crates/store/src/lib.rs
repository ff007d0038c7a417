//! Engines without product words: sql (SQLite or PostgreSQL) and objects (disk or S3).
