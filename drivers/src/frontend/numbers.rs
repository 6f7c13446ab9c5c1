//! Numbers in nodes of the other end.

use super::ConnectError;
use crate::xenstore::{StoreError, Xenstore, number};
use alloc::vec::Vec;
use alloc::{format, vec};
use core::slice;
use kernel::{Errno, Hypervisor};

/// Numbers in nodes of the other end, one after the other.
pub(crate) struct Numbers<'a> {
    keys: slice::Iter<'a, &'static str>,
    answers: vec::IntoIter<Result<Vec<u8>, StoreError>>,
}

impl<'a> Numbers<'a> {
    /// Reads them all.
    ///
    /// # Errors
    /// A failure of the connection to xenstored.
    pub(crate) fn read<H: Hypervisor>(
        xs: &mut Xenstore<H>,
        directory: &str,
        keys: &'a [&'static str],
    ) -> Result<Numbers<'a>, StoreError> {
        let nodes = keys.iter().map(|key| format!("{directory}/{key}")).collect();
        Ok(Numbers { keys: keys.iter(), answers: xs.read_all(nodes)?.into_iter() })
    }

    /// The next one; `None` if there is no such node.
    ///
    /// # Errors
    /// What xenstored said of it, or that it holds something else.
    #[inline(never)]
    pub(crate) fn next(&mut self) -> Result<Option<u64>, ConnectError> {
        let (Some(&key), Some(answer)) = (self.keys.next(), self.answers.next()) else { return Ok(None) };
        match answer.and_then(|value| number(&value)) {
            Ok(number) => Ok(Some(number)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(StoreError::Refused(Errno::EINVAL)) => Err(ConnectError::BadValue(key)),
            Err(error) => Err(ConnectError::Store(error)),
        }
    }
}
