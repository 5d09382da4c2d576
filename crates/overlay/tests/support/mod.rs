//! A host for a test: a thread in fresh network and mount namespaces, which end with it, pass or fail.
#![allow(dead_code)]

pub mod daemons;
pub mod ingress;
pub mod lab;
pub mod locals;

use std::{
    collections::BTreeMap,
    fs,
    future::Future,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use overlay::{BridgePlan, BridgePort, EndpointPlan, MacAddress, NetworkPlan, netd::NetdConfig};

/// Where a test's host keeps its files; a fresh tmpfs in every namespace.
pub const RUN_DIR: &str = "/run/rswarm";
/// How the test binary knows that it shall be a data plane process.
const NETD_VERSION: &str = "RSWARM_TEST_NETD_VERSION";

/// The same for the process that writes PROXY protocol headers.
const PORT_PROXY: &str = "RSWARM_TEST_PORT_PROXY";

/// Runs the test in a network and a mount namespace of its own, with an empty /run.
pub fn in_host<Fut: Future<Output = ()>>(test: impl FnOnce() -> Fut + Send + 'static) {
    let body = move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("the tests need root");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private mounts");
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none).expect("an empty /run");
        fs::create_dir(RUN_DIR).expect("state directory");
        ip("link set lo up");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(test());
    };
    std::thread::Builder::new().name("host".to_owned()).spawn(body).expect("thread").join().expect("the test passes");
}

/// Runs a command line and returns its output; it must succeed.
pub fn run(line: &str) -> String {
    let output = output(line);
    let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{line}: {}\n{said}{error}", output.status);
    said.into_owned()
}

pub fn output(line: &str) -> Output {
    let mut words = line.split_whitespace();
    let program = words.next().expect("a program");
    Command::new(program).args(words).stdin(Stdio::null()).output().expect(program)
}

pub fn ip(arguments: &str) -> String {
    run(&format!("ip {arguments}"))
}

pub fn json(line: &str) -> serde_json::Value {
    let text = run(line);
    // ip prints nothing at all for an empty list.
    if text.trim().is_empty() { serde_json::json!([]) } else { serde_json::from_str(&text).expect(line) }
}

/// nft reads a table from here.
pub fn nft_load(text: &str) {
    let path = Path::new("/run/table.nft");
    fs::write(path, text).expect("table");
    run("nft -f /run/table.nft");
}

/// Whether one ping from the namespace at `path` is answered within a second.
pub fn pings(path: &Path, to: &str) -> bool {
    output(&format!("nsenter --net={} ping -c 1 -W 1 {to}", path.display())).status.success()
}

pub fn namespace_of(id: &str) -> PathBuf {
    Path::new(RUN_DIR).join("netns").join(id)
}

/// Asks again and again until it is so, or fails with what was waited for.
pub async fn eventually(what: &str, limit: Duration, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !is_so().await {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A plan with the usual bridge on 172.17.0.0/16 and endpoints at 172.17.N.M.
pub fn plan(ids: &[(&str, [u8; 2])]) -> NetworkPlan {
    let bridge = BridgePlan::new("172.17.0.0/16".parse().expect("subnet")).expect("bridge");
    let endpoints: BTreeMap<_, _> = ids
        .iter()
        .map(|(id, [third, last])| {
            let address = Ipv4Addr::new(172, 17, *third, *last);
            let port = BridgePort { address, mac: MacAddress::for_ipv4(address) };
            let endpoint = EndpointPlan { bridge: Some(port), hostname: (*id).to_owned(), ..EndpointPlan::default() };
            (id.parse().expect("id"), endpoint)
        })
        .collect();
    NetworkPlan { bridge: Some(bridge), endpoints, ..NetworkPlan::default() }
}

/// A namespace `outside` on the host's link `up0`, as the world beyond: 192.0.2.1 here, 192.0.2.2 there.
pub fn outside_world() {
    ip("netns add outside");
    ip("link add up0 type veth peer name eth0 netns outside");
    ip("addr add 192.0.2.1/24 dev up0");
    ip("link set up0 up");
    ip("-n outside addr add 192.0.2.2/24 dev eth0");
    ip("-n outside link set eth0 up");
    ip("-n outside link set lo up");
}

pub fn config(version: &str) -> NetdConfig {
    NetdConfig::in_dir(RUN_DIR, version)
}

/// The body of the process that [`netd_args`] start; does nothing in an ordinary test run.
pub fn netd_process() {
    let Ok(version) = std::env::var(NETD_VERSION) else { return };
    let run_dir = std::env::var("RSWARM_TEST_RUN_DIR").unwrap_or(RUN_DIR.to_owned());
    if std::env::var_os(PORT_PROXY).is_some() {
        overlay::proxy::run(Path::new(&run_dir), &version).expect("the PROXY protocol's process runs");
        std::process::exit(0);
    }
    let exe = std::env::current_exe().expect("own path").display().to_string();
    let port_proxy = ["env".to_owned(), format!("{PORT_PROXY}=1"), exe].into_iter().chain(NETD_ARGS.map(str::to_owned));
    let port_proxy = port_proxy.map(Into::into).collect();
    overlay::netd::run(&NetdConfig { port_proxy, ..NetdConfig::in_dir(run_dir, version) }).expect("netd runs");
    std::process::exit(0);
}

/// Arguments with which this test binary becomes a data plane process.
pub const NETD_ARGS: [&str; 4] = ["--exact", "netd_process", "--nocapture", "--test-threads=1"];

/// A data plane process in the calling thread's namespaces; killed at the end of the test.
pub struct Netd(pub Child);

impl Netd {
    pub fn start(version: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("own path"));
        command.args(NETD_ARGS).env(NETD_VERSION, version).stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.spawn().expect("netd starts"))
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).expect("signal");
    }

    /// SIGKILL, and wait for its end.
    pub fn kill(&mut self) {
        self.0.kill().expect("kill");
        self.0.wait().expect("wait");
    }
}

impl Drop for Netd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Kills a process by its id at the end of the test.
pub struct KillAtEnd(pub u32);

impl Drop for KillAtEnd {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0 as i32), Signal::SIGKILL);
    }
}

/// The shell line that starts a data plane process, for tests in which something else is its parent.
pub fn netd_shell_line(version: &str) -> String {
    let exe = std::env::current_exe().expect("own path");
    format!("{NETD_VERSION}={version} exec {} {}", exe.display(), NETD_ARGS.join(" "))
}
