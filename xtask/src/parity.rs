//! `docs/parity.md`: each behaviour that users of Docker Swarm and Docker Engine have, with the tests that show it here, or
//! the reason why not.
//!
//! Made of `docs/parity.list` and of the tests themselves: a test names the rows it shows in its comment (`S-07 to S-12`) or in
//! its name (`cluster_s_19_…`, `e27_…`). A row that neither a test nor a reason stands for breaks the house rules.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use anyhow::{Context, Result};

const LIST: &str = "docs/parity.list";
const TABLE: &str = "docs/parity.md";
/// Swarm's cluster, services, networks, stacks, secrets and configs; the engine.
const GROUPS: [(char, &str); 6] = [
    ('C', "Cluster"),
    ('S', "Services"),
    ('N', "Networks"),
    ('K', "Stacks"),
    ('X', "Secrets and configs"),
    ('E', "One host"),
];
/// Of the tests of one row: so many are named.
const NAMED: usize = 3;

type Shown = BTreeMap<String, BTreeSet<String>>;

/// One line of the list: `C-14 Autolock = missing: …`.
struct Row<'a> {
    id: &'a str,
    what: &'a str,
    /// `missing`, `refused` or `otherwise`, and why.
    reason: Option<&'a str>,
}

/// Writes the table anew.
pub fn write(root: &Path, rust_files: &[String]) -> Result<()> {
    let (table, _) = make(root, rust_files)?;
    fs::write(root.join(TABLE), table).with_context(|| format!("write {TABLE}"))
}

/// What is wrong with the list, and whether the table is as it would be written.
pub fn check(root: &Path, rust_files: &[String], breaches: &mut Vec<String>) -> Result<()> {
    let (table, mut found) = make(root, rust_files)?;
    breaches.append(&mut found);
    if fs::read_to_string(root.join(TABLE)).unwrap_or_default() != table {
        breaches.push(format!("{TABLE}: it is not what the tests say now; run `cargo xtask gen`"));
    }
    Ok(())
}

fn make(root: &Path, rust_files: &[String]) -> Result<(String, Vec<String>)> {
    let list = fs::read_to_string(root.join(LIST)).with_context(|| format!("read {LIST}"))?;
    let mut shown = Shown::new();
    for path in rust_files {
        let text = fs::read_to_string(root.join(path)).with_context(|| format!("read {path}"))?;
        collect(&text, &mut shown);
    }
    Ok(render(&list, &shown))
}

fn render(list: &str, shown: &Shown) -> (String, Vec<String>) {
    let rows: Vec<Row<'_>> = list.lines().filter(|line| !line.trim().is_empty()).filter_map(row).collect();
    let mut breaches = Vec::new();
    let mut body = String::new();
    let mut counts = [0; 2];
    for (group, title) in GROUPS {
        let _ = write!(body, "\n## {title}\n\n| | what | here | shown by |\n|---|---|---|---|\n");
        for Row { id, what, reason } in rows.iter().filter(|row| row.id.starts_with(group)) {
            let tests = shown.get(*id);
            if tests.is_none() && reason.is_none() {
                breaches.push(format!("{LIST}: {id} is shown by no test and has no reason"));
            }
            counts[usize::from(reason.is_some())] += 1;
            let here = reason.unwrap_or("passed");
            let _ = writeln!(body, "| {id} | {what} | {here} | {} |", tests.map_or(String::new(), names));
        }
    }
    for id in shown.keys().filter(|id| !rows.iter().any(|row| row.id == id.as_str())) {
        breaches.push(format!("{LIST}: a test names {id}, which is no row"));
    }
    let [passed, others] = counts;
    let head = format!(
        "# What users of Docker Swarm and Docker Engine have, and what is here\n\nMade by `cargo xtask gen` from {LIST} and from \
         the tests, which name the rows they show. {passed} rows passed; {others} are refused with a reason, done another way or \
         missing.\n"
    );
    (head + &body, breaches)
}

fn row(line: &str) -> Option<Row<'_>> {
    let (id, rest) = line.split_once(' ')?;
    let (what, reason) = rest.split_once(" = ").map_or((rest, None), |(what, reason)| (what, Some(reason)));
    Some(Row { id, what, reason })
}

fn names(tests: &BTreeSet<String>) -> String {
    let named: Vec<String> = tests.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
    match tests.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// The rows that the tests of a file name.
fn collect(text: &str, shown: &mut Shown) {
    let (mut comment, mut is_test) = (String::new(), false);
    for line in text.lines().map(str::trim_start) {
        if let Some(words) = line.strip_prefix("///") {
            comment.push_str(words);
            comment.push('\n');
        } else if line.starts_with("#[") {
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        } else {
            let rest = line.strip_prefix("async ").unwrap_or(line);
            if let (Some(rest), true) = (rest.strip_prefix("fn "), is_test) {
                let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                for id in of_comment(&comment).into_iter().chain(of_name(&name)) {
                    shown.entry(id).or_default().insert(name.clone());
                }
            }
            (comment, is_test) = (String::new(), false);
        }
    }
}

/// `S-07`, `N-14b`, and all from the first to the last of `S-07 to S-12`.
fn of_comment(comment: &str) -> BTreeSet<String> {
    let words: Vec<&str> = comment.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').collect();
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    let mut found = BTreeSet::new();
    for (at, word) in words.iter().enumerate() {
        let Some((group, number)) = id(word) else { continue };
        found.insert((*word).to_owned());
        let last = (words.get(at + 1) == Some(&"to")).then(|| words.get(at + 2).and_then(|word| id(word))).flatten();
        if let Some((_, last)) = last.filter(|(other, _)| *other == group) {
            found.extend((number..=last).map(|number| format!("{group}-{number:02}")));
        }
    }
    found
}

/// The group and the number of a row's id.
fn id(word: &str) -> Option<(char, u32)> {
    let (group, number) = word.split_once('-')?;
    let group = group.chars().next().filter(|c| group.len() == 1 && GROUPS.iter().any(|(known, _)| known == c))?;
    let digits = number.strip_suffix('b').unwrap_or(number);
    (digits.len() == 2).then(|| digits.parse().ok()).flatten().map(|number| (group, number))
}

/// `cluster_s_19_service_logs` and `e27_log_drivers`.
fn of_name(name: &str) -> BTreeSet<String> {
    let words: Vec<&str> = name.split('_').collect();
    let upper = |group: &str, number: &str| id(&format!("{}-{number}", group.to_ascii_uppercase()));
    let whole = words.iter().filter_map(|word| upper(word.get(..1)?, word.get(1..)?));
    let halves = words.windows(2).filter_map(|pair| upper(pair[0], pair[1]));
    whole.chain(halves).map(|(group, number)| format!("{group}-{number:02}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_in_comments_and_names() {
        let text = "
            /// E-13, S-30 to S-32: all that, and N-14b.
            #[test]
            fn docker_s_50_flags() -> Result<()> {
            /// X-01: no test.
            fn helper() {}
            #[tokio::test(flavor = \"x\")]
            async fn e27_s44_more() {";
        let mut shown = Shown::new();
        collect(text, &mut shown);
        let found: Vec<String> = shown.iter().map(|(id, tests)| format!("{id}={}", names(tests))).collect();
        let flags = "`docker_s_50_flags`";
        let wanted = ["E-13", "N-14b", "S-30", "S-31", "S-32", "S-50"].map(|id| format!("{id}={flags}")).to_vec();
        let mut wanted = [wanted, ["E-27", "S-44"].map(|id| format!("{id}=`e27_s44_more`")).to_vec()].concat();
        wanted.sort();
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_row_needs_a_test_or_a_reason() {
        let shown =
            Shown::from([("S-01".to_owned(), ["t".to_owned()].into()), ("S-99".to_owned(), ["u".to_owned()].into())]);
        let (table, breaches) = render("S-01 one\nS-02 two\nS-03 three = refused: why\n", &shown);
        assert!(
            table.contains("| S-01 | one | passed | `t` |") && table.contains("| S-03 | three | refused: why |  |")
        );
        assert_eq!(breaches.len(), 2, "{breaches:?}");
    }
}
