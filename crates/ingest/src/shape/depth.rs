//! Refuses documents nested so deeply that parsing them would exhaust the stack.

/// Levels of objects and lists that a document may have.
pub(crate) const LIMIT: usize = 64;

/// Whether the document is nested deeper than [`LIMIT`]. Most documents are cleared by counting brackets in blocks,
/// strings included, which costs a fraction of the parse; only where that bound is too high are strings told apart.
pub(crate) fn too_deep(json: &[u8]) -> bool {
    let mut depth = 0_usize;
    // Blocks short enough for counts of one byte: the loop then runs in vector registers.
    for block in json.chunks(128) {
        let (mut opened, mut closed) = (0_u8, 0_u8);
        for byte in block {
            // One bit tells `[` from `{`, and `]` from `}`.
            opened += u8::from(byte | 0x20 == b'{');
            closed += u8::from(byte | 0x20 == b'}');
        }
        let (opened, closed) = (usize::from(opened), usize::from(closed));
        if depth + opened > LIMIT {
            return exactly_too_deep(json);
        }
        depth = (depth + opened).saturating_sub(closed);
    }
    false
}

fn exactly_too_deep(json: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > LIMIT {
                    return true;
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_deep_from_bracketed() {
        assert!(too_deep("[".repeat(100_000).as_bytes()));
        assert!(too_deep(format!("[{}1{}]", "{\"a\":".repeat(200), "}".repeat(200)).as_bytes()));
        assert!(!too_deep(format!("[\"{}\"]", "[{".repeat(5_000)).as_bytes()));
        assert!(!too_deep(format!("[{}]", "{\"a\":[1,2]},".repeat(5_000)).as_bytes()));
    }
}
