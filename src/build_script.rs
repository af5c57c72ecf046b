//! What a build script calls: compiles a model into a module of the program that is being built.
//!
//! **In**: a model and options, as in a `build.rs`. **Out**: `$OUT_DIR/NAME.rs` and
//! `$OUT_DIR/NAME/`, which [`include_model!`](crate::include_model) includes; the weights beside
//! the executables; and, for Cargo, every file and variable that the result depends on.
//!
//! There are two ways, by the features of the build dependency:
//!
//! * **light** (no features): the installed program `hiosc` compiles the model. It must have the
//!   version of this library.
//! * **heavy** (feature `compiler`): this library does.
//!
//! Both give the same files.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::error::{Error, Result};
use crate::runtime::weights;

/// Variables on which the result depends: they name the program, skip it, or name NVRTC and where
/// it may be.
const VARIABLES: [&str; 7] = ["HIOSC", "HIOSC_SKIP", "DOCS_RS", "HIOSC_NVRTC", "CUDA_HOME", "CUDA_PATH", "CONDA_PREFIX"];

/// Compiles the model at `model` for two A40s, as a module named after the file: the whole build
/// script of a project with one model. [`Build`] has the options.
///
/// ```no_run
/// fn main() -> Result<(), hiosc::Error> {
///     hiosc::compile("squeezenet.onnx")
/// }
/// ```
///
/// The program then says `hiosc::include_model!("squeezenet");` and has a module `squeezenet`.
///
/// # Errors
///
/// Those of [`Build::compile`].
pub fn compile(model: impl Into<PathBuf>) -> Result<()> {
    Build::new(model).compile()
}

/// A model to compile in a build script, with options. A builder: every method returns it.
///
/// ```no_run
/// # fn main() -> Result<(), hiosc::Error> {
/// hiosc::Build::new("models/detector.onnx").name("detector").device("a40").gpus(2).compile()?;
/// hiosc::Build::new("models/reader.onnx").name("reader").device("a40").gpus(1).compile()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Build {
    model: PathBuf,
    name: Option<String>,
    out_dir: Option<PathBuf>,
    /// Options by their names on the command line, in the order given.
    options: Vec<(&'static str, OsString)>,
}

impl Build {
    /// A build of the model at `model`; a relative path starts at the package's folder.
    pub fn new(model: impl Into<PathBuf>) -> Build {
        Build { model: model.into(), name: None, out_dir: None, options: Vec::new() }
    }

    fn option(mut self, name: &'static str, value: impl Into<OsString>) -> Build {
        self.options.push((name, value.into()));
        self
    }

    /// Name of the module, for [`include_model!`](crate::include_model). The default is the file's
    /// name without extension.
    pub fn name(mut self, name: &str) -> Build {
        self.name = Some(name.into());
        self
    }

    /// The device model of the GPUs, or of each: `a40,a40,l4`. The default is `a40`.
    pub fn device(self, name: &str) -> Build {
        self.option("device", name)
    }

    /// The most GPUs of one device that the plan may use. The default is 2.
    pub fn gpus(self, count: usize) -> Build {
        self.option("gpus", count.to_string())
    }

    /// What connects the GPUs, by name.
    pub fn link(self, name: &str) -> Build {
        self.option("link", name)
    }

    /// Reads GPUs, links and memory from this file, instead of device, number and link.
    pub fn topology(self, file: impl Into<PathBuf>) -> Build {
        self.option("topology", file.into())
    }

    /// Reads the costs from this file, which `hiosc profile` or `hiosc --emit costs` wrote. Several
    /// profiles are merged.
    pub fn costs(self, file: impl Into<PathBuf>) -> Build {
        self.option("costs", file.into())
    }

    /// Emits the schedule of this algorithm, such as `hios-lp`, even if that of another is faster.
    pub fn algorithm(self, name: &str) -> Build {
        self.option("algorithm", name)
    }

    /// How long the scheduler may search: `low`, `default`, `high` or a number of evaluations.
    pub fn effort(self, level: &str) -> Build {
        self.option("effort", level)
    }

    /// The shape of an input, which overrides the model's.
    pub fn shape(self, input: &str, shape: &[usize]) -> Build {
        let extents: Vec<String> = shape.iter().map(usize::to_string).collect();
        self.option("shapes", format!("{input}:{}", extents.join("x")))
    }

    /// The value of a symbolic dimension of the model's inputs, such as `batch`.
    pub fn dimension(self, name: &str, value: usize) -> Build {
        self.option("dim", format!("{name}={value}"))
    }

    /// Fixes an input to the values in a .npy file, so that it is no longer an input.
    pub fn constant(self, input: &str, npy: impl AsRef<Path>) -> Build {
        let mut value = OsString::from(format!("{input}="));
        value.push(npy.as_ref());
        self.option("constant", value)
    }

    /// How kernels are shipped: `binary` (compiled), `source`, or `auto` (compiled if NVRTC is
    /// found).
    pub fn kernels(self, mode: &str) -> Build {
        self.option("kernels", mode)
    }

    /// Whether the module carries an input with its reference output, for `Model::check` (the
    /// default). The reference costs one inference on the CPU.
    pub fn check(self, check: bool) -> Build {
        if check { self } else { self.option("no-check", "") }
    }

    /// Whether executables contain the weights.
    pub fn embed_weights(self, embed: bool) -> Build {
        if embed { self.option("embed-weights", "") } else { self }
    }

    /// Where the weights file will be on the machines that run the model. It is tried first.
    pub fn weights_path(self, path: &str) -> Build {
        self.option("weights-path", path)
    }

    /// Where the module is written. The default is `OUT_DIR`, which Cargo sets for build scripts.
    pub fn out_dir(mut self, folder: impl Into<PathBuf>) -> Build {
        self.out_dir = Some(folder.into());
        self
    }

    /// Compiles the model, and prints for Cargo what the result depends on. Files that do not
    /// change keep their time stamps.
    ///
    /// If the variable `HIOSC_SKIP` is 1, or on docs.rs, nothing is compiled. Then the module of an
    /// earlier build stays, or one is written that has the same types without fields, which is
    /// enough for documentation.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for an invalid option, two models of one name, or outside a build script;
    /// [`Error::Tool`] if the program `hiosc` is missing, has another version, or fails;
    /// [`Error::Io`] if a file cannot be written; in the heavy way, all errors of the compiler.
    pub fn compile(&self) -> Result<()> {
        let done = self.run();
        if let Err(error) = &done {
            // `main` of a build script would show the error as Rust's Debug form
            println!("cargo::error={}", error.to_string().replace('\n', "; "));
        }
        done
    }

    fn run(&self) -> Result<()> {
        VARIABLES.iter().for_each(|variable| println!("cargo::rerun-if-env-changed={variable}"));
        let stem = self.model.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        let name = self.name.clone().unwrap_or(stem);
        let out = self.out_dir.clone().or_else(|| env::var_os("OUT_DIR").map(PathBuf::from));
        let message = "OUT_DIR is not set: hiosc::Build is for build scripts; elsewhere, give it a folder with out_dir";
        let out = out.ok_or_else(|| Error::Usage(message.into()))?;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.is_empty() || !name.chars().all(plain) {
            let rule = "use lower-case letters, digits and _; choose one with Build::name";
            return Err(Error::Usage(format!("`{name}` cannot be the name of a module: {rule}")));
        }
        self.claim(&out.join(&name))?;
        let on = |variable| env::var_os(variable).is_some_and(|value| value == "1");
        if on("HIOSC_SKIP") || on("DOCS_RS") {
            return skip(&name, &out);
        }
        let inputs = self.generate(&name, &out)?;
        inputs.iter().for_each(|input| println!("cargo::rerun-if-changed={}", input.display()));
        if !self.options.iter().any(|(option, _)| *option == "embed-weights") {
            put_beside_executables(&name, &out)?;
        }
        Ok(())
    }

    /// Fails if another model of this process is written to `path`.
    fn claim(&self, path: &Path) -> Result<()> {
        static WRITTEN: Mutex<BTreeMap<PathBuf, Build>> = Mutex::new(BTreeMap::new());
        let mut written = WRITTEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match written.insert(path.to_path_buf(), self.clone()) {
            Some(other) if other != *self => Err(Error::Usage(format!(
                "{} and {} would both become the module `{}`: give one of them another name with Build::name",
                other.model.display(),
                self.model.display(),
                path.file_name().unwrap_or_default().to_string_lossy()
            ))),
            _ => Ok(()),
        }
    }

    /// The target that is compiled for if the options name none. An installed hiosc would otherwise
    /// measure the GPUs of this machine, and each build would be different.
    fn default_target(&self) -> Option<(&'static str, OsString)> {
        let named = |(option, _): &(&str, OsString)| matches!(*option, "device" | "gpus" | "link" | "topology" | "costs");
        (!self.options.iter().any(named)).then(|| ("device", "a40".into()))
    }
}

/// Writes a module that has the types of a compiled one, unless there is a module already.
fn skip(name: &str, out: &Path) -> Result<()> {
    let file = out.join(format!("{name}.rs"));
    if file.exists() {
        return Ok(());
    }
    fs::write(&file, STUB.replace("NAME", name)).map_err(Error::io(&file))
}

/// What stands for a module that was not compiled.
const STUB: &str = r#"/// The model was not compiled, because `HIOSC_SKIP` was set.
#[allow(dead_code, unsafe_code)]
pub mod NAME {
    pub use hiosc::runtime::{DevicePointer, Error, RuntimeOptions};

    /// The model's inputs.
    #[derive(Clone, Copy, Debug)]
    pub struct Inputs<'a>(std::marker::PhantomData<&'a ()>);

    /// The model's outputs.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Outputs(());

    /// Addresses of the inputs.
    #[derive(Clone, Copy, Debug)]
    pub struct DeviceInputs(());

    /// Addresses of the outputs.
    #[derive(Clone, Copy, Debug)]
    pub struct DeviceOutputs(());

    /// A loaded model.
    #[derive(Debug)]
    pub struct Model(());

    impl Model {
        /// Fails: the model was not compiled.
        pub fn load(_: RuntimeOptions) -> Result<Model, Error> {
            Err(Error::NotCompiled)
        }

        /// Fails: the model was not compiled.
        pub fn load_from_bytes(_: &[u8], _: RuntimeOptions) -> Result<Model, Error> {
            Err(Error::NotCompiled)
        }

        /// Fails: the model was not compiled.
        pub fn run(&mut self, _: &Inputs<'_>) -> Result<Outputs, Error> {
            Err(Error::NotCompiled)
        }

        /// Fails: the model was not compiled.
        pub fn run_into(&mut self, _: &Inputs<'_>, _: &mut Outputs) -> Result<(), Error> {
            Err(Error::NotCompiled)
        }

        /// Fails: the model was not compiled.
        pub fn check(&mut self) -> Result<(), Error> {
            Err(Error::NotCompiled)
        }

        /// Fails: the model was not compiled.
        ///
        /// # Safety
        ///
        /// Does nothing.
        pub unsafe fn run_device(&mut self, _: &DeviceInputs, _: &DeviceOutputs) -> Result<(), Error> {
            Err(Error::NotCompiled)
        }

        /// Nothing: the model was not compiled.
        pub fn placement(&self) -> Vec<usize> {
            Vec::new()
        }

        /// Says that the model was not compiled.
        pub fn summary(&self) -> String {
            Error::NotCompiled.to_string()
        }
    }
}
"#;

/// Puts the weights of the module `name` beside the executables of this build, where the model
/// looks for them. Does nothing if `out` is not where Cargo has build scripts write.
fn put_beside_executables(name: &str, out: &Path) -> Result<()> {
    // target/PROFILE/build/PACKAGE/out
    let ancestors: Vec<&Path> = out.ancestors().take(4).collect();
    let [_, _, build, executables] = ancestors[..] else { return Ok(()) };
    if !build.ends_with("build") {
        return Ok(());
    }
    let weights = out.join(name).join("weights.safetensors");
    let sha256 = weights::sha256(&mut File::open(&weights).map_err(Error::io(&weights))?).map_err(Error::io(&weights))?;
    let copy = executables.join(weights::WeightsFile { name, sha256: &sha256, path: None, embedded: None }.built_name());
    let same = |copy: &Path| File::open(copy).and_then(|mut file| weights::sha256(&mut file)).is_ok_and(|found| found == sha256);
    if !same(&copy) {
        let _ = fs::remove_file(&copy);
        // another build may do the same now, so a copy gets its name last
        if fs::hard_link(&weights, &copy).is_err() && !same(&copy) {
            let new = copy.with_extension(format!("{}.new", std::process::id()));
            fs::copy(&weights, &new).and_then(|_| fs::rename(&new, &copy)).map_err(Error::io(&copy))?;
        }
    }
    // If it is deleted, Cargo must run the script again. For Cargo, a file that is newer than the
    // start of the script has changed since. The script's own time is older.
    let older = env::current_exe().and_then(|script| script.metadata()?.modified()).map_err(Error::io(&copy))?;
    File::options().append(true).open(&copy).and_then(|file| file.set_modified(older)).map_err(Error::io(&copy))?;
    println!("cargo::rerun-if-changed={}", copy.display());
    Ok(())
}

#[cfg(not(feature = "compiler"))]
mod light {
    //! The installed program compiles the model.

    use std::io::ErrorKind;
    use std::process::Command;

    use super::*;

    impl Build {
        /// Writes the module and returns the files that it depends on.
        pub(super) fn generate(&self, name: &str, out: &Path) -> Result<Vec<PathBuf>> {
            let program = program()?;
            let depfile = out.join(format!("{name}.d"));
            let mut command = Command::new(&program);
            command.arg("--module").arg(name).arg("-o").arg(out).arg("--depfile").arg(&depfile);
            for (option, value) in self.default_target().iter().chain(&self.options) {
                command.arg(format!("--{option}"));
                if !value.is_empty() {
                    command.arg(value);
                }
            }
            let output = command.arg("--").arg(&self.model).output().map_err(Error::io(&program))?;
            // Cargo shows this if the build script fails, and with -vv
            eprint!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            if !output.status.success() {
                let said = complaint(&String::from_utf8_lossy(&output.stderr));
                let message = if said.is_empty() { format!("{} ({})", self.model.display(), output.status) } else { said };
                return Err(Error::Tool { tool: "hiosc".into(), message });
            }
            let rule = fs::read_to_string(&depfile).map_err(Error::io(&depfile))?;
            Ok(inputs(&rule).into_iter().chain(program.is_absolute().then_some(program)).collect())
        }
    }

    /// The installed program, if it has the version of this library.
    fn program() -> Result<PathBuf> {
        let version = env!("CARGO_PKG_VERSION");
        // the sources of this library, wherever Cargo has them: the program of the same version
        let install = format!(
            "install it with `cargo install --path {:?} --locked`, or name it with the variable HIOSC; \
             or add the feature `compiler` to the build dependency, which needs no program",
            env!("CARGO_MANIFEST_DIR")
        );
        let failed = |message: String| Error::Tool { tool: "hiosc".into(), message };
        let named = env::var_os("HIOSC").filter(|value| !value.is_empty()).map(PathBuf::from);
        let program = named.or_else(found).ok_or_else(|| failed(format!("it is not on the PATH: {install}")))?;
        let output = Command::new(&program).arg("--version").output().map_err(|error| match error.kind() {
            ErrorKind::NotFound => failed(format!("{} does not exist: {install}", program.display())),
            _ => Error::io(&program)(error),
        })?;
        let said = String::from_utf8_lossy(&output.stdout);
        let found = said.trim().strip_prefix("hiosc ").unwrap_or("unknown");
        if found != version {
            return Err(failed(format!("{} has version {found}, but this project uses hiosc {version}: {install}", program.display())));
        }
        Ok(program)
    }

    /// `hiosc` on the PATH.
    fn found() -> Option<PathBuf> {
        let name = format!("hiosc{}", env::consts::EXE_SUFFIX);
        env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(&name)).find(|file| file.is_file())
    }

    /// The error in what the program printed, on one line. An error in the options is clap's: it
    /// begins with `error: `, ends with an empty line, and is followed by the usage.
    fn complaint(printed: &str) -> String {
        let lines: Vec<&str> = match printed.find("error: ") {
            Some(0) => printed["error: ".len()..].lines().take_while(|line| !line.trim().is_empty()).collect(),
            _ => printed.trim().trim_start_matches("hiosc: ").lines().collect(),
        };
        lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
    }

    /// The inputs in a rule for make.
    pub(super) fn inputs(rule: &str) -> Vec<PathBuf> {
        let (mut inputs, mut word) = (Vec::new(), String::new());
        let mut characters = rule.chars().peekable();
        while let Some(c) = characters.next() {
            match (c, characters.peek()) {
                ('\\', Some(&next @ (' ' | '#'))) | ('$', Some(&next @ '$')) => {
                    word.push(next);
                    characters.next();
                }
                (' ' | '\n', _) => {
                    if !word.is_empty() {
                        inputs.push(PathBuf::from(std::mem::take(&mut word)));
                    }
                }
                _ => word.push(c),
            }
        }
        // the first word is the target, with its colon
        inputs.into_iter().skip(1).collect()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn complaints_take_one_line() {
            let clap = "error: invalid value '0' for '--gpus <N>':\n  0 is not in 1..=64\n\nFor more information, try '--help'.\n";
            assert_eq!(complaint(clap), "invalid value '0' for '--gpus <N>': 0 is not in 1..=64");
            assert_eq!(complaint("hiosc: model.onnx: an error: 7\n"), "model.onnx: an error: 7");
        }

        #[test]
        fn rules_are_read() {
            let read = inputs("out/a\\ b.rs: m\\ 1.onnx c$$d.bin e\\#f\n");
            assert_eq!(read, [Path::new("m 1.onnx"), Path::new("c$d.bin"), Path::new("e#f")]);
        }
    }
}

#[cfg(feature = "compiler")]
mod heavy {
    //! This library compiles the model.

    use super::*;
    use crate::compiler::Compiler;
    use crate::import::Literal;
    use crate::{CrateOptions, KernelMode, ScheduleOptions};

    impl Build {
        /// Writes the module and returns the files that it depends on.
        pub(super) fn generate(&self, name: &str, out: &Path) -> Result<Vec<PathBuf>> {
            let compilation = self.compiler(name)?.compile()?;
            compilation.write(out)?;
            eprint!("{}", compilation.summary());
            Ok(compilation.inputs().to_vec())
        }

        /// The same options for the library.
        fn compiler(&self, name: &str) -> Result<Compiler> {
            let (mut compiler, mut package) = (Compiler::new(&self.model).module(name), CrateOptions::default());
            for (option, value) in self.default_target().iter().chain(&self.options) {
                let text = value.to_string_lossy();
                let wrong = |expected: &str| Error::Usage(format!("{option} {text:?}: expected {expected}"));
                compiler = match *option {
                    "device" => compiler.device(&text),
                    "gpus" => compiler.gpus(text.parse().map_err(|_| wrong("a number"))?),
                    "link" => compiler.link(&text),
                    "topology" => compiler.topology(value),
                    "costs" => compiler.costs(value),
                    "algorithm" => compiler.algorithm(text.parse()?),
                    "effort" => compiler.scheduling(ScheduleOptions::default().effort(text.parse()?)),
                    "shapes" => {
                        let (input, shape) = text.rsplit_once(':').ok_or_else(|| wrong("NAME:SHAPE"))?;
                        let extents = shape.split('x').map(|extent| extent.parse().map_err(|_| wrong("a shape")));
                        compiler.shape(input, &extents.collect::<Result<Vec<usize>>>()?)
                    }
                    "dim" => {
                        let (name, value) = text.rsplit_once('=').ok_or_else(|| wrong("NAME=N"))?;
                        compiler.dimension(name, value.parse().map_err(|_| wrong("a number"))?)
                    }
                    "constant" => {
                        let (input, file) = text.split_once('=').ok_or_else(|| wrong("NAME=FILE.npy"))?;
                        compiler.constant(input, Literal::from_npy(file.as_ref())?).also_read(file)
                    }
                    "kernels" => compiler.kernels(match &*text {
                        "auto" => KernelMode::Auto,
                        "binary" => KernelMode::Binary,
                        "source" => KernelMode::Source,
                        _ => return Err(wrong("auto, binary or source")),
                    }),
                    "no-check" => compiler.check(false),
                    "embed-weights" => {
                        package = package.embed_weights(true);
                        compiler
                    }
                    "weights-path" => {
                        package = package.weights_path(&text);
                        compiler
                    }
                    _ => return Err(Error::internal("build script", format!("no option {option}"))),
                };
            }
            Ok(compiler.package(package))
        }
    }
}
