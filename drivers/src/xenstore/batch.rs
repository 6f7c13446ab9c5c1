//! Several requests at a time. All are sent before the first answer is waited for, so that
//! together they cost one round trip to xenstored, not one each. It may answer them in any
//! order, and do them in any: what depends on another goes into another batch.

use super::StoreError;
use super::link::Xenstore;
use super::wire::terminated;
use alloc::string::String;
use alloc::vec::Vec;
use kernel::Hypervisor;
use xen_pv_sys::io::xs_wire::{XS_READ, XS_RM, XS_WATCH, XS_WRITE};

/// Requests under way at once: xenstored has a quota of 20 for each domain.
const MAX_ASKED: usize = 16;

/// A request of a batch. Paths are relative to our domain's directory unless they begin with
/// a slash.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ask {
    /// As [`Xenstore::read`].
    Read(String),
    /// As [`Xenstore::write`]: path and value.
    Write(String, String),
    /// As [`Xenstore::rm`].
    Rm(String),
    /// As [`Xenstore::watch`]: path and token.
    Watch(String, String),
}

/// The answers to a batch, in its order: the values of nodes that were read, and nothing of
/// use for other requests.
pub type Answers = Vec<Result<Vec<u8>, StoreError>>;

impl Ask {
    /// Type and payload on the wire.
    fn message(&self) -> Result<(u32, Vec<u8>), StoreError> {
        let (kind, path, more) = match self {
            Ask::Read(path) => (XS_READ, path, ""),
            Ask::Write(path, value) => (XS_WRITE, path, value.as_str()),
            Ask::Rm(path) => (XS_RM, path, ""),
            Ask::Watch(path, token) => (XS_WATCH, path, token.as_str()),
        };
        let mut payload = terminated(path)?.to_vec();
        payload.push(0);
        if kind == XS_WATCH {
            payload.extend_from_slice(terminated(more)?);
            payload.push(0);
        } else {
            payload.extend_from_slice(more.as_bytes());
        }
        Ok((kind, payload))
    }
}

impl<H: Hypervisor> Xenstore<H> {
    /// Makes all the requests.
    ///
    /// # Errors
    /// A failure of the connection. What xenstored says of a request is in its answer.
    pub fn batch(&mut self, asks: &[Ask]) -> Result<Answers, StoreError> {
        self.batch_in(0, asks)
    }

    pub(super) fn batch_in(&mut self, tx_id: u32, asks: &[Ask]) -> Result<Answers, StoreError> {
        let mut answers = Vec::with_capacity(asks.len());
        for asks in asks.chunks(MAX_ASKED) {
            let deadline_ns = self.deadline_ns();
            let mut asked = Vec::with_capacity(asks.len());
            for ask in asks {
                // One that cannot be asked is answered here.
                let sent = ask
                    .message()
                    .and_then(|(kind, payload)| Ok((self.ask(kind, tx_id, &[&payload], deadline_ns)?, kind)));
                asked.push(sent);
            }
            self.publish()?;
            for sent in asked {
                match sent.and_then(|(id, kind)| self.answer(id, kind, deadline_ns)) {
                    Err(error @ (StoreError::Fault(_) | StoreError::Xen(_))) => return Err(error),
                    answer => answers.push(answer),
                }
            }
        }
        Ok(answers)
    }

    /// Reads all the nodes, as [`Xenstore::batch`].
    ///
    /// # Errors
    /// As there.
    pub fn read_all(&mut self, paths: Vec<String>) -> Result<Answers, StoreError> {
        self.batch(&paths.into_iter().map(Ask::Read).collect::<Vec<_>>())
    }

    /// Writes all the nodes: path and value.
    ///
    /// # Errors
    /// What xenstored says of the first that it refuses, or a failure of the connection.
    pub fn write_all(&mut self, nodes: Vec<(String, String)>) -> Result<(), StoreError> {
        let asks: Vec<Ask> = nodes.into_iter().map(|(path, value)| Ask::Write(path, value)).collect();
        self.batch(&asks)?.into_iter().try_for_each(|answer| answer.map(drop))
    }
}
