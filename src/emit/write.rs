//! Writes a crate to disk, whole or not at all.
//!
//! 1. The files are written to a temporary folder beside the destination. A file that the
//!    destination already has with the same bytes is hard-linked, so that it keeps its time stamp
//!    and Cargo does not rebuild. Where links are impossible, it is copied and given the old time
//!    stamp.
//! 2. What an earlier output holds besides hiosc's files (`target/`, notes) moves into the new
//!    folder. The earlier output moves aside, and the new folder takes its place. All of these are
//!    renames, and a failure undoes the previous ones.
//! 3. The earlier output is deleted.
//!
//! A failure leaves the destination as it was and removes the temporary folder. If undoing fails as
//! well, nothing is deleted.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::weights::{self, Weights};
use super::{Crate, MARK};
use crate::error::{Error, Result};

/// Files of hiosc at the top of a crate. Everything else there is the user's.
const OWNED: [&str; 12] = [
    "Cargo.lock",
    "Cargo.toml",
    "README.md",
    "build.rs",
    "check.safetensors",
    "kernels",
    "launches.jsonl",
    "rustfmt.toml",
    "schedule.html",
    "schedule.txt",
    "src",
    "weights.safetensors",
];

/// What writing a crate did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// Where the crate is.
    pub path: PathBuf,
    /// Number of its files.
    pub files: usize,
    /// Number of files that are new or different.
    pub changed: usize,
    /// Their total size in bytes.
    pub bytes: u64,
}

/// Fails as [`write()`] would if `out` holds something that hiosc did not make. Call it before any
/// work is done.
pub fn check_destination(out: &Path) -> Result<()> {
    earlier(out).map(|_| ())
}

/// Writes `krate` to the folder `out`, which may be absent, empty, or an earlier output of hiosc.
pub fn write(krate: &Crate, out: &Path) -> Result<Written> {
    let old = earlier(out)?;
    let files: BTreeMap<&str, Contents> = contents(krate).collect();
    let bytes = files.values().map(Contents::len).sum();
    let same: Vec<&str> = files.iter().filter(|(path, file)| holds(old.as_deref(), path, file)).map(|(path, _)| *path).collect();
    let written = Written { path: out.to_path_buf(), files: files.len(), changed: files.len() - same.len(), bytes };
    if let Some(old) = &old
        && written.changed == 0
        && owned_files(old)? == files.len()
    {
        return Ok(written);
    }

    let out = old.clone().unwrap_or_else(|| out.to_path_buf());
    let parent = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(Error::io(parent))?;
    // Removed when dropped, whatever happens.
    let scratch = temporary(parent)?;
    let fresh = scratch.path().join("new");
    fill(&fresh, &files, old.as_deref(), &same)?;
    if let Err((error, undone)) = exchange(&fresh, &out, &scratch.path().join("old")) {
        if !undone {
            // The user's files are in there.
            let _ = scratch.keep();
        }
        return Err(error);
    }
    // The rename must survive a power failure. Not every file system can guarantee that.
    let _ = File::open(parent).and_then(|folder| folder.sync_all());
    Ok(written)
}

/// The files in `folder` that [`write()`] would change, each with a word about it. Weights may be
/// absent, as the crate has their hash. Reference data are not compared: the outputs depend on the
/// CPU that computed them.
pub fn differences(krate: &Crate, folder: &Path) -> Result<Vec<(String, &'static str)>> {
    let mut found = Vec::new();
    let files: BTreeMap<&str, Contents> = contents(krate).collect();
    for (&path, file) in &files {
        let present = fs::symlink_metadata(folder.join(path)).is_ok();
        match path {
            weights::PATH if !present => {}
            "check.safetensors" if present => {}
            _ if !present => found.push((path.to_string(), "missing")),
            _ if !holds(Some(folder), path, file) => found.push((path.to_string(), "different")),
            _ => {}
        }
    }
    let mut waiting: Vec<PathBuf> = OWNED.iter().map(PathBuf::from).collect();
    while let Some(path) = waiting.pop() {
        let name = path.to_string_lossy().replace('\\', "/");
        let full = folder.join(&path);
        match fs::symlink_metadata(&full) {
            Ok(metadata) if metadata.is_dir() => {
                for entry in fs::read_dir(&full).map_err(Error::io(&full))? {
                    waiting.push(path.join(entry.map_err(Error::io(&full))?.file_name()));
                }
            }
            Ok(_) if !files.contains_key(name.as_str()) && name != "check.safetensors" => found.push((name, "no longer written")),
            _ => {}
        }
    }
    found.sort();
    Ok(found)
}

/// Fails as [`write_module`] would if something that hiosc did not make is where the module `name`
/// will be.
pub fn check_module_destination(name: &str, folder: &Path) -> Result<()> {
    let file = folder.join(format!("{name}.rs"));
    if fs::symlink_metadata(&file).is_ok() && !fs::read_to_string(&file).is_ok_and(|text| text.starts_with(&format!("// {MARK}"))) {
        return Err(Error::Usage(format!("hiosc did not write {}: choose another folder or name", file.display())));
    }
    check_destination(&folder.join(name))
}

/// Writes a module to `folder/NAME`, and a file `folder/NAME.rs` that makes it a module `NAME` of
/// the program that includes it.
pub fn write_module(module: &Crate, name: &str, folder: &Path) -> Result<Written> {
    let folder = std::path::absolute(folder).map_err(Error::io(folder))?;
    check_module_destination(name, &folder)?;
    let mut written = write(module, &folder.join(name))?;
    let source = folder.join(name).join("src").join("lib.rs");
    // absolute: in an included file, a relative path would start from the including file
    let text = format!(
        "// {MARK}\n#[path = {source:?}]\n#[allow(dead_code, unsafe_code, unreachable_pub, rust_2018_idioms, clippy::all, clippy::pedantic, clippy::nursery)]\npub mod {name};\n"
    );
    let file = folder.join(format!("{name}.rs"));
    written.files += 1;
    written.bytes += text.len() as u64;
    if !fs::read(&file).is_ok_and(|old| old == text.as_bytes()) {
        fs::write(&file, text).map_err(Error::io(&file))?;
        written.changed += 1;
    }
    Ok(written)
}

/// A temporary folder in `parent`. tempfile's own message names its random path, which does not
/// help the user.
fn temporary(parent: &Path) -> Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix(".hiosc-").tempdir_in(parent).map_err(|e| {
        let text = e.to_string();
        let cause = text.split(" at path ").next().unwrap_or(&text);
        Error::io(parent)(std::io::Error::new(e.kind(), format!("cannot create a folder there: {cause}")))
    })
}

/// The earlier output at `out`, with symbolic links followed; an error if something else is there.
fn earlier(out: &Path) -> Result<Option<PathBuf>> {
    let path = match fs::canonicalize(out) {
        Ok(path) => path,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && fs::symlink_metadata(out).is_err() => return Ok(None),
        Err(error) => return Err(Error::io(out)(error)),
    };
    let refuse = |why: &str| Err(Error::Usage(format!("{} {why}: choose another folder", out.display())));
    if !path.is_dir() {
        return refuse("is not a folder");
    }
    let empty = fs::read_dir(&path).map_err(Error::io(&path))?.next().is_none();
    // the manifest of a crate, or the root of a module; the mark of earlier versions has no '@'
    let marked = |(file, comment): (&str, &str)| {
        let text = fs::read_to_string(path.join(file)).unwrap_or_default();
        text.strip_prefix(comment).is_some_and(|text| text.starts_with(MARK) || text.starts_with(&MARK[1..]))
    };
    if empty || marked(("Cargo.toml", "# ")) || (!path.join("Cargo.toml").exists() && marked(("src/lib.rs", "// "))) {
        return Ok(Some(path));
    }
    refuse("is not empty and hiosc did not write it")
}

/// What a file of a crate contains.
enum Contents<'a> {
    Bytes(&'a [u8]),
    Weights(&'a Weights),
}

impl Contents<'_> {
    fn len(&self) -> u64 {
        match self {
            Contents::Bytes(bytes) => bytes.len() as u64,
            Contents::Weights(weights) => weights.bytes(),
        }
    }

    fn write(&self, file: &mut File) -> std::io::Result<()> {
        match self {
            Contents::Bytes(bytes) => file.write_all(bytes),
            Contents::Weights(weights) => weights.write(file),
        }
    }

    /// Whether the file at `path` has the same contents.
    fn are_in(&self, path: &Path) -> bool {
        match self {
            Contents::Bytes(bytes) => fs::read(path).is_ok_and(|found| found == *bytes),
            Contents::Weights(weights) => File::open(path).is_ok_and(|file| weights.equals(file)),
        }
    }
}

/// The files of a crate, by path.
fn contents(krate: &Crate) -> impl Iterator<Item = (&str, Contents<'_>)> {
    let weights = krate.weights.iter().map(|weights| (weights::PATH, Contents::Weights(weights)));
    krate.files.iter().map(|(path, bytes)| (path.as_str(), Contents::Bytes(bytes))).chain(weights)
}

/// Whether `old` has this file with these contents.
fn holds(old: Option<&Path>, path: &str, contents: &Contents) -> bool {
    let Some(old) = old else { return false };
    let file = old.join(path);
    let same_size = fs::symlink_metadata(&file).is_ok_and(|m| m.is_file() && m.len() == contents.len());
    same_size && contents.are_in(&file)
}

/// Number of files in `old` that hiosc owns.
fn owned_files(old: &Path) -> Result<usize> {
    fn count(path: &Path) -> std::io::Result<usize> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
            Ok(metadata) if metadata.is_dir() => fs::read_dir(path)?.map(|entry| count(&entry?.path())).sum(),
            Ok(_) => Ok(1),
        }
    }
    OWNED.iter().map(|name| old.join(name)).map(|path| count(&path).map_err(Error::io(&path))).sum()
}

/// Writes all files into the new folder `fresh`.
fn fill(fresh: &Path, files: &BTreeMap<&str, Contents>, old: Option<&Path>, same: &[&str]) -> Result<()> {
    fs::create_dir(fresh).map_err(Error::io(fresh))?;
    for (path, contents) in files {
        let file = fresh.join(path);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        match old.filter(|_| same.contains(path)) {
            Some(old) => keep(&old.join(path), &file)?,
            None => create(&file, contents)?,
        }
    }
    Ok(())
}

fn create(file: &Path, contents: &Contents) -> Result<()> {
    let write = || {
        let mut handle = File::create_new(file)?;
        contents.write(&mut handle)?;
        handle.sync_data()
    };
    write().map_err(Error::io(file))
}

/// Hard-links the file, or copies it with its time stamp.
fn keep(old: &Path, new: &Path) -> Result<()> {
    if fs::hard_link(old, new).is_ok() {
        return Ok(());
    }
    let copy = || {
        fs::copy(old, new)?;
        File::options().write(true).open(new)?.set_modified(fs::metadata(old)?.modified()?)
    };
    copy().map_err(Error::io(new))
}

/// Replaces `out` with `fresh`, and keeps what `out` holds besides hiosc's files. The rest of `out`
/// goes to `aside`. On failure, undoes what was done, and returns whether that worked.
fn exchange(fresh: &Path, out: &Path, aside: &Path) -> std::result::Result<(), (Error, bool)> {
    let mut done: Vec<(PathBuf, PathBuf)> = Vec::new();
    for (from, to) in moves(fresh, out, aside).map_err(|error| (error, true))? {
        if let Err(error) = fs::rename(&from, &to) {
            let undone = done.iter().rev().all(|(from, to)| fs::rename(to, from).is_ok());
            return Err((Error::io(&from)(error), undone));
        }
        done.push((from, to));
    }
    Ok(())
}

/// The renames that replace `out`.
fn moves(fresh: &Path, out: &Path, aside: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    let mut moves = Vec::new();
    if out.exists() {
        for entry in fs::read_dir(out).map_err(Error::io(out))? {
            let entry = entry.map_err(Error::io(out))?;
            if !OWNED.iter().any(|owned| entry.file_name() == *owned) {
                moves.push((entry.path(), fresh.join(entry.file_name())));
            }
        }
        moves.sort();
        moves.push((out.to_path_buf(), aside.to_path_buf()));
    }
    moves.push((fresh.to_path_buf(), out.to_path_buf()));
    Ok(moves)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(text: &str) -> Crate {
        let files = [("Cargo.toml", format!("# {MARK} 1\n")), ("src/a.rs", "same".into()), ("src/b.rs", text.into())];
        Crate { files: files.into_iter().map(|(path, text): (_, String)| (path.to_string(), text.into_bytes())).collect(), weights: None }
    }

    #[test]
    fn an_earlier_output_is_replaced_and_keeps_its_users_files() {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let folder = scratch.path().join("deep/out");
        write(&output("one"), &folder).expect("a first output");
        fs::create_dir(folder.join("target")).expect("a build");
        fs::write(folder.join("notes.txt"), "mine").expect("a note");
        fs::write(folder.join("src/stale.rs"), "").expect("a stale file");
        let written = write(&output("two"), &folder).expect("a second output");
        assert_eq!((written.files, written.changed), (3, 1));
        assert_eq!(fs::read_to_string(folder.join("src/b.rs")).expect("a file"), "two");
        assert!(folder.join("target").is_dir() && folder.join("notes.txt").is_file() && !folder.join("src/stale.rs").exists());
        assert_eq!(fs::read_dir(scratch.path().join("deep")).expect("a folder").count(), 1, "no temporary folder is left");
    }

    #[test]
    fn other_peoples_folders_are_left_alone() {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        fs::write(scratch.path().join("precious"), "data").expect("a file");
        let error = write(&output("one"), scratch.path()).expect_err("refused").to_string();
        assert!(error.contains("hiosc did not write it"), "{error}");
        assert_eq!(fs::read_dir(scratch.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn a_failure_leaves_nothing() {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let mut broken = output("one");
        broken.files.insert("src/a.rs/impossible".into(), Vec::new());
        assert!(write(&broken, &scratch.path().join("out")).is_err());
        assert_eq!(fs::read_dir(scratch.path()).expect("a folder").count(), 0);
    }
}
