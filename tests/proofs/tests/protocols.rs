//! Protocols as state machines: our side is the code of the stub, and at each of its accesses to shared
//! memory, or between its steps, the others may act.

#[path = "protocols/batches.rs"]
mod batches;
#[path = "protocols/ioreq.rs"]
mod ioreq;
#[path = "protocols/reconnect.rs"]
mod reconnect;
#[path = "protocols/xenstore.rs"]
mod xenstore;
