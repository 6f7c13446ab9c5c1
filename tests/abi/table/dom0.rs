//! What dom0's side asks, in `xen-privcmd`.

use xen_privcmd::call::{self, ask, label, list};

use super::{Check, bytes};

pub(super) fn checks(checks: &mut Vec<Check>) {
    consts! { checks:
        call::DOMCTL_PAUSE = "XEN_DOMCTL_pausedomain";
        call::DOMCTL_UNPAUSE = "XEN_DOMCTL_unpausedomain";
        call::DOMCTL_GETDOMAININFO = "XEN_DOMCTL_getdomaininfo";
        call::DOMCTL_SET_TARGET = "XEN_DOMCTL_set_target";
        call::SCHEDOP_REMOTE_SHUTDOWN = "SCHEDOP_remote_shutdown";
        call::DOMINF_DYING = "XEN_DOMINF_dying";
        call::DOMINF_SHUTDOWN = "XEN_DOMINF_shutdown";
        call::DOMINF_PAUSED = "XEN_DOMINF_paused";
        call::DOMINF_SHUTDOWN_SHIFT = "XEN_DOMINF_shutdownshift";
        list::HYPERVISOR_SYSCTL = "__HYPERVISOR_sysctl";
        list::SYSCTL_GETDOMAININFOLIST = "XEN_SYSCTL_getdomaininfolist";
        ask::HYPERVISOR_XSM_OP = "__HYPERVISOR_xsm_op";
        ask::FLASK_GETENFORCE = "FLASK_GETENFORCE";
        ask::FLASK_INTERFACE_VERSION = "XEN_FLASK_INTERFACE_VERSION";
        label::FLASK_CONTEXT_TO_SID = "FLASK_CONTEXT_TO_SID";
        label::FLASK_SID_TO_CONTEXT = "FLASK_SID_TO_CONTEXT";
        label::FLASK_ACCESS = "FLASK_ACCESS";
        label::FLASK_RELABEL_DOMAIN = "FLASK_RELABEL_DOMAIN";
    }
    sizes! { checks:
        call::DOMCTL_UNION = "__builtin_offsetof(struct xen_domctl, u)";
        call::INFO_TOT_PAGES = "__builtin_offsetof(struct xen_domctl_getdomaininfo, tot_pages)";
        call::INFO_CPU_TIME = "__builtin_offsetof(struct xen_domctl_getdomaininfo, cpu_time)";
        call::INFO_HANDLE = "__builtin_offsetof(struct xen_domctl_getdomaininfo, handle)";
        label::INFO_SSIDREF = "__builtin_offsetof(struct xen_domctl_getdomaininfo, ssidref)";
        label::FLASK_UNION = "__builtin_offsetof(struct xen_flask_op, u)";
        label::SID_CONTEXT_POINTER = "__builtin_offsetof(struct xen_flask_sid_context, context)";
        label::ACCESS_ALLOWED = "__builtin_offsetof(struct xen_flask_access, allowed)";
        list::SYSCTL_UNION = "__builtin_offsetof(struct xen_sysctl, u)";
        list::LIST_MAX_DOMAINS = "__builtin_offsetof(struct xen_sysctl_getdomaininfolist, max_domains)";
        list::LIST_BUFFER = "__builtin_offsetof(struct xen_sysctl_getdomaininfolist, buffer)";
        list::LIST_NUM_DOMAINS = "__builtin_offsetof(struct xen_sysctl_getdomaininfolist, num_domains)";
    }
    let one_of = |name: &str, versions: &[u32]| {
        let each: Vec<String> = versions.iter().map(|version| format!("{name} == {version:#x}")).collect();
        format!("({})", each.join(" || "))
    };
    // Places that the code has as literals: what `decode_info` reads, what `set_target` and
    // `crash` write, and that one of the versions tried is the one of these headers.
    for (name, theirs, ours) in [
        (
            "the domain in getdomaininfo's answer",
            "__builtin_offsetof(struct xen_domctl_getdomaininfo, domain)",
            0,
        ),
        (
            "the flags in getdomaininfo's answer",
            "__builtin_offsetof(struct xen_domctl_getdomaininfo, flags)",
            4,
        ),
        ("the target of set_target", "__builtin_offsetof(struct xen_domctl_set_target, target)", 0),
        ("the interface version of a domctl", "__builtin_offsetof(struct xen_domctl, interface_version)", 4),
        ("the domain of a domctl", "__builtin_offsetof(struct xen_domctl, domain)", 8),
        ("the reason of remote_shutdown", "__builtin_offsetof(struct sched_remote_shutdown, reason)", 4),
        ("the interface version of a sysctl", "__builtin_offsetof(struct xen_sysctl, interface_version)", 4),
        (
            "the first domain of a list",
            "__builtin_offsetof(struct xen_sysctl_getdomaininfolist, first_domain)",
            0,
        ),
        ("a list's entry fits into half a page", "(sizeof(struct xen_domctl_getdomaininfo) <= 2048)", 1),
        ("a sysctl fits before it", "(sizeof(struct xen_sysctl) <= 2048)", 1),
        ("the version of a FLASK operation", "__builtin_offsetof(struct xen_flask_op, interface_version)", 4),
        ("the number of a label", "__builtin_offsetof(struct xen_flask_sid_context, sid)", 0),
        ("the length of a label", "__builtin_offsetof(struct xen_flask_sid_context, size)", 4),
        ("the subject of an access", "__builtin_offsetof(struct xen_flask_access, ssid)", 0),
        ("the object of an access", "__builtin_offsetof(struct xen_flask_access, tsid)", 4),
        ("the domain that gets another label", "__builtin_offsetof(struct xen_flask_relabel, domid)", 0),
        ("its other label", "__builtin_offsetof(struct xen_flask_relabel, sid)", 4),
        ("the class of an access", "__builtin_offsetof(struct xen_flask_access, tclass)", 8),
        (
            "the domctl interface version",
            &one_of("XEN_DOMCTL_INTERFACE_VERSION", &call::INTERFACE_VERSIONS),
            1,
        ),
        ("the sysctl interface version", &one_of("XEN_SYSCTL_INTERFACE_VERSION", &list::SYSCTL_VERSIONS), 1),
    ] {
        checks.push(Check { name: name.to_owned(), theirs: theirs.to_owned(), ours });
    }
}
