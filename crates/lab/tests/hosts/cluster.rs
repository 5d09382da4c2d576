//! Forming a cluster calls the right commands in the right order, and a failure shows the daemon's words.
//! The `rswarm` inside these hosts is a script that writes down how it was called.

use std::time::Duration;

use lab::{Cluster, ClusterSpec};
use nix::sys::signal::Signal;

use crate::{lab, out};

const RSWARM: &str = r#"cat > /usr/local/bin/rswarm <<'X'
#!/bin/sh
echo "$*" >> /run/calls
[ "$1" = join-token ] && echo "TOKEN-$3"
[ ! -e /run/refuse ] || { echo "the token is wrong" >&2; exit 4; }
X
chmod +x /usr/local/bin/rswarm"#;

const DAEMON: &str = r#"cat > /run/answer <<'X'
#!/bin/sh
printf 'HTTP/1.1 200 OK\r\n\r\nOK'
exec cat >/dev/null
X
chmod +x /run/answer
echo "daemon up"
exec socat UNIX-LISTEN:/run/rswarm/rswarm.sock,fork,unlink-early EXEC:/run/answer"#;

fn spec(managers: usize, workers: usize, daemon: &str) -> ClusterSpec {
    let mut spec = ClusterSpec::new(managers, workers);
    spec.daemon = ["sh", "-c", daemon].map(str::to_owned).to_vec();
    spec.deadline = Duration::from_secs(10);
    spec
}

#[test]
fn the_first_host_inits_and_the_others_join_by_role() {
    let lab = lab("form", 3);
    for host in ["h1", "h2", "h3"] {
        out(&lab, host, RSWARM);
    }
    let cluster = Cluster::up_with(&lab, spec(2, 1, DAEMON)).unwrap_or_else(|e| panic!("{}", e.sentence()));
    let address = lab.address("h1").unwrap();
    let calls = |host| out(&lab, host, "cat /run/calls");
    assert_eq!(calls("h1"), format!("init --advertise-addr {address}\njoin-token -q manager\njoin-token -q worker"));
    assert_eq!(calls("h2"), format!("join --detach --token TOKEN-manager {address}:2377"));
    assert_eq!(calls("h3"), format!("join --detach --token TOKEN-worker {address}:2377"));

    let again = Cluster::open(&lab).unwrap();
    assert_eq!((again.managers(), again.workers()), (&["h1".to_owned(), "h2".to_owned()][..], &["h3".to_owned()][..]));
    cluster.stop_daemon("h3", Signal::SIGKILL).unwrap();
    assert_eq!(cluster.daemon("h3").unwrap(), None);
    cluster.start_daemon("h3").unwrap();
    assert!(cluster.daemon("h3").unwrap().is_some());
}

#[test]
fn a_failure_names_the_host_and_shows_its_daemons_log() {
    let lab = lab("fail", 2);
    let error = Cluster::up_with(&lab, spec(2, 0, "echo the disk is full; exit 3")).unwrap_err().to_string();
    assert!(error.contains("ended with exit code 3") && error.contains("the disk is full"), "{error}");

    out(&lab, "h1", RSWARM);
    out(&lab, "h2", &format!("{RSWARM}\ntouch /run/refuse"));
    let error = Cluster::up_with(&lab, spec(2, 0, DAEMON)).unwrap_err().to_string();
    for part in ["`rswarm join` on host h2", "the token is wrong", "daemon up"] {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
    let error = Cluster::up(&lab, 2, 1).unwrap_err().to_string();
    assert!(error.contains("do not fit on the 2 hosts"), "{error}");
}
