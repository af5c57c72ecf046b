//! `hiosc --check DIR`: is the crate in DIR what this hiosc makes of its model today?
//!
//! The crate records the arguments that it was compiled with. They are used unless this call has
//! options of its own. The files that they name are looked for in DIR, in the folder above it, and
//! in the current one; the model may be named in the call.

use std::io::Write;
use std::path::Path;

use anyhow::bail;

use super::compile::CompileArgs;
use super::{Verbosity, parse_compile, progress, recorded};
use crate::Error;
use crate::acceptance::CrateMetadata;
use crate::compiler::Passes;
use crate::error::shell_words;

/// How many files an error names.
const NAMED: usize = 6;

/// Compares the crate in `folder`; `command` are the arguments, as a crate would record them. Fails
/// with exit code 1 if the crate is stale.
pub fn run(folder: &Path, args: &CompileArgs, command: Option<Vec<String>>, verbosity: Verbosity) -> anyhow::Result<()> {
    let about = CrateMetadata::read(folder)?;
    let of_crate;
    let (args, command) = match (&args.model, &about.command) {
        (None, _) if command.as_ref().is_none_or(|words| !words.is_empty()) => {
            let message = "options without a model: name the model, too, or leave them out to use those that the crate records";
            return Err(Error::Usage(message.into()).into());
        }
        (Some(_), _) if command.as_ref().is_none_or(|words| words.len() > 1) => (args, command),
        (Some(_), None) => (args, None),
        (None, None) => {
            let message = format!(
                "{} does not say how it was compiled (by the library, with measured costs, from files of one name, or by an \
                 older hiosc): give the model and the options, too",
                folder.display()
            );
            return Err(Error::Usage(message).into());
        }
        (model, Some(recorded)) => {
            of_crate = recorded_arguments(folder, model.as_deref(), recorded)?;
            (&of_crate, Some(recorded.clone()))
        }
    };
    let other_options = command.is_some() && about.command.is_some() && command != about.command;
    let mut compiler = args.compiler()?;
    if let Some(check) = about.check(folder)? {
        compiler = compiler.recorded_check(check);
    }
    if let Some(command) = command.filter(|_| about.command.is_some()) {
        compiler = compiler.command(command);
    }
    let compilation = compiler.compile_planned(compiler.plan()?)?;
    let found = compilation.differences(folder)?;
    progress::end();
    let (path, version) = (folder.display(), env!("CARGO_PKG_VERSION"));
    let model = args.model.as_deref().unwrap_or(Path::new("its model")).display();
    if found.is_empty() {
        if verbosity != Verbosity::Quiet {
            writeln!(std::io::stdout(), "check      {path} is what hiosc {version} makes of {model}")?;
        }
        return Ok(());
    }
    let image = |name: &str| name.ends_with(".cubin") || name.ends_with(".ptx");
    let images = found.iter().filter(|(name, _)| image(name)).count();
    if images > 0 && !compilation.has_images() {
        bail!("{path} has compiled kernels, and this machine has no NVRTC to compile them again: name one with HIOSC_NVRTC");
    }
    let mut named: Vec<String> = found.iter().take(NAMED).map(|(name, how)| format!("{name} ({how})")).collect();
    if found.len() > NAMED {
        named.push(format!("and {} more", found.len() - NAMED));
    }
    let files = if found.len() == 1 { "1 file is".into() } else { format!("{} files are", found.len()) };
    let mut message = format!("{path} is stale: {files} not as hiosc {version} writes them for {model}: {}", named.join(", "));
    if about.version != version {
        message += &format!("; hiosc {} wrote it", about.version);
    } else if images == found.len() {
        message += "; another NVRTC compiled its kernels";
    } else if found.iter().any(|(name, how)| image(name) && *how == "missing") {
        message += "; its kernels are sources, and this machine has NVRTC to compile them: --kernels says which is meant";
    }
    if let (true, Some(recorded)) = (other_options, &about.command) {
        message += &format!("; it records other options: {}", shell_words(recorded.iter().map(String::as_str)));
    }
    bail!("{message}; compile it again")
}

/// The arguments that the crate in `folder` records, for the model in `model` if that is given.
fn recorded_arguments(folder: &Path, model: Option<&Path>, recorded: &[String]) -> anyhow::Result<CompileArgs> {
    let above = match (folder.file_name(), folder.parent()) {
        (Some(_), Some(parent)) => parent.to_path_buf(),
        _ => folder.join(".."),
    };
    let folders = [folder, &above, Path::new("")];
    let (name, options) = recorded.split_first().ok_or_else(|| Error::Usage(format!("{} records no model", folder.display())))?;
    let model = match model {
        Some(model) => model.to_path_buf(),
        None => recorded::found(name, &folders, "name the model before --check")?,
    };
    let options = recorded::with_paths(options, &folders)?;
    // a model may be called like an option or a command
    let check = ["--check".into(), folder.as_os_str().to_owned(), "--".into(), model.into_os_string()];
    parse_compile(options.into_iter().chain(check))
}
