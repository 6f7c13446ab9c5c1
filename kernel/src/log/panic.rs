//! The end of an incarnation that met a bug: tell why; start again in place if that is allowed, or else
//! run the emergency hook and end as crashed.

#[cfg(target_os = "none")]
pub(crate) use real::die;
#[cfg(target_os = "none")]
pub use real::on_panic;

#[cfg(target_os = "none")]
mod real {
    use super::super::console;
    use crate::arch;
    use crate::mem::uni_cell::UniCell;
    use crate::restart::{self, Refused};
    use crate::xen::hypercalls;
    use alloc::boxed::Box;
    use core::fmt;
    use core::panic::PanicInfo;
    use core::sync::atomic::{AtomicBool, Ordering};
    use xen_pv_sys::sched::SHUTDOWN_CRASH;

    type Hook = Box<dyn FnOnce()>;

    static HOOK: UniCell<Option<Hook>> = UniCell::new(None);
    /// The reason has been told, or telling it failed.
    static TOLD: AtomicBool = AtomicBool::new(false);
    /// The hook has been started.
    static HOOKED: AtomicBool = AtomicBool::new(false);

    /// Registers what must be done before the domain ends after a bug: disable the ioreq
    /// server, answer its slots, wait until Xen has taken them. Replaces an earlier hook.
    ///
    /// The hook runs at most once, perhaps on the small emergency stack (16 KiB), with
    /// arbitrary state borrowed: use `try_borrow`, and do not allocate. If it panics, the
    /// domain ends at once.
    pub fn on_panic(hook: impl FnOnce() + 'static) {
        let hook: Hook = Box::new(hook);
        // Dropped outside: an old hook's destructor may do anything.
        let old = HOOK.with(|slot| slot.replace(hook));
        drop(old);
    }

    /// Ends this incarnation, and perhaps the domain as crashed, with `why` on the console. Entered
    /// again (a bug on the way), it goes on with the next stage.
    pub(crate) fn die(why: fmt::Arguments<'_>) -> ! {
        if TOLD.swap(true, Ordering::Relaxed) {
            console::print(format_args!("\nANOTHER BUG WHILE ENDING: {why}\n"));
        } else {
            console::print(format_args!("\nPANIC: {why}\n"));
        }
        match restart::prepare(why) {
            Ok(restart) => {
                console::print(format_args!("RESTART {} in place\n", restart.number()));
                restart.run()
            }
            Err(Refused::TooMany { limit }) => {
                console::print(format_args!("no restart: there were {limit} in the last minutes\n"));
            }
            Err(Refused::NotAllowed) => {}
        }
        if !HOOKED.swap(true, Ordering::Relaxed)
            && let Some(hook) = HOOK.with(Option::take).flatten()
        {
            hook();
            console::print(format_args!("emergency hook done\n"));
        }
        hypercalls::sched_shutdown(SHUTDOWN_CRASH);
        arch::halt()
    }

    /// As [`die`], for `arch`, which reports exceptions.
    #[unsafe(no_mangle)]
    extern "Rust" fn pilotfish_die(why: fmt::Arguments<'_>) -> ! {
        die(why)
    }

    #[panic_handler]
    fn panic(info: &PanicInfo<'_>) -> ! {
        die(format_args!("{info}"))
    }
}

/// On a host a panic unwinds into the test harness: there is nothing to register.
#[cfg(not(target_os = "none"))]
pub fn on_panic(hook: impl FnOnce() + 'static) {
    drop(hook);
}
