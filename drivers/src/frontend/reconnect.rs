//! The way to a connection, from none or from a broken one, a step at a time.
//!
//! ```text
//! Begin ────────────────────────────────► Release ─► Start ─► Offered ─► connected
//!   │ left by an earlier incarnation          ▲  pages back,
//!   └──► Closing ─► Closed ───────────────────┘  pause over
//! ```
//!
//! Nothing here waits: [`Reconnect::step`] makes at most one transition, a bounded number of
//! requests to xenstored. So a caller with other work (vCPUs to be answered) can go on between.
//!
//! **The old connection is over before the next one begins.** The other end closes it
//! (Closed), and has let go of *every* page of it: a blkback unmaps the pages of a request when the
//! request is done, so a page that cannot be taken back may belong to a write that is still on
//! its way to the disk and would overwrite what a later one wrote. Until then the device waits;
//! no page is leaked, reused or freed, and no more memory is taken. That also bounds what a
//! hostile peer can hold: the pages of one connection.
//!
//! A peer that keeps failing is tried after growing pauses, as is one whose connections do not last.

use super::nodes::close;
use super::numbers::Numbers;
use super::paths::{self, Found, Name, Paths};
use super::{ConnectError, Device, Session};
use crate::backoff;
use crate::gnttab::GrantedPage;
use crate::xenbus::{self, Phase, Step};
use crate::xenstore::{Ask, StoreError, Xenstore};
use alloc::boxed::Box;
use alloc::vec::Vec;
use kernel::{Errno, Hypervisor};
use xen_pv_sys::io::xenbus::XenbusState;

/// An event can be dropped when too many come, so check now and then without one.
const POLL_INTERVAL_NS: u64 = 2_000_000_000;
/// How often to try to take back pages that the other end still has mapped.
const PAGES_INTERVAL_NS: u64 = 50_000_000;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// Find out what there is.
    Begin,
    /// We are Closing.
    Closing,
    /// We are Closed.
    Closed,
    /// The other end has closed; our pages come back.
    Release,
    /// We are Initialising.
    Start,
    /// Ring and port are in xenstore, and our state says so.
    Offered,
}

/// What one transition led to.
pub(crate) enum Advance<D> {
    /// Another can follow at once.
    Again,
    /// The other end, in this state, is to move.
    Wait(XenbusState),
    Connected(Box<D>),
}

/// A device without a connection, on its way to one.
#[derive(Debug)]
pub struct Reconnect<H: Hypervisor, D: Device<H>> {
    hv: H,
    number: u32,
    options: D::Options,
    stage: Stage,
    /// Our own `backend` node is watched.
    watching: bool,
    /// The other end that is watched.
    paths: Option<Paths>,
    offered: Option<Box<D>>,
    /// Pages of earlier connections that the other end may still reach.
    old_pages: Vec<GrantedPage<H>>,
    pause_ns: u64,
    /// No new connection before this.
    not_before_ns: u64,
    /// After a failure: no step before this.
    quiet_until_ns: u64,
    due_at_ns: u64,
    /// The last failure reported, so that it is reported once.
    reported: Option<ConnectError>,
}

impl<H: Hypervisor, D: Device<H>> Reconnect<H, D> {
    /// A device that was never connected.
    pub(crate) fn new(hv: &H, number: u32, options: D::Options) -> Self {
        Reconnect {
            hv: hv.clone(),
            number,
            options,
            stage: Stage::Begin,
            watching: false,
            paths: None,
            offered: None,
            old_pages: Vec::new(),
            pause_ns: 0,
            not_before_ns: 0,
            quiet_until_ns: 0,
            due_at_ns: 0,
            reported: None,
        }
    }

    /// What is left of a connection that is over.
    pub(crate) fn after(hv: &H, front: D) -> Self {
        let now_ns = hv.now_ns();
        let Session { number, options, paths, pause_ns, connected_at_ns } = front.session().clone();
        let pause_ns = backoff::after(now_ns.saturating_sub(connected_at_ns), pause_ns);
        let mut next = Reconnect::new(hv, number, options);
        next.watching = true;
        next.paths = Some(paths);
        next.old_pages = front.into_pages();
        next.pause_ns = pause_ns;
        next.not_before_ns = now_ns.saturating_add(pause_ns);
        next
    }

    pub(super) fn name(&self) -> Name {
        Name { class: D::CLASS, number: self.number }
    }

    /// Does what can be done now, if anything is due, and returns the connection when it
    /// stands. Call it after each [`Reconnect::on_watch`] and at [`Reconnect::due_ns`].
    pub fn step(&mut self, xs: &mut Xenstore<H>) -> Option<D> {
        let now_ns = self.hv.now_ns();
        // Each step asks xenstored, whose rate limit all of this domain shares.
        if now_ns < self.due_at_ns {
            return None;
        }
        self.due_at_ns = now_ns.saturating_add(POLL_INTERVAL_NS);
        match self.advance(xs) {
            Ok(Advance::Again) => self.due_at_ns = now_ns,
            Ok(Advance::Wait(_)) => {}
            Ok(Advance::Connected(front)) => return Some(*front),
            Err(error) => self.fail(error),
        }
        None
    }

    /// When [`Reconnect::step`] has something to do, without an event.
    #[must_use]
    pub fn due_ns(&self) -> u64 {
        self.due_at_ns
    }

    /// Pages of the old connection that the other end has not let go of yet.
    #[must_use]
    pub fn pages_out(&self) -> usize {
        self.old_pages.len()
    }

    /// Takes note of a watch event, if it is about this device.
    pub fn on_watch(&mut self, path: &str) {
        let ours = paths::is_below(path, &self.name().frontend())
            || self.paths.as_ref().is_some_and(|paths| paths.is_backend(path));
        if ours {
            self.set_due();
        }
    }

    /// Makes the next step due, as if an event had come.
    pub fn set_due(&mut self) {
        self.due_at_ns = self.due_at_ns.min(self.quiet_until_ns);
    }

    /// No new connection for so long.
    pub fn hold_off(&mut self, pause_ns: u64) {
        self.not_before_ns = self.hv.now_ns().saturating_add(pause_ns);
    }

    /// One transition, if the other end's state allows one.
    pub(crate) fn advance(&mut self, xs: &mut Xenstore<H>) -> Result<Advance<D>, ConnectError> {
        let (paths, ours, state) = self.find(xs)?;
        if !self.stage.is_shown_by(ours, D::OFFERED) {
            // The toolstack made our directory again.
            self.begin();
        }
        let waits = Ok(Advance::Wait(state));
        match self.stage {
            Stage::Begin => {
                use XenbusState as S;
                // One that is Connected or Closing without us is so with an earlier connection.
                let fresh = matches!(ours, S::Unknown | S::Initialising);
                if fresh && !matches!(state, S::Connected | S::Closing) {
                    self.stage = Stage::Release;
                    self.start(xs, &paths, ours, state)
                } else {
                    self.go_to(xs, &paths, Stage::Closing, S::Closing)
                }
            }
            Stage::Closing if xenbus::step(Phase::Closing, state) == Step::Done => {
                self.go_to(xs, &paths, Stage::Closed, XenbusState::Closed)
            }
            Stage::Closed if xenbus::step(Phase::Closed, state) == Step::Done => {
                self.stage = Stage::Release;
                Ok(Advance::Again)
            }
            Stage::Closing | Stage::Closed => waits,
            Stage::Release => self.start(xs, &paths, ours, state),
            Stage::Start => self.may_offer(xs, &paths, state),
            Stage::Offered => match xenbus::step(Phase::Offered, state) {
                Step::Connect => self.connect(xs, &paths),
                Step::Wait => waits,
                _ => Err(ConnectError::Refused(state)),
            },
        }
    }

    fn go_to(
        &mut self,
        xs: &mut Xenstore<H>,
        paths: &Paths,
        stage: Stage,
        ours: XenbusState,
    ) -> Result<Advance<D>, ConnectError> {
        xenbus::write_state(xs, &paths.frontend, ours)?;
        self.stage = stage;
        Ok(Advance::Again)
    }

    /// Who the other end is now, our state and its. Another one than before: everything begins
    /// again.
    fn find(&mut self, xs: &mut Xenstore<H>) -> Result<(Paths, XenbusState, XenbusState), ConnectError> {
        let found = Paths::find(xs, self.name(), self.paths.as_ref());
        // Then nothing is known of the device. Any other error says that it is not there now.
        if let Err(error @ ConnectError::Store(_)) = found {
            return Err(error);
        }
        let now = found.as_ref().ok().map(|found| &found.paths);
        // What was begun with another one is of no use with this one.
        if self.paths.as_ref() != now {
            if let Some(old) = self.paths.take() {
                // Best effort: the watch may have gone with the node.
                let _ = xs.unwatch(&xenbus::state_path(&old.backend), &old.token);
            }
            self.begin();
        }
        // The watches stand, and both states came with the same answer: there is nothing more to ask.
        if let Some(paths) = now.filter(|_| self.watching)
            && let Some(Found { ours, theirs: Some(theirs), .. }) = found.as_ref().ok()
        {
            return Ok((paths.clone(), *ours, *theirs));
        }
        // Each watch brings an event at once: so no change is missed, whichever of these
        // requests xenstored does first.
        let mut asks = Vec::new();
        if !self.watching {
            asks.push(Ask::Watch(self.name().pointer(), self.name().token()));
        }
        if let Some(paths) = now {
            let state = xenbus::state_path(&paths.backend);
            asks.push(Ask::Watch(state.clone(), paths.token.clone()));
            asks.push(Ask::Read(state));
        }
        let mut answers = xs.batch(&asks)?;
        let state = now.and(answers.pop());
        for answer in answers {
            watched(answer)?;
        }
        self.watching = true;
        let Found { paths, ours, .. } = found?;
        self.paths = Some(paths.clone());
        Ok((paths, ours, xenbus::state_in(state.unwrap_or(Err(StoreError::TimedOut)))?))
    }

    fn begin(&mut self) {
        self.stage = Stage::Begin;
        if let Some(front) = self.offered.take() {
            // The other end may have mapped them by now.
            self.old_pages.extend(front.into_pages());
        }
    }

    /// Whether a new connection may begin: see the head of this file.
    fn may_start(&mut self, xs: &mut Xenstore<H>, paths: &Paths) -> Result<bool, ConnectError> {
        let now_ns = self.hv.now_ns();
        let old_pages = core::mem::take(&mut self.old_pages);
        self.old_pages = old_pages.into_iter().filter_map(|page| page.try_revoke().err()).collect();
        // One page is enough to wait for: it may belong to a write that is on its way to the disk.
        if !self.old_pages.is_empty() {
            self.due_at_ns = now_ns.saturating_add(PAGES_INTERVAL_NS);
            let pages = u32::try_from(self.old_pages.len()).unwrap_or(u32::MAX);
            self.report(ConnectError::PagesOut(pages));
            return Ok(false);
        }
        // One that fails at once is not asked as fast as the stub can ask.
        if now_ns < self.not_before_ns {
            self.due_at_ns = self.not_before_ns;
            return Ok(false);
        }
        // The toolstack takes the device away: there is nothing to begin.
        Ok(Numbers::read(xs, &paths.backend, &["online"])?.next()? != Some(0))
    }

    /// Begins a new connection, if one may begin.
    fn start(
        &mut self,
        xs: &mut Xenstore<H>,
        paths: &Paths,
        ours: XenbusState,
        state: XenbusState,
    ) -> Result<Advance<D>, ConnectError> {
        if !self.may_start(xs, paths)? {
            return Ok(Advance::Wait(state));
        }
        if ours != XenbusState::Initialising {
            return self.go_to(xs, paths, Stage::Start, XenbusState::Initialising);
        }
        // The toolstack has written it already.
        self.stage = Stage::Start;
        self.may_offer(xs, paths, state)
    }

    fn may_offer(
        &mut self,
        xs: &mut Xenstore<H>,
        paths: &Paths,
        state: XenbusState,
    ) -> Result<Advance<D>, ConnectError> {
        match xenbus::step(Phase::Start, state) {
            Step::Offer => self.offer(xs, paths),
            // It closes what we have not begun: follow it, or it never gets to the end.
            Step::Wait if state == XenbusState::Closing => Err(ConnectError::Refused(state)),
            Step::Wait => Ok(Advance::Wait(state)),
            _ => Err(ConnectError::Refused(state)),
        }
    }

    fn offer(&mut self, xs: &mut Xenstore<H>, paths: &Paths) -> Result<Advance<D>, ConnectError> {
        let session = Session {
            number: self.number,
            options: self.options,
            paths: paths.clone(),
            pause_ns: self.pause_ns,
            connected_at_ns: 0,
        };
        let front = D::prepare(&self.hv, xs, session).map_err(|(error, pages)| {
            self.old_pages.extend(pages);
            error
        })?;
        self.offered.insert(Box::new(front)).offer(xs)?;
        self.go_to(xs, paths, Stage::Offered, D::OFFERED)
    }

    fn connect(&mut self, xs: &mut Xenstore<H>, paths: &Paths) -> Result<Advance<D>, ConnectError> {
        let Some(front) = &mut self.offered else { return Err(ConnectError::Xen(Errno::EINVAL)) };
        front.complete(xs)?;
        if D::OFFERED != XenbusState::Connected {
            xenbus::write_state(xs, &paths.frontend, XenbusState::Connected)?;
        }
        let Some(mut front) = self.offered.take() else { return Err(ConnectError::Xen(Errno::EINVAL)) };
        front.session_mut().connected_at_ns = self.hv.now_ns();
        Ok(Advance::Connected(front))
    }

    fn fail(&mut self, error: ConnectError) {
        let now_ns = self.hv.now_ns();
        self.begin();
        self.report(error);
        // No pause for a device that is simply not there.
        if let ConnectError::Missing(_) = error {
            // Detached: an event comes when it is attached again.
            return;
        }
        self.pause_ns = backoff::longer(self.pause_ns);
        self.quiet_until_ns = now_ns.saturating_add(self.pause_ns);
        self.not_before_ns = self.quiet_until_ns;
        self.due_at_ns = self.quiet_until_ns;
    }

    fn report(&mut self, error: ConnectError) {
        // It may fail in the same way for hours.
        if self.reported != Some(error) {
            log::warn!("{} {}: no connection yet: {error}", D::NAME, self.name().frontend());
            self.reported = Some(error);
        }
    }

    /// Gives up: closes what was offered, waits for it, and ends the watches.
    pub(crate) fn abandon(mut self, xs: &mut Xenstore<H>) {
        if let Some(front) = self.offered.take() {
            // It may have mapped our pages by now: ask for them back before they go.
            let _ = close(xs, D::CLASS, front.session());
            drop(front.into_pages());
        }
        // Best effort: the error that led here is the one to report.
        if let Some(paths) = &self.paths {
            let _ = xs.unwatch(&xenbus::state_path(&paths.backend), &paths.token);
        }
        let _ = xs.unwatch(&self.name().pointer(), &self.name().token());
    }
}

impl Stage {
    /// Whether our own state is the one that we wrote for this stage.
    fn is_shown_by(self, ours: XenbusState, offered: XenbusState) -> bool {
        match self {
            Stage::Begin | Stage::Release => true,
            Stage::Closing => ours == XenbusState::Closing,
            Stage::Closed => ours == XenbusState::Closed,
            Stage::Start => ours == XenbusState::Initialising,
            Stage::Offered => ours == offered,
        }
    }
}

/// A watch that was set already is as good.
fn watched(answer: Result<Vec<u8>, StoreError>) -> Result<(), StoreError> {
    match answer {
        Ok(_) | Err(StoreError::Refused(Errno::EEXIST)) => Ok(()),
        Err(error) => Err(error),
    }
}
