//! The fields of an option such as `type=volume,target=/srv,"volume-opt=o=addr=192.0.2.1,vers=4"`.

/// Parts between commas, but for commas within quotes. The quotes go; two of them within quotes are one, as in docker's.
pub(crate) fn split(text: &str) -> Vec<String> {
    let (mut fields, mut quoted) = (vec![String::new()], false);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let field = fields.last_mut().expect("there is always one");
        match c {
            '"' if quoted && rest.next_if_eq(&'"').is_some() => field.push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => field.push(c),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    #[test]
    fn commas_within_quotes_are_part_of_a_field() {
        for (text, wanted) in [
            ("", vec![""]),
            ("a=1,b", vec!["a=1", "b"]),
            ("a,\"o=b,c\",d", vec!["a", "o=b,c", "d"]),
            ("\"a \"\"b\"\"\",", vec!["a \"b\"", ""]),
        ] {
            assert_eq!(super::split(text), wanted, "{text}");
        }
    }
}
