//! A guest's disk, from its line in the guest's configuration to what the stub's blkback opens.
//!
//! [`node`] reads the disk as libxl wrote it. [`target`] settles what the disk line leads to, with the
//! help of [`disk_file`] where that is a disk file, and of [`nbd`] and [`tls_key`] where that names an NBD server. [`data`] opens a block device or an image and judges
//! it, [`in_use`] asks who else uses it, and [`stack`] which other devices hold the same data. The daemon
//! does all that before it makes a stub, for a reason that names the guest's disk. [`script`], which
//! libxl runs for each PV disk of the stub, does it again under the [`lock`] of Xen's own scripts, since
//! the host may have changed. [`loops`] has the loop devices. What libxl is told in the end is in
//! [`answer`].

pub mod answer;
pub mod data;
pub mod disk_file;
pub mod in_use;
pub mod lock;
pub mod loops;
pub mod names;
pub mod nbd;
pub mod node;
pub mod script;
pub mod stack;
pub mod target;
pub mod tls_key;
