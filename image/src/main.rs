//! The stub domain image: composition only.
//!
//! What comes before and beside serving, recovery after a panic included, is in [`runtime`]; the
//! loop that serves until the domain is destroyed is [`backend::event_loop`]. It is generic, so it
//! is compiled here, for speed.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(target_os = "none")]
mod stub {
    use backend::event_loop::EventLoop;
    use kernel::{BootInfo, ShutdownReason, Xen};
    use runtime::Running;

    kernel::main!(run);

    fn run(xen: Xen, boot: &'static BootInfo) -> ShutdownReason {
        let Some(Running { xs, stub, busy_poll_ns }) = runtime::begin(&xen, boot) else {
            return ShutdownReason::Crash;
        };
        let mut event_loop = EventLoop::new(&xen, xs, stub, runtime::housekeep, busy_poll_ns);
        let why = event_loop.run();
        let (stub, _xs) = event_loop.into_parts();
        runtime::end(stub, why)
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a Xen domain's kernel: build it with `cargo xtask build`");
}
