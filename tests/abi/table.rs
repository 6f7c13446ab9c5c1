//! What is compared: our value on one side, the constant expression of Xen's headers on the other.
//!
//! Not in these headers, so not compared here:
//! - `VIRTIO_MMIO_DEV_SIZE` (libxl's own, `tools/libs/light/libxl_arm.c`);
//! - `POLL_MAX_PORTS` (Xen's own, `xen/common/sched/core.c`);
//! - domctl interface versions other than the one of the installed headers (4.17: 0x15).

use core::mem::{offset_of, size_of};

use xen_pv_sys::dm_op::ioreq;
use xen_pv_sys::io::xenbus::XenbusState;
use xen_pv_sys::io::{console, xs_wire};
use xen_pv_sys::{
    PAGE_SHIFT, PAGE_SIZE, arch_arm, dm_op, errno, event_channel, grant_table, hvm, memory, sched, vcpu, xen,
};

/// One comparison.
pub struct Check {
    /// The name printed when it fails: ours.
    pub name: String,
    /// A constant expression of Xen's headers.
    pub theirs: String,
    /// Our value.
    pub ours: i128,
}

macro_rules! consts {
    ($checks:ident: $($module:ident::$name:ident = $theirs:expr;)*) => {
        $($checks.push(Check {
            name: concat!(stringify!($module), "::", stringify!($name)).to_owned(),
            theirs: $theirs.to_owned(),
            ours: i128::from($module::$name),
        });)*
    };
}

macro_rules! sizes {
    ($checks:ident: $($module:ident::$name:ident = $theirs:expr;)*) => {
        $($checks.push(Check {
            name: concat!(stringify!($module), "::", stringify!($name)).to_owned(),
            theirs: $theirs.to_owned(),
            ours: bytes($module::$name),
        });)*
    };
}

macro_rules! layouts {
    ($checks:ident: $($rust:ty as $c:literal { $($field:ident = $member:literal),* $(,)? })*) => {$(
        $checks.push(Check {
            name: concat!("size of ", stringify!($rust)).to_owned(),
            theirs: concat!("sizeof(", $c, ")").to_owned(),
            ours: bytes(size_of::<$rust>()),
        });
        $($checks.push(Check {
            name: concat!(stringify!($rust), ".", stringify!($field)).to_owned(),
            theirs: concat!("__builtin_offsetof(", $c, ", ", $member, ")").to_owned(),
            ours: bytes(offset_of!($rust, $field)),
        });)*
    )*};
}

mod dom0;
mod rings;

fn bytes(n: usize) -> i128 {
    i128::try_from(n).unwrap_or(i128::MAX)
}

/// Every comparison there is.
pub fn checks() -> Vec<Check> {
    let mut checks = Vec::new();
    numbers(&mut checks);
    errnos(&mut checks);
    hypercall_arguments(&mut checks);
    shared_pages(&mut checks);
    rings::block(&mut checks);
    rings::network(&mut checks);
    dom0::checks(&mut checks);
    checks
}

fn numbers(checks: &mut Vec<Check>) {
    consts! { checks:
        xen::HYPERVISOR_MEMORY_OP = "__HYPERVISOR_memory_op";
        xen::HYPERVISOR_XEN_VERSION = "__HYPERVISOR_xen_version";
        xen::HYPERVISOR_CONSOLE_IO = "__HYPERVISOR_console_io";
        xen::HYPERVISOR_GRANT_TABLE_OP = "__HYPERVISOR_grant_table_op";
        xen::HYPERVISOR_VCPU_OP = "__HYPERVISOR_vcpu_op";
        xen::HYPERVISOR_SCHED_OP = "__HYPERVISOR_sched_op";
        xen::HYPERVISOR_EVENT_CHANNEL_OP = "__HYPERVISOR_event_channel_op";
        xen::HYPERVISOR_HVM_OP = "__HYPERVISOR_hvm_op";
        xen::HYPERVISOR_DOMCTL = "__HYPERVISOR_domctl";
        xen::HYPERVISOR_DM_OP = "__HYPERVISOR_dm_op";
        xen::DOMID_SELF = "DOMID_SELF"; xen::DOMID_IO = "DOMID_IO"; xen::DOMID_XEN = "DOMID_XEN"; xen::DOMID_INVALID = "DOMID_INVALID";
        xen::DOMID_FIRST_RESERVED = "DOMID_FIRST_RESERVED";
        arch_arm::HYPERCALL_TAG = "XEN_HYPERCALL_TAG";
        arch_arm::GUEST_VIRTIO_MMIO_BASE = "GUEST_VIRTIO_MMIO_BASE";
        arch_arm::GUEST_VIRTIO_MMIO_SIZE = "GUEST_VIRTIO_MMIO_SIZE";
        arch_arm::GUEST_VIRTIO_MMIO_SPI_FIRST = "GUEST_VIRTIO_MMIO_SPI_FIRST";
        arch_arm::GUEST_VIRTIO_MMIO_SPI_LAST = "GUEST_VIRTIO_MMIO_SPI_LAST";
        arch_arm::GUEST_GNTTAB_BASE = "GUEST_GNTTAB_BASE";
        arch_arm::GUEST_GNTTAB_SIZE = "GUEST_GNTTAB_SIZE";
        arch_arm::GUEST_MAGIC_BASE = "GUEST_MAGIC_BASE";
        arch_arm::GUEST_MAGIC_SIZE = "GUEST_MAGIC_SIZE";
        arch_arm::GUEST_RAM0_BASE = "GUEST_RAM0_BASE";
        arch_arm::GUEST_RAM0_SIZE = "GUEST_RAM0_SIZE";
        arch_arm::GUEST_RAM1_BASE = "GUEST_RAM1_BASE";
        event_channel::EVTCHNOP_BIND_INTERDOMAIN = "EVTCHNOP_bind_interdomain";
        event_channel::EVTCHNOP_CLOSE = "EVTCHNOP_close";
        event_channel::EVTCHNOP_SEND = "EVTCHNOP_send";
        event_channel::EVTCHNOP_ALLOC_UNBOUND = "EVTCHNOP_alloc_unbound";
        grant_table::GTF_PERMIT_ACCESS = "GTF_permit_access";
        grant_table::GTF_READONLY = "GTF_readonly";
        grant_table::GTF_READING = "GTF_reading";
        grant_table::GTF_WRITING = "GTF_writing";
        grant_table::GNTTAB_NR_RESERVED_ENTRIES = "GNTTAB_NR_RESERVED_ENTRIES";
        grant_table::GNTTABOP_QUERY_SIZE = "GNTTABOP_query_size";
        grant_table::GNTTABOP_MAP_GRANT_REF = "GNTTABOP_map_grant_ref";
        grant_table::GNTTABOP_UNMAP_GRANT_REF = "GNTTABOP_unmap_grant_ref";
        grant_table::GNTTABOP_COPY = "GNTTABOP_copy";
        grant_table::GNTMAP_HOST_MAP = "GNTMAP_host_map";
        grant_table::GNTCOPY_SOURCE_GREF = "GNTCOPY_source_gref";
        grant_table::GNTCOPY_DEST_GREF = "GNTCOPY_dest_gref";
        grant_table::GNTST_OKAY = "GNTST_okay";
        grant_table::GNTST_GENERAL_ERROR = "GNTST_general_error";
        grant_table::GNTST_BAD_GNTREF = "GNTST_bad_gntref";
        grant_table::GNTST_PERMISSION_DENIED = "GNTST_permission_denied";
        grant_table::GNTST_BAD_COPY_ARG = "GNTST_bad_copy_arg";
        hvm::HVMOP_GET_PARAM = "HVMOP_get_param";
        hvm::HVM_PARAM_STORE_PFN = "HVM_PARAM_STORE_PFN";
        hvm::HVM_PARAM_STORE_EVTCHN = "HVM_PARAM_STORE_EVTCHN";
        hvm::HVM_PARAM_CONSOLE_PFN = "HVM_PARAM_CONSOLE_PFN";
        hvm::HVM_PARAM_CONSOLE_EVTCHN = "HVM_PARAM_CONSOLE_EVTCHN";
        vcpu::VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA = "VCPUOP_register_runstate_memory_area";
        vcpu::VCPUOP_REGISTER_VCPU_INFO = "VCPUOP_register_vcpu_info";
        sched::SCHEDOP_YIELD = "SCHEDOP_yield";
        sched::SCHEDOP_SHUTDOWN = "SCHEDOP_shutdown";
        sched::SCHEDOP_POLL = "SCHEDOP_poll";
        sched::SHUTDOWN_POWEROFF = "SHUTDOWN_poweroff";
        sched::SHUTDOWN_CRASH = "SHUTDOWN_crash";
        memory::XENMEM_DECREASE_RESERVATION = "XENMEM_decrease_reservation";
        memory::XENMEM_POPULATE_PHYSMAP = "XENMEM_populate_physmap";
        memory::XENMEM_ADD_TO_PHYSMAP = "XENMEM_add_to_physmap";
        memory::XENMEM_REMOVE_FROM_PHYSMAP = "XENMEM_remove_from_physmap";
        memory::XENMEM_ADD_TO_PHYSMAP_BATCH = "XENMEM_add_to_physmap_batch";
        memory::XENMEM_ACQUIRE_RESOURCE = "XENMEM_acquire_resource";
        memory::XENMAPSPACE_SHARED_INFO = "XENMAPSPACE_shared_info";
        memory::XENMAPSPACE_GRANT_TABLE = "XENMAPSPACE_grant_table";
        memory::XENMAPSPACE_GMFN_FOREIGN = "XENMAPSPACE_gmfn_foreign";
        memory::XENMEM_RESOURCE_GRANT_TABLE = "XENMEM_resource_grant_table";
        memory::XENMEM_RESOURCE_IOREQ_SERVER = "XENMEM_resource_ioreq_server";
        memory::XENMEM_RESOURCE_IOREQ_SERVER_FRAME_IOREQ_0 = "XENMEM_resource_ioreq_server_frame_ioreq(0)";
        dm_op::DMOP_CREATE_IOREQ_SERVER = "XEN_DMOP_create_ioreq_server";
        dm_op::DMOP_MAP_IO_RANGE = "XEN_DMOP_map_io_range_to_ioreq_server";
        dm_op::DMOP_SET_IOREQ_SERVER_STATE = "XEN_DMOP_set_ioreq_server_state";
        dm_op::DMOP_DESTROY_IOREQ_SERVER = "XEN_DMOP_destroy_ioreq_server";
        dm_op::DMOP_SET_IRQ_LEVEL = "XEN_DMOP_set_irq_level";
        dm_op::DMOP_NR_VCPUS = "XEN_DMOP_nr_vcpus";
        dm_op::DMOP_IO_RANGE_MEMORY = "XEN_DMOP_IO_RANGE_MEMORY";
        dm_op::HVM_IOREQSRV_BUFIOREQ_OFF = "HVM_IOREQSRV_BUFIOREQ_OFF";
        dm_op::HVM_IOREQSRV_BUFIOREQ_LEGACY = "HVM_IOREQSRV_BUFIOREQ_LEGACY";
        ioreq::STATE_NONE = "STATE_IOREQ_NONE";
        ioreq::STATE_READY = "STATE_IOREQ_READY";
        ioreq::STATE_INPROCESS = "STATE_IOREQ_INPROCESS";
        ioreq::STATE_RESP_READY = "STATE_IORESP_READY";
        ioreq::TYPE_COPY = "IOREQ_TYPE_COPY";
        ioreq::TYPE_INVALIDATE = "IOREQ_TYPE_INVALIDATE";
        xs_wire::XS_DIRECTORY = "XS_DIRECTORY";
        xs_wire::XS_READ = "XS_READ";
        xs_wire::XS_WATCH = "XS_WATCH";
        xs_wire::XS_UNWATCH = "XS_UNWATCH";
        xs_wire::XS_TRANSACTION_START = "XS_TRANSACTION_START";
        xs_wire::XS_TRANSACTION_END = "XS_TRANSACTION_END";
        xs_wire::XS_WRITE = "XS_WRITE";
        xs_wire::XS_MKDIR = "XS_MKDIR";
        xs_wire::XS_RM = "XS_RM";
        xs_wire::XS_WATCH_EVENT = "XS_WATCH_EVENT";
        xs_wire::XS_ERROR = "XS_ERROR";
    }
    sizes! { checks:
        xs_wire::PAYLOAD_MAX = "XENSTORE_PAYLOAD_MAX";
        xs_wire::ABS_PATH_MAX = "XENSTORE_ABS_PATH_MAX";
        xs_wire::REL_PATH_MAX = "XENSTORE_REL_PATH_MAX";
    }
    for (state, theirs) in [
        (XenbusState::Unknown, "XenbusStateUnknown"),
        (XenbusState::Initialising, "XenbusStateInitialising"),
        (XenbusState::InitWait, "XenbusStateInitWait"),
        (XenbusState::Initialised, "XenbusStateInitialised"),
        (XenbusState::Connected, "XenbusStateConnected"),
        (XenbusState::Closing, "XenbusStateClosing"),
        (XenbusState::Closed, "XenbusStateClosed"),
        (XenbusState::Reconfiguring, "XenbusStateReconfiguring"),
        (XenbusState::Reconfigured, "XenbusStateReconfigured"),
    ] {
        checks.push(Check {
            name: format!("XenbusState::{state:?}"),
            theirs: theirs.to_owned(),
            ours: i128::from(state as u8),
        });
    }
    for (name, theirs, ours) in [
        ("PAGE_SIZE", "(1 << XEN_PAGE_SHIFT)", bytes(PAGE_SIZE)),
        ("PAGE_SHIFT", "XEN_PAGE_SHIFT", i128::from(PAGE_SHIFT)),
    ] {
        checks.push(Check { name: name.to_owned(), theirs: theirs.to_owned(), ours });
    }
}

fn errnos(checks: &mut Vec<Check>) {
    for (name, value) in errno::Errno::ALL {
        checks.push(Check {
            name: format!("Errno::{name}"),
            theirs: format!("XEN_{name}"),
            ours: i128::from(*value),
        });
    }
}

fn hypercall_arguments(checks: &mut Vec<Check>) {
    layouts! { checks:
        dm_op::CreateIoreqServer as "struct xen_dm_op_create_ioreq_server" {
            handle_bufioreq = "handle_bufioreq", pad = "pad", id = "id",
        }
        dm_op::IoreqServerRange as "struct xen_dm_op_ioreq_server_range" {
            id = "id", pad = "pad", range_type = "type", start = "start", end = "end",
        }
        dm_op::SetIoreqServerState as "struct xen_dm_op_set_ioreq_server_state" {
            id = "id", enabled = "enabled", pad = "pad",
        }
        dm_op::DestroyIoreqServer as "struct xen_dm_op_destroy_ioreq_server" { id = "id", pad = "pad" }
        dm_op::SetIrqLevel as "struct xen_dm_op_set_irq_level" { irq = "irq", level = "level", pad = "pad" }
        dm_op::NrVcpus as "struct xen_dm_op_nr_vcpus" { vcpus = "vcpus" }
        dm_op::DmOpBuf as "struct xen_dm_op_buf" { handle = "h", size = "size" }
        event_channel::EvtchnAllocUnbound as "struct evtchn_alloc_unbound" {
            dom = "dom", remote_dom = "remote_dom", port = "port",
        }
        event_channel::EvtchnBindInterdomain as "struct evtchn_bind_interdomain" {
            remote_dom = "remote_dom", remote_port = "remote_port", local_port = "local_port",
        }
        event_channel::EvtchnPort as "struct evtchn_send" { port = "port" }
        event_channel::EvtchnPort as "struct evtchn_close" { port = "port" }
        grant_table::GrantEntryV1 as "struct grant_entry_v1" {
            flags = "flags", domid = "domid", frame = "frame",
        }
        grant_table::GnttabQuerySize as "struct gnttab_query_size" {
            dom = "dom", nr_frames = "nr_frames", max_nr_frames = "max_nr_frames", status = "status",
        }
        grant_table::GnttabMapGrantRef as "struct gnttab_map_grant_ref" {
            host_addr = "host_addr", flags = "flags", gref = "ref", dom = "dom", status = "status", handle = "handle",
        }
        grant_table::GnttabUnmapGrantRef as "struct gnttab_unmap_grant_ref" {
            host_addr = "host_addr", dev_bus_addr = "dev_bus_addr", handle = "handle", status = "status",
        }
        grant_table::GnttabCopy as "struct gnttab_copy" {
            source = "source", dest = "dest", len = "len", flags = "flags", status = "status" }
        hvm::HvmParam as "struct xen_hvm_param" { domid = "domid", pad = "pad", index = "index", value = "value" }
        memory::MemoryReservation as "struct xen_memory_reservation" { extent_start = "extent_start",
            nr_extents = "nr_extents", extent_order = "extent_order", mem_flags = "mem_flags", domid = "domid" }
        memory::AddToPhysmap as "struct xen_add_to_physmap" { domid = "domid", size = "size", space = "space",
            idx = "idx", gpfn = "gpfn" }
        memory::AddToPhysmapBatch as "struct xen_add_to_physmap_batch" {
            domid = "domid", space = "space", size = "size", foreign_domid = "u.foreign_domid",
            idxs = "idxs", gpfns = "gpfns", errs = "errs",
        }
        memory::RemoveFromPhysmap as "struct xen_remove_from_physmap" { domid = "domid", gpfn = "gpfn" }
        memory::AcquireResource as "struct xen_mem_acquire_resource" {
            domid = "domid", resource_type = "type", id = "id", nr_frames = "nr_frames", pad = "pad",
            frame = "frame", frame_list = "frame_list",
        }
        sched::SchedPoll as "struct sched_poll" { ports = "ports", nr_ports = "nr_ports", timeout = "timeout" }
        sched::SchedShutdown as "struct sched_shutdown" { reason = "reason" }
        vcpu::RegisterRunstateMemoryArea as "struct vcpu_register_runstate_memory_area" { addr = "addr" }
        vcpu::RegisterVcpuInfo as "struct vcpu_register_vcpu_info" { mfn = "mfn", offset = "offset", rsvd = "rsvd" }
    }
    sizes! { checks: dm_op::DMOP_HEADER_SIZE = "__builtin_offsetof(struct xen_dm_op, u)"; }
}

fn shared_pages(checks: &mut Vec<Check>) {
    use vcpu::runstate;
    use xen::shared_info;
    sizes! { checks:
        ioreq::SIZE = "sizeof(struct ioreq)";
        ioreq::PER_PAGE = "((1u << XEN_PAGE_SHIFT) / sizeof(struct ioreq))";
        ioreq::ADDR = "__builtin_offsetof(struct ioreq, addr)";
        ioreq::DATA = "__builtin_offsetof(struct ioreq, data)";
        ioreq::COUNT = "__builtin_offsetof(struct ioreq, count)";
        ioreq::SIZE_FIELD = "__builtin_offsetof(struct ioreq, size)";
        ioreq::VP_EPORT = "__builtin_offsetof(struct ioreq, vp_eport)";
        ioreq::TYPE = "__builtin_offsetof(struct ioreq, type)";
        // A bit-field has no offset: set it, and look which byte of the structure changed.
        ioreq::STATE_BITS = "BYTE_SET_BY(state, 1)";
        shared_info::EVTCHN_UPCALL_PENDING = "__builtin_offsetof(struct shared_info, vcpu_info[0].evtchn_upcall_pending)";
        shared_info::EVTCHN_UPCALL_MASK = "__builtin_offsetof(struct shared_info, vcpu_info[0].pad0)"; // Arm has no mask, only its place.
        shared_info::EVTCHN_PENDING_SEL = "__builtin_offsetof(struct shared_info, vcpu_info[0].evtchn_pending_sel)";
        shared_info::VCPU_INFO_SIZE = "sizeof(struct vcpu_info)";
        shared_info::EVTCHN_PENDING = "__builtin_offsetof(struct shared_info, evtchn_pending)";
        shared_info::EVTCHN_MASK = "__builtin_offsetof(struct shared_info, evtchn_mask)";
        runstate::SIZE = "sizeof(struct vcpu_runstate_info)";
        runstate::STATE_ENTRY_TIME = "__builtin_offsetof(struct vcpu_runstate_info, state_entry_time)";
        runstate::TIME_RUNNABLE = "__builtin_offsetof(struct vcpu_runstate_info, time) + RUNSTATE_runnable * 8";
        console::IN = "__builtin_offsetof(struct xencons_interface, in)";
        console::IN_SIZE = "sizeof(((struct xencons_interface *)0)->in)";
        console::OUT = "__builtin_offsetof(struct xencons_interface, out)";
        console::OUT_SIZE = "sizeof(((struct xencons_interface *)0)->out)";
        console::IN_CONS = "__builtin_offsetof(struct xencons_interface, in_cons)";
        console::IN_PROD = "__builtin_offsetof(struct xencons_interface, in_prod)";
        console::OUT_CONS = "__builtin_offsetof(struct xencons_interface, out_cons)";
        console::OUT_PROD = "__builtin_offsetof(struct xencons_interface, out_prod)";
        xs_wire::RING_SIZE = "XENSTORE_RING_SIZE";
        xs_wire::REQ = "__builtin_offsetof(struct xenstore_domain_interface, req)";
        xs_wire::RSP = "__builtin_offsetof(struct xenstore_domain_interface, rsp)";
        xs_wire::REQ_CONS = "__builtin_offsetof(struct xenstore_domain_interface, req_cons)";
        xs_wire::REQ_PROD = "__builtin_offsetof(struct xenstore_domain_interface, req_prod)";
        xs_wire::RSP_CONS = "__builtin_offsetof(struct xenstore_domain_interface, rsp_cons)";
        xs_wire::RSP_PROD = "__builtin_offsetof(struct xenstore_domain_interface, rsp_prod)";
    }
    consts! { checks:
        shared_info::NR_EVENT_CHANNELS = "EVTCHN_2L_NR_CHANNELS";
        ioreq::STATE_MASK = "BITS_SET_BY(state, 0xf)";
        ioreq::DATA_IS_PTR = "BITS_SET_BY(data_is_ptr, 1)";
        ioreq::DIR_READ = "BITS_SET_BY(dir, IOREQ_READ)";
    }
    layouts! { checks:
        xs_wire::XsdSockmsg as "struct xsd_sockmsg" {
            msg_type = "type", req_id = "req_id", tx_id = "tx_id", len = "len",
        }
    }
}
