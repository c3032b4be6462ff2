//! Link arguments of the library.
fn main() {
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libvmware-bdwrapper.so.0");
    // rustc leaves the C library out where another crate of the workspace has brought the standard library.
    println!("cargo:rustc-cdylib-link-arg=-lc");
    // Every symbol must be found at link time: a panic path leaves one that is not (see panic.rs).
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,defs,-z,now,-z,relro");
    println!("cargo:rerun-if-changed=build.rs");
}
