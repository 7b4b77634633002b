//! How results look.
use base64::Engine as _;
use serde_json::{Map, Value, json};
use std::{fmt::Write as _, io::Write as _};

/// Characters of a value that a line shows.
const SHORT_CHARS: usize = 60;

/// Bytes as a JSON field: as `name` when they are text, else as `name_base64`.
pub fn field(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.into(), json!(text)),
        Err(_) => {
            object.insert(format!("{name}_base64"), json!(base64::engine::general_purpose::STANDARD.encode(bytes)))
        }
    };
}

/// One JSON document on standard output.
pub fn json(value: &Value) {
    line(&format!("{value:#}"));
}

/// A line on standard output; a reader that has gone away is no fault of ours.
pub fn line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Bytes for a terminal: text as it is, the rest escaped.
pub fn readable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(|c| c.is_control()) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

/// A value for a terminal: text keeps its lines.
pub fn readable_lines(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

/// The beginning of a value, in one line.
pub fn shortened(bytes: &[u8]) -> String {
    let text = readable(bytes);
    if text.chars().count() <= SHORT_CHARS {
        return text;
    }
    let start: String = text.chars().take(SHORT_CHARS).collect();
    format!("{start}… ({} bytes)", bytes.len())
}

/// Rows under headings, columns aligned; the first column to the left, numbers to the right.
pub fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([headings[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let is_number = |cell: &str| cell.starts_with(|c: char| c.is_ascii_digit()) || cell == "-";
    let numeric =
        |column: usize| column > 0 && rows.iter().filter_map(|row| row.get(column)).all(|cell| is_number(cell));
    let mut text = String::new();
    let headings = headings.iter().map(|heading| heading.to_string()).collect();
    for row in std::iter::once(&headings).chain(rows) {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let _ = if numeric(column) { write!(line, "{cell:>width$}  ") } else { write!(line, "{cell:<width$}  ") };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_become_base64() {
        let mut object = Map::new();
        field(&mut object, "key", b"plain");
        field(&mut object, "value", &[0xff, 0]);
        assert_eq!(Value::Object(object), json!({"key": "plain", "value_base64": "/wA="}));
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(readable("grün".as_bytes()), "grün");
        assert_eq!(readable(b"\x1b[2J"), "\\x1b[2J");
        assert_eq!(readable_lines(b"two\nlines"), "two\nlines");
        assert_eq!(readable_lines(b"\x1b[2J\n"), "\\x1b[2J\\n");
        assert_eq!(shortened(&[b'a'; 61]), format!("{}… (61 bytes)", "a".repeat(60)));
    }

    #[test]
    fn numbers_are_aligned_to_the_right() {
        let rows = [vec!["a".into(), "5".into()], vec!["bb".into(), "1234".into()]];
        assert_eq!(table(&["NAME", "KEYS"], &rows), "NAME  KEYS\na        5\nbb    1234\n");
    }
}
