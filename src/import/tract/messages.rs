//! tract's messages in the words of ONNX: what a node wants, and what it found.
//!
//! **In**: the text of an error or a panic of tract's. **Out**: a reason that follows the operator
//! and the node. A text that is not known here stays as it is.

/// Phrases of tract's, and what is said instead of a message that contains one.
const PHRASES: [(&str, &str); 21] = [
    ("AddAxis: Attempt to insert", "its operands do not fit together"),
    ("Applying rule outputs[", "its operands do not fit together"),
    ("Axis expected to be a const", "its axis must be a constant"),
    ("Expect constant input size", "its sizes must be constants"),
    ("Expected dim and value to be determined", "its depth and its values must be constants"),
    ("Need axes to be a constant", "its axes must be constants"),
    ("Need splits to be a constant", "its sizes must be constants"),
    ("Pad constant input must be constant", "its value must be a constant"),
    ("Params are not const", "its scales and zero points must be constants"),
    ("Reshape volume mismatch", "its operands do not have the numbers of elements that it needs"),
    ("Resize with neither scales nor sizes", "it has neither scales nor sizes"),
    ("SpaceToDepth requires input", "the axes of its input are not multiples of its blocksize"),
    ("STFT expects a constant", "its frame length must be a constant"),
    ("called `Option::unwrap()` on a `None` value", LACKING),
    ("called `Result::unwrap()` on an `Err` value", LACKING),
    ("expected axes as a constant", "its axes must be constants"),
    ("index out of bounds", LACKING),
    ("out of range for slice", LACKING),
    ("out of rank", "its axes are not those of its input"),
    ("shape input is variable", "its shape must be a constant"),
    ("should be equal to", "its shape does not have as many elements as its input"),
];

/// What is said of a panic at something that is not there.
const LACKING: &str = "the reader fails on it: is an input missing, or an axis or an attribute out of range?";

fn phrase(text: &str) -> Option<String> {
    PHRASES.iter().find(|(phrase, _)| text.contains(phrase)).map(|(_, words)| words.to_string())
}

/// Messages about an attribute: `Node y (MaxPool), attribute 'strides': expected ...`, `mode: x`.
fn attribute(text: &str) -> Option<String> {
    if let Some((_, name)) = text.split_once("): expected attribute '") {
        return Some(format!("its attribute {} is missing", name.trim_end_matches('\'')));
    }
    if let Some((name, problem)) = text.split_once("), attribute '").and_then(|(_, rest)| rest.split_once("': ")) {
        let problem = match problem.split_once("unexpected value: ") {
            Some((_, value)) => format!("is {value}, which is not known"),
            None => format!("must be {}", wanted(problem.trim_start_matches("expected "))),
        };
        return Some(format!("its attribute {name} {problem}"));
    }
    const NAMES: [&str; 4] = ["mode", "nearest_mode", "coordinate_transformation_mode", "keep_aspect_ratio_policy"];
    let unknown = text.split_once(": ").filter(|(name, _)| NAMES.contains(name));
    let unknown = unknown.or_else(|| text.split_once("Unknown scatter ")?.1.split_once(": "));
    let (name, value) = unknown.or_else(|| text.split_once("Unsupported GridSample ")?.1.split_once(": "))?;
    Some(format!("its attribute {name} is {value}, which is not known"))
}

/// What an attribute must be.
fn wanted(kind: &str) -> &str {
    match kind {
        "list of non-negative ints" => "integers that are not negative",
        "non-negative int" => "an integer that is not negative",
        "boolean (0 or 1)" => "0 or 1",
        other => other,
    }
}

/// Messages about numbers of inputs and of axes.
fn counted(text: &str) -> Option<String> {
    if let Some((_, rest)) = text.split_once("Wrong number of inputs. Expected ") {
        let (wanted, found) = rest.split_once(" or more, got ")?;
        return Some(format!("it has {found} inputs instead of {wanted} or more"));
    }
    if let Some((_, rest)) = text.split_once("Illegal combination of values for rank and axis: ") {
        let (rank, axis) = rest.split_once(" and ")?;
        return Some(format!("axis {} is not one of {rank} axes", axis.trim_end_matches('.')));
    }
    if let Some((input, axis)) = text.split_once("while getting inputs[").and_then(|(_, rest)| rest.split_once("].shape[")) {
        return Some(format!("its input {input} has no axis {}", axis.split(']').next()?));
    }
    if let Some((_, rest)) = text.split_once("Op expects tensor of rank ") {
        let (wanted, found) = rest.split_once(", input is actually of rank ")?;
        return Some(format!("its input has {} axes instead of {wanted}", found.trim_end_matches('.')));
    }
    if let Some((wanted, found)) = text.split_once(" expects rank ").and_then(|(_, rest)| rest.split_once(", got ")) {
        return Some(format!("its input has {found} axes instead of {wanted}"));
    }
    if let Some((wanted, found)) = text.split_once(" expects ").and_then(|(_, rest)| rest.split_once(" inputs, got ")) {
        return Some(format!("it has {found} inputs instead of {wanted}"));
    }
    if let Some((found, wanted)) = text.split_once(" receives ").and_then(|(_, rest)| rest.split_once(" inputs, mappings expects ")) {
        return Some(format!("it has {found} inputs instead of {wanted}"));
    }
    let (axis, rank) = text.split_once(" axis ")?.1.split_once(" is out of range for rank ")?;
    Some(format!("axis {axis} is not one of {rank} axes"))
}

/// Messages about element types.
fn types(text: &str) -> Option<String> {
    if let Some((_, rest)) = text.split_once("Unsupported datum type in softmax: input type ") {
        return Some(format!("type {} is not supported", rest.split(',').next()?.to_lowercase()));
    }
    let (_, pair) = text.split_once("No super type for ").or_else(|| text.split_once("No supertype found for "))?;
    let pair = pair.trim_matches(['[', ']', '.']).replace(", ", " and ").to_lowercase();
    Some(if pair.is_empty() { "it has no inputs".into() } else { format!("operands of types {pair} do not fit together") })
}

/// tract's messages about types, ranks and shapes that do not fit, in plain words; any other text
/// stays as it is.
pub fn plain(text: &str) -> String {
    let text = without_steps(text.split(" Stack backtrace").next().unwrap_or(text));
    let unlike = || {
        let (before, rest) = text.split_once("Applying rule inputs[")?;
        let (input, rest) = rest.split_once("].")?;
        let (what, rest) = rest.split_once(" == ")?;
        let (_, rest) = rest.split_once(": Impossible to unify ")?;
        let (found, wanted) = rest.trim_end_matches('.').split_once(" with ")?;
        let what = what.replace("datum_type", "type");
        let input: usize = input.parse().ok()?;
        Some(format!("{before}its input {input} has {what} {}, but {} is expected", found.to_lowercase(), wanted.to_lowercase()))
    };
    let other_type = || {
        let (before, rest) = text
            .split_once("Eager eval during inference: Tensor datum type error: tensor is ")
            .or_else(|| text.split_once("Tensor datum type error: tensor is "))?;
        let (found, wanted) = rest.split_once(", accessed as ")?;
        Some(format!("{before}type {} is not supported where {} is", found.to_lowercase(), wanted.to_lowercase()))
    };
    let outputs = || {
        let (before, rest) = text.split_once("Wrong number of outputs. Op says ")?;
        let (own, node) = rest.trim_end_matches('.').split_once(", node says ")?;
        Some(format!("{before}it has {node} outputs, but only {own} are supported"))
    };
    let mode = || {
        let (before, mode) = text.split_once("Unsupported mode ")?;
        Some(format!("{before}mode {mode} is not supported"))
    };
    let extent = || {
        let (axis, rest) = text.split_once("Applying rule inputs[")?.1.split_once("].shape[")?.1.split_once("] == ")?;
        let input = text.split_once("Applying rule inputs[")?.1.split_once(']')?.0;
        let (found, wanted) = rest.split_once("Impossible to unify ")?.1.trim_end_matches('.').split_once(" with ")?;
        Some(format!("axis {axis} of its input {input} has {found} elements, but {wanted} are expected"))
    };
    let shapes = || {
        let (before, rest) = text.split_once("Unifying shapes ")?;
        let (shapes, _) = rest.split_once(": Impossible to unify ")?;
        Some(format!("{before}shapes {shapes} do not agree"))
    };
    let resize = || {
        text.contains("Neither sizes nor scales makes sense")
            .then(|| "its sizes or scales must be constants: give them with --constant".to_string())
    };
    let unfit = || {
        let phrases = ["Condition failed", "Output mismatch after rewiring", "broadcast((", "Invalid inputs for", "Inconsistent matmul"];
        phrases.iter().any(|phrase| text.contains(phrase)).then(|| "its operands do not fit together".to_string())
    };
    let number = || {
        let (expected, found) = text.strip_prefix("Wrong input number. Rules expect ")?.trim_end_matches('.').split_once(", node has ")?;
        Some(format!("it has {found} inputs instead of {expected}"))
    };
    let constant = || text.strip_suffix("must be a const").map(|text| format!("{text}must be a constant"));
    let plain = extent()
        .or_else(unlike)
        .or_else(|| attribute(text))
        .or_else(|| counted(text))
        .or_else(|| types(text))
        .or_else(|| phrase(text))
        .or_else(shapes)
        .or_else(constant)
        .or_else(resize)
        .or_else(other_type)
        .or_else(outputs)
        .or_else(mode)
        .or_else(number)
        .or_else(unfit);
    without_dims(&plain.unwrap_or_else(|| text.to_string()))
}

/// `text` with `3` in place of tract's `Val(3)`.
fn without_dims(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("al(") {
        let number: String = rest[at + 3..].chars().take_while(|c| c.is_ascii_digit() || *c == '-').collect();
        let end = at + 3 + number.len();
        if at > 0 && matches!(rest.as_bytes()[at - 1], b'v' | b'V') && !number.is_empty() && rest[end..].starts_with(')') {
            plain.push_str(&rest[..at - 1]);
            plain.push_str(&number);
            rest = &rest[end + 1..];
        } else {
            plain.push_str(&rest[..at + 3]);
            rest = &rest[at + 3..];
        }
    }
    plain + rest
}

/// `text` without tract's words for what it was doing when it failed.
fn without_steps(text: &str) -> &str {
    /// How a step begins and ends.
    const STEPS: [(&str, &str); 9] = [
        ("Building node @ (", "): "),
        ("Infering facts: ", ""),
        ("Eager eval during inference: ", ""),
        ("Evaluating #", ": "),
        ("Applying rule GivenAllRule [", "]: "),
        ("Applying rule GivenRule {", "}: "),
        ("Applying rule Given2Rule {", "}: "),
        ("running pass ", ": "),
        ("in output_facts invocation for ", ": "),
    ];
    let mut rest = text;
    while let Some(next) = STEPS.iter().find_map(|(begin, end)| Some(rest.strip_prefix(begin)?.split_once(end)?.1)) {
        rest = next;
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn messages_say_what_a_node_wants() {
        for (text, words) in [
            ("Node y (MaxPool): expected attribute 'kernel_shape'", "its attribute kernel_shape is missing"),
            (
                "Node y (Conv), attribute 'strides': expected list of non-negative ints",
                "its attribute strides must be integers that are not negative",
            ),
            ("Node y (MaxPool), attribute 'auto_pad': unexpected value: \"odd\"", "its attribute auto_pad is \"odd\", which is not known"),
            ("Unknown scatter reduction: odd", "its attribute reduction is odd, which is not known"),
            ("Wrong number of inputs. Expected 2 or more, got 1", "it has 1 inputs instead of 2 or more"),
            ("Illegal combination of values for rank and axis: 2 and 7", "axis 7 is not one of 2 axes"),
            ("No super type for [F32, I32]", "operands of types f32 and i32 do not fit together"),
            ("the reader fails on it: index out of bounds: the len is 1 but the index is 1", super::LACKING),
            (
                "Applying rule inputs[1].shape[0] == 4: Impossible to unify Val(3) with Val(4).",
                "axis 0 of its input 1 has 3 elements, but 4 are expected",
            ),
            ("something new", "something new"),
        ] {
            assert_eq!(plain(text), words);
        }
    }
}
