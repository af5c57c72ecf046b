//! ONNX Runtime as the oracle, where Python has it.
//!
//! **In**: a model and inputs. **Out**: outputs, as ONNX Runtime computes them without optimising
//! the graph. A short Python program is run for that; arrays are handed over as npy files.

use std::path::Path;
use std::process::Command;

use super::Input;
use super::values::Values;
use crate::error::{Error, Result};
use crate::runtime::npy;

/// The interpreter, if the variable `HIOSC_PYTHON` does not name another one.
const PYTHON: &str = "python3";

/// Arguments: the model, the folder, then the names of inputs and outputs, each after `in` or
/// `out`. Input `i` is in `in{i}.npy`; output `i` goes to `out{i}.npy`. It prints the version.
const PROGRAM: &str = r#"
import sys
try:
    import numpy, onnxruntime
except ImportError as error:
    sys.exit(f"{error}: pip install onnxruntime numpy")
model, folder, ports = sys.argv[1], sys.argv[2], sys.argv[3:]
named = lambda side: [name for kind, name in zip(ports[::2], ports[1::2]) if kind == side]
options = onnxruntime.SessionOptions()
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
options.log_severity_level = 4
try:
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feeds = {name: numpy.load(f"{folder}/in{i}.npy") for i, name in enumerate(named("in"))}
    for i, values in enumerate(session.run(named("out"), feeds)):
        numpy.save(f"{folder}/out{i}.npy", numpy.asarray(values, order="C"))
except Exception as error:
    sys.exit(" ".join(str(error).split()))
print(onnxruntime.__version__)
"#;

/// The outputs `wanted` of the model at `path`, by name, for these inputs, which include those that
/// the caller has fixed; and the version of ONNX Runtime. `scratch` is a folder for files.
///
/// # Errors
///
/// [`Error::Tool`] if Python or ONNX Runtime is missing, or fails.
pub fn outputs(path: &Path, inputs: &[Input<'_>], wanted: &[&str], scratch: &Path) -> Result<(Vec<Values>, String)> {
    let failed = |message: String| Error::Tool { tool: "onnxruntime".into(), message };
    let python = std::env::var_os("HIOSC_PYTHON").unwrap_or_else(|| PYTHON.into());
    let mut command = Command::new(&python);
    command.arg("-c").arg(PROGRAM).arg(path).arg(scratch);
    for (index, &(name, shape, values)) in inputs.iter().enumerate() {
        let file = scratch.join(format!("in{index}.npy"));
        let array = npy::write(values.bytes(), values.dtype(), shape);
        std::fs::write(&file, array).map_err(Error::io(&file))?;
        command.args(["in", name]);
    }
    for name in wanted {
        command.args(["out", name]);
    }
    let run = command.output().map_err(|error| {
        failed(format!("{} does not start: {error}; name another interpreter with HIOSC_PYTHON", Path::new(&python).display()))
    })?;
    if !run.status.success() {
        return Err(failed(String::from_utf8_lossy(&run.stderr).trim_end().lines().last().unwrap_or("no message").to_string()));
    }
    let output = |index: usize| {
        let file = scratch.join(format!("out{index}.npy"));
        let array = std::fs::read(&file).map_err(Error::io(&file))?;
        let (dtype, shape, bytes) = npy::open(&array).map_err(failed)?;
        Ok(Values { dtype, shape, bytes })
    };
    let values = (0..wanted.len()).map(output).collect::<Result<Vec<_>>>()?;
    Ok((values, String::from_utf8_lossy(&run.stdout).trim().to_string()))
}
