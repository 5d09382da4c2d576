//! Where a prober works: by which way, in which namespace, and what the kernel counts there.

use std::{os::unix::fs::MetadataExt, path::PathBuf};

use super::{ProbePath, ProbeTable, socket};

/// One for each way.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub path: ProbePath,
    /// None: in the namespace of the process.
    pub namespace: Option<PathBuf>,
}

impl Place {
    /// Nobody is asked by this way. True if that is news.
    pub fn clear(&self, table: &mut ProbeTable) -> bool {
        let peers = std::mem::take(table.by_mut(self.path));
        let of_host =
            (self.path == ProbePath::Host).then(|| (table.responder_error.take(), std::mem::take(&mut table.led)));
        !peers.is_empty() || of_host.is_some_and(|(error, led)| error.is_some() || !led.is_empty())
    }

    /// Which namespace stands there now; the same for ever where there is but one.
    pub fn inode(&self) -> Option<u64> {
        std::fs::metadata(self.namespace.as_ref()?).ok().map(|metadata| metadata.ino())
    }

    /// Datagrams that came with a wrong checksum. Without a namespace of its own nobody knows whose they were.
    pub fn spoilt(&self) -> Option<u64> {
        let read = || std::fs::read_to_string("/proc/thread-self/net/snmp");
        let text = socket::inside(self.namespace.as_ref()?, read).ok()?.ok()?;
        checksum_errors(&text)
    }
}

/// `InCsumErrors` of UDP in the text of /proc/net/snmp.
fn checksum_errors(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp:"));
    let at = lines.next()?.split_whitespace().position(|name| name == "InCsumErrors")?;
    lines.next()?.split_whitespace().nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::checksum_errors;

    #[test]
    fn the_kernels_counter_is_read() {
        let text = "Tcp: RtoAlgorithm\nTcp: 1\nUdp: InDatagrams InErrors InCsumErrors\nUdp: 5 4 3\n";
        assert_eq!(checksum_errors(text), Some(3));
        assert_eq!(checksum_errors("nonsense"), None);
    }
}
