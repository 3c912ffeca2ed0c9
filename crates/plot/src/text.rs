//! Estimates the size of text without its font.

/// Size of the labels of axes and legend, and of the caption.
pub const LABEL: f64 = 13.0;
/// Height of a line of text, in its size.
pub const LINE: f64 = 1.35;

/// An upper estimate of the width of `text` in common sans-serif fonts.
fn width(text: &str, size: f64) -> f64 {
    let em = |c| match c {
        'i' | 'j' | 'l' | 'I' | '|' | '\'' => 0.3,
        ' ' | '.' | ',' | ':' | ';' | '-' | '(' | ')' | '[' | ']' | '/' | 'f' | 't' | 'r' => 0.4,
        'm' | 'w' | 'M' | 'W' | '=' | '+' | '<' | '>' | '×' | '→' | '%' | '@' | '—' => 0.95,
        'A'..='Z' => 0.72,
        '\u{2e80}'.. => 1.0,
        _ => 0.64,
    };
    size * text.chars().map(em).sum::<f64>()
}

/// The width of the widest text.
pub fn widest<'a>(texts: impl IntoIterator<Item = &'a str>, size: f64) -> f64 {
    texts
        .into_iter()
        .map(|text| width(text, size))
        .fold(0.0, f64::max)
}

/// Breaks text into lines of at most `available` pixels, between words, or within words that
/// are too long.
pub fn wrap(text: &str, available: f64, size: f64) -> Vec<String> {
    let mut lines: Vec<String> = vec![];
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && width(&format!("{line} {word}"), size) > available {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            for c in word.chars() {
                if !line.is_empty() && width(&format!("{line}{c}"), size) > available {
                    lines.push(std::mem::take(&mut line));
                }
                line.push(c);
            }
        }
        lines.push(line);
    }
    lines
}

pub fn height(lines: &[String], size: f64) -> f64 {
    lines.len() as f64 * size * LINE
}
