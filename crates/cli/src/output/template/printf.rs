//! `printf`: Go's verbs with their flags, width and precision, over JSON values. A value of another kind than its verb wants
//! is shown as it is, where Go would complain in the text.

use std::{iter::Peekable, slice::Iter, str::Chars};

use serde_json::Value;

use super::functions::{MAX_PAD, print};

/// Digits behind the point where nobody says how many.
const PRECISION: usize = 6;

/// What stands between `%` and the verb.
#[derive(Debug, Default)]
struct Directive {
    left: bool,
    plus: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
}

pub(super) fn printf(format: &str, arguments: &[Value]) -> String {
    let mut out = String::new();
    let mut arguments = arguments.iter();
    let mut rest = format.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let directive = Directive::read(&mut rest, &mut arguments);
        match rest.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match arguments.next() {
                Some(value) => out.push_str(&directive.padded(verb, value)),
                None => out.push_str(&format!("%!{verb}(MISSING)")),
            },
        }
    }
    out
}

impl Directive {
    fn read(rest: &mut Peekable<Chars<'_>>, arguments: &mut Iter<'_, Value>) -> Self {
        let mut found = Self::default();
        while let Some(flag) = rest.next_if(|c| "-+# 0".contains(*c)) {
            match flag {
                '-' => found.left = true,
                '+' => found.plus = true,
                '0' => found.zero = true,
                _ => {}
            }
        }
        match rest.next_if_eq(&'*') {
            Some(_) => {
                let width = arguments.next().and_then(Value::as_i64).unwrap_or(0);
                found.left |= width < 0;
                found.width = usize::try_from(width.unsigned_abs()).unwrap_or(MAX_PAD).min(MAX_PAD);
            }
            None => found.width = number(rest).min(MAX_PAD),
        }
        if rest.next_if_eq(&'.').is_some() {
            found.precision = Some(number(rest));
        }
        found
    }

    fn padded(&self, verb: char, value: &Value) -> String {
        let text = self.text(verb, value);
        let missing = self.width.saturating_sub(text.chars().count());
        match (self.left, self.zero && value.is_number()) {
            (true, _) => text + &" ".repeat(missing),
            (false, false) => " ".repeat(missing) + &text,
            (false, true) => {
                // behind the sign
                let (sign, digits) = text.split_at(usize::from(text.starts_with(['-', '+'])));
                format!("{sign}{}{digits}", "0".repeat(missing))
            }
        }
    }

    fn text(&self, verb: char, value: &Value) -> String {
        let whole = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
        let digits = whole.map(i128::unsigned_abs).and_then(|number| match verb {
            'd' => Some(number.to_string()),
            'x' => Some(format!("{number:x}")),
            'X' => Some(format!("{number:X}")),
            'o' => Some(format!("{number:o}")),
            'b' => Some(format!("{number:b}")),
            _ => None,
        });
        if let Some(digits) = digits {
            return format!("{}{digits}", self.sign(whole.is_some_and(|number| number < 0)));
        }
        match (verb, value) {
            ('f' | 'F', Value::Number(number)) => {
                let number = number.as_f64().unwrap_or(0.0);
                let precision = self.precision.unwrap_or(PRECISION).min(MAX_PAD);
                format!("{}{:.precision$}", self.sign(number < 0.0), number.abs())
            }
            ('c', Value::Number(_)) => {
                let code = whole.and_then(|code| u32::try_from(code).ok()).and_then(char::from_u32);
                code.unwrap_or(char::REPLACEMENT_CHARACTER).to_string()
            }
            ('x', Value::String(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
            ('q', _) => format!("{:?}", print(value)),
            ('s', _) => print(value).chars().take(self.precision.unwrap_or(usize::MAX)).collect(),
            ('v' | 't' | 'd' | 'f' | 'F' | 'g' | 'x' | 'X' | 'o' | 'b' | 'c', _) => print(value),
            (other, _) => format!("%!{other}({})", print(value)),
        }
    }

    fn sign(&self, is_negative: bool) -> &'static str {
        match is_negative {
            true => "-",
            false if self.plus => "+",
            false => "",
        }
    }
}

/// The digits that come next; none are 0.
fn number(rest: &mut Peekable<Chars<'_>>) -> usize {
    let mut number = 0_usize;
    while let Some(digit) = rest.next_if(char::is_ascii_digit) {
        number = number.saturating_mul(10).saturating_add(digit as usize - '0' as usize);
    }
    number
}
