//! What the user chooses about a crate: its name, what its manifest says, where its weights are.

use crate::error::{Error, Result};

/// Options of a generated crate; the default is a crate for use in the caller's own workspace,
/// named after the model, with its weights beside it.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct CrateOptions {
    /// Name of the package; by default the model file's name.
    pub name: Option<String>,
    /// Version of the package; by default 0.1.0.
    pub version: Option<String>,
    /// The `license` of the package: an SPDX expression.
    pub license: Option<String>,
    /// Whether the package may be published. By default `cargo publish` refuses.
    pub publish: bool,
    /// Whether the crate is a workspace of its own. Then it builds below any workspace, but cannot
    /// be a member of one.
    pub standalone: bool,
    /// Whether executables contain the weights.
    pub embed_weights: bool,
    /// Where the weights file will be on the machines that run the model. It is tried first.
    pub weights_path: Option<String>,
}

impl CrateOptions {
    /// Sets [`name`](Self::name).
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets [`version`](Self::version).
    pub fn version(mut self, version: &str) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Sets [`license`](Self::license).
    pub fn license(mut self, spdx: &str) -> Self {
        self.license = Some(spdx.into());
        self
    }

    /// Sets [`publish`](Self::publish).
    pub fn publish(mut self, publish: bool) -> Self {
        self.publish = publish;
        self
    }

    /// Sets [`standalone`](Self::standalone).
    pub fn standalone(mut self, standalone: bool) -> Self {
        self.standalone = standalone;
        self
    }

    /// Sets [`embed_weights`](Self::embed_weights).
    pub fn embed_weights(mut self, embed: bool) -> Self {
        self.embed_weights = embed;
        self
    }

    /// Sets [`weights_path`](Self::weights_path).
    pub fn weights_path(mut self, path: &str) -> Self {
        self.weights_path = Some(path.into());
        self
    }

    /// Fails if Cargo or a registry would refuse the name, the version or the licence.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(name) = &self.name {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
            if !name.starts_with(|c: char| c.is_ascii_lowercase())
                || !name.chars().all(plain)
                || name.len() > 64
                || super::names::taken(name)
            {
                let rule =
                    "use lower-case letters, digits, - and _, beginning with a letter, and not the name of a keyword or of a dependency";
                return Err(Error::Usage(format!("a package cannot be called `{name}`: {rule}")));
            }
        }
        if let Some(version) = &self.version
            && let Err(error) = semver::Version::parse(version)
        {
            return Err(Error::Usage(format!("`{version}` is not a version such as 0.1.0: {error}")));
        }
        // identifiers, operators and parentheses; a registry knows which identifiers there are
        let spdx = |c: char| c.is_ascii_alphanumeric() || ".+-() ".contains(c);
        if let Some(license) = self.license.as_ref().filter(|license| license.trim().is_empty() || !license.chars().all(spdx)) {
            return Err(Error::Usage(format!("`{license}` is not an SPDX expression such as MIT OR Apache-2.0")));
        }
        Ok(())
    }
}
