//! House rules that no lint knows: layers, owned crates, sizes, module docs, forbidden words, metrics without a word.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    house::{MAX_FILE_LINES, MAX_FUNCTION_LINES, MAY_SEE, OWNED},
    metrics, parity,
};

/// Words that mark unfinished work. Spelled in halves so that this file passes its own rule.
const FORBIDDEN: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("#[ign", "ore")];

/// Checks the whole tree and lists every breach at once.
pub fn run(root: &Path) -> Result<()> {
    let mut breaches = Vec::new();
    check_dependencies(root, &mut breaches)?;
    let files = rust_files(root)?;
    parity::check(root, &files, &mut breaches)?;
    metrics::check(root, &files, &mut breaches)?;
    for path in files {
        let text = fs::read_to_string(root.join(&path)).with_context(|| format!("read {path}"))?;
        check_file(&path, &text, &mut breaches);
    }
    if breaches.is_empty() {
        return Ok(());
    }
    let mut list = String::new();
    for breach in &breaches {
        let _ = write!(list, "\n  {breach}");
    }
    bail!("{} house rules are broken:{list}", breaches.len())
}

fn check_dependencies(root: &Path, breaches: &mut Vec<String>) -> Result<()> {
    let output =
        Command::new("cargo").args(["metadata", "--format-version=1", "--no-deps"]).current_dir(root).output()?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let ours = MAY_SEE.iter().find(|(crate_name, _)| *crate_name == name);
        let Some((_, may_see)) = ours else { continue };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            if dependency["kind"].as_str() == Some("dev") {
                continue;
            }
            let wanted = dependency["name"].as_str().unwrap_or_default();
            if MAY_SEE.iter().any(|(n, _)| *n == wanted) && !may_see.contains(&wanted) {
                breaches
                    .push(format!("crates/{name}/Cargo.toml: {name} must not see {wanted} (layers, ARCHITECTURE.md)"));
            }
            let owner = OWNED.iter().find(|(n, _)| *n == wanted);
            if let Some((_, owners)) = owner.filter(|(_, owners)| !owners.contains(&name)) {
                breaches.push(format!("crates/{name}/Cargo.toml: only {} may use {wanted}", owners.join(", ")));
            }
        }
    }
    Ok(())
}

pub fn rust_files(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"])
        .current_dir(root)
        .output()?;
    if !output.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?.lines().filter(|l| root.join(l).exists()).map(str::to_owned).collect())
}

fn check_file(path: &str, text: &str, breaches: &mut Vec<String>) {
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() > MAX_FILE_LINES {
        breaches.push(format!("{path}: {} lines, at most {MAX_FILE_LINES}; split it by idea", lines.len()));
    }
    let starts_with_doc =
        lines.iter().find(|l| !l.trim().is_empty() && !l.starts_with("#!")).is_some_and(|l| l.starts_with("//!"));
    if !starts_with_doc {
        breaches.push(format!("{path}: opens with no //! line that says what it is"));
    }
    for (number, line) in lines.iter().enumerate() {
        if let Some(word) = FORBIDDEN.iter().find(|word| line.contains(**word)) {
            breaches.push(format!("{path}:{}: {word}; finish it or say it in an issue", number + 1));
        }
    }
    // a test is as long as the text it expects
    let is_test = path.contains("tests/") || path.ends_with("tests.rs");
    for (name, start, length) in long_functions(&lines).into_iter().filter(|_| !is_test) {
        breaches.push(format!("{path}:{start}: function {name} has {length} lines, at most {MAX_FUNCTION_LINES}"));
    }
}

/// Name, first line and length of each function over the limit. Relies on rustfmt: the closing
/// brace stands at the indentation of the line with `fn`.
fn long_functions<'a>(lines: &[&'a str]) -> Vec<(&'a str, usize, usize)> {
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = line.len() - line.trim_start().len();
        let closing = format!("{}}}", " ".repeat(indent));
        let end = lines[start..].iter().position(|l| *l == closing || (l.len() == line.len() && l.ends_with(';')));
        let length = end.map_or(0, |end| end + 1);
        if length > MAX_FUNCTION_LINES {
            found.push((name, start + 1, length));
        }
    }
    found
}

fn function_name(line: &str) -> Option<&str> {
    let trimmed = line.trim_start();
    let at = trimmed.find("fn ")?;
    let modifiers = trimmed[..at].split_whitespace();
    let known =
        |word: &str| matches!(word, "async" | "const" | "unsafe" | "extern" | "\"C\"") || word.starts_with("pub");
    if !modifiers.into_iter().all(known) || line.ends_with(';') || line.ends_with('}') {
        return None;
    }
    let name = &trimmed[at + 3..];
    name.split(|c: char| !c.is_alphanumeric() && c != '_').next().filter(|n| !n.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaches(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        check_file("a.rs", text, &mut found);
        found
    }

    #[test]
    fn a_file_without_a_word_about_itself_is_named() {
        assert_eq!(breaches("//! About.\nfn main() {}\n"), Vec::<String>::new());
        assert!(breaches("fn main() {}\n")[0].contains("opens with no //!"));
    }

    #[test]
    fn long_functions_and_files_are_named() {
        let body = "    let x = 1;\n".repeat(70);
        let found = breaches(&format!("//! About.\npub async fn long() {{\n{body}}}\n"));
        assert_eq!(found, ["a.rs:2: function long has 72 lines, at most 70"]);
        assert!(breaches(&format!("//! About.\n{}", "// x\n".repeat(600)))[0].contains("601 lines"));
    }

    #[test]
    fn unfinished_work_is_named() {
        let marker = concat!("//! About.\n// TO", "DO later\n");
        assert!(breaches(marker)[0].starts_with("a.rs:2:"));
    }
}
