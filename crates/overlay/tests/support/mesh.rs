//! Hosts with one encrypted network: each a namespace with netd, an overlay namespace and an endpoint.
#![allow(dead_code)]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns};
use overlay::{
    Applied, Client, DataPath, Encryption, EncryptionBackend, EncryptionPeer, MacAddress, NetworkPlan, OverlayPlan,
    PrivateKey, Remote,
    netd::NetdConfig,
    wireguard::{generate_key_pair, public_key},
};
use types::{NetworkId, NodeId};

use crate::support::{KillAtEnd, ip, netd_shell_line, run};

pub const VNI: u32 = 4097;
pub const VXLAN_PORT: u16 = 4789;
pub const WIREGUARD_PORT: u16 = 51820;
/// 1500 of the underlay less 110.
pub const MTU: u32 = 1390;

pub fn network() -> NetworkId {
    NetworkId::from_random(77)
}

pub fn node(n: u8) -> NodeId {
    NodeId::from_random(u128::from(n))
}

pub fn underlay(n: u8) -> IpAddr {
    [10, 1, 0, n].into()
}

pub fn underlay6(n: u8) -> IpAddr {
    format!("fd01::{n}").parse().expect("address")
}

pub fn inside(n: u8) -> IpAddr {
    [10, 9, 0, n].into()
}

pub fn inside6(n: u8) -> IpAddr {
    format!("fd09::{n}").parse().expect("address")
}

pub fn mac(n: u8) -> MacAddress {
    MacAddress::for_ipv4([10, 9, 0, n].into())
}

pub fn endpoint(n: u8) -> PathBuf {
    format!("/run/netns/e{n}").into()
}

pub fn host_namespace(n: u8) -> PathBuf {
    format!("/run/netns/h{n}").into()
}

/// The wire between hosts.
pub fn underlay_switch() {
    ip("link add sw0 type bridge");
    ip("link set sw0 up");
}

/// Host `n`: namespaces `h<n>` (host), `o<n>` (overlay), `e<n>` (endpoint).
pub struct Host {
    pub n: u8,
    netd: Option<(KillAtEnd, Child)>,
    pub client: Client,
    pub key: PrivateKey,
}

impl Host {
    pub fn new(n: u8) -> Self {
        for kind in ["h", "o", "e"] {
            ip(&format!("netns add {kind}{n}"));
        }
        ip(&format!("link add v{n} type veth peer name eth0 netns h{n}"));
        ip(&format!("link set v{n} master sw0 up"));
        ip(&format!("-n h{n} addr add {}/24 dev eth0", underlay(n)));
        ip(&format!("-n h{n} addr add {}/64 dev eth0 nodad", underlay6(n)));
        ip(&format!("-n h{n} link set eth0 up"));
        ip(&format!("-n h{n} link set lo up"));
        ip(&format!("-n o{n} link add br0 mtu {MTU} type bridge"));
        ip(&format!("-n o{n} link set br0 up"));
        ip(&format!("-n e{n} link add eth0 address {} mtu {MTU} type veth peer name p0 netns o{n}", mac(n)));
        ip(&format!("-n o{n} link set p0 mtu {MTU} master br0 up"));
        ip(&format!("-n e{n} addr add {}/24 dev eth0", inside(n)));
        ip(&format!("-n e{n} addr add {}/64 dev eth0 nodad", inside6(n)));
        ip(&format!("-n e{n} link set eth0 up"));
        let file = PathBuf::from(format!("/run/h{n}/overlay/{}", network()));
        fs::create_dir_all(file.parent().expect("parent")).expect("directory");
        fs::write(&file, "").expect("file");
        run(&format!("mount --bind /run/netns/o{n} {}", file.display()));
        let client = Client::new(&NetdConfig::in_dir(format!("/run/h{n}"), "1").socket);
        let (key, _) = generate_key_pair().expect("key");
        let mut host = Self { n, netd: None, client, key };
        host.start();
        host
    }

    pub fn start(&mut self) {
        let n = self.n;
        let pid_file = format!("/run/h{n}.pid");
        let _ = fs::remove_file(&pid_file);
        let netd = netd_shell_line("1").replace("exec ", "");
        let line = format!(
            "RSWARM_TEST_RUN_DIR=/run/h{n} {netd} & echo $! > {pid_file}.new; mv {pid_file}.new {pid_file}; wait"
        );
        let mut parent = Command::new("nsenter");
        parent.arg(format!("--net={}", host_namespace(n).display())).args(["/bin/sh", "-c", &line]);
        let parent = parent.stdout(Stdio::null()).spawn().expect("parent");
        let deadline = Instant::now() + Duration::from_secs(5);
        let pid = loop {
            if let Some(pid) = fs::read_to_string(&pid_file).ok().and_then(|text| text.trim().parse().ok()) {
                break pid;
            }
            assert!(Instant::now() < deadline, "netd of host {n} starts");
            std::thread::sleep(Duration::from_millis(5));
        };
        self.netd = Some((KillAtEnd(pid), parent));
    }

    /// SIGKILL, and wait for its end.
    pub fn kill(&mut self) {
        if let Some((netd, mut parent)) = self.netd.take() {
            drop(netd);
            let _ = parent.wait();
        }
    }

    pub fn public(&self) -> [u8; 32] {
        public_key(&self.key)
    }

    pub async fn apply(&self, plan: &NetworkPlan) -> Applied {
        self.client.apply(plan).await.expect("applied")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What host `n` shall be in a mesh of these hosts, each by number and public key.
pub fn plan_of(host: &Host, mesh: &[(u8, [u8; 32])]) -> NetworkPlan {
    let others = || mesh.iter().filter(|(n, _)| *n != host.n);
    let peers = others().map(|(n, key)| (node(*n), EncryptionPeer { public_key: *key, address: underlay(*n) }));
    let encryption = Encryption {
        backend: EncryptionBackend::Userspace,
        private_key: host.key.clone(),
        port: WIREGUARD_PORT,
        peers: peers.collect(),
    };
    let remote = |n: u8| Remote { addresses: vec![inside(n), inside6(n)], node: node(n), host: underlay(n) };
    let overlay = OverlayPlan {
        name: "secret".to_owned(),
        vni: VNI,
        subnets: vec!["10.9.0.0/24".parse().expect("subnet"), "fd09::/64".parse().expect("subnet")],
        mtu: Some(MTU),
        encrypted: true,
        remotes: others().map(|(n, _)| (mac(*n), remote(*n))).collect(),
        services: BTreeMap::new(),
        names: BTreeMap::new(),
        reverse: BTreeMap::new(),
    };
    let data_path =
        DataPath { address: underlay(host.n), port: VXLAN_PORT, encryption: Some(encryption), least_mtu: None };
    NetworkPlan {
        data_path: Some(data_path),
        overlays: BTreeMap::from([(network(), overlay)]),
        ..NetworkPlan::default()
    }
}

/// The same plan on the IPv6 addresses of the underlay.
pub fn over_ipv6(mut plan: NetworkPlan, host: u8) -> NetworkPlan {
    let six = |address: IpAddr| match address {
        IpAddr::V4(four) => underlay6(four.octets()[3]),
        IpAddr::V6(_) => address,
    };
    let path = plan.data_path.as_mut().expect("data path");
    path.address = underlay6(host);
    for peer in path.encryption.as_mut().expect("encryption").peers.values_mut() {
        peer.address = six(peer.address);
    }
    for remote in plan.overlays.get_mut(&network()).expect("network").remotes.values_mut() {
        remote.host = six(remote.host);
    }
    plan
}

/// These hosts with right plans.
pub async fn mesh(numbers: &[u8]) -> Vec<Host> {
    underlay_switch();
    let hosts: Vec<Host> = numbers.iter().map(|n| Host::new(*n)).collect();
    replan(&hosts).await;
    hosts
}

pub async fn replan(hosts: &[Host]) {
    let keys: Vec<_> = hosts.iter().map(|host| (host.n, host.public())).collect();
    for host in hosts {
        let applied = host.apply(&plan_of(host, &keys)).await;
        assert_eq!(applied.errors, Vec::<String>::new());
    }
}

/// Runs this on a thread inside a namespace.
pub fn inside_namespace<T: Send + 'static>(path: &Path, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let namespace = File::open(path).expect("namespace");
    std::thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).expect("enter");
        work()
    })
}

pub fn listen(namespace: &Path, address: SocketAddr) -> TcpListener {
    inside_namespace(namespace, move || TcpListener::bind(address).expect("listen")).join().expect("listener")
}

pub fn connect(namespace: &Path, to: SocketAddr) -> TcpStream {
    let connecting =
        inside_namespace(namespace, move || TcpStream::connect_timeout(&to, Duration::from_secs(10)).expect("connect"));
    connecting.join().expect("stream")
}

/// Sends all bytes from one endpoint to another; returns what arrived.
pub fn transfer(from: &Path, to: &Path, address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let listener = listen(to, address);
    let receiving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
        let mut got = Vec::new();
        stream.read_to_end(&mut got).expect("read");
        got
    });
    let mut stream = connect(from, address);
    stream.write_all(bytes).expect("write");
    drop(stream);
    receiving.join().expect("received")
}

/// Gbit/s of one stream (or several) for a while.
pub fn throughput(from: &Path, to: &Path, address: SocketAddr, streams: usize, time: Duration) -> f64 {
    let listener = listen(to, address);
    let receiving = std::thread::spawn(move || {
        let readers: Vec<_> = (0..streams)
            .map(|_| {
                let (mut stream, _) = listener.accept().expect("accept");
                std::thread::spawn(move || {
                    let (mut buffer, mut total) = (vec![0; 256 * 1024], 0u64);
                    loop {
                        match stream.read(&mut buffer).expect("read") {
                            0 => return total,
                            count => total += count as u64,
                        }
                    }
                })
            })
            .collect();
        readers.into_iter().map(|reader| reader.join().expect("reader")).sum::<u64>()
    });
    let start = Instant::now();
    let senders: Vec<_> = (0..streams)
        .map(|_| {
            let mut stream = connect(from, address);
            std::thread::spawn(move || {
                let buffer = vec![7; 256 * 1024];
                while start.elapsed() < time {
                    stream.write_all(&buffer).expect("write");
                }
            })
        })
        .collect();
    for sender in senders {
        sender.join().expect("sender");
    }
    let total = receiving.join().expect("received");
    total as f64 * 8.0 / start.elapsed().as_secs_f64() / 1e9
}
