//! `catena man`: manual pages, made from the same tables as the help.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::{Catena, help};

/// What `catena man` can be told.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// Where the pages are written, made if missing; without it, the main page goes to standard output
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Writes them.
pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    match &options.dir {
        Some(dir) => {
            let pages = write(dir)
                .with_context(|| format!("cannot write manual pages into {}", dir.display()))?;
            crate::print(&format!(
                "{pages} pages are in {dir}: read one with `man {dir}/catena.1`",
                dir = dir.display()
            ));
        }
        None => {
            let mut page = Vec::new();
            Man::new(command()).render(&mut page)?;
            crate::print(String::from_utf8_lossy(&page).trim_end());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A page for the program and for each command below it; how many there are.
fn write(dir: &Path) -> io::Result<usize> {
    fs::create_dir_all(dir)?;
    pages(&command(), dir)
}

fn pages(command: &Command, dir: &Path) -> io::Result<usize> {
    Man::new(command.clone()).generate_to(dir)?;
    let mut written = 1;
    for below in command.get_subcommands() {
        written += pages(below, dir)?;
    }
    Ok(written)
}

/// The program, with the flags of the server, which clap does not know.
fn command() -> Command {
    let mut command = Catena::command()
        .disable_help_subcommand(true)
        .mut_subcommand("server", |server| server.after_long_help(help::text()));
    // Gives each command its full name, which is that of its page.
    command.build();
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of the pages that there have to be.
    fn expected(command: &Command, name: &str, names: &mut Vec<String>) {
        names.push(format!("{name}.1"));
        for below in command.get_subcommands() {
            expected(below, &format!("{name}-{}", below.get_name()), names);
        }
    }

    #[test]
    fn every_command_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        let mut names = Vec::new();
        expected(&command(), "catena", &mut names);
        assert_eq!(write(dir.path()).unwrap(), names.len());
        assert!(names.contains(&"catena-ctl-config-gray-put.1".to_owned()));
        for name in &names {
            let page = fs::read_to_string(dir.path().join(name)).expect(name);
            let title = name.strip_suffix(".1").unwrap();
            let head = page.lines().find(|line| line.starts_with(".TH"));
            let head = head.expect(name);
            assert!(
                head.starts_with(&format!(".TH {title} 1")),
                "{name}: {head}"
            );
            assert!(page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"));
        }
        let server = fs::read_to_string(dir.path().join("catena-server.1")).unwrap();
        assert!(server.contains("initial\\-cluster"), "{server}");
    }
}
