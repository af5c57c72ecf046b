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

    /// A failed verifier of `pass`.
    pub fn internal(pass: &'static str, message: impl Into<String>) -> Error {
        Error::Internal { pass, message: message.into() }
    }
}
