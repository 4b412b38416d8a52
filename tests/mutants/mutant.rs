//! One mutant: a patch, and the head that says what is expected of it.
//!
//! ```text
//! Breaks: the answer is given before the sync that should cover it
//! Guarantee: K1
//! Convicts: cargo test --workspace --test simulation -- crashes_keep_what_was_durable
//! Words: no prefix from
//! Convicts: cargo test --workspace --test robustness -- catena_x1::powercut-slow-fsync
//! Words: K1
//! ```
//!
//! Words that may be said instead stand behind ` | `. A patch with several accusers is as many mutants: each accuser must convict.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};

/// How every command begins. All crates are selected, so that the libraries that they use have the features which they have in all
/// the other tests and need not be compiled anew. The tests of the framework itself take long to build, so commands that want tests
/// inside a crate exclude it; it turns on no feature that others do not.
const COMMAND: &str = "cargo test --workspace ";

/// One defect, and one test that convicts it.
#[derive(Clone, Debug)]
pub(crate) struct Mutant {
    /// Two digits.
    pub(crate) number: String,
    /// What the file is called behind the number.
    pub(crate) name: String,
    /// The patch.
    pub(crate) path: PathBuf,
    /// What goes wrong.
    pub(crate) breaks: String,
    /// The guarantee that does not hold then, by its number in the chapter on reliability.
    pub(crate) guarantee: String,
    /// The command that convicts it.
    pub(crate) command: Command,
    /// What that command says; one of them is enough.
    pub(crate) words: Vec<String>,
    /// Files that it changes, from the root.
    pub(crate) files: BTreeSet<PathBuf>,
}

/// The tests that one command runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Command {
    /// What is built, such as `--test simulation`.
    pub(crate) binary: String,
    /// The test.
    pub(crate) test: String,
    /// What stands behind it, such as `--seeds 12`.
    pub(crate) options: Vec<String>,
}

impl Command {
    fn parse(line: &str) -> Result<Self> {
        let rest = line
            .strip_prefix(COMMAND)
            .with_context(|| format!("`{line}` does not begin with `{COMMAND}`"))?;
        let (binary, test) = rest
            .split_once(" -- ")
            .with_context(|| format!("`{line}` names no test"))?;
        let mut words = test.split_whitespace().map(str::to_owned);
        Ok(Self {
            binary: binary.to_owned(),
            test: words
                .next()
                .with_context(|| format!("`{line}` names no test"))?,
            options: words.collect(),
        })
    }

    /// Whether a crate's own tests convict, which build nothing but the crate.
    pub(crate) fn is_quick(&self) -> bool {
        self.binary == "--exclude catena-tests --lib"
    }

    /// As one types it.
    pub(crate) fn line(&self) -> String {
        let options: String = self.options.iter().map(|word| format!(" {word}")).collect();
        format!("{COMMAND}{} -- {}{options}", self.binary, self.test)
    }
}

impl Mutant {
    /// All of them, by number; those of one patch stand together, in the order of its head.
    pub(crate) fn all() -> Result<Vec<Self>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("mutants");
        let mut mutants = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|found| found == "patch") {
                let read = Self::read(&path);
                mutants.extend(read.with_context(|| path.display().to_string())?);
            }
        }
        mutants.sort_by(|one, other| one.number.cmp(&other.number));
        for pair in mutants.windows(2) {
            let [one, other] = [&pair[0], &pair[1]];
            let number = &one.number;
            ensure!(
                *number != other.number || one.path == other.path,
                "two patches are number {number}"
            );
        }
        Ok(mutants)
    }

    fn read(path: &Path) -> Result<Vec<Self>> {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let (number, name) = stem.split_once('-').context("the file has no number")?;
        let text = fs::read_to_string(path)?;
        let (head, patch) = text
            .split_once("\n--- ")
            .context("the file holds no patch")?;
        let fields = |name: &str| {
            let of = |line: &'_ str| Some(line.strip_prefix(name)?.strip_prefix(": ")?.to_owned());
            let found: Vec<String> = head.lines().filter_map(of).collect();
            match found.is_empty() {
                true => bail!("the head has no `{name}:`"),
                false => Ok(found),
            }
        };
        let files: BTreeSet<PathBuf> = patch
            .lines()
            .filter_map(|line| line.strip_prefix("+++ b/"))
            .map(PathBuf::from)
            .collect();
        if let Some(file) = files.iter().find(|file| !file.starts_with("crates")) {
            bail!("{} is not production code", file.display());
        }
        ensure!(!files.is_empty(), "the patch changes nothing");
        let (breaks, guarantee) = (fields("Breaks")?.remove(0), fields("Guarantee")?.remove(0));
        let (commands, words) = (fields("Convicts")?, fields("Words")?);
        ensure!(
            commands.len() == words.len(),
            "each `Convicts:` has its `Words:`"
        );
        let accusers = commands.iter().zip(&words).map(|(command, words)| {
            Ok(Self {
                number: number.to_owned(),
                name: name.to_owned(),
                path: path.to_owned(),
                breaks: breaks.clone(),
                guarantee: guarantee.clone(),
                command: Command::parse(command)?,
                words: words.split(" | ").map(str::to_owned).collect(),
                files: files.clone(),
            })
        });
        accusers.collect()
    }

    /// Number and name.
    pub(crate) fn title(&self) -> String {
        format!("{} {}", self.number, self.name)
    }
}
