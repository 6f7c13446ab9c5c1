//! The manual page and the shell completions of `pilotfishd`, made from its command line. The
//! daemon itself does not carry the code for that.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;
use pilotfishd_cli::{Args, MANUAL_SECTIONS};

const NAME: &str = "pilotfishd";
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// Writes `pilotfishd.8` into `dir`, and a completion file for each shell into `completions` below
/// it; returns their paths.
///
/// # Errors
/// When a file cannot be written.
pub fn write(dir: &Path) -> Result<Vec<PathBuf>> {
    let page = dir.join(format!("{NAME}.8"));
    let mut text = Vec::new();
    manual_page(&mut text)?;
    fs::write(&page, text).with_context(|| format!("cannot write {}", page.display()))?;
    let completions = dir.join("completions");
    fs::create_dir_all(&completions)?;
    let mut written = vec![page];
    for shell in SHELLS {
        let path = generate_to(shell, &mut Args::command(), NAME, &completions)
            .with_context(|| format!("cannot write to {}", completions.display()))?;
        written.push(path);
    }
    Ok(written)
}

fn manual_page(out: &mut dyn Write) -> io::Result<()> {
    let man = Man::new(Args::command()).section("8").manual("Pilotfish");
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    man.render_options_section(out)?;
    out.write_all(MANUAL_SECTIONS.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The options of the command line, as a user types them.
    fn options() -> Vec<String> {
        let command = Args::command();
        command.get_arguments().filter_map(|arg| arg.get_long()).map(|long| format!("--{long}")).collect()
    }

    #[test]
    fn every_file_knows_every_option() {
        assert!(options().len() >= 5, "{:?}", options());
        let dir = tempfile::tempdir().unwrap();
        let written = write(dir.path()).unwrap();
        let names: Vec<_> = written.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["pilotfishd.8", "pilotfishd.bash", "_pilotfishd", "pilotfishd.fish"]);
        for path in &written {
            // roff escapes dashes; fish leaves the two of a long option out.
            let text = fs::read_to_string(path).unwrap().replace("\\-", "-").replace("-l ", "--");
            for option in options() {
                assert!(text.contains(&option), "{option} in {}", path.display());
            }
        }
    }

    #[test]
    fn the_page_has_its_sections_in_the_usual_order() {
        let mut page = Vec::new();
        manual_page(&mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        let sections: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
        let expected = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "CONFIGURATION", "\"EXIT STATUS\""];
        for (section, expected) in sections.iter().zip(expected) {
            assert_eq!(section.trim_matches('"'), expected.trim_matches('"'));
        }
        assert!(page.contains(".TH pilotfishd 8"), "{page}");
    }
}
