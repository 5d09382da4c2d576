//! `.env` and `env_file`: `NAME=value` lines with quotes, comments and `export`. Pure.

use super::interpolate::{Lookup, interpolate};

/// Names and values, in order.
pub(crate) type Lines = Vec<(String, Option<String>)>;

/// A name without `=` is given as `None`: its value is the caller's.
///
/// # Errors
/// Line and reason.
pub(crate) fn parse(text: &str, lookup: Lookup<'_>) -> Result<Lines, (usize, String)> {
    let mut found = Lines::new();
    let mut lines = text.trim_start_matches('\u{feff}').lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        let (name, value) = match line.split_once('=') {
            None => (line.split_whitespace().next().unwrap_or_default(), None),
            Some((name, value)) => (name.trim(), Some(value.trim().to_owned())),
        };
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err((at + 1, format!("{name:?} is no name of a variable")));
        }
        let Some(mut value) = value else {
            found.push((name.to_owned(), None));
            continue;
        };
        // a quoted value may go on in the next lines
        if let Some(quote) = value.chars().next().filter(|c| matches!(c, '"' | '\'')) {
            while closing(&value, quote).is_none() {
                let Some((_, more)) = lines.next() else {
                    return Err((at + 1, format!("the value of {name} opens with {quote} and has no end")));
                };
                value.push('\n');
                value.push_str(more);
            }
        }
        let earlier = |wanted: &str| {
            let own = found.iter().rev().find(|(known, _)| known == wanted).and_then(|(_, value)| value.clone());
            lookup(wanted).or(own)
        };
        let value = read(&value, &earlier).map_err(|why| (at + 1, why))?;
        found.push((name.to_owned(), Some(value)));
    }
    Ok(found)
}

/// Where the quote that opens the text is closed.
fn closing(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote == '"' => escaped = true,
            c if c == quote => return Some(at),
            _ => {}
        }
    }
    None
}

fn read(value: &str, lookup: Lookup<'_>) -> Result<String, String> {
    let end = |quote| closing(value, quote).unwrap_or(value.len());
    match value.chars().next() {
        Some('\'') => Ok(value[1..end('\'')].to_owned()),
        Some('"') => {
            let mut out = String::new();
            let inner = interpolate(&value[1..end('"')], lookup, &mut Vec::new())?;
            let mut chars = inner.chars();
            while let Some(c) = chars.next() {
                match c {
                    '\\' => match chars.next() {
                        Some('n') => out.push('\n'),
                        Some('r') => out.push('\r'),
                        Some('t') => out.push('\t'),
                        Some(other) => out.push(other),
                        None => out.push('\\'),
                    },
                    c => out.push(c),
                }
            }
            Ok(out)
        }
        _ => {
            let bare = value.find(" #").map_or(value, |at| &value[..at]);
            interpolate(bare.trim_end(), lookup, &mut Vec::new())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k_05_lines_of_env_files() {
        let text =
            "# comment\nA=1\nexport B = two words # note\nC='$A #'\nD=\"x\\n${A}\"\nE\nF=\nG=\"1\n2\"\nH=${A}-${OUT}\n";
        let lookup = |name: &str| (name == "OUT").then(|| "out".to_owned());
        let found = parse(text, &lookup).expect("good");
        let shown: Vec<String> = found.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        assert_eq!(
            shown.join(" "),
            r##"A=Some("1") B=Some("two words") C=Some("$A #") D=Some("x\n1") E=None F=Some("") G=Some("1\n2") H=Some("1-out")"##
        );
        for (bad, line) in [("A=1\n=2", 2), ("A B=1", 1), ("\nA=\"x", 2), ("A=${", 1)] {
            assert_eq!(parse(bad, &lookup).expect_err(bad).0, line, "{bad}");
        }
    }
}
