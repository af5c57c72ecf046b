//! The arguments of a compilation as a crate records them, and back.
//!
//! A crate must not depend on where its files were when it was compiled. So only the names of files
//! are recorded, and what decides about the output, but not where it goes or what is printed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches};

use crate::Error;
use crate::oracle::Choice;

/// Arguments that have no effect on the crate's files.
const WITHOUT_EFFECT: [&str; 10] = ["output", "check", "emit", "verify", "timings", "json", "depfile", "recheck", "quiet", "verbose"];

/// Arguments whose values are files; for `constant`, `NAME=FILE`; for `reference`, also `rten` and
/// `tract`.
const FILES: [&str; 5] = ["model", "topology", "costs", "constant", "reference"];

/// The arguments of `command` that were given, in the order of their declaration; the model first.
/// `None` if they cannot be recorded: two different files of one name, or names that are not
/// Unicode.
pub fn of(command: &clap::Command, matches: &ArgMatches) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for argument in command.get_arguments() {
        let id = argument.get_id().as_str();
        let given = matches!(matches.try_contains_id(id), Ok(true)) && matches.value_source(id) == Some(ValueSource::CommandLine);
        if !given || WITHOUT_EFFECT.contains(&id) {
            continue;
        }
        let mut values = Vec::new();
        for value in matches.get_raw(id).into_iter().flatten() {
            let value = value.to_str()?;
            let (name, file) = parts(id, value);
            let Some(file) = file else {
                values.push(value.to_string());
                continue;
            };
            let file_name = Path::new(file).file_name()?.to_str()?;
            parts(id, file_name).1?; // without its folder it may mean something else
            if files.insert(file_name.into(), file.into()).is_some_and(|other| other != file) {
                return None;
            }
            values.push(format!("{name}{file_name}"));
        }
        match argument.get_long() {
            None => words.splice(0..0, values).for_each(drop),
            Some(long) if matches!(argument.get_action(), ArgAction::SetTrue) => words.push(format!("--{long}")),
            Some(long) => words.extend(values.iter().map(|value| format!("--{long}={value}"))),
        }
    }
    Some(words)
}

/// A value, split before the file that it names, if it names one.
fn parts<'a>(id: &str, value: &'a str) -> (&'a str, Option<&'a str>) {
    match (FILES.contains(&id), value.find('=')) {
        (false, _) => (value, None),
        (true, _) if id == "reference" && !matches!(Choice::parse(value.as_ref()), Choice::File(_)) => (value, None),
        (true, Some(end)) if id == "constant" => (&value[..=end], Some(&value[end + 1..])),
        (true, _) => ("", Some(value)),
    }
}

/// Recorded options, with the paths of files that are found in one of `folders`.
///
/// # Errors
///
/// [`Error::Usage`] if a file is in none of them.
pub fn with_paths(options: &[String], folders: &[&Path]) -> crate::Result<Vec<OsString>> {
    let path_of = |word: &String| -> crate::Result<OsString> {
        let Some((long, value)) = word.strip_prefix("--").and_then(|option| option.split_once('=')) else { return Ok(word.into()) };
        let (name, Some(file)) = parts(long, value) else { return Ok(word.into()) };
        let mut path = OsString::from(format!("--{long}={name}"));
        path.push(found(file, folders, "copy it there, or give the model and all options")?);
        Ok(path)
    };
    options.iter().map(path_of).collect()
}

/// The path of the file `name` in the first of `folders` that has it; else an error that says
/// `what_to_do`.
pub fn found(name: &str, folders: &[&Path], what_to_do: &str) -> crate::Result<PathBuf> {
    let paths: Vec<PathBuf> = folders.iter().map(|folder| folder.join(name)).collect();
    if let Some(path) = paths.iter().find(|path| path.is_file()) {
        return Ok(path.clone());
    }
    let mut tried: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    tried.dedup();
    Err(Error::Usage(format!("{name} is not found; tried {}: {what_to_do}", tried.join(", "))))
}
