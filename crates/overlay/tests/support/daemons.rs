//! A data plane process on each host of an ingress network.

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use overlay::{
    Client, Encryption, EncryptionBackend, EncryptionPeer, NetworkPlan, PrivateKey,
    netd::NetdConfig,
    wireguard::{generate_key_pair, public_key},
};

use super::{KillAtEnd, ingress::Ingress, netd_shell_line};

const STARTS_WITHIN: Duration = Duration::from_secs(10);
const WIREGUARD_PORT: u16 = 51820;

/// `rswarm netd` of one host; killed at the end of the test.
pub struct Daemon {
    pub host: String,
    pub client: Client,
    running: Option<(KillAtEnd, Child)>,
    key: PrivateKey,
}

impl Daemon {
    pub fn start(host: &str) -> Self {
        let socket = NetdConfig::in_dir(format!("/run/rswarm/{host}"), "1").socket;
        let (key, _) = generate_key_pair().expect("key");
        let mut daemon = Self { host: host.to_owned(), client: Client::new(&socket), running: None, key };
        daemon.resume();
        daemon
    }

    pub fn resume(&mut self) {
        self.resume_as("1");
    }

    /// As a process of this version.
    pub fn resume_as(&mut self, version: &str) {
        let host = &self.host;
        let pid_file = format!("/run/{host}.pid");
        let _ = fs::remove_file(&pid_file);
        let netd = netd_shell_line(version).replace("exec ", "");
        let line = format!(
            "RSWARM_TEST_RUN_DIR=/run/rswarm/{host} {netd} & echo $! > {pid_file}.new; mv {pid_file}.new {pid_file}; wait"
        );
        let mut parent = Command::new("nsenter");
        parent.arg(format!("--net=/run/netns/{host}")).args(["/bin/sh", "-c", &line]);
        let parent = parent.stdout(Stdio::null()).spawn().expect("parent");
        let deadline = Instant::now() + STARTS_WITHIN;
        let pid = loop {
            if let Some(pid) = fs::read_to_string(&pid_file).ok().and_then(|text| text.trim().parse().ok()) {
                break pid;
            }
            assert!(Instant::now() < deadline, "netd of {host} starts");
            std::thread::sleep(Duration::from_millis(5));
        };
        self.running = Some((KillAtEnd(pid), parent));
    }

    /// SIGKILL, and wait for its end.
    pub fn kill(&mut self) {
        if let Some((netd, mut parent)) = self.running.take() {
            drop(netd);
            let _ = parent.wait();
        }
    }

    /// Applies the plan; all of it must succeed. Returns how many steps it took.
    pub async fn apply(&self, plan: &NetworkPlan) -> usize {
        let applied = self.client.apply(plan).await.expect("applied");
        assert!(applied.is_complete(), "{}: {applied:?}", self.host);
        applied.steps
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        // The process that writes PROXY protocol headers outlives netd.
        let standing = fs::read(format!("/run/rswarm/{}/port-proxy.json", self.host)).unwrap_or_default();
        let standing: serde_json::Value = serde_json::from_slice(&standing).unwrap_or_default();
        drop(standing["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).map(KillAtEnd));
    }
}

/// The plan of the daemon's host, with an encrypted ingress network among these hosts.
pub fn encrypted(ingress: &Ingress, daemon: &Daemon, all: &[Daemon]) -> NetworkPlan {
    let mut plan = ingress.plan(&daemon.host);
    let others = all.iter().filter(|other| other.host != daemon.host);
    let peer = |other: &Daemon| {
        let public_key = public_key(&other.key);
        (ingress.node(&other.host), EncryptionPeer { public_key, address: ingress.lab.address(&other.host) })
    };
    let private_key = daemon.key.clone();
    let encryption = Encryption {
        backend: EncryptionBackend::Userspace,
        private_key,
        port: WIREGUARD_PORT,
        peers: others.map(peer).collect(),
    };
    plan.data_path.as_mut().expect("data path").encryption = Some(encryption);
    plan.overlays.values_mut().for_each(|overlay| overlay.encrypted = true);
    plan
}
