//! Link arguments of the library.
fn main() {
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libvmware-bdwrapper.so.0");
    // rustc leaves the C library out where another crate of the workspace has brought the standard library.
    println!("cargo:rustc-cdylib-link-arg=-lc");
    // Every symbol must be found at link time: a panic path leaves one that is not (see panic.rs).
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,defs,-z,now,-z,relro");
    // Without this mark to preload the library would switch off a program's shadow stack. IBT would need every function to
    // begin with ENDBR, which the compiler does not write yet.
    if std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("x86_64") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,shstk");
    }
    println!("cargo:rerun-if-changed=build.rs");
}
