//! Lets every binary that depends on this crate find `pilotfish.ld` by name.

fn main() {
    println!("cargo:rerun-if-changed=pilotfish.ld");
    println!("cargo:rerun-if-changed=build.rs");
    if let Ok(dir) = std::env::var("CARGO_MANIFEST_DIR") {
        println!("cargo:rustc-link-search={dir}");
    }
}
