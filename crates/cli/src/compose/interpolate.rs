//! `$NAME`, `${NAME:-default}` and the like in the values of a Compose file. Pure.

/// Names of variables and what they stand for.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Defaults in defaults; nobody nests deeper.
const MAX_DEPTH: usize = 16;

/// Adds to `unset` the names that stand for nothing and have no default.
///
/// # Errors
/// A variable that is required is missing, or the text cannot be understood.
pub(crate) fn interpolate(text: &str, lookup: Lookup<'_>, unset: &mut Vec<String>) -> Result<String, String> {
    expand(text, lookup, unset, 0)
}

fn expand(text: &str, lookup: Lookup<'_>, unset: &mut Vec<String>, depth: usize) -> Result<String, String> {
    if depth > MAX_DEPTH {
        return Err(format!("variables nested more than {MAX_DEPTH} deep"));
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(inner) = after.strip_prefix('{') {
            let end = closing(inner).ok_or_else(|| {
                format!("a `${{` that is not closed in {text:?}; write `}}`, or $$ for a dollar sign")
            })?;
            out.push_str(&braced(&inner[..end], lookup, unset, depth)?);
            rest = &inner[end + 1..];
        } else {
            let length = name_length(after);
            if length == 0 {
                return Err(format!("invalid interpolation format in {text:?}: write $$ for a dollar sign"));
            }
            out.push_str(&value(&after[..length], lookup, unset));
            rest = &after[length..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn value(name: &str, lookup: Lookup<'_>, unset: &mut Vec<String>) -> String {
    lookup(name).unwrap_or_else(|| {
        unset.push(name.to_owned());
        String::new()
    })
}

/// Where the brace that was opened before `text` is closed.
fn closing(text: &str) -> Option<usize> {
    let mut open = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' if text[..at].ends_with('$') => open += 1,
            '}' if open == 0 => return Some(at),
            '}' => open -= 1,
            _ => {}
        }
    }
    None
}

fn name_length(text: &str) -> usize {
    let is_name = |(at, c): &(usize, char)| c.is_ascii_alphabetic() || *c == '_' || (*at > 0 && c.is_ascii_digit());
    text.char_indices().take_while(is_name).count()
}

/// What stands between the braces.
fn braced(inner: &str, lookup: Lookup<'_>, unset: &mut Vec<String>, depth: usize) -> Result<String, String> {
    let (name, operation) = inner.split_at(name_length(inner));
    if name.is_empty() {
        return Err(format!(
            "invalid interpolation format: ${{{inner}}} names no variable; write $$ for a dollar sign"
        ));
    }
    if operation.is_empty() {
        return Ok(value(name, lookup, unset));
    }
    let (needs_text, operator) = match operation.strip_prefix(':') {
        Some(rest) => (true, rest),
        None => (false, operation),
    };
    let found = lookup(name).filter(|value| !needs_text || !value.is_empty());
    let other = operator.get(1..).unwrap_or_default();
    match (operator.chars().next(), found) {
        (Some('-' | '?'), Some(found)) => Ok(found),
        (Some('-'), None) => expand(other, lookup, unset, depth + 1),
        (Some('+'), Some(_)) => expand(other, lookup, unset, depth + 1),
        (Some('+'), None) => Ok(String::new()),
        (Some('?'), None) => {
            let why = expand(other, lookup, unset, depth + 1)?;
            let why = if why.is_empty() { "it must be set".to_owned() } else { why };
            Err(format!("required variable {name} is missing a value: {why}"))
        }
        _ => Err(format!(
            "invalid interpolation format: ${{{inner}}}; after the name stands one of :- - :? ? :+ +, or nothing"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let lookup = |name: &str| match name {
            "SET" => Some("value".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        match (interpolate(text, &lookup, &mut Vec::new()), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
            (Err(found), Err(part)) => assert!(found.contains(part), "{text}: {found}"),
            (found, _) => panic!("{text}: {found:?}"),
        }
    }

    /// K-01: all forms of interpolation.
    #[test]
    fn k_01_forms_of_interpolation() {
        for (text, expected) in [
            ("a $SET b", "a value b"),
            ("${SET}s", "values"),
            ("$UNSET.", "."),
            ("$$SET", "$SET"),
            ("${SET:-d}|${EMPTY:-d}|${UNSET:-d}", "value|d|d"),
            ("${SET-d}|${EMPTY-d}|${UNSET-d}", "value||d"),
            ("${SET:+r}|${EMPTY:+r}|${UNSET:+r}", "r||"),
            ("${SET+r}|${EMPTY+r}|${UNSET+r}", "r|r|"),
            ("${SET:?e}|${EMPTY?e}", "value|"),
            ("${UNSET:-${SET}-${OTHER:-x}}", "value-x"),
            ("${UNSET:-a:b}", "a:b"),
        ] {
            check(text, Ok(expected));
        }
        for (text, part) in [
            ("${UNSET:?give it}", "UNSET is missing a value: give it"),
            ("${EMPTY:?}", "EMPTY is missing a value: it must be set"),
            ("${UNSET?e}", "missing"),
            ("${SET", "not closed"),
            ("a $ b", "$$"),
            ("${}", "names no variable"),
            ("${SET!x}", "one of"),
        ] {
            check(text, Err(part));
        }
    }
}
