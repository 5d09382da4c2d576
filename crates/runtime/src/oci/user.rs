//! Who the container's process is: `name|uid[:group|gid]` looked up in the text of the root
//! filesystem's own `/etc/passwd` and `/etc/group`. Pure; the text is read by `rootfs`.

use serde::{Deserialize, Serialize};

/// The identity of a process of the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedUser {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, the primary one first.
    pub groups: Vec<u32>,
    pub home: String,
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Looks up `user` and `additional` groups. Lines that do not parse are skipped, as libc does.
pub fn resolve(user: &str, additional: &[String], passwd: &str, group: &str) -> Result<ResolvedUser, String> {
    let (user, group_part) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    // A name wins over a number that happens to look like it.
    let entry = passwd_entries(passwd)
        .find(|entry| entry.name == user)
        .or_else(|| user.parse().ok().and_then(|uid: u32| passwd_entries(passwd).find(|entry| entry.uid == uid)));
    let (uid, mut gid, home, name) = match entry {
        Some(entry) => (entry.uid, entry.gid, entry.home, Some(entry.name)),
        None => (numeric(user, "user", "passwd")?, 0, "/", None),
    };
    let mut groups = Vec::new();
    if let Some(wanted) = group_part {
        gid = group_id(wanted, group)?;
    } else if let Some(name) = name {
        let member = |entry: &GroupEntry<'_>| entry.members.split(',').any(|member| member == name);
        groups.extend(group_entries(group).filter(member).map(|entry| entry.gid));
    }
    for wanted in additional {
        groups.push(group_id(wanted, group)?);
    }
    groups.insert(0, gid);
    let mut seen = Vec::new();
    groups.retain(|gid| {
        !seen.contains(gid) && {
            seen.push(*gid);
            true
        }
    });
    let home = if home.is_empty() { "/" } else { home }.to_owned();
    Ok(ResolvedUser { uid, gid, groups, home })
}

fn group_id(wanted: &str, group: &str) -> Result<u32, String> {
    match group_entries(group).find(|entry| entry.name == wanted) {
        Some(entry) => Ok(entry.gid),
        None => numeric(wanted, "group", "group"),
    }
}

fn numeric(text: &str, what: &str, file: &str) -> Result<u32, String> {
    let id: u32 = text
        .parse()
        .map_err(|_| format!("unable to find {what} {text}: no matching entries in the image's /etc/{file}"))?;
    if id > i32::MAX.cast_unsigned() {
        return Err(format!("{what} id {id} is above the largest allowed, {}", i32::MAX));
    }
    Ok(id)
}

fn passwd_entries(text: &str) -> impl Iterator<Item = PasswdEntry<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let home = fields.nth(1).unwrap_or_default();
        Some(PasswdEntry { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home })
    })
}

fn group_entries(text: &str) -> impl Iterator<Item = GroupEntry<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
        Some(GroupEntry { name, gid: gid.parse().ok()?, members: fields.next().unwrap_or_default() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/home/web:/bin/sh\nbroken\n7:x:77:77::/seven:\n";
    const GROUP: &str = "root:x:0:\nweb:x:1000:\nlog:x:4:web,other\nadm:x:5:web\n";

    fn check(user: &str, additional: &[&str], expected: &str) {
        let additional: Vec<String> = additional.iter().map(|g| (*g).to_owned()).collect();
        let got = match resolve(user, &additional, PASSWD, GROUP) {
            Ok(u) => format!("{}:{} {:?} {}", u.uid, u.gid, u.groups, u.home),
            Err(err) => err,
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn names_numbers_groups() {
        check("", &[], "0:0 [0] /root");
        check("web", &[], "1000:1000 [1000, 4, 5] /home/web");
        check("1000", &[], "1000:1000 [1000, 4, 5] /home/web");
        check("web:log", &["adm", "99"], "1000:4 [4, 5, 99] /home/web");
        check("4242", &[], "4242:0 [0] /");
        check("4242:4242", &["4242"], "4242:4242 [4242] /");
        check("7", &[], "77:77 [77] /seven");
        check("nobody", &[], "unable to find user nobody: no matching entries in the image's /etc/passwd");
        check("web:wheel", &[], "unable to find group wheel: no matching entries in the image's /etc/group");
        check("4294967295", &[], "user id 4294967295 is above the largest allowed, 2147483647");
    }
}
