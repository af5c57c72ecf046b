//! The command blocks of README.md and docs/*.md are run, word for word.
//!
//! A block whose fence is `sh` is a script for bash, which stops at the first command that fails.
//! The blocks of a page run one after the other in a folder of their own, which has what somebody
//! who follows the page would have. A word after `sh` says where else a block belongs:
//!
//! | fence | |
//! |---|---|
//! | `sh` | run as it is, on a machine without a GPU |
//! | `sh gpu` | needs a GPU: run on virtual ones, with `hiosc virtual` |
//! | `sh install`, `sh quick-start` | run by `.ci/run readme`, in a checkout |

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::onnx::Model;
use crate::support::{networks, npz, skipped, target_folder};

/// hiosc's folder.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The page's blocks: what is after `sh`, and the text.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    for block in format!("\n{page}").split("\n```").skip(1).step_by(2) {
        let (fence, text) = block.split_once('\n').expect("a block");
        if let Some(rest) = fence.strip_prefix("sh") {
            blocks.push((rest.trim().to_string(), text.to_string()));
        }
    }
    blocks
}

/// A folder as somebody would have it who follows a page.
struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    fn new() -> Folder {
        let new = Folder { folder: tempfile::tempdir().expect("a temporary folder") };
        networks::fire().save(new.path(), "model");
        let shape: &[i64] = &[1, 8];
        Model::new().input("x", shape).output("y", shape).node("Relu", &["x"], "y", &[]).save(new.path(), "squeezenet");
        fs::write(new.at("topology.txt"), "gpu0: a40\ngpu1: l4\nlink others: pcie4\n").expect("written");
        // a project with a test
        fs::write(new.at("Cargo.toml"), "[package]\nname = \"project\"\nversion = \"0.1.0\"\nedition = \"2024\"\n").expect("written");
        fs::create_dir(new.at("src")).expect("a folder");
        fs::write(new.at("src/lib.rs"), "#[test]\nfn works() {}\n").expect("written");
        // crates that a page builds: their dependencies stay compiled from one test run to the next
        let builds = target_folder().join("tmp/commands");
        fs::create_dir_all(&builds).expect("a folder");
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(builds, new.at("build")).expect("a link");
            std::os::unix::fs::symlink(root().join("testdata"), new.at("testdata")).expect("a link");
        }
        let script = "hiosc model.onnx --emit costs --device a40 --gpus 2 > costs.txt; hiosc -q model.onnx -o reference";
        let (succeeded, said) = new.run(script, &[]);
        assert!(succeeded, "{said}");
        npz(&new.at("reference.npz"), &fs::read(new.at("reference/check.safetensors")).expect("a reference"));
        new
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn at(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Runs a script, behind `prefix`. Returns whether it succeeded, and what it printed.
    fn run(&self, script: &str, prefix: &[&str]) -> (bool, String) {
        let hiosc = Path::new(env!("CARGO_BIN_EXE_hiosc"));
        let mut path = vec![hiosc.parent().expect("a folder").to_path_buf()];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        let words = [prefix, &["bash", "-e", "-u", "-o", "pipefail", "-c", script]].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).current_dir(self.path()).env("PATH", std::env::join_paths(path).expect("a path"));
        command.env("HIOSC_NVRTC", self.at("no-nvrtc.so")).env("CARGO_NET_OFFLINE", "true");
        let output = command.output().expect("it starts");
        (output.status.success(), format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
    }
}

#[test]
fn commands_of_the_docs_run_as_they_are() {
    if !hiosc::vgpu::compiler_present() || !cfg!(unix) {
        skipped!("SKIPPED: no C++ compiler, so no virtual GPUs");
        return;
    }
    let mut pages = vec![root().join("README.md")];
    pages.extend(fs::read_dir(root().join("docs")).expect("docs").map(|entry| entry.expect("a page").path()));
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    let mut run = 0;
    for page in pages {
        let name = page.file_name().expect("a name").to_string_lossy().into_owned();
        let blocks = blocks(&fs::read_to_string(&page).expect("a page"));
        if blocks.is_empty() {
            continue;
        }
        let folder = Folder::new();
        for (kind, script) in blocks {
            let prefix: &[&str] = match kind.as_str() {
                "" => &[],
                "gpu" => &["hiosc", "virtual", "--"],
                "install" | "quick-start" => continue,
                other => panic!("{name}: `sh {other}` is not in the table of {}", file!()),
            };
            let start = std::time::Instant::now();
            let (succeeded, said) = folder.run(&script, prefix);
            assert!(succeeded, "{name}:\n{script}\n{said}");
            println!("{name}: {:.1} s: {}", start.elapsed().as_secs_f64(), script.lines().next().unwrap_or_default());
            run += 1;
        }
    }
    assert!(run > 25, "only {run} blocks: the fences have changed");
}
