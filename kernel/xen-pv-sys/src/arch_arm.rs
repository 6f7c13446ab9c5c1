//! `public/arch-arm.h`: the guest physical map that libxl and Xen give an Arm guest.

/// `GUEST_VIRTIO_MMIO_BASE`.
pub const GUEST_VIRTIO_MMIO_BASE: u64 = 0x0200_0000;
/// `GUEST_VIRTIO_MMIO_SIZE`: the whole region.
pub const GUEST_VIRTIO_MMIO_SIZE: u64 = 0x0010_0000;
/// Bytes of one virtio-mmio device's window (`VIRTIO_MMIO_DEV_SIZE` of libxl).
pub const VIRTIO_MMIO_DEV_SIZE: u64 = 0x200;
/// `GUEST_VIRTIO_MMIO_SPI_FIRST`.
pub const GUEST_VIRTIO_MMIO_SPI_FIRST: u32 = 33;
/// `GUEST_VIRTIO_MMIO_SPI_LAST`.
pub const GUEST_VIRTIO_MMIO_SPI_LAST: u32 = 43;
/// `GUEST_GNTTAB_BASE`: room for the grant table.
pub const GUEST_GNTTAB_BASE: u64 = 0x3800_0000;
/// `GUEST_GNTTAB_SIZE`.
pub const GUEST_GNTTAB_SIZE: u64 = 0x0100_0000;
/// `GUEST_MAGIC_BASE`: console, xenstore and other pages.
pub const GUEST_MAGIC_BASE: u64 = 0x3900_0000;
/// `GUEST_MAGIC_SIZE`.
pub const GUEST_MAGIC_SIZE: u64 = 0x0100_0000;
/// `GUEST_RAM0_BASE`.
pub const GUEST_RAM0_BASE: u64 = 0x4000_0000;
/// `GUEST_RAM0_SIZE`: 3 GiB.
pub const GUEST_RAM0_SIZE: u64 = 0xc000_0000;
/// `GUEST_RAM1_BASE`.
pub const GUEST_RAM1_BASE: u64 = 0x2_0000_0000;
/// Immediate of the `hvc` instruction of a hypercall (`XEN_HYPERCALL_TAG`).
pub const HYPERCALL_TAG: u16 = 0x0ea1;
