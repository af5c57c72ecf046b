//! What can go wrong, and whose fault it is.
//!
//! Every message says what, where, and what to do; `main` prints it on one line after `hiosc: `. A failed verifier is a bug of
//! ours ([`Error::Internal`]) and says so.

use std::path::{Path, PathBuf};

/// Everything a library call of hiosc can fail with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model file is broken: truncated, not ONNX, inconsistent.
    #[error("{}: {message}", .path.display())]
    Model {
        /// The model file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        message: String,
    },
    /// The model is sound, but hiosc cannot compile some of it; all reasons at once.
    #[error("unsupported: {}", .0.join("; "))]
    Unsupported(
        /// One line an operator or tensor: name, node, reason.
        Vec<String>,
    ),
    /// An option, a device name or another argument makes no sense.
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
    /// A GPU, or the CUDA driver, is absent or refused.
    #[error("GPU: {0}")]
    Device(String),
    /// The generated crate ran and its numbers are wrong.
    #[error("verification failed: {0}")]
    Mismatch(String),
    /// A verifier found one of hiosc's own results wrong.
    #[error("internal error in {room}: {message} (this is a bug in hiosc: please report it with the model)")]
    Internal {
        /// The room whose result is wrong.
        room: &'static str,
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

    /// A failed verifier of `room`.
    pub fn internal(room: &'static str, message: impl Into<String>) -> Error {
        Error::Internal { room, message: message.into() }
    }
}
