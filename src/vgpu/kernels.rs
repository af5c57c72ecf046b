//! Compiles kernels for the CPU: CUDA C++ in, shared objects out.
//!
//! Parsing the headers takes far longer than compiling one kernel. So kernels are compiled in
//! batches: a translation unit includes the headers once and then has several kernels. There are as
//! many batches as processors, and more if a batch would have over 50 kernels.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::cxx::{self, CxxCompiler};
use crate::error::{Error, Result};
use crate::{embedded, progress};

/// The most kernels in a batch. Larger ones take too long to compile.
const BATCH: usize = 50;

/// The flags for kernels. `-ftls-model` must keep its default: otherwise objects with a lot of
/// shared memory cannot be loaded.
const FLAGS: [&str; 7] = ["-std=c++17", "-O2", "-fPIC", "-march=native", "-shared", "-pthread", "-w"];

/// Compiles `kernels` (name and text of each `.cu`) for the CPU, unless the cache has them. Returns
/// a folder of shared objects for `HIOSC_VGPU_KERNELS`. `headers` is the folder with the `.cuh`
/// files that they include; by default, hiosc's own headers are used.
pub fn compile_kernels(kernels: &[(&str, &str)], headers: Option<&Path>) -> Result<PathBuf> {
    let compiler = CxxCompiler::find()?;
    let headers = headers_of(headers)?;
    let kernels = distinct(kernels)?;
    let mut key = compiler.key(&FLAGS);
    key.files(&headers).files(&kernels);

    cxx::cached_folder(&format!("kernels-{}", key.finish()), |folder| {
        let build = folder.join("build");
        cxx::write_all(&build, &headers)?;
        let batches = batches(&kernels);
        cxx::write_all(&build, batches.iter().map(|batch| (format!("{}.cpp", batch.name), batch.text.as_str())))?;
        let jobs = batches.iter().map(|batch| {
            let mut command = compiler.command(&build, &FLAGS);
            command.args(["-I.", "-x", "c++", &format!("{}.cpp", batch.name), "-o", &format!("../{}.so", batch.name)]);
            (batch.name.clone(), command)
        });
        progress::step("compiling kernels for the CPU", 0, kernels.len() as u64);
        cxx::run_all(jobs.collect())?;
        fs::remove_dir_all(&build).map_err(Error::io(&build))
    })
}

/// Compiles the kernels of the generated crate in `folder` for the CPU, with the crate's own
/// headers. Returns the folder of shared objects for [`load`](super::load) and
/// [`command_env`](super::command_env).
pub fn compile_crate_kernels(folder: &Path) -> Result<PathBuf> {
    let kernels = folder.join("kernels");
    let mut sources: Vec<(String, String)> = Vec::new();
    if !kernels.exists() {
        // a model that only passes its inputs on has none
        return compile_kernels(&[], None);
    }
    for entry in fs::read_dir(&kernels).map_err(Error::io(&kernels))? {
        let path = entry.map_err(Error::io(&kernels))?.path();
        if path.extension().is_some_and(|e| e == "cu") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            sources.push((name, fs::read_to_string(&path).map_err(Error::io(&path))?));
        }
    }
    sources.sort();
    let sources: Vec<(&str, &str)> = sources.iter().map(|(n, s)| (n.as_str(), s.as_str())).collect();
    compile_kernels(&sources, Some(&kernels))
}

/// The headers that kernels include, and those that replace CUDA on the CPU, sorted by name.
fn headers_of(folder: Option<&Path>) -> Result<BTreeMap<String, String>> {
    let is_header = |name: &str| name.ends_with(".cuh") || name.ends_with(".h");
    let owned = |(name, text): (&str, &str)| (name.to_string(), text.to_string());
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    match folder {
        None => headers.extend(embedded::folder("kernels").filter(|(name, _)| is_header(name)).map(owned)),
        Some(folder) => {
            for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
                let path = entry.map_err(Error::io(folder))?.path();
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                if is_header(&name) {
                    headers.insert(name, fs::read_to_string(&path).map_err(Error::io(&path))?);
                }
            }
        }
    }
    // Never from the crate: these headers must match the virtual driver of this hiosc.
    headers.extend(
        embedded::folder("vgpu").filter(|(name, _)| is_header(name) && (name.starts_with("cpu_") || *name == "kernel_abi.h")).map(owned),
    );
    Ok(headers)
}

/// The kernels by name, each once.
fn distinct<'a>(kernels: &[(&'a str, &'a str)]) -> Result<BTreeMap<&'a str, &'a str>> {
    let mut all = BTreeMap::new();
    for (name, text) in kernels {
        if all.insert(*name, *text).is_some_and(|other| other != *text) {
            return Err(Error::internal("vgpu", format!("two different kernels are called '{name}'")));
        }
    }
    Ok(all)
}

struct Batch {
    name: String,
    text: String,
}

/// Distributes the kernels round-robin. Kernels with similar names take about the same time to
/// compile, so every batch gets its share of the slow ones.
fn batches(kernels: &BTreeMap<&str, &str>) -> Vec<Batch> {
    let count = cxx::processors().max(kernels.len().div_ceil(BATCH)).min(kernels.len());
    let mut batches: Vec<Batch> = (0..count).map(|i| Batch { name: format!("batch_{i:03}"), text: String::new() }).collect();
    for (i, (name, text)) in kernels.iter().enumerate() {
        batches[i % count].text.push_str(&format!("#line 1 \"{name}.cu\"\n{text}\n"));
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_is_in_one_batch() {
        let names: Vec<String> = (0..173).map(|i| format!("k{i:03}")).collect();
        let kernels: BTreeMap<&str, &str> = names.iter().map(|name| (name.as_str(), "// text")).collect();
        let batches = batches(&kernels);
        assert!(batches.len() >= 4 && batches.iter().all(|batch| batch.text.matches("#line").count() <= BATCH));
        let all: String = batches.iter().map(|batch| batch.text.as_str()).collect();
        assert!(names.iter().all(|name| all.matches(&format!("#line 1 \"{name}.cu\"\n// text\n")).count() == 1));
    }

    #[test]
    fn a_name_means_one_kernel() {
        assert_eq!(distinct(&[("b", "1"), ("a", "2"), ("b", "1")]).expect("the same twice").len(), 2);
        assert!(distinct(&[("a", "1"), ("a", "2")]).is_err());
        assert!(batches(&BTreeMap::new()).is_empty());
    }

    #[test]
    fn headers_of_a_crate_come_with_the_cpu_side() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("own.cuh"), "// own").expect("writes");
        fs::write(folder.path().join("conv.cu"), "// not a header").expect("writes");
        let headers = headers_of(Some(folder.path())).expect("reads");
        assert_eq!(headers.get("own.cuh").map(String::as_str), Some("// own"));
        assert!(headers.contains_key("cpu_cuda.h") && headers.contains_key("kernel_abi.h") && !headers.contains_key("conv.cu"));
        assert!(!headers.contains_key("machine.h"));
        assert!(headers_of(Some(&folder.path().join("missing"))).is_err());
    }
}
