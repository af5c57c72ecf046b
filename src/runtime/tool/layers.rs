//! Saves the results of all launches of one inference, for a comparison operator by operator.
//!
//! The file is a safetensors file. The types and shapes of all results are known before the
//! inference, so its header is written first, and each result goes straight to the file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::super::error::Result;
use super::super::exec::Exec;
use super::super::layout::Port;
use super::super::observe::LaunchResults;
use super::bench::quoted;

/// The prefix of the tensors' names in the file.
pub const PREFIX: &str = "tensor:";

/// Runs one inference on `inputs`, and writes what each of `launches` writes to the file `path`, as
/// `tensor:NAME`.
pub fn save(
    exec: &mut Exec,
    inputs: &[&[u8]],
    launches: &[LaunchResults<'_>],
    path: &Path,
    enqueue: impl FnMut(&mut Exec) -> Result<()>,
) -> std::result::Result<(), String> {
    let at = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file = BufWriter::new(File::create(path).map_err(at)?);
    file.write_all(&header(launches)).map_err(at)?;
    let mut sink = file;
    let mut left: usize = launches.iter().map(|launch| launch.results.len()).sum();
    let write = move |bytes: &[u8]| {
        left -= 1;
        sink.write_all(bytes)?;
        // a `BufWriter` that is dropped reports no error
        if left == 0 { sink.flush() } else { Ok(()) }
    };
    exec.observe(inputs, launches, Box::new(write), enqueue).map_err(|error| error.to_string())?.map_err(at)
}

/// The beginning of the file: its length, and where each tensor is.
fn header(launches: &[LaunchResults<'_>]) -> Vec<u8> {
    let mut end = 0;
    let entry = |port: &Port<'_>| {
        let begin = end;
        end += port.bytes();
        let (name, dtype) = (quoted(&format!("{PREFIX}{}", port.name)), port.dtype.stored());
        format!("{name}:{{\"dtype\":\"{dtype:?}\",\"shape\":{:?},\"data_offsets\":[{begin},{end}]}}", port.shape)
    };
    let entries: Vec<String> = launches.iter().flat_map(|launch| launch.results).map(entry).collect();
    let mut text = format!("{{{}}}", entries.join(","));
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::super::dtype::DType;
    use super::*;

    #[test]
    fn the_file_can_be_read() {
        let port = |name, dtype, shape| Port { name, dtype, shape };
        let launches = [
            LaunchResults { first: 1, results: &[port("a \"b\"\\", DType::F32, &[2, 1]), port("n", DType::Bool, &[3])] },
            LaunchResults { first: 0, results: &[port("y", DType::BF16, &[])] },
        ];
        let mut file = header(&launches);
        file.extend(0..13);
        let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
        let found = |name: &str| tensors.tensor(name).map(|t| (t.shape().to_vec(), t.data().to_vec())).unwrap();
        assert_eq!(found("tensor:a \"b\"\\"), (vec![2, 1], (0..8).collect()));
        assert_eq!(found("tensor:n"), (vec![3], vec![8, 9, 10]));
        assert_eq!(found("tensor:y"), (vec![], vec![11, 12]));
        assert_eq!(tensors.tensor("tensor:y").unwrap().dtype(), DType::BF16.stored());
    }
}
