//! Tickets on paper and screen: the code as a picture, and a page to print.

mod letters;
mod pdf;
mod svg;

use qrcode::{Color, EcLevel, QrCode};

use crate::Error;

pub use letters::prints;
pub use pdf::{Sheet, pdf};
pub use svg::svg;

/// Modules of white around a code (ISO/IEC 18004 asks for four).
const QUIET: usize = 4;

/// A code as a square of light and dark modules.
struct Matrix {
    width: usize,
    dark: Vec<bool>,
}

impl Matrix {
    /// The text as a QR code that can be read with 15 % of it gone: paper is folded.
    fn new(text: &str) -> Result<Self, Error> {
        let code = QrCode::with_error_correction_level(text, EcLevel::M)
            .map_err(|error| Error::Corrupt { what: "a ticket's code".into(), reason: error.to_string() })?;
        let dark = code.to_colors().into_iter().map(|color| color == Color::Dark).collect();
        Ok(Self { width: code.width(), dark })
    }

    /// Runs of dark modules: column, row, length.
    fn runs(&self) -> impl Iterator<Item = (usize, usize, usize)> + '_ {
        self.dark.chunks(self.width).enumerate().flat_map(|(y, row)| {
            let mut x = 0;
            row.chunk_by(|left, right| left == right).filter_map(move |run| {
                let from = x;
                x += run.len();
                run.first().is_some_and(|dark| *dark).then_some((from, y, run.len()))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_the_dark_modules() {
        let matrix = Matrix::new(&format!("T1.{}", "a".repeat(112))).unwrap();
        assert_eq!(matrix.width, 45, "version 7");
        let mut drawn = vec![false; matrix.dark.len()];
        for (x, y, length) in matrix.runs() {
            drawn[y * matrix.width + x..][..length].fill(true);
        }
        assert_eq!(drawn, matrix.dark);
        // The finder pattern of the first corner.
        assert_eq!(matrix.runs().next(), Some((0, 0, 7)));
    }
}
