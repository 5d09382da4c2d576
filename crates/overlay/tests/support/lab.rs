//! Several hosts on one underlay, and a small cluster to make their plans from. All of it ends with the test.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::sched::{CloneFlags, setns};
use overlay::{
    DataPath, EndpointPlan, Kernel, MacAddress, NetworkPlan, OverlayPlan, OverlayPort, Remote, diff, explain,
};
use types::{NetworkId, NodeId};

use super::{RUN_DIR, ip, json, output, run};

#[derive(Clone, Copy, PartialEq)]
pub enum Underlay {
    Ipv4,
    Ipv6,
}

pub struct Lab {
    hosts: Vec<String>,
    underlay: Underlay,
}

/// A program on a host; killed at the end of the test.
pub struct Program(pub Child);

impl Program {
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Lab {
    /// Each host is a namespace with `up0` on a common switch.
    pub fn new(hosts: &[&str], underlay: Underlay) -> Self {
        ip("link add switch type bridge");
        ip("link set switch up");
        let lab = Self { hosts: hosts.iter().map(ToString::to_string).collect(), underlay };
        for host in &lab.hosts {
            ip(&format!("netns add {host}"));
            ip(&format!("link add up-{host} type veth peer name up0 netns {host}"));
            ip(&format!("link set up-{host} master switch up"));
            let (prefix, flags) = if underlay == Underlay::Ipv4 { (24, "") } else { (64, "nodad") };
            ip(&format!("-n {host} addr add {}/{prefix} dev up0 {flags}", lab.address(host)));
            ip(&format!("-n {host} link set up0 up"));
            ip(&format!("-n {host} link set lo up"));
            std::fs::create_dir(lab.run_dir(host)).expect("run directory");
        }
        lab
    }

    pub fn set_mtu(&self, mtu: usize) {
        for host in &self.hosts {
            ip(&format!("link set up-{host} mtu {mtu}"));
            ip(&format!("-n {host} link set up0 mtu {mtu}"));
        }
        ip(&format!("link set switch mtu {mtu}"));
    }

    pub fn number(&self, host: &str) -> u8 {
        self.hosts.iter().position(|known| known == host).expect(host) as u8 + 1
    }

    pub fn address(&self, host: &str) -> IpAddr {
        match self.underlay {
            Underlay::Ipv4 => Ipv4Addr::new(192, 0, 2, self.number(host)).into(),
            Underlay::Ipv6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, self.number(host).into()).into(),
        }
    }

    pub fn run_dir(&self, host: &str) -> PathBuf {
        Path::new(RUN_DIR).join(host)
    }

    /// Works in the host's namespace, on a thread of its own.
    fn on<T: Send>(&self, host: &str, work: impl AsyncFnOnce(Kernel) -> T + Send) -> T {
        let kernel = Kernel::new(&self.run_dir(host));
        let body = || {
            let namespace = File::open(Path::new("/run/netns").join(host)).expect(host);
            setns(&namespace, CloneFlags::CLONE_NEWNET).expect("enter the host");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            runtime.block_on(work(kernel))
        };
        std::thread::scope(|scope| scope.spawn(body).join().expect("the work is done"))
    }

    /// What is left to do is nothing, once this is done. Returns how many steps it took.
    pub async fn apply(&self, host: &str, plan: &NetworkPlan) -> usize {
        self.on(host, async |kernel| {
            let steps = diff(plan, &kernel.observe().await.expect("observe"));
            let count = steps.len();
            let failures = kernel.apply(steps).await;
            assert!(failures.is_empty(), "{host}: {failures:?}");
            assert_eq!(diff(plan, &kernel.observe().await.expect("observe")), [], "{host}: the second time");
            count
        })
    }

    /// As sentences, what of the plan cannot be done.
    pub async fn failures(&self, host: &str, plan: &NetworkPlan) -> Vec<String> {
        self.on(host, async |kernel| {
            let steps = diff(plan, &kernel.observe().await.expect("observe"));
            kernel.apply(steps).await.iter().map(|failure| explain(&failure.error)).collect()
        })
    }

    pub async fn converge(&self, cluster: &Cluster) {
        for host in &self.hosts {
            self.apply(host, &self.plan(cluster, host)).await;
        }
    }

    pub fn overlay_path(&self, host: &str, cluster: &Cluster, network: &str) -> PathBuf {
        self.run_dir(host).join("overlay").join(cluster.networks[network].id.to_string())
    }

    fn endpoint_path(&self, cluster: &Cluster, id: &str) -> PathBuf {
        self.run_dir(&cluster.endpoints[id].host).join("netns").join(id)
    }

    /// A command line in an endpoint's namespace.
    pub fn line(&self, cluster: &Cluster, id: &str, line: &str) -> String {
        format!("nsenter --net={} {line}", self.endpoint_path(cluster, id).display())
    }

    pub fn pings(&self, cluster: &Cluster, from: &str, to: &IpAddr) -> bool {
        output(&self.line(cluster, from, &format!("ping -c 1 -W 1 {to}"))).status.success()
    }

    /// Python in an endpoint's namespace, to its end.
    pub fn python(&self, cluster: &Cluster, id: &str, code: &str) -> String {
        let path = format!("--net={}", self.endpoint_path(cluster, id).display());
        let output = Command::new("nsenter").args([&path, "python3", "-c", code]).output().expect("python");
        assert!(output.status.success(), "{id}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Python in a host's namespace.
    pub fn spawn(&self, host: &str, code: &str) -> Program {
        self.spawn_in(&Path::new("/run/netns").join(host), code)
    }

    /// Python in an endpoint's namespace.
    pub fn serve(&self, cluster: &Cluster, id: &str, code: &str) -> Program {
        self.spawn_in(&self.endpoint_path(cluster, id), code)
    }

    /// Python in a namespace.
    pub fn spawn_in(&self, path: &Path, code: &str) -> Program {
        let path = format!("--net={}", path.display());
        let mut command = Command::new("nsenter");
        command.args([&path, "python3", "-c", code]).stdin(Stdio::null());
        Program(command.spawn().expect("python"))
    }

    pub fn veth(&self, host: &str, cluster: &Cluster, network: &str) -> String {
        let path = self.overlay_path(host, cluster, network);
        names(&format!("nsenter --net={} ip -j link show type veth", path.display())).remove(0)
    }

    pub fn host_links(&self, host: &str) -> Vec<String> {
        names(&format!("ip -n {host} -j link"))
    }

    pub fn udp_ports(&self, host: &str) -> String {
        run(&format!("nsenter --net=/run/netns/{host} ss -Huln"))
    }

    /// The tables of every overlay and every endpoint on every host are what the cluster says.
    pub fn check(&self, cluster: &Cluster) {
        for host in &self.hosts {
            for (name, network) in &cluster.networks {
                if cluster.endpoints.values().any(|e| e.host == *host && e.network == *name) {
                    self.check_overlay(cluster, host, name, network);
                }
            }
        }
        for (id, endpoint) in &cluster.endpoints {
            let mut wanted = BTreeSet::new();
            for ((network, vip), backends) in &cluster.services {
                if *network == endpoint.network {
                    let backends: Vec<_> = backends.iter().filter_map(|b| cluster.endpoints.get(b)).collect();
                    wanted.extend((0..2).map(|family| {
                        let backends: BTreeSet<_> = backends.iter().map(|b| b.addresses[family].to_string()).collect();
                        (cluster.networks[network].address(*vip)[family].to_string(), backends)
                    }));
                }
            }
            assert_eq!(balanced(&self.line(cluster, id, "nft -j list ruleset")), wanted, "{id}: virtual addresses");
        }
    }

    fn check_overlay(&self, cluster: &Cluster, host: &str, name: &str, network: &Network) {
        let within = format!("nsenter --net={}", self.overlay_path(host, cluster, name).display());
        let (mut hosts, mut ports, mut neighbours) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for endpoint in cluster.endpoints.values().filter(|endpoint| endpoint.network == name) {
            let mac = endpoint.mac.to_string();
            ports.insert((mac.clone(), endpoint.host != host));
            if endpoint.host != host {
                hosts.insert((mac.clone(), self.address(&endpoint.host).to_string()));
                neighbours.extend(endpoint.addresses.iter().map(|address| (address.to_string(), mac.clone())));
            }
        }
        assert!(!network.encrypted, "the checker knows plain networks");
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let fdb = json(&format!("{within} bridge -j fdb show"));
        let entries = fdb.as_array().expect("list");
        let known = |entry: &&serde_json::Value| entry["dst"].is_string();
        let found = entries.iter().filter(known).map(|e| (text(&e["mac"]), text(&e["dst"])));
        assert_eq!(found.collect::<BTreeSet<_>>(), hosts, "{host} {name}: hosts");
        let led = |entry: &&serde_json::Value| entry["master"].is_string() && entry["state"] != "permanent";
        let found = entries.iter().filter(led).map(|e| (text(&e["mac"]), e["ifname"] == "vxlan0"));
        assert_eq!(found.collect::<BTreeSet<_>>(), ports, "{host} {name}: ports");
        let mut found = BTreeSet::new();
        for family in ["-4", "-6"] {
            let listed = json(&format!("{within} ip {family} -j neigh show dev br0 nud permanent"));
            found.extend(listed.as_array().expect("list").iter().map(|e| (text(&e["dst"]), text(&e["lladdr"]))));
        }
        assert_eq!(found, neighbours, "{host} {name}: neighbours");
    }

    pub fn plan(&self, cluster: &Cluster, host: &str) -> NetworkPlan {
        let data_path = Some(DataPath { address: self.address(host), port: 4789, encryption: None, least_mtu: None });
        let mut plan = NetworkPlan { data_path, ..NetworkPlan::default() };
        for (id, endpoint) in cluster.endpoints.iter().filter(|(_, endpoint)| endpoint.host == host) {
            let network = cluster.networks[&endpoint.network].id;
            let port = OverlayPort { network, addresses: endpoint.addresses.to_vec(), mac: endpoint.mac };
            let endpoint = EndpointPlan { overlays: vec![port], hostname: id.clone(), ..EndpointPlan::default() };
            plan.endpoints.insert(id.parse().expect("id"), endpoint);
        }
        for (name, network) in &cluster.networks {
            if plan.endpoints.values().any(|endpoint| endpoint.overlays[0].network == network.id) {
                plan.overlays.insert(network.id, self.overlay(cluster, host, name, network));
            }
        }
        plan
    }

    /// A network as the host sees it, whether or not it has an endpoint there.
    pub fn network(&self, cluster: &Cluster, host: &str, name: &str) -> (NetworkId, OverlayPlan) {
        let network = &cluster.networks[name];
        (network.id, self.overlay(cluster, host, name, network))
    }

    fn overlay(&self, cluster: &Cluster, host: &str, name: &str, network: &Network) -> OverlayPlan {
        let elsewhere = cluster.endpoints.values().filter(|e| e.network == name && e.host != host);
        let remotes = elsewhere.map(|endpoint| {
            let node = NodeId::from_random(self.number(&endpoint.host).into());
            let (addresses, host) = (endpoint.addresses.to_vec(), self.address(&endpoint.host));
            (endpoint.mac, Remote { addresses, node, host })
        });
        let mut services: BTreeMap<IpAddr, BTreeSet<IpAddr>> = BTreeMap::new();
        for ((_, vip), ids) in cluster.services.iter().filter(|((of, _), _)| of == name) {
            for (family, vip) in network.address(*vip).into_iter().enumerate() {
                let backends = ids.iter().filter_map(|id| cluster.endpoints.get(id)).map(|e| e.addresses[family]);
                services.insert(vip, backends.collect());
            }
        }
        OverlayPlan {
            name: name.to_owned(),
            vni: network.vni,
            subnets: vec![
                format!("10.0.{}.0/24", network.number).parse().expect("subnet"),
                format!("fd00:{:x}::/64", network.number).parse().expect("subnet"),
            ],
            mtu: None,
            encrypted: network.encrypted,
            remotes: remotes.collect(),
            services,
            names: BTreeMap::new(),
            reverse: BTreeMap::new(),
        }
    }
}

fn names(line: &str) -> Vec<String> {
    let listed = json(line);
    listed.as_array().expect("list").iter().map(|link| link["ifname"].as_str().expect("name").to_owned()).collect()
}

/// Virtual addresses and their backends, as the kernel lists them: map element, chain, map of turns.
fn balanced(line: &str) -> BTreeSet<(String, BTreeSet<String>)> {
    let listed = json(line);
    let items = listed["nftables"].as_array().expect("list");
    let backends_of = |chain: &serde_json::Value| {
        let rules = items.iter().filter(|item| item["rule"]["chain"] == *chain);
        let turns = rules.filter_map(|item| item["rule"]["expr"][0]["dnat"]["addr"]["map"]["data"]["set"].as_array());
        turns.flatten().map(|turn| turn[1].as_str().expect("address").to_owned()).collect::<BTreeSet<_>>()
    };
    let elements = items.iter().filter_map(|item| item["map"]["elem"].as_array()).flatten();
    elements.map(|e| (e[0].as_str().expect("address").to_owned(), backends_of(&e[1]["goto"]["target"]))).collect()
}

/// Networks, endpoints and services, from which each host's plan follows.
#[derive(Default)]
pub struct Cluster {
    networks: BTreeMap<String, Network>,
    endpoints: BTreeMap<String, Endpoint>,
    services: BTreeMap<(String, u8), Vec<String>>,
    given: u8,
}

struct Network {
    id: NetworkId,
    number: u8,
    vni: u32,
    encrypted: bool,
}

struct Endpoint {
    network: String,
    host: String,
    addresses: [IpAddr; 2],
    mac: MacAddress,
}

impl Network {
    fn address(&self, last: u8) -> [IpAddr; 2] {
        let v6 = Ipv6Addr::new(0xfd00, self.number.into(), 0, 0, 0, 0, 0, last.into());
        [Ipv4Addr::new(10, 0, self.number, last).into(), v6.into()]
    }
}

impl Cluster {
    pub fn network(&mut self, name: &str, vni: u32) -> &mut Self {
        let number = self.networks.len() as u8 + 1;
        let id = NetworkId::from_random(number.into());
        self.networks.insert(name.to_owned(), Network { id, number, vni, encrypted: false });
        self
    }

    pub fn encrypt(&mut self, network: &str) {
        self.networks.get_mut(network).expect("network").encrypted = true;
    }

    /// With the next addresses of 10.0.N.0/24 and fd00:N::/64.
    pub fn endpoint(&mut self, network: &str, id: &str, host: &str) -> &mut Self {
        self.given = if self.given >= 90 { 1 } else { self.given + 1 };
        let addresses = self.networks[network].address(self.given + 1);
        let IpAddr::V4(v4) = addresses[0] else { unreachable!("IPv4 is first") };
        let (network, host, mac) = (network.to_owned(), host.to_owned(), MacAddress::for_ipv4(v4));
        self.endpoints.insert(id.to_owned(), Endpoint { network, host, addresses, mac });
        self
    }

    pub fn remove(&mut self, id: &str) -> &mut Self {
        self.endpoints.remove(id);
        self
    }

    /// At this number of the network's subnets; those of the endpoints that are there are its backends.
    pub fn service(&mut self, network: &str, vip: u8, backends: &[&str]) -> &mut Self {
        self.services.insert((network.to_owned(), vip), backends.iter().map(ToString::to_string).collect());
        self
    }

    pub fn addresses(&self, id: &str) -> [IpAddr; 2] {
        self.endpoints[id].addresses
    }

    pub fn vip(&self, network: &str, vip: u8) -> [IpAddr; 2] {
        self.networks[network].address(vip)
    }

    pub fn mac(&self, id: &str) -> MacAddress {
        self.endpoints[id].mac
    }
}
