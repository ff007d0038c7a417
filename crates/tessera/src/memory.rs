//! The allocator's settings: memory that is free goes back to the system.
//!
//! glibc keeps an arena a thread and raises its own thresholds when large blocks come and go, as pages of an API do. A
//! run of a million rows then held 190 MB, of which 70 MB were in use. Two arenas and fixed thresholds keep it at those
//! 70 MB and cost about 0.3 µs of CPU a row (docs/adr/0006). Other libraries' allocators are left as they are.

/// Sets the allocator up. Called once, before other threads exist.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "mallopt only sets numbers inside glibc; no memory of ours is touched")]
pub fn settle() {
    const TRIM_BYTES: i32 = 2 << 20;
    const ARENAS: i32 = 2;
    // SAFETY: no other thread runs yet, and the parameters are glibc's own.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
        libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_BYTES);
    }
}

/// Nothing to set.
#[cfg(not(target_env = "gnu"))]
pub fn settle() {}
