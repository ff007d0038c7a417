//! Pulls any REST API into a lake: fast, resumable, exactly once, watched.
