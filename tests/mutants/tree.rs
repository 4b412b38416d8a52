//! The copy of the tree that is patched, and what is compiled for it.
//!
//! The copy is built in a target folder of its own, because cargo takes its crates for those of the original. The libraries that are
//! not ours are the same for both; they are linked over from the original's target folder, which saves most of the time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::mutant::Mutant;

/// Beginnings of the names under which our own crates are compiled; they differ from copy to copy.
const OURS: [&str; 4] = ["catena", "libcatena", "framework", "libframework"];

/// The copy.
pub(crate) struct Tree {
    /// Its root.
    pub(crate) root: PathBuf,
    /// Its target folder.
    pub(crate) target: PathBuf,
    /// Held as long as the copy is used: two that patch one copy would disturb each other.
    _lock: File,
}

/// A patch that is applied; taken back when this is dropped.
pub(crate) struct Applied<'a> {
    tree: &'a Tree,
    before: BTreeMap<PathBuf, Vec<u8>>,
}

/// The files of the tree, from its root: those that git tracks or would, or outside a checkout all but what was built.
pub(crate) fn files(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut git = Command::new("git");
    git.args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    let listed = git.current_dir(root).output();
    if let Ok(listed) = listed
        && listed.status.success()
    {
        let names = String::from_utf8(listed.stdout)?;
        let names = names.split('\0').filter(|name| !name.is_empty());
        let there = names
            .map(PathBuf::from)
            .filter(|name| root.join(name).is_file());
        return Ok(there.collect());
    }
    let mut found = BTreeSet::new();
    walk(root, Path::new(""), &mut found)?;
    Ok(found)
}

fn walk(root: &Path, folder: &Path, found: &mut BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let name = folder.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() && entry.file_name() != "target" && entry.file_name() != ".git" {
            walk(root, &name, found)?;
        } else if kind.is_file() {
            found.insert(name);
        }
    }
    Ok(())
}

impl Tree {
    /// Brings the copy up to date with the tree at `root`. A file that is the same keeps its time, so that cargo does not compile it
    /// again.
    pub(crate) fn copy(root: &Path, target: &Path) -> Result<Self> {
        let folder = target.join("mutants");
        fs::create_dir_all(&folder)?;
        let lock = File::create(folder.join("lock"))?;
        lock.lock().context("wait for another run of this")?;
        let tree = Self {
            _lock: lock,
            root: folder.join("tree"),
            target: folder.join("target"),
        };
        fs::create_dir_all(&tree.root)?;
        let wanted = files(root)?;
        let mut there = BTreeSet::new();
        walk(&tree.root, Path::new(""), &mut there)?;
        for gone in there.difference(&wanted) {
            fs::remove_file(tree.root.join(gone))?;
        }
        for file in &wanted {
            let content = fs::read(root.join(file))?;
            tree.write(file, &content)
                .with_context(|| format!("copy {}", file.display()))?;
        }
        if !tree.target.exists() {
            tree.link_libraries(&target.join("debug"))?;
        }
        Ok(tree)
    }

    fn write(&self, file: &Path, content: &[u8]) -> io::Result<()> {
        let to = self.root.join(file);
        if fs::read(&to).is_ok_and(|there| there == content) {
            return Ok(());
        }
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(to, content)
    }

    /// Takes over what is compiled of others' libraries. Rustc writes its products aside and renames them, so those may share the
    /// disk's blocks; what is written in place is copied, and so is everything where there are no links.
    fn link_libraries(&self, from: &Path) -> Result<()> {
        let to = self.target.join("debug");
        for folder in ["deps", "build", ".fingerprint"] {
            fs::create_dir_all(to.join(folder))?;
            let Ok(entries) = fs::read_dir(from.join(folder)) else {
                continue;
            };
            for entry in entries {
                let name = entry?.file_name();
                let text = name.to_string_lossy();
                if !OURS.iter().any(|ours| text.starts_with(ours)) {
                    let (from, to) = (from.join(folder), to.join(folder));
                    take_over(&from.join(&name), &to.join(&name))?;
                }
            }
        }
        Ok(())
    }

    fn git_apply(&self, mutant: &Mutant, check: bool) -> Result<()> {
        let mut git = Command::new("git");
        git.arg("apply");
        if check {
            git.arg("--check");
        }
        // Else git finds the checkout around us, and takes the paths for those of its root.
        let ceiling = self.root.parent().unwrap_or(&self.root);
        let applied = git
            .arg(&mutant.path)
            .current_dir(&self.root)
            .env("GIT_CEILING_DIRECTORIES", ceiling)
            .stdin(Stdio::null())
            .output()
            .context("git is needed to apply patches")?;
        ensure!(
            applied.status.success(),
            "{} does not apply any more:\n{}",
            mutant.title(),
            String::from_utf8_lossy(&applied.stderr)
        );
        Ok(())
    }

    /// Whether every mutant still applies.
    pub(crate) fn check(&self, mutants: &[Mutant]) -> Result<()> {
        let failed = mutants
            .iter()
            .filter_map(|mutant| self.git_apply(mutant, true).err())
            .map(|error| error.to_string());
        let failed: Vec<String> = failed.collect();
        if !failed.is_empty() {
            bail!("{}", failed.join("\n"));
        }
        Ok(())
    }

    /// Puts a defect in.
    pub(crate) fn apply(&self, mutant: &Mutant) -> Result<Applied<'_>> {
        let read = |file: &PathBuf| Ok((file.clone(), fs::read(self.root.join(file))?));
        let before: BTreeMap<_, _> = mutant.files.iter().map(read).collect::<io::Result<_>>()?;
        let applied = Applied { tree: self, before };
        self.git_apply(mutant, false)?;
        let same = applied
            .before
            .iter()
            .all(|(file, before)| fs::read(self.root.join(file)).is_ok_and(|now| now == *before));
        ensure!(!same, "{} changed nothing", mutant.title());
        Ok(applied)
    }
}

impl Drop for Applied<'_> {
    fn drop(&mut self) {
        for (file, content) in &self.before {
            if let Err(error) = self.tree.write(file, content) {
                // The next run copies the tree again.
                eprintln!("{} is not taken back: {error}", file.display());
            }
        }
    }
}

fn take_over(from: &Path, to: &Path) -> Result<()> {
    let meta = fs::metadata(from)?;
    if meta.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            take_over(&from.join(&name), &to.join(&name))?;
        }
        return Ok(());
    }
    let product = from
        .extension()
        .is_some_and(|kind| kind == "rlib" || kind == "rmeta" || kind == "so");
    if product && fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    fs::copy(from, to)?;
    // Cargo compares times, so they come along.
    File::open(to)?.set_modified(meta.modified()?)?;
    Ok(())
}
