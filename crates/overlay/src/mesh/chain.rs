//! A chain of rules as text, and how it is known again in the kernel. Pure.

use std::fmt::Write;

/// Writing to a String.
pub const INFALLIBLE: &str = "writing to a String cannot fail";

/// A chain as it shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    pub name: String,
    /// Type, hook and priority of a base chain, as nft writes them between braces.
    pub hook: Option<&'static str>,
    pub rules: Vec<String>,
}

impl Chain {
    pub fn new(name: &str, hook: Option<&'static str>, rules: Vec<String>) -> Self {
        Self { name: name.to_owned(), hook, rules }
    }

    /// What tells its rules from others.
    pub fn digest(&self) -> String {
        short_digest(self.rules.join("\n"))
    }

    /// In place of what the chain has now, which may be nothing. `digest` goes into every rule's comment.
    pub fn write(&self, out: &mut String, table: &str, digest: &str) {
        let Self { name, rules, .. } = self;
        self.declare(out, table);
        writeln!(out, "flush chain inet {table} {name}").expect(INFALLIBLE);
        let count = rules.len();
        for (number, rule) in (1..).zip(rules) {
            writeln!(out, "add rule inet {table} {name} {rule} comment \"{digest} {number}/{count}\"")
                .expect(INFALLIBLE);
        }
    }

    /// Makes the chain, if it is not there, without a rule.
    pub fn declare(&self, out: &mut String, table: &str) {
        write!(out, "add chain inet {table} {}", self.name).expect(INFALLIBLE);
        let hook = self.hook.map_or(String::new(), |hook| format!(" {{ type {hook}; policy accept; }}"));
        writeln!(out, "{hook}").expect(INFALLIBLE);
    }
}

/// The first 64 bits of the SHA-256, in hexadecimal.
pub fn short_digest(text: impl AsRef<[u8]>) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_ref());
    let first = digest.as_ref().iter().take(8).fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    format!("{first:016x}")
}

/// The digest that a chain's comments agree on; empty when one of its rules is missing, foreign or moved.
pub fn digest_of(comments: &[String]) -> String {
    let digest = comments.first().and_then(|first| first.split(' ').next()).unwrap_or_default();
    let count = comments.len();
    let is_whole = (1..).zip(comments).all(|(number, comment)| *comment == format!("{digest} {number}/{count}"));
    if is_whole { digest.to_owned() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P14: a rule added, removed or replaced by somebody else is noticed.
    #[test]
    fn p14_a_touched_chain_is_told_from_a_whole_one() {
        let own: Vec<String> = ["d 1/3", "d 2/3", "d 3/3"].map(str::to_owned).to_vec();
        assert_eq!(digest_of(&own), "d");
        for (at, what) in [(0, ""), (1, "mine"), (2, "d 2/3")] {
            let mut touched = own.clone();
            touched[at] = what.to_owned();
            assert_eq!(digest_of(&touched), "", "{touched:?}");
            let mut fewer = own.clone();
            fewer.remove(at);
            assert_eq!(digest_of(&fewer), "", "{fewer:?}");
            let mut more = own.clone();
            more.insert(at, String::new());
            assert_eq!(digest_of(&more), "", "{more:?}");
        }
    }
}
