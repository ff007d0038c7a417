//! One ticket on one page (A4) with its code, to be printed. Fonts are those that every viewer has, so a page is a few
//! kilobytes.

use pdf_writer::{Content, Name, Pdf, Rect, Ref, Str, TextStr};

use super::letters::encode;
use super::{Matrix, QUIET};
use crate::Error;

/// What stands on the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sheet {
    /// The event's title.
    pub title: String,
    /// Lines below it: when, where, which seat.
    pub lines: Vec<String>,
    /// Small lines below the code.
    pub small: Vec<String>,
    /// The text of the code.
    pub code: String,
}

const WIDTH: f32 = 595.0;
const HEIGHT: f32 = 842.0;
const MARGIN: f32 = 56.0;
/// The code's edge, 9 cm: read from an arm's length.
const CODE: f32 = 255.0;
/// A wide letter's width in ems. Lines are broken as if all were wide, so that none runs off the page.
const WIDE_EM: f32 = 0.62;
/// Lines of a title; the rest of it is cut.
const MAX_LINES: usize = 4;

const BOLD: Name<'static> = Name(b"B");
const PLAIN: Name<'static> = Name(b"P");

/// The page.
///
/// # Errors
/// [`Error::Corrupt`] where the code cannot be drawn.
pub fn pdf(sheet: &Sheet) -> Result<Vec<u8>, Error> {
    let ids: [Ref; 7] = std::array::from_fn(|n| Ref::new(n as i32 + 1));
    let [catalog, pages, page, bold, plain, content, info] = ids;
    let mut pdf = Pdf::new();
    pdf.catalog(catalog).pages(pages);
    pdf.pages(pages).kids([page]).count(1);
    pdf.document_info(info).title(TextStr(&sheet.title)).producer(TextStr("Tessera"));
    let mut this = pdf.page(page);
    this.media_box(Rect::new(0.0, 0.0, WIDTH, HEIGHT)).parent(pages).contents(content);
    this.resources().fonts().pair(BOLD, bold).pair(PLAIN, plain);
    drop(this);
    for (font, base) in [(bold, &b"Helvetica-Bold"[..]), (plain, b"Helvetica")] {
        pdf.type1_font(font).base_font(Name(base)).encoding_predefined(Name(b"WinAnsiEncoding"));
    }
    pdf.stream(content, &draw(sheet)?);
    Ok(pdf.finish())
}

fn draw(sheet: &Sheet) -> Result<Vec<u8>, Error> {
    let mut page = Content::new();
    let mut top = HEIGHT - MARGIN;
    write(&mut page, &mut top, &sheet.title, BOLD, 24.0);
    top -= 10.0;
    for line in &sheet.lines {
        write(&mut page, &mut top, line, PLAIN, 14.0);
    }
    top -= 24.0;
    code(&mut page, &Matrix::new(&sheet.code)?, top - CODE);
    top -= CODE + 12.0;
    for line in &sheet.small {
        write(&mut page, &mut top, line, PLAIN, 9.0);
    }
    Ok(page.finish().into_vec())
}

/// A text in as many lines as it takes, and moves the top below it.
fn write(page: &mut Content, top: &mut f32, text: &str, font: Name<'_>, size: f32) {
    let letters = ((WIDTH - 2.0 * MARGIN) / (size * WIDE_EM)) as usize;
    for line in broken(text, letters).into_iter().take(MAX_LINES) {
        *top -= size * 1.35;
        page.begin_text().set_font(font, size).next_line(MARGIN, *top).show(Str(&encode(&line))).end_text();
    }
}

/// Broken between words where that is possible.
fn broken(text: &str, letters: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        if let Some(line) = lines.last_mut().filter(|line| line.chars().count() + 1 + word.len() <= letters) {
            line.push(' ');
            line.extend(word);
            continue;
        }
        while word.len() > letters {
            let rest = word.split_off(letters);
            lines.push(word.into_iter().collect());
            word = rest;
        }
        lines.push(word.into_iter().collect());
    }
    lines
}

/// The code in black, its quiet zone included in its edge, with its lower edge at `bottom`.
fn code(page: &mut Content, matrix: &Matrix, bottom: f32) {
    let module = CODE / (matrix.width + 2 * QUIET) as f32;
    page.set_fill_gray(0.0);
    for (x, y, length) in matrix.runs() {
        let left = MARGIN + (x + QUIET) as f32 * module;
        let lower = bottom + CODE - (y + QUIET + 1) as f32 * module;
        page.rect(left, lower, length as f32 * module, module);
    }
    page.fill_nonzero();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_written() {
        let sheet = Sheet {
            title: "Łódź (live) <script>".into(),
            lines: vec!["2026-03-01 20:00".into(), "Stalls, row 3, seat 7".into()],
            small: vec!["ticket_1".into()],
            code: format!("T1.{}", "a".repeat(112)),
        };
        let bytes = pdf(&sheet).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with("%PDF-1.") && text.trim_end().ends_with("%%EOF"), "{text}");
        // "Lódz (live)" in the font's encoding, as hexadecimal.
        assert!(text.contains("<4CF3647A20286C69766529"), "{text}");
        assert!(text.matches(" re\n").count() > 300, "the code is drawn");
        assert!(bytes.len() < 40_000, "{}", bytes.len());
    }

    #[test]
    fn long_titles_are_broken_and_cut() {
        assert_eq!(broken("a night at the opera", 8), ["a night", "at the", "opera"]);
        assert_eq!(broken(&"x".repeat(20), 8), ["x".repeat(8), "x".repeat(8), "x".repeat(4)]);
        assert!(broken("  ", 8).is_empty());
    }
}
