//! There is no panic: the release build proves at link time that no path to one exists.

#[cfg(not(debug_assertions))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        /// Defined nowhere: a reference to it that survives optimisation fails the link (`-z
        /// defs`).
        fn vmware_bdwrapper_release_build_can_panic() -> !;
    }
    // SAFETY: never reached; no library in which it could be reached can be linked.
    unsafe { vmware_bdwrapper_release_build_can_panic() }
}

#[cfg(debug_assertions)]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: abort has no preconditions.
    unsafe { libc::abort() }
}
