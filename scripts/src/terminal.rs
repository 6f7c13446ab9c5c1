//! The terminal: raw mode while a session lasts, and its settings back whatever ends us.

use std::io::{IsTerminal, stdin};
use std::sync::Mutex;

use anyhow::Result;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

static SAVED: Mutex<Option<Termios>> = Mutex::new(None);

/// Gives the terminal back its settings, if we changed them.
pub fn restore() {
    let mut saved = SAVED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(settings) = saved.take() {
        // A terminal that is gone needs no settings.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &settings);
    }
}

/// The terminal in raw mode while this lives.
#[derive(Debug)]
pub struct RawMode;

impl RawMode {
    /// Enters raw mode; where standard input is no terminal, nothing happens.
    ///
    /// # Errors
    /// When the terminal refuses.
    pub fn enter() -> Result<Self> {
        if stdin().is_terminal() {
            let settings = tcgetattr(stdin())?;
            let mut raw = settings.clone();
            raw.make_raw();
            *SAVED.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(settings);
            tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        }
        Ok(Self)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// Rows and columns of the terminal; the usual ones when there is none.
#[must_use]
pub fn size() -> (u16, u16) {
    tcgetwinsize(stdin())
        .ok()
        .filter(|size| size.ws_row > 0 && size.ws_col > 0)
        .map_or((24, 80), |size| (size.ws_row, size.ws_col))
}
