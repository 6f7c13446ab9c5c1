//! The client against good and evil servers.

mod negotiation;
mod properties;
mod transmission;

use crate::fake::{Faults, Misdeed, Server, ServerConfig};
use crate::wire::*;
use crate::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

/// A client and a server, with a wire that cuts what the server sends into parts of `cut` bytes.
struct Wire {
    server: Server,
    client: Client,
    cut: usize,
    /// Data of reads that has come so far, by their ids.
    data: BTreeMap<u64, Vec<u8>>,
}

type Done = (u64, Result<(), IoError>);

impl Wire {
    fn new(config: ServerConfig, cut: usize) -> Result<(Wire, Export), Fault> {
        Wire::with(Security::Plain, config, cut)
    }

    fn with(security: Security, config: ServerConfig, cut: usize) -> Result<(Wire, Export), Fault> {
        let (server, client) = (Server::new(config), Client::new("disk", security, 0).unwrap());
        let mut wire = Wire { server, client, cut, data: BTreeMap::new() };
        let export = wire.negotiate()?;
        Ok((wire, export))
    }

    fn connected() -> Wire {
        Wire::new(ServerConfig::default(), usize::MAX).unwrap().0
    }

    fn negotiate(&mut self) -> Result<Export, Fault> {
        loop {
            let bytes = self.server.send(self.cut);
            let mut rest = bytes.as_slice();
            assert!(!rest.is_empty(), "the server says no more");
            while let Some(event) = self.client.receive(&mut rest)? {
                match event {
                    // The fake does without what TLS does to the bytes.
                    Event::Greeted | Event::StartTls => self.server.receive(&self.client.opening()),
                    Event::Ready(export) => return Ok(export),
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    fn submit(&mut self, id: u64, command: Command, data: &[u8]) -> Result<(), SubmitError> {
        let header = self.client.submit(id, command)?;
        self.server.receive(&header);
        self.server.receive(data);
        Ok(())
    }

    /// Everything that the server has to say.
    fn completions(&mut self) -> Result<Vec<Done>, Fault> {
        let mut done = Vec::new();
        loop {
            let bytes = self.server.send(self.cut);
            if bytes.is_empty() {
                return Ok(done);
            }
            let mut rest = bytes.as_slice();
            while let Some(event) = self.client.receive(&mut rest)? {
                match event {
                    Event::Data { id, skip_bytes, bytes } => {
                        let data = self.data.entry(id).or_default();
                        assert_eq!(data.len(), skip_bytes as usize, "in order, without gaps");
                        data.extend_from_slice(bytes);
                    }
                    Event::Done { id, outcome } => done.push((id, outcome)),
                    other => panic!("{other:?}"),
                }
            }
            assert!(rest.is_empty(), "all is taken");
        }
    }
}

fn read(offset: u64, len_bytes: u32) -> Command {
    Command::Read { offset, len_bytes }
}

fn write(offset: u64, len_bytes: u32) -> Command {
    Command::Write { offset, len_bytes, durable: false }
}
