//! Errors, by who has to act on them.
//!
//! Every message says what, where, and what to do. `main` prints it on one line after `hiosc: `. A
//! failed verifier is a bug of hiosc ([`Error::Internal`]), and the message says so.

use std::path::{Path, PathBuf};

/// All errors of the library.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model file is broken: truncated, not ONNX, inconsistent.
    #[error("{}: {message}", .path.display())]
    Model {
        /// The model file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        message: String,
    },
    /// The model is sound, but hiosc cannot compile some of it. Lists all reasons.
    #[error("unsupported: {}", .0.join("; "))]
    Unsupported(
        /// One line per operator or tensor: name, node, reason.
        Vec<String>,
    ),
    /// An option, a device name or another argument is invalid.
    #[error("{0}")]
    Usage(String),
    /// The operating system refused: missing file, full disk, no permission.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or folder concerned.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A tool that hiosc calls (the C++ compiler, cargo, NVRTC) is missing or failed.
    #[error("{tool}: {message}")]
    Tool {
        /// The tool's name.
        tool: String,
        /// What it said and what to do.
        message: String,
    },
    /// A GPU or the CUDA driver is missing, or refused a call.
    #[error("GPU: {0}")]
    Device(String),
    /// The generated crate ran and its numbers are wrong.
    #[error("verification failed: {0}")]
    Mismatch(String),
    /// The generated crate ran, but two references disagree about what its numbers should be.
    #[error("the reference is disputed: {0}; decide with --reference rten, --reference tract or --reference FILE.npz")]
    Disputed(
        /// What each output agrees with.
        String,
    ),
    /// A verifier found one of hiosc's own results wrong.
    #[error("internal error in {pass}: {message} (this is a bug in hiosc: please report it with the model)")]
    Internal {
        /// The pass whose result is wrong.
        pass: &'static str,
        /// What the verifier found.
        message: String,
    },
}

/// `Result` with hiosc's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An I/O error at `path`, for `map_err`.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io { path, source }
    }

    /// A name that is not one of `known`, with the one that was probably meant.
    #[cfg(feature = "compiler")]
    pub(crate) fn unknown<'a>(what: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> Error {
        let known: Vec<&str> = known.into_iter().collect();
        let meant = nearest(name, &known).map_or(String::new(), |meant| format!(" (did you mean `{meant}`?)"));
        Error::Usage(format!("unknown {what} `{name}`{meant}; known: {}", known.join(", ")))
    }

    /// A failed verifier of `pass`.
    pub fn internal(pass: &'static str, message: impl Into<String>) -> Error {
        Error::Internal { pass, message: message.into() }
    }
}

/// The word of `known` that begins with `word`, or else differs from it by a typing mistake or two;
/// in any case of letters.
#[cfg(feature = "compiler")]
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = word.to_lowercase();
    if let Some(begun) = known.iter().find(|known| word.len() >= 2 && known.to_lowercase().starts_with(&word)) {
        return Some(begun);
    }
    let distance = |known: &str| strsim::damerau_levenshtein(&word, &known.to_lowercase());
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    known.iter().map(|known| (distance(known), *known)).filter(|(distance, _)| *distance <= allowed).min().map(|(_, known)| known)
}

/// These words as a shell reads them. `=` stays as it is: the words are arguments.
#[cfg(feature = "compiler")]
pub(crate) fn shell_words<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let quoted = |word: &str| {
        let plain = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "_.:/=,+@%-".contains(c));
        if plain { word.to_string() } else { format!("'{}'", word.replace('\'', "'\\''")) }
    };
    words.into_iter().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(all(test, feature = "compiler"))]
mod tests {
    use super::*;

    #[test]
    fn typing_mistakes_are_recognised() {
        let known = ["verify", "check", "profile", "a40", "h100"];
        for (word, meant) in [
            ("verfy", Some("verify")),
            ("chekc", Some("check")),
            ("A4O", Some("a40")),
            ("h10", Some("h100")),
            ("pro", Some("profile")),
            ("model", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, &known), meant, "{word}");
        }
        assert_eq!(shell_words(["g++", "--x=1", "a b.cpp", "it's", "$HOME", ""]), r"g++ --x=1 'a b.cpp' 'it'\''s' '$HOME' ''");
        let text = Error::unknown("device", "a4", ["a40", "l4"]).to_string();
        assert_eq!(text, "unknown device `a4` (did you mean `a40`?); known: a40, l4");
    }
}
