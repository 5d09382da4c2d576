//! Whether the managers are reached on their control port, and whether their clocks agree with this host's.

use std::time::Duration;

use futures::future::join_all;
use identity::NodeIdentity;
use proto::v1::{ReadCall, cluster_client::ClusterClient};
use tokio::{net::TcpStream, time::timeout};
use tonic::metadata::MetadataMap;
use types::{Check, ManagerPeer, ReadRequest, Timestamp};

use crate::clock::now;

/// For TCP, and again for the answer.
const LIMIT: Duration = Duration::from_secs(3);
/// Answers bear the time in whole seconds, and travel: less says nothing.
const UNNOTICED: Duration = Duration::from_secs(2);
/// Certificates are dated back by an hour; long before that something must be done.
const TOO_MUCH: Duration = Duration::from_secs(300);

/// Asks each of the managers, all at once.
pub async fn managers(identity: &NodeIdentity, managers: &[ManagerPeer]) -> Vec<Check> {
    let asked = join_all(managers.iter().map(|manager| one(identity, &manager.address))).await;
    asked.into_iter().flatten().collect()
}

async fn one(identity: &NodeIdentity, address: &str) -> Vec<Check> {
    let subject = format!("control port of {address}");
    let port = address.rsplit(':').next().unwrap_or_default();
    // of this host's own manager what others call it need not lead here
    let at = identity.own_listener(address).map_or_else(|| address.to_owned(), |own| own.to_string());
    match timeout(LIMIT, TcpStream::connect(at)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return vec![Check::fail(subject, refused(&error, port))],
        Err(_) => {
            let seconds = LIMIT.as_secs();
            let text = format!("no answer within {seconds} s: open TCP port {port} towards it, or that host is down");
            return vec![Check::fail(subject, text)];
        }
    }
    let identity = identity.clone();
    let channel = proto::transport::channel(address, move |address| identity.clone().connect(address));
    let call = ReadCall { read_request: proto::encode(&ReadRequest::Counts), linearizable: false };
    let answer = timeout(LIMIT, ClusterClient::new(channel).read(call)).await;
    // A refusal is an answer too: workers may not read.
    let metadata = match &answer {
        Ok(Ok(answer)) => answer.metadata(),
        Ok(Err(status)) => status.metadata(),
        Err(_) => {
            return vec![Check::fail(
                subject,
                format!("takes connections, but does not answer within {} s", LIMIT.as_secs()),
            )];
        }
    };
    let Some(there) = date(metadata) else {
        let why = match answer {
            Ok(Err(status)) => status.message().to_owned(),
            _ => "its answer bears no time".to_owned(),
        };
        return vec![Check::fail(subject, format!("takes connections, but does not speak to this node: {why}"))];
    };
    vec![Check::pass(subject, "answers"), clock(address, now(), there)]
}

fn refused(error: &std::io::Error, port: &str) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => {
            format!("refused: the host is there, but no manager listens on TCP port {port}: is its daemon running?")
        }
        _ => format!("{error}: check the route to it, and that TCP port {port} is open"),
    }
}

fn date(metadata: &MetadataMap) -> Option<Timestamp> {
    http_date(metadata.get("date")?.to_str().ok()?)
}

/// By how much the clocks differ, and what that means.
fn clock(address: &str, here: Timestamp, there: Timestamp) -> Check {
    let subject = format!("clock against {address}");
    let (ahead, behind) = (here.since(there), there.since(here));
    let skew = ahead.max(behind);
    let seconds = skew.as_secs();
    let side = if ahead > behind { "ahead" } else { "behind" };
    let remedy = "set both by NTP (chrony, systemd-timesyncd); from an hour on certificates are refused";
    if skew <= UNNOTICED {
        Check::pass(subject, "agrees")
    } else if skew < TOO_MUCH {
        Check::warn(subject, format!("this host's is {seconds} s {side}: {remedy}"))
    } else {
        Check::fail(subject, format!("this host's is {seconds} s {side}: {remedy}"))
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7).
fn http_date(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = words[..] else { return None };
    let month = u64::try_from(MONTHS.iter().position(|name| *name == month)?).ok()?;
    let (day, year): (u64, u64) = (day.parse().ok()?, year.parse().ok()?);
    let mut parts = time.split(':').map(str::parse::<u64>);
    let (hour, minute, second) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    // The year begins in March, so that the leap day comes last.
    let (from_march, year) = if month < 2 { (month + 10, year.checked_sub(1)?) } else { (month - 2, year) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * from_march + 2) / 5 + day.checked_sub(1)?;
    let seconds = days.checked_sub(719_468)? * 86_400 + hour * 3600 + minute * 60 + second;
    Some(Timestamp::from_unix_ms(seconds * 1000))
}

#[cfg(test)]
mod tests {
    use types::CheckVerdict::{Fail, Pass, Warn};

    use super::*;

    #[test]
    fn dates_are_read() {
        let seconds = |text: &str| http_date(text).map(|at| at.as_unix_ns() / 1_000_000_000);
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(seconds("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(seconds("Thu, 29 Feb 2024 12:00:00 GMT"), Some(1_709_208_000));
        for bad in [
            "",
            "yesterday",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Abc 1994 1:1:1 GMT",
        ] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_clock_that_differs_is_said_before_certificates_suffer() {
        let at = |seconds: u64| Timestamp::from_unix_ms(seconds * 1000);
        let verdict = |here, there| clock("m:2377", at(here), at(there)).verdict;
        assert_eq!([verdict(1000, 1001), verdict(1000, 1010), verdict(1000, 2000)], [Pass, Warn, Fail]);
        assert!(clock("m:2377", at(1000), at(900)).text.starts_with("this host's is 100 s ahead"));
    }
}
