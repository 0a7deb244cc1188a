//! An agent that costs nothing gives back what a large result took.

/// Lets the C library give large blocks back as soon as they are free.
///
/// glibc raises the size from which it does so to that of the largest block that was ever freed
/// (mallopt(3), `M_MMAP_THRESHOLD`): after one large result the client kept 13 to 25 MB for good. To set
/// it, to its own default of 128 KiB, ends that. Other C libraries do not do this.
#[allow(unsafe_code, reason = "the standard library has no say in how malloc works")]
pub fn give_back_promptly() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: a call with plain numbers, which sets one of malloc's own parameters.
    unsafe {
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, 128 << 10);
    }
}
