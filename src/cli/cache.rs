//! `hiosc cache`: shows what hiosc keeps between runs, or deletes it.

use std::fs;
use std::io::Write;
use std::path::Path;

use clap::{Args, Subcommand};

use crate::{Error, cache};

/// Arguments of `hiosc cache`.
#[derive(Args)]
pub struct CacheArgs {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// Show the folder and what its parts take: the same as without `show`.
    Show,
    /// Delete all of it. The next run compiles anew what it needs.
    Clear,
}

/// What the cache holds: how names begin, and what that is.
const PARTS: [(&str, &str); 4] = [
    ("images", "kernels, compiled for GPUs"),
    ("kernels-", "kernels, compiled for virtual GPUs"),
    ("vgpu-", "virtual GPUs"),
    ("target", "crates that verify built"),
];

/// Shows or deletes the cache.
pub fn run(args: CacheArgs) -> anyhow::Result<()> {
    let folder = cache::dir();
    let mut out = std::io::stdout().lock();
    let entries = entries(&folder)?;
    let all: u64 = entries.iter().map(|(_, bytes)| bytes).sum();
    if matches!(args.action, Some(Action::Clear)) {
        for (name, _) in &entries {
            let path = folder.join(name);
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(Error::io(&path))?;
        }
        return Ok(writeln!(out, "deleted    {} in {}", mebibytes(all), folder.display())?);
    }
    writeln!(out, "cache      {}", folder.display())?;
    for (prefix, what) in PARTS {
        let bytes: u64 = entries.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, bytes)| bytes).sum();
        writeln!(out, "{:>10} {what}", mebibytes(bytes))?;
    }
    Ok(writeln!(out, "{:>10} in all; `hiosc cache clear` deletes it", mebibytes(all))?)
}

/// The names of hiosc's own in the cache folder, with the bytes that each takes; none if there is
/// no folder.
fn entries(folder: &Path) -> crate::Result<Vec<(String, u64)>> {
    let listed = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(Error::io(folder))?,
    };
    let mut entries = Vec::new();
    for entry in listed {
        let entry = entry.map_err(Error::io(folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if own(folder, &name) {
            entries.push((name, bytes(&entry.path())));
        }
    }
    Ok(entries)
}

/// The bytes of the files at and below `path`. What another process deletes meanwhile counts as 0.
fn bytes(path: &Path) -> u64 {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::read_dir(path).map_or(0, |entries| entries.flatten().map(|entry| bytes(&entry.path())).sum()),
        Ok(found) => found.len(),
        Err(_) => 0,
    }
}

/// Whether hiosc made the entry `name` of the cache. `HIOSC_CACHE` may name a folder that has other
/// things, too.
fn own(folder: &Path, name: &str) -> bool {
    let hash = |text: &str, digits| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let holds_only = |good: &dyn Fn(&str, bool) -> bool| {
        let entries = fs::read_dir(folder.join(name)).into_iter().flatten().flatten();
        let mut entries =
            entries.map(|entry| good(&entry.file_name().to_string_lossy(), entry.file_type().is_ok_and(|kind| kind.is_file())));
        entries.all(|good| good)
    };
    match name {
        // an image, or one that is being written
        "images" => {
            holds_only(&|name, file| file && (hash(name, 64) || name.split('-').next().is_some_and(|id| id.parse::<u32>().is_ok())))
        }
        "target" => folder.join(name).join("hiosc.lock").exists() && folder.join(name).join("CACHEDIR.TAG").exists(),
        super::progress::KEPT => super::progress::is_kept(&folder.join(name)),
        _ => match (name.split_once('-'), name.strip_suffix(".lock")) {
            (Some((".kernels" | ".vgpu", rest)), Some(_)) => hash(rest.trim_end_matches(".lock"), 24),
            (Some(("kernels" | "vgpu", rest)), None) => {
                hash(rest, 24)
                    && holds_only(&|name, file| !file || name.ends_with(".so") || name.contains(".so.") || name.ends_with(".txt"))
            }
            _ => false,
        },
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64)
}
