//! Memory that is free, given back to the system.

/// Gives back what lies between things that are still in use: glibc keeps such memory, for a million documents that were read more than
/// 200 MiB. Takes some milliseconds, in a thread of its own; where that cannot be started, or the allocator is another, nothing is done.
pub(crate) fn give_back() {
    let _ = std::thread::Builder::new().spawn(trim);
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn trim() {
    // SAFETY: the call has no preconditions, and may be made from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn trim() {}
