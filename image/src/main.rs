//! The stub domain image: composition only.
//!
//! What happens before serving and beside it, a new life after a panic included, is in
//! [`life`]; `serve.rs` is the loop that serves until the domain is destroyed.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod serve;

#[cfg(target_os = "none")]
mod stub {
    use crate::serve;
    use kernel::{BootInfo, ShutdownReason, Xen};

    kernel::main!(run);

    fn run(xen: Xen, boot: &'static BootInfo) -> ShutdownReason {
        match life::begin(&xen, boot) {
            Some(begun) => serve::run(&xen, boot, begun),
            None => ShutdownReason::Crash,
        }
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a Xen domain's kernel: build it with `cargo xtask build`");
}
