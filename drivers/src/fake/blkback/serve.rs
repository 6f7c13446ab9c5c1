//! What the fake does with a connection's requests.

use super::{Held, Inner};
use crate::fake::disk::Rules;
use crate::fake::faults::Misdeed;
use kernel::Hypervisor;
use xen_pv_sys::io::blkif::{BLKIF_RSP_EOPNOTSUPP, BLKIF_RSP_ERROR, Request, Response};
use zerocopy::{FromBytes, IntoBytes};

impl Inner {
    /// Takes requests if notified; completes some of those held. True if anything moved.
    pub(super) fn serve(&mut self) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        let mut moved = false;
        if self.me.evtchn_take_pending(connection.port) {
            while let Some(entry) = connection.ring.take() {
                let held = Held { entry, number: self.requests, wait_steps: self.faults.delay_steps };
                connection.held.push_back(held);
                self.requests += 1;
            }
            connection.ring.enable_events();
            self.most_held = self.most_held.max(connection.held.len());
            moved = true;
        }
        if connection.silent || connection.held.is_empty() {
            return moved;
        }
        connection.held.iter_mut().for_each(|held| held.wait_steps = held.wait_steps.saturating_sub(1));
        let at_once =
            if self.faults.reorder { self.random.below(connection.held.len()) + 1 } else { usize::MAX };
        for _ in 0..at_once {
            let ready = self.connection.as_ref().map_or(0, |connection| {
                connection.held.iter().take_while(|held| held.wait_steps == 0).count()
            });
            if ready == 0 {
                break;
            }
            let which = if self.faults.reorder { self.random.below(ready) } else { 0 };
            self.complete(which);
        }
        if let Some(connection) = &self.connection {
            connection.ring.push(&self.me, connection.port);
        }
        true
    }

    /// What it accepts.
    pub(super) fn rules(&self) -> Rules {
        Rules {
            read_only: self.config.read_only,
            flush: self.config.flush,
            discard: self.config.discard,
            secure_discard: self.config.secure_discard,
            max_indirect_segments: self.config.max_indirect_segments.unwrap_or(0).into(),
        }
    }

    fn complete(&mut self, which: usize) {
        let rules = self.rules();
        let connection = self.connection.as_mut().expect("connected");
        if self.faults.misdeed_at == Some((connection.responses, Misdeed::Silence)) {
            connection.responses += 1;
            connection.silent = true;
            connection.held.clear();
            return;
        }
        let Some(held) = connection.held.remove(which) else { return };
        let (request, _) = Request::read_from_prefix(&held.entry).expect("an entry");
        let fails = self.faults.fail_every.is_some_and(|every| (held.number + 1).is_multiple_of(every));
        let (operation, status) = if fails {
            let inner = if request.operation == 6 { request.nr_segments } else { request.operation };
            (inner, if self.faults.fail_as_unsupported { BLKIF_RSP_EOPNOTSUPP } else { BLKIF_RSP_ERROR })
        } else {
            self.disk.serve(&held.entry, &mut connection.grants, rules)
        };
        self.order.push((operation, request.sector_number));
        let mut response = Response { id: request.id, operation, status, ..Response::default() };
        let misdeed = self.faults.misdeed_at.filter(|(at, _)| *at == connection.responses);
        connection.responses += 1;
        match misdeed.map(|(_, misdeed)| misdeed) {
            None | Some(Misdeed::Silence) => {}
            Some(Misdeed::BogusId) => response.id ^= 1 << 40,
            Some(Misdeed::WrongOperation) => response.operation ^= 1,
            Some(Misdeed::Duplicate) => connection.ring.put(response.as_bytes()),
            Some(Misdeed::IndexJump(by)) => {
                connection.ring.rsp_prod = connection.ring.rsp_prod.wrapping_add(by)
            }
            Some(Misdeed::Vanish) => {
                self.disconnect();
                return self.go_to(6);
            }
        }
        connection.ring.put(response.as_bytes());
    }
}
