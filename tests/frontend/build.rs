//! Links the image with the memory map that `kernel` provides.

fn main() {
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        println!("cargo:rustc-link-arg-bins=-Tpilotfish.ld");
    }
    println!("cargo:rerun-if-changed=build.rs");
}
