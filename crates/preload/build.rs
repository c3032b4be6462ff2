//! Link arguments of the library.
fn main() {
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libvmware-bdwrapper.so.0");
    // Every symbol must be found at link time: a panic path leaves one that is not (see panic.rs).
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,defs,-z,now,-z,relro");
    println!("cargo:rerun-if-changed=build.rs");
}
