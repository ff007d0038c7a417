//! The allocator's settings: memory that is free goes back to the system.
//!
//! glibc keeps an arena a thread and raises its own thresholds when large blocks come and go, as pages of an API do: a
//! run of a million rows held 190 MB, one of four million 375 MB. One arena and fixed thresholds keep a million at 95 MB
//! and ten million at 110 (docs/adr/0006). Threads that answer requests would wait for each other with one arena: they have
//! theirs. Other libraries' allocators are left as they are.

/// Who shares the allocator's arenas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arenas {
    /// All threads have one: for runs that hold pages of an API.
    One,
    /// Threads that answer requests have their own.
    Many,
}

/// Sets the allocator up. Called once, before other threads exist.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "mallopt only sets numbers inside glibc; no memory of ours is touched")]
pub fn settle(arenas: Arenas) {
    const TRIM_BYTES: i32 = 32 << 20;
    const MMAP_BYTES: i32 = 1 << 20;
    // SAFETY: no other thread runs yet, and the parameters are glibc's own.
    unsafe {
        if arenas == Arenas::One {
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
        libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_BYTES);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_BYTES);
    }
}

/// Nothing to set.
#[cfg(not(target_env = "gnu"))]
pub fn settle(_arenas: Arenas) {}
