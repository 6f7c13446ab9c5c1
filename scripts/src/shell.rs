//! `cargo xtask shell` and `cargo xtask run`: the system for a person to use.

use std::io::{Read, Write, stdin};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::agent::Patience;
use crate::build::{self, Products};
use crate::protocol::Event;
use crate::setup::{self, Fixture};
use crate::system::{self, Options};
use crate::terminal::{self, RawMode};
use crate::ui;

/// Ctrl-]: ends the session, as with telnet.
const ESCAPE: u8 = 0x1d;
const CHUNK: usize = 8;
const PAUSE: Duration = Duration::from_millis(10);

/// Sets up and builds for one Xen version; `bare` leaves our own parts out.
///
/// # Errors
/// When a step fails.
pub fn prepare(options: &Options, bare: bool) -> Result<(Fixture, Products)> {
    ui::heading("Set-up");
    setup::packages::ensure()?;
    let toolchain = (!bare).then(setup::toolchain).transpose()?;
    let fixture = setup::fixture(options.xen)?;
    let products = match &toolchain {
        Some(toolchain) => {
            ui::heading("Build");
            build::all(toolchain)?
        }
        None => Products::default(),
    };
    Ok((fixture, products))
}

/// Boots the system and connects the terminal to dom0's console.
///
/// # Errors
/// When set-up, build or boot fail.
pub fn run(options: &Options, bare: bool) -> Result<()> {
    let (fixture, products) = prepare(options, bare)?;
    ui::heading("Run");
    let agent = system::boot(&fixture, &products, options)?;
    ui::heading(
        "\ndom0 is yours. Things to try:\n  \
         xl create -c /root/guest.cfg     a guest with two disks (leave its console: Ctrl-])\n  \
         xl list                          its stub beside it\n  \
         cat /var/log/pilotfishd.log      what the daemon did\n  \
         poweroff                         end (or Ctrl-] to end at once)\n",
    );
    let mut qemu = agent.into_console();
    let (rows, columns) = terminal::size();
    qemu.send(format!("shell {rows} {columns}\n").as_bytes())?;
    qemu.show_output(true);
    let _raw = RawMode::enter()?;
    if let Some(mut console) = qemu.take_stdin() {
        let (ended_in, ended) = std::sync::mpsc::channel();
        thread::spawn(move || {
            relay_keys(&mut console);
            // The receiver may be gone: then the machine ended first.
            let _ = ended_in.send(());
            // Keeps the pipe open: without input the machine goes on.
            thread::park();
        });
        while ended.try_recv().is_err() {
            let soon = std::time::Instant::now() + Duration::from_millis(200);
            match qemu.line(Some(soon))? {
                Some(_) => {}
                None if qemu.ended() => break,
                None => {}
            }
        }
    }
    Ok(())
}

/// Copies keys to the console, slowly enough for Xen; returns at the escape key. At the
/// end of a piped input the session goes on until the machine powers off.
fn relay_keys(console: &mut impl Write) {
    let mut buffer = [0; 256];
    while let Ok(count) = stdin().read(&mut buffer) {
        if count == 0 {
            thread::park();
        }
        let data = buffer.get(..count).unwrap_or_default();
        let keys = data.split(|&byte| byte == ESCAPE).next().unwrap_or_default();
        for chunk in keys.chunks(CHUNK) {
            if console.write_all(chunk).and_then(|()| console.flush()).is_err() {
                return;
            }
            thread::sleep(PAUSE);
        }
        if keys.len() < data.len() {
            return;
        }
    }
}

/// Runs one scenario of `tests/qemu` and shows what it prints; true when it passed.
///
/// # Errors
/// When set-up, build or boot fail.
pub fn scenario(options: &Options, name: &str, bare: bool, limit: Duration) -> Result<bool> {
    let (fixture, products) = prepare(options, bare)?;
    ui::heading("Run");
    let mut agent = system::boot(&fixture, &products, options)?;
    let outcome = agent.run(name, Patience::of(limit), |event| match event {
        Event::Text(line) => println!("    {line}"),
        Event::Fact { key, value } => println!("    {key} = {value}"),
        Event::Check { passed: true, what } => println!("  ✓ {what}"),
        Event::Check { what, .. } => println!("  ✗ {what}"),
        _ => {}
    })?;
    match outcome.status {
        Some(status) => println!("{name}: exit status {status}, {} ms", outcome.ms),
        None => println!("{name}: the machine died or went silent"),
    }
    let passed = outcome.passed();
    agent.poweroff()?;
    Ok(passed)
}
