//! kernel/xen-pv-sys
#![no_std]
