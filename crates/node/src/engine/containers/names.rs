//! Names of single containers: made up, checked, looked up. Pure.

use super::error::ContainerError;

const QUALITIES: [&str; 40] = [
    "amber", "brave", "brisk", "bright", "calm", "candid", "clear", "clever", "crisp", "daring", "deft", "eager",
    "early", "fair", "fleet", "fond", "frank", "gentle", "glad", "golden", "happy", "hardy", "honest", "jolly", "keen",
    "kind", "lively", "lucid", "merry", "mild", "neat", "noble", "patient", "plain", "proud", "quiet", "rapid",
    "steady", "sunny", "warm",
];

const THINGS: [&str; 40] = [
    "anchor", "aspen", "badger", "beacon", "birch", "bridge", "brook", "canyon", "cedar", "comet", "crane", "delta",
    "ember", "falcon", "fjord", "forest", "geyser", "harbor", "heron", "island", "juniper", "lagoon", "lantern",
    "maple", "marten", "meadow", "otter", "pebble", "pine", "plover", "quarry", "raven", "reef", "river", "sparrow",
    "summit", "thistle", "tundra", "walnut", "willow",
];

/// Names tried before a number is put behind.
const TRIES: u64 = 8;

/// A name that nobody has; `random` chooses.
pub(super) fn made_up(random: u64, is_taken: impl Fn(&str) -> bool) -> String {
    let pick = |words: &[&'static str], at: u64| words[usize::try_from(at % words.len() as u64).unwrap_or(0)];
    for step in 0..u64::MAX {
        let at = random.wrapping_add(step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let name = format!("{}_{}", pick(&QUALITIES, at), pick(&THINGS, at >> 20));
        let name = if step < TRIES { name } else { format!("{name}{}", step - TRIES) };
        if !is_taken(&name) {
            return name;
        }
    }
    unreachable!("there are more numbers than containers")
}

/// A name as Docker allows it, without the slash that clients may put before it.
pub(super) fn checked(name: &str) -> Result<&str, ContainerError> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let begins = bare.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    // Names are DNS names of at most 255 bytes, and file names too.
    if !begins || bare.len() < 2 || bare.len() > 255 || !bare.bytes().all(good) {
        return Err(ContainerError::invalid(format!(
            "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )));
    }
    Ok(bare)
}

/// Who is meant: the id, else the name, else the only id that begins so.
pub(super) fn find<'a>(
    text: &str,
    known: impl Iterator<Item = (&'a str, &'a str)> + Clone,
) -> Result<&'a str, ContainerError> {
    let bare = text.strip_prefix('/').unwrap_or(text);
    if bare.is_empty() {
        return Err(ContainerError::not_found(text));
    }
    if let Some((id, _)) = known.clone().find(|(id, _)| *id == bare) {
        return Ok(id);
    }
    if let Some((id, _)) = known.clone().find(|(_, name)| *name == bare) {
        return Ok(id);
    }
    let mut begun = known.filter(|(id, _)| id.starts_with(bare));
    match (begun.next(), begun.next()) {
        (Some((id, _)), None) => Ok(id),
        (Some(_), Some(_)) => Err(ContainerError::invalid(format!(
            "Multiple IDs found with provided prefix: {bare}; give more of the id"
        ))),
        (None, _) => Err(ContainerError::not_found(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_as_docker_does() {
        let known = [("aa11", "web"), ("aa22", "db"), ("bb33", "aa")];
        let find = |text| find(text, known.iter().copied()).map_err(|e| e.message);
        for (text, wanted) in [("aa11", "aa11"), ("web", "aa11"), ("/db", "aa22"), ("aa", "bb33"), ("aa2", "aa22")] {
            assert_eq!(find(text), Ok(wanted), "{text}");
        }
        assert_eq!(find("nobody"), Err("No such container: nobody".into()));
        assert!(find("a").is_err_and(|e| e.starts_with("Multiple IDs")));
        assert!(find("").is_err());
    }

    #[test]
    fn names_are_checked_and_made_up() {
        for good in ["web", "/web-1", "a.b_c"] {
            assert!(checked(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a b", "ü1", "a", "/"] {
            assert!(checked(bad).is_err(), "{bad}");
        }
        let first = made_up(7, |_| false);
        assert!(checked(&first).is_ok() && first.contains('_'));
        assert_ne!(made_up(7, |name| name == first), first);
        assert!(made_up(7, |name| !name.ends_with('3')).ends_with('3'));
    }
}
