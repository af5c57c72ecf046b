//! Reads and writes NumPy's .npy files, as far as models need them: little-endian numbers and
//! booleans in C order.
//!
//! A file is a magic number, a version, the length of a header (two bytes in version 1, four in
//! versions 2 and 3), the header, and the values. The header is a Python dictionary:
//! `{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 224, 224), }`. Anything else is an
//! error that says what to do.

use super::dtype::DType;

const MAGIC: &[u8] = b"\x93NUMPY";

/// The values of a file, as bytes. The file must have this type and shape.
pub fn read(file: &[u8], dtype: DType, shape: &[usize]) -> Result<Vec<u8>, String> {
    let (header, values) = split(file)?;
    let Header { descr, fortran, shape: found } = parsed(header)?;
    if dtype_of(&descr) != Some(dtype) {
        let wanted = descr_of(dtype);
        return Err(format!("it holds {}, but {} is needed: save x.astype('{wanted}')", type_name(&descr), type_name(wanted)));
    }
    if fortran {
        return Err(FORTRAN.into());
    }
    if found != shape {
        return Err(format!("it has shape {}, but {} is needed", shape_text(&found), shape_text(shape)));
    }
    whole(values, dtype, shape)
}

/// Type, shape and values of a file.
pub fn open(file: &[u8]) -> Result<(DType, Vec<usize>, Vec<u8>), String> {
    let (header, values) = split(file)?;
    let Header { descr, fortran, shape } = parsed(header)?;
    let dtype = dtype_of(&descr).ok_or_else(|| format!("it holds {}, which is not a tensor type", type_name(&descr)))?;
    if fortran {
        return Err(FORTRAN.into());
    }
    let values = whole(values, dtype, &shape)?;
    Ok((dtype, shape, values))
}

const FORTRAN: &str = "it is in Fortran order, but C order is needed: save numpy.ascontiguousarray(x)";

/// `values`, if there are as many as the shape needs. Booleans become 0 and 1.
fn whole(values: &[u8], dtype: DType, shape: &[usize]) -> Result<Vec<u8>, String> {
    let bytes = if shape.contains(&0) { Some(0) } else { shape.iter().try_fold(dtype.bytes() as usize, |n, &d| n.checked_mul(d)) };
    if bytes != Some(values.len()) {
        let needed = bytes.map_or("more than 2^64".into(), |bytes| bytes.to_string());
        return Err(format!("it has {} bytes of values, but its shape needs {needed}: the file is damaged", values.len()));
    }
    Ok(if dtype == DType::Bool { values.iter().map(|&v| u8::from(v != 0)).collect() } else { values.to_vec() })
}

/// A file of version 1, with its values aligned to 64 bytes.
pub fn write(values: &[u8], dtype: DType, shape: &[usize]) -> Vec<u8> {
    let extents: Vec<String> = shape.iter().map(|d| d.to_string()).collect();
    let comma = if shape.len() == 1 { "," } else { "" };
    let descr = descr_of(dtype);
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}{comma}), }}", extents.join(", "));
    let before = MAGIC.len() + 4;
    while !(before + header.len() + 1).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let mut file = MAGIC.to_vec();
    file.extend([1, 0]);
    // A header takes a few bytes per dimension and some more: far below 65536.
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(values);
    file
}

/// NumPy's name of a type.
fn descr_of(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "|b1",
        DType::I8 => "|i1",
        DType::I16 => "<i2",
        DType::I32 => "<i4",
        DType::I64 => "<i8",
        DType::U8 => "|u1",
        DType::U16 => "<u2",
        DType::U32 => "<u4",
        DType::U64 => "<u8",
        DType::F16 => "<f2",
        // what NumPy writes for the type of the package ml_dtypes: two bytes without a type
        DType::BF16 => "<V2",
        DType::F32 => "<f4",
        DType::F64 => "<f8",
    }
}

/// The type with this NumPy name, if a model's tensor can have it. The byte order of a single byte
/// does not matter.
fn dtype_of(descr: &str) -> Option<DType> {
    let plain = |descr: &str| descr.trim_start_matches(['<', '=', '|']).to_string();
    let single = matches!(descr.trim_start_matches('>'), "b1" | "i1" | "u1");
    let descr = if single { descr.trim_start_matches('>') } else { descr };
    DType::ALL.into_iter().find(|&dtype| plain(descr_of(dtype)) == plain(descr))
}

/// Splits a file into header and values.
fn split(file: &[u8]) -> Result<(&str, &[u8]), String> {
    let damaged = || "it ends within its header: the file is damaged".to_string();
    let Some(rest) = file.strip_prefix(MAGIC) else { return Err("it is not a .npy file".into()) };
    let (version, rest) = rest.split_at_checked(2).ok_or_else(damaged)?;
    let wide = match version[0] {
        1 => false,
        2 | 3 => true,
        other => return Err(format!("it has format version {other}.{}, and 1 to 3 are known", version[1])),
    };
    let (length, rest) = rest.split_at_checked(if wide { 4 } else { 2 }).ok_or_else(damaged)?;
    let length = length.iter().rev().fold(0usize, |n, &byte| n << 8 | usize::from(byte));
    let (header, values) = rest.split_at_checked(length).ok_or_else(damaged)?;
    let header = std::str::from_utf8(header).map_err(|_| "its header is not text: the file is damaged".to_string())?;
    Ok((header, values))
}

fn parsed(header: &str) -> Result<Header, String> {
    parse(header).ok_or_else(|| format!("its header is malformed: {}", header.trim()))
}

struct Header {
    descr: String,
    fortran: bool,
    shape: Vec<usize>,
}

/// The three entries, in any order. `descr` of a structured type is returned as its text.
fn parse(header: &str) -> Option<Header> {
    let after = |key: &str| {
        let quoted = [format!("'{key}'"), format!("\"{key}\"")];
        let start = quoted.iter().find_map(|q| header.find(q.as_str()).map(|at| at + q.len()))?;
        header[start..].trim_start().strip_prefix(':').map(str::trim_start)
    };
    let descr = after("descr")?;
    let descr = match descr.chars().next()? {
        quote @ ('\'' | '"') => descr[1..].split(quote).next()?.to_string(),
        _ => descr.split(']').next()?.to_string() + "]",
    };
    let order = after("fortran_order")?;
    let fortran = order.starts_with("True");
    if !fortran && !order.starts_with("False") {
        return None;
    }
    let (extents, _) = after("shape")?.strip_prefix('(')?.split_once(')')?;
    let extents = extents.split(',').map(str::trim).filter(|e| !e.is_empty());
    let shape = extents.map(|e| e.trim_end_matches('L').parse().ok()).collect::<Option<Vec<usize>>>()?;
    Some(Header { descr, fortran, shape })
}

/// `float64 ('<f8')`
fn type_name(descr: &str) -> String {
    let name = match descr.trim_start_matches(['<', '>', '|', '=']) {
        "f2" => "float16",
        "f4" => "float32",
        "f8" => "float64",
        "i1" => "int8",
        "i2" => "int16",
        "i4" => "int32",
        "i8" => "int64",
        "u1" => "uint8",
        "u2" => "uint16",
        "u4" => "uint32",
        "u8" => "uint64",
        "b1" => "bool",
        _ => "another type",
    };
    let big = if descr.starts_with('>') { "big-endian " } else { "" };
    format!("{big}{name} ('{descr}')")
}

fn shape_text(shape: &[usize]) -> String {
    if shape.is_empty() { "()".into() } else { shape.iter().map(|d| d.to_string()).collect::<Vec<_>>().join("x") }
}

/// A file name for each tensor: its own with the extension npy, if that is safe and not taken.
pub fn file_names<'a>(tensors: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for tensor in tensors {
        let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
        let plain: String = tensor.chars().map(safe).collect();
        // not hidden, not empty, and unique on file systems that ignore case
        let plain = if plain.starts_with('.') || plain.is_empty() { format!("_{plain}") } else { plain };
        let taken = |name: &String, names: &[String]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
        let mut name = format!("{plain}.npy");
        let mut count = 2;
        while taken(&name, &names) {
            name = format!("{plain}_{count}.npy");
            count += 1;
        }
        names.push(name);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with this header, as version `version`.
    fn file(version: u8, header: &str, values: &[u8]) -> Vec<u8> {
        let mut file = MAGIC.to_vec();
        file.extend([version, 0]);
        match version {
            1 => file.extend((header.len() as u16).to_le_bytes()),
            _ => file.extend((header.len() as u32).to_le_bytes()),
        }
        file.extend(header.as_bytes());
        file.extend(values);
        file
    }

    const TWO: [u8; 8] = [0, 0, 128, 63, 0, 0, 0, 192]; // 1 and -2

    #[test]
    fn there_and_back() {
        for shape in [&[] as &[usize], &[1], &[3], &[2, 3], &[1, 3, 2, 2], &[0]] {
            let n: usize = shape.iter().product();
            for dtype in DType::ALL {
                let values: Vec<u8> = (0..n * dtype.bytes() as usize).map(|i| (i % 2) as u8).collect();
                let bytes = write(&values, dtype, shape);
                assert_eq!((bytes.len() - values.len()) % 64, 0);
                assert_eq!(read(&bytes, dtype, shape).unwrap(), values);
                assert_eq!(open(&bytes).unwrap(), (dtype, shape.to_vec(), values));
            }
        }
    }

    #[test]
    fn what_numpy_writes() {
        let expected = b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }";
        let bytes = write(&TWO, DType::F32, &[2]);
        assert!(bytes.starts_with(expected) && bytes.len() == 128 + 8 && bytes[127] == b'\n' && bytes.ends_with(&TWO));
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n";
        for version in [1, 2, 3] {
            assert_eq!(read(&file(version, header, &TWO), DType::F32, &[2]).unwrap(), TWO);
        }
        let other = "{\"shape\": (1, 2), \"fortran_order\": False, \"descr\": \"<f4\"}";
        assert_eq!(read(&file(1, other, &TWO), DType::F32, &[1, 2]).unwrap(), TWO);
    }

    #[test]
    fn booleans_and_single_bytes() {
        let header = |descr: &str| format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (3,), }}");
        assert_eq!(read(&file(1, &header("|b1"), &[0, 1, 255]), DType::Bool, &[3]).unwrap(), [0, 1, 1]);
        for descr in ["|u1", "<u1", ">u1", "u1"] {
            assert_eq!(read(&file(1, &header(descr), &[7, 8, 9]), DType::U8, &[3]).unwrap(), [7, 8, 9]);
        }
        let message = read(&file(1, &header("<f4"), &[0; 12]), DType::I64, &[3]).unwrap_err();
        assert_eq!(message, "it holds float32 ('<f4'), but int64 ('<i8') is needed: save x.astype('<i8')");
        assert_eq!(open(&file(1, &header("<U4"), &[0; 12])).unwrap_err(), "it holds another type ('<U4'), which is not a tensor type");
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let header =
            |descr: &str, fortran: &str, shape: &str| format!("{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}");
        let good = header("'<f4'", "False", "(2,)");
        let cases = [
            (b"PK\x03\x04".to_vec(), "it is not a .npy file"),
            (b"\x93NUMPY\x01".to_vec(), "it ends within its header: the file is damaged"),
            (file(1, &good, &TWO)[..30].to_vec(), "it ends within its header: the file is damaged"),
            (file(4, &good, &TWO), "it has format version 4.0, and 1 to 3 are known"),
            (file(1, "{'descr': '<f4'}", &TWO), "its header is malformed: {'descr': '<f4'}"),
            (file(1, &header("'<f4'", "False", "(2, x)"), &TWO), "its header is malformed: "),
            (
                file(1, &header("'<f8'", "False", "(2,)"), &TWO),
                "it holds float64 ('<f8'), but float32 ('<f4') is needed: save x.astype('<f4')",
            ),
            (file(1, &header("'>f4'", "False", "(2,)"), &TWO), "it holds big-endian float32 ('>f4'), but float32 ('<f4') is needed"),
            (file(1, &header("'|u1'", "False", "(2,)"), &TWO), "it holds uint8 ('|u1'), but "),
            (file(1, &header("[('x', '<f4')]", "False", "(2,)"), &TWO), "it holds another type ('[('x', '<f4')]'), but "),
            (
                file(1, &header("'<f4'", "True", "(1, 2)"), &TWO),
                "it is in Fortran order, but C order is needed: save numpy.ascontiguousarray(x)",
            ),
            (file(1, &header("'<f4'", "False", "(1, 2)"), &TWO), "it has shape 1x2, but 2 is needed"),
            (file(1, &header("'<f4'", "False", "()"), &TWO[..4]), "it has shape (), but 2 is needed"),
            (file(1, &good, &TWO[..7]), "it has 7 bytes of values, but its shape needs 8: the file is damaged"),
            (file(1, &good, &[TWO, TWO].concat()), "it has 16 bytes of values, but its shape needs 8: the file is damaged"),
        ];
        for (bytes, expected) in cases {
            let message = read(&bytes, DType::F32, &[2]).unwrap_err();
            assert!(message.starts_with(expected), "expected {expected}\nfound    {message}");
        }
        // Found by `fuzz/fuzz_targets/texts.rs`: extents whose product overflows.
        let huge = open(&file(1, &header("'<f4'", "False", "(7766279631452241920, 3)"), &TWO)).unwrap_err();
        assert_eq!(huge, "it has 8 bytes of values, but its shape needs more than 2^64: the file is damaged");
        assert!(open(&file(1, &header("'<f4'", "False", "(7766279631452241920, 0)"), &[])).unwrap().2.is_empty());
    }

    #[test]
    fn tensors_get_safe_file_names() {
        let names = file_names(["y", "a/b", "a:b", "..", "", "Y", "x.1"].into_iter());
        assert_eq!(names, ["y.npy", "a_b.npy", "a_b_2.npy", "_...npy", "_.npy", "Y_2.npy", "x.1.npy"]);
    }
}
