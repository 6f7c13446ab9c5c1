//! `public/sched.h`: yield, poll, shutdown.

/// `SCHEDOP_yield`.
pub const SCHEDOP_YIELD: u64 = 0;
/// `SCHEDOP_shutdown`.
pub const SCHEDOP_SHUTDOWN: u64 = 2;
/// `SCHEDOP_poll`.
pub const SCHEDOP_POLL: u64 = 3;
/// The most ports that one `SCHEDOP_poll` takes (`do_poll`).
pub const POLL_MAX_PORTS: usize = 128;

/// `SHUTDOWN_poweroff`.
pub const SHUTDOWN_POWEROFF: u32 = 0;
/// `SHUTDOWN_crash`.
pub const SHUTDOWN_CRASH: u32 = 3;

/// `struct sched_poll`. `ports` is the address of an array of u32.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SchedPoll {
    /// Address of the port array.
    pub ports: u64,
    /// Ports in the array, at most [`POLL_MAX_PORTS`].
    pub nr_ports: u32,
    /// Padding.
    pub pad: u32,
    /// Absolute Xen system time in nanoseconds; 0 waits without limit.
    pub timeout: u64,
}

/// `struct sched_shutdown`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SchedShutdown {
    /// `SHUTDOWN_*`.
    pub reason: u32,
}
