//! The arguments of a compilation as a crate records them, and back.
//!
//! A crate must not depend on where its files were when it was compiled. So only the names of files
//! are recorded, and what decides about the output, but not where it goes or what is printed.

use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches};

use crate::Error;

/// Arguments that have no effect on the crate's files.
const WITHOUT_EFFECT: [&str; 10] = ["output", "check", "emit", "verify", "timings", "json", "depfile", "recheck", "quiet", "verbose"];

/// Arguments whose values are files, or, for `constant`, `NAME=FILE`.
const FILES: [&str; 3] = ["topology", "costs", "constant"];

/// The arguments of `command` that were given, in the order of their declaration; the model first.
pub fn of(command: &clap::Command, matches: &ArgMatches) -> Vec<String> {
    let mut words = Vec::new();
    for argument in command.get_arguments() {
        let id = argument.get_id().as_str();
        let given = matches!(matches.try_contains_id(id), Ok(true)) && matches.value_source(id) == Some(ValueSource::CommandLine);
        if !given || WITHOUT_EFFECT.contains(&id) {
            continue;
        }
        let values = matches.get_raw(id).into_iter().flatten().map(|value| value.to_string_lossy().into_owned());
        match argument.get_long() {
            None => words.splice(0..0, values.map(|model| file_name(&model))).for_each(drop),
            Some(long) if matches!(argument.get_action(), ArgAction::SetTrue) => words.push(format!("--{long}")),
            Some(long) => words.extend(values.map(|value| {
                let value = if FILES.contains(&id) { with_file(&value, file_name) } else { value };
                format!("--{long}={value}")
            })),
        }
    }
    words
}

/// Recorded arguments, with the paths of files that are found in one of `folders`.
///
/// # Errors
///
/// [`Error::Usage`] if a file is in none of them.
pub fn with_paths(words: &[String], folders: &[&Path]) -> crate::Result<Vec<String>> {
    let found = |name: &str| -> crate::Result<String> {
        let paths = folders.iter().map(|folder| folder.join(name));
        match paths.clone().find(|path| path.is_file()) {
            Some(path) => Ok(path.to_string_lossy().into_owned()),
            None => {
                let mut tried: Vec<String> = paths.map(|path| path.display().to_string()).collect();
                tried.dedup();
                Err(Error::Usage(format!("{name} is not found; tried {}: name the model before --check", tried.join(", "))))
            }
        }
    };
    let path_of = |word: &String| -> crate::Result<String> {
        let Some(option) = word.strip_prefix("--") else { return found(word) };
        match option.split_once('=') {
            Some((long, value)) if FILES.contains(&long) => {
                let (start, name) = value.split_at(value.rfind('=').map_or(0, |end| end + 1));
                Ok(format!("--{long}={start}{}", found(name)?))
            }
            _ => Ok(word.clone()),
        }
    };
    words.iter().map(path_of).collect()
}

/// `NAME=FILE` or `FILE`, with the file changed.
fn with_file(value: &str, change: impl Fn(&str) -> String) -> String {
    let (start, file) = value.split_at(value.find('=').map_or(0, |end| end + 1));
    format!("{start}{}", change(file))
}

fn file_name(path: &str) -> String {
    PathBuf::from(path).file_name().map_or_else(|| path.into(), |name| name.to_string_lossy().into_owned())
}
