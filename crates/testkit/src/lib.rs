//! Servers for tests: PostgreSQL, S3; a real clock or a virtual one; a scratch folder.
