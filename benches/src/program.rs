//! Our own program, built for release as its users build it, from the working tree or from a commit.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use framework::peers::target_dir;

use crate::machine::git;

/// Of the working tree.
pub(crate) fn of_working_tree() -> Result<PathBuf> {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    build(&tree, &target_dir().canonicalize()?)
}

/// Of a revision, in a working tree and a target directory that stay, so that the next build has little to do.
pub(crate) fn of_revision(revision: &str) -> Result<PathBuf> {
    let target = target_dir().join("before");
    fs::create_dir_all(&target)?;
    let target = target.canonicalize()?;
    let tree = target.join("tree");
    check_out(revision, &tree)?;
    build(&tree, &target)
}

fn check_out(revision: &str, tree: &Path) -> Result<()> {
    let commit = git(&["rev-parse", "--verify", &format!("{revision}^{{commit}}")])?;
    let path = tree.display().to_string();
    let checkout = ["checkout", "--quiet", "--detach", "--force", &commit];
    let add = [
        "worktree", "add", "--quiet", "--detach", "--force", &path, &commit,
    ];
    if tree.exists() {
        git(&[&["-C", &path], &checkout[..]].concat())?;
    } else {
        git(&add)?;
    }
    Ok(())
}

fn build(tree: &Path, target: &Path) -> Result<PathBuf> {
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--release", "--package", "catena"])
        .arg("--target-dir")
        .arg(target)
        .current_dir(tree)
        .status()
        .context("cargo cannot be run")?;
    ensure!(status.success(), "{} does not build", tree.display());
    Ok(target.join("release/catena"))
}
