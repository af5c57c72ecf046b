//! Runs scenarios on virtual GPUs, each in a separate process of this test program: a process loads
//! the virtual driver when it first uses CUDA, and the driver reads its settings then.
//!
//! A module with scenarios has a table of them, and a test called `scenario` that passes the table
//! to [`play`]. In an ordinary run that test does nothing. In the process that [`child`] starts, it
//! is the only test, and runs the scenario that `HIOSC_TEST_SCENARIO` names. Without a C++ compiler
//! there are no virtual GPUs: the tests say so and pass.

use std::process::{Command, ExitCode, Output, Termination};

use hiosc::vgpu;

use super::skipped;

const VARIABLE: &str = "HIOSC_TEST_SCENARIO";

/// A scenario by its name.
pub type Scenario<T> = (&'static str, fn() -> T);

/// Runs the scenario that this process was started for, if any.
pub fn play<T: Termination>(scenarios: &[Scenario<T>]) {
    let Ok(name) = std::env::var(VARIABLE) else { return };
    let (_, scenario) = scenarios.iter().find(|(known, _)| *known == name).expect("a known scenario");
    assert!(scenario().report() == ExitCode::SUCCESS, "scenario {name} failed");
    println!("scenario {name} done");
}

/// A command that runs one test of this program: `test` of the module whose `module_path!()` is
/// given.
pub fn only(module: &str, test: &str) -> Command {
    let mut command = again();
    command.args(["--exact", &format!("{}{test}", prefix(module)), "--nocapture"]);
    command
}

/// A command that runs this program.
pub fn again() -> Command {
    Command::new(std::env::current_exe().expect("this test program"))
}

/// The prefix of the names of a module's tests: its path without the program's name.
pub fn prefix(module: &str) -> String {
    format!("{}::", module.split_once("::").expect("a module of a test program").1)
}

/// Runs a scenario of `module` on virtual GPUs that have `kernels`, with these environment
/// variables and no others of the driver's. Nothing without a C++ compiler.
pub fn child(module: &str, scenario: &str, kernels: &[(&str, &str)], variables: &[(&str, &str)]) -> Option<Output> {
    if !vgpu::compiler_present() {
        skipped!("SKIPPED: no C++ compiler, so no virtual GPUs");
        return None;
    }
    let kernels = vgpu::compile_kernels(kernels, None).expect("the kernels compile");
    let mut command = only(module, "scenario");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HIOSC_VGPU_")) {
        command.env_remove(name);
    }
    command.env(VARIABLE, scenario).envs(variables.iter().copied());
    vgpu::command_env(&mut command, &kernels).expect("the virtual driver builds");
    Some(command.output().expect("the child starts"))
}

/// The same for a scenario that must succeed. Gives what it wrote to standard output and to
/// standard error.
pub fn run(module: &str, scenario: &str, kernels: &[(&str, &str)], variables: &[(&str, &str)]) -> Option<(String, String)> {
    let output = child(module, scenario, kernels, variables)?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success() && out.contains(&format!("scenario {scenario} done")), "{scenario} failed:\n{out}\n{err}");
    Some((out, err))
}

/// The value that a scenario printed as `name=value`.
pub fn printed<'a>(out: &'a str, name: &str) -> &'a str {
    let line = out.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("no {name}= in:\n{out}"))
}
