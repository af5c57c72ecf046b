//! A crate appears on disk whole or not at all.
//!
//! All files are written to a temporary folder beside the target, which then takes its place by a rename. What an earlier output of hiosc holds besides
//! generated files (`target/`) moves over; files that did not change are hard links to the old ones, so that cargo does not build again. A folder that
//! hiosc did not write is refused.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Crate, MARK};
use crate::error::{Error, Result};

/// Writes `output` to `folder`.
pub fn write(output: &Crate, folder: &Path) -> Result<()> {
    let old = earlier(folder)?;
    let parent = match folder.parent() {
        Some(parent) if parent != Path::new("") => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    fs::create_dir_all(&parent).map_err(Error::io(&parent))?;
    // removed again if anything below fails
    let new = temporary(&parent)?;
    for (path, bytes) in &output.files {
        let to = new.path().join(path);
        let inside = to.parent().unwrap_or(new.path());
        fs::create_dir_all(inside).map_err(Error::io(inside))?;
        let unchanged = old.then(|| folder.join(path)).filter(|from| fs::read(from).is_ok_and(|have| have == *bytes));
        if unchanged.is_none_or(|from| fs::hard_link(from, &to).is_err()) {
            fs::write(&to, bytes).map_err(Error::io(folder.join(path)))?;
        }
    }
    readable_by_all(new.path())?;
    if !old {
        if folder.is_dir() {
            fs::remove_dir(folder).map_err(Error::io(folder))?; // empty, as `earlier` has seen
        }
        fs::rename(new.path(), folder).map_err(Error::io(folder))?;
        let _ = new.keep(); // it is gone from its old name
        return Ok(());
    }
    replace(&new, folder, &parent)
}

/// Puts `new` in the place of the earlier output in `folder`.
fn replace(new: &tempfile::TempDir, folder: &Path, parent: &Path) -> Result<()> {
    let aside = temporary(parent)?;
    let old = aside.path().join("old");
    fs::rename(folder, &old).map_err(Error::io(folder))?;
    if let Err(e) = fs::rename(new.path(), folder) {
        fs::rename(&old, folder).ok(); // as it was
        return Err(Error::io(folder)(e));
    }
    let build = old.join("target");
    if build.is_dir() && !folder.join("target").exists() {
        fs::rename(&build, folder.join("target")).map_err(Error::io(folder.join("target")))?;
    }
    Ok(())
}

/// A temporary folder in `parent`. tempfile's own message names its random path, which tells nobody anything.
fn temporary(parent: &Path) -> Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix(".hiosc-").tempdir_in(parent).map_err(|e| {
        let text = e.to_string();
        let cause = text.split(" at path ").next().unwrap_or(&text);
        Error::io(parent)(std::io::Error::new(e.kind(), format!("cannot create a folder there: {cause}")))
    })
}

/// An error where [`write`] would refuse `folder`: it is no folder, or holds what hiosc did not write.
pub fn refuse(folder: &Path) -> Result<()> {
    earlier(folder).map(drop)
}

/// Whether `folder` holds an earlier output. An error if it holds anything else.
fn earlier(folder: &Path) -> Result<bool> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(Error::io(folder)(e)),
    };
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
    if manifest.lines().next().is_some_and(|line| line.contains(MARK)) {
        return Ok(true);
    }
    match entries.count() {
        0 => Ok(false),
        _ => Err(Error::Usage(format!("{} is not empty and hiosc did not write it: choose another folder", folder.display()))),
    }
}

/// Temporary folders are private; an output is as readable as any other folder.
fn readable_by_all(folder: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).map_err(Error::io(folder))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(text: &str) -> Crate {
        let files = [("Cargo.toml", format!("# {MARK}\n")), ("src/a.rs", "same".into()), ("src/b.rs", text.into())];
        Crate { files: files.into_iter().map(|(path, text): (_, String)| (path.to_string(), text.into_bytes())).collect() }
    }

    #[test]
    fn an_earlier_output_is_replaced_and_keeps_its_build() {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let folder = scratch.path().join("deep/out");
        write(&output("one"), &folder).expect("a first output");
        fs::create_dir(folder.join("target")).expect("a build");
        fs::write(folder.join("stale.rs"), "").expect("a stale file");
        let changed = |name: &str| fs::metadata(folder.join(name)).and_then(|m| m.modified()).expect("a time");
        let before = changed("src/a.rs");
        std::thread::sleep(std::time::Duration::from_millis(20));
        write(&output("two"), &folder).expect("a second output");
        assert_eq!(changed("src/a.rs"), before);
        assert_eq!(fs::read_to_string(folder.join("src/b.rs")).expect("a file"), "two");
        assert!(folder.join("target").is_dir() && !folder.join("stale.rs").exists());
        assert_eq!(fs::read_dir(scratch.path().join("deep")).expect("a folder").count(), 1, "no temporary folder is left");
    }

    #[test]
    fn other_peoples_folders_are_left_alone() {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        fs::write(scratch.path().join("precious"), "data").expect("a file");
        let error = write(&output("one"), scratch.path()).expect_err("refused").to_string();
        assert!(error.contains("not empty"), "{error}");
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
