//! Memory that one batch gives back and the next one takes again.
//!
//! A batch fills some 40 MB, from the forward to the backward pass. glibc hands blocks of that
//! size back to the operating system at once, and gets them again page by page, zeroed: a third of
//! the training time, measured. Told to keep a few of them (a cross-fit trains three networks side by
//! side), it does not.

/// Keeps up to 128 MB of freed memory in the process. Does something the first time it is called,
/// and only where the allocator is glibc's.
pub(super) fn keep_between_batches() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use std::{ffi::c_int, sync::Once};

        unsafe extern "C" {
            fn mallopt(parameter: c_int, value: c_int) -> c_int;
        }
        /// Free memory at the end of a heap beyond this goes back (`malloc.h`).
        const TRIM_THRESHOLD: c_int = -1;
        /// Blocks beyond this never come from a heap (`malloc.h`); 32 MB is the most that it takes.
        const MMAP_THRESHOLD: c_int = -3;

        static TOLD: Once = Once::new();
        TOLD.call_once(|| {
            // SAFETY: the two parameters exist in every glibc, any thread may set them at any
            // time, and a value that is refused changes nothing.
            unsafe {
                mallopt(TRIM_THRESHOLD, 128 << 20);
                mallopt(MMAP_THRESHOLD, 32 << 20);
            }
        });
    }
}
