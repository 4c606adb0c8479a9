// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes JSON.

use std::fmt::Write as _;

/// A string.
pub fn string(text: &str) -> String {
    let mut json = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => {
                json.push('\\');
                json.push(letter);
            }
            control if control < ' ' => {
                // A `String` takes everything.
                let _ = write!(json, "\\u{:04x}", u32::from(control));
            }
            other => json.push(other),
        }
    }
    json.push('"');
    json
}

/// A decimal number as one, anything else as a string.
pub fn number_or_string(text: &str) -> String {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let leading_zero = digits.len() > 1 && digits.starts_with('0');
    if !digits.is_empty() && !leading_zero && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        text.to_owned()
    } else {
        string(text)
    }
}

/// An object of names and values, which are JSON already.
pub fn object(fields: &[(String, String)]) -> String {
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| format!("{}:{value}", string(name)))
        .collect();
    format!("{{{}}}", fields.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped() {
        assert_eq!(string("a\"b\\c\n\u{1}ä"), r#""a\"b\\c\u000a\u0001ä""#);
    }

    #[test]
    fn only_decimal_numbers_are_numbers() {
        let numbers = ["0", "-5", "18446744073709551615"];
        assert_eq!(numbers.map(number_or_string), numbers);
        for text in ["", "-", "0x3", "007", "1.5", "0/2", "1-3"] {
            assert_eq!(number_or_string(text), string(text));
        }
    }
}
