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
    use core::mem::ManuallyDrop;
    use kernel::{BootInfo, ShutdownReason, Xen};
    use runtime::Running;

    kernel::main!(run);

    fn run(xen: Xen, boot: &'static BootInfo) -> ShutdownReason {
        let Some(Running { xs, stub, busy_poll_ns }) = runtime::begin(&xen, boot) else {
            return ShutdownReason::Crash;
        };
        let event_loop = EventLoop::new(&xen, xs, stub, runtime::housekeep, busy_poll_ns);
        // The domain ends with it: there is nothing to be freed.
        let mut event_loop = ManuallyDrop::new(event_loop);
        let why = event_loop.run();
        runtime::end(event_loop.stub(), why)
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a Xen domain's kernel: build it with `cargo xtask build`");
}
