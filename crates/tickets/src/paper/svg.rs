//! A code as SVG: one path, a few kilobytes, sharp at any size.

use std::fmt::Write;

use super::{Matrix, QUIET};
use crate::Error;

/// The text as a QR code.
///
/// # Errors
/// [`Error::Corrupt`] where it is too long for one.
pub fn svg(text: &str) -> Result<String, Error> {
    let matrix = Matrix::new(text)?;
    let size = matrix.width + 2 * QUIET;
    let mut path = String::new();
    for (x, y, length) in matrix.runs() {
        // Writing into a `String` cannot fail.
        let _ = write!(path, "M{} {}h{length}v1h-{length}z", x + QUIET, y + QUIET);
    }
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {size} {size}\" shape-rendering=\"crispEdges\">\
         <path fill=\"#fff\" d=\"M0 0h{size}v{size}H0z\"/><path d=\"{path}\"/></svg>"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_square_with_a_white_border() {
        let svg = svg("T1.x").unwrap();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>") && svg.contains("viewBox=\"0 0 29 29\""), "{svg}");
        assert!(svg.contains("M4 4h7v1h-7z"), "{svg}");
        assert!(super::svg(&"x".repeat(5_000)).is_err());
    }
}
