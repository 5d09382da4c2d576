//! The words of the text form that describe nodes and services.

use std::{sync::Arc, time::Duration};

use types::*;

pub fn cluster() -> Cluster {
    Cluster {
        id: ClusterId::from_random(1),
        meta: Meta::default(),
        spec: ClusterSpec::default(),
        root_ca: RootCa::new("", ""),
        join: JoinSecrets { worker: [1; 16], manager: [2; 16] },
        probe_key: [3; 32],
        data_path_port: types::DEFAULT_DATA_PATH_PORT,
        unlock_key: None,
        registries: std::collections::BTreeMap::new(),
    }
}

/// `a cpu=4 mem=8g gpu=2 device=acme.com/gpu=0 address=192.0.2.1 route=10.0.0.0/16 arch=arm64 runs=arm/v7 role=manager state=down avail=drain KEY=VALUE…`
pub fn node(id: NodeId, words: &[&str], now: Timestamp) -> Node {
    let mut resources =
        Resources { nano_cpus: NanoCpus(64_000_000_000), memory: Bytes(64 << 30), ..Resources::default() };
    let mut also_runs = Vec::new();
    let mut platform = Platform::new("linux", "amd64", "");
    let mut spec = NodeSpec { name: words[0].into(), ..NodeSpec::default() };
    let mut state = NodeState::Ready;
    let mut routes = Vec::new();
    let mut devices = std::collections::BTreeSet::new();
    let mut address = None;
    for word in &words[1..] {
        let (key, value) = word.split_once('=').expect("words of a node are KEY=VALUE");
        match key {
            "cpu" => resources.nano_cpus = cpus(value),
            "mem" => resources.memory = bytes(value),
            "gpu" => _ = resources.generic.insert("gpu".into(), generic(value)),
            "device" => _ = devices.insert(value.to_owned()),
            "route" => routes.push(value.parse().unwrap()),
            "address" => address = Some(value.parse().unwrap()),
            "arch" => platform = format!("linux/{value}").parse().unwrap(),
            "runs" => also_runs.push(format!("linux/{value}").parse().unwrap()),
            "role" => spec.role = NodeRole::Manager,
            "state" => state = if value == "down" { NodeState::Down } else { NodeState::Unknown },
            "avail" if value == "drain" => spec.availability = Availability::Drain,
            "avail" => spec.availability = Availability::Pause,
            _ => _ = spec.labels.insert(key.into(), value.into()),
        }
    }
    let description = NodeDescription {
        hostname: words[0].into(),
        platform,
        also_runs,
        resources,
        routes,
        devices,
        ..NodeDescription::default()
    };
    let status = NodeStatus { state, message: String::new(), since: now, address, unreachable_peers: Vec::new() };
    Node { id, meta: Meta::default(), role: spec.role, spec, status, description: Some(description), raft: None }
}

/// `web x3|global|done=5 at-once=2|global-job schedule=0_3_*_*_* timezone=Europe/Berlin overlap=queue image=a cpu=1 mem=512m gpu=1 claim=1 constraint=node.labels.zone==a constraints=- spread=zone strategy=binpack rebalance=on priority=5 volume=v1 max=1 port=80|none
/// arch=arm64,arm/v7|any order=start-first parallelism=2 delay=1s action=rollback monitor=5s deadline=10m ratio=100 restart=none
/// secret=s1 secrets=- needs=db:healthy needs=-
/// net=n1:alias net=n2 dnsrr nets=- publish=8080:80|none proxy policy=local-first label=K:V attempts=3 window=10s pause=10s lost-after=5s reconcile=replacement force`
pub fn service(old: Option<&Arc<ServiceSpec>>, words: &[&str]) -> ServiceSpec {
    let mut spec = old.map_or_else(|| fresh(words[0]), |old| (**old).clone());
    for word in &words[1..] {
        if let Some(number) = word.strip_prefix('x').and_then(|n| n.parse().ok()) {
            spec.mode = ServiceMode::Replicated { replicas: number };
            continue;
        }
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        one_word(&mut spec, key, value);
    }
    spec
}

/// `2` GPUs, or a device by its name.
fn claim(value: &str) -> types::DeviceClaim {
    let capabilities = vec![vec!["gpu".to_owned()]];
    match value.parse() {
        Ok(count) => types::DeviceClaim { count, capabilities, ..types::DeviceClaim::default() },
        Err(_) => types::DeviceClaim { driver: "cdi".into(), ids: vec![value.into()], ..types::DeviceClaim::default() },
    }
}

/// `3` is a count, `a+b` are names, `a+2` a name and two more.
fn generic(value: &str) -> GenericResource {
    value.split('+').fold(GenericResource::Count(0), |sum, part| match part.parse() {
        Ok(count) => sum.and(None, count),
        Err(_) => sum.and(Some(part.to_owned()), 0),
    })
}

fn fresh(name: &str) -> ServiceSpec {
    ServiceSpec {
        name: name.parse().unwrap(),
        labels: Labels::new(),
        task: TaskSpec {
            container: ContainerSpec::of_image("app".parse().unwrap()),
            resources: ResourceRequirements::default(),
            restart: RestartPolicy::default(),
            placement: Placement::default(),
            log_driver: None,
            networks: Vec::new(),
            force_update: 0,
        },
        mode: ServiceMode::Replicated { replicas: 1 },
        update: UpdateConfig::default(),
        rollback: UpdateConfig::default(),
        endpoint: EndpointSpec::default(),
        disconnect: DisconnectPolicy::default(),
        schedule: None,
        needs: Vec::new(),
        stated: Default::default(),
    }
}

fn one_word(spec: &mut ServiceSpec, key: &str, value: &str) {
    let task = &mut spec.task;
    let reserved = &mut task.resources.reservations;
    match key {
        "done" => *job(spec).1 = value.parse().unwrap(),
        "at-once" => *job(spec).0 = value.parse().unwrap(),
        "global-job" => spec.mode = ServiceMode::GlobalJob,
        "schedule" if value == "none" => spec.schedule = None,
        "schedule" => spec.schedule.get_or_insert_default().cron = value.replace('_', " "),
        "timezone" => spec.schedule.get_or_insert_default().timezone = value.into(),
        "overlap" => spec.schedule.get_or_insert_default().concurrency = value.parse().unwrap(),
        "global" => spec.mode = ServiceMode::Global,
        "image" => task.container.image = value.parse().unwrap(),
        "auth" => task.container.registry_auth = Payload::new(value.into()),
        "force" => task.force_update += 1,
        "privileged" => task.container.host.privileged = value == "yes",
        "cap" => task.container.capability_add = vec![value.into()],
        "cpu" => reserved.nano_cpus = cpus(value),
        "mem" => reserved.memory = bytes(value),
        "gpu" => _ = reserved.generic.insert("gpu".into(), generic(value)),
        "claim" => task.container.host.claims.push(claim(value)),
        "log" => task.log_driver = Some(types::LogDriver { name: value.into(), options: Labels::new() }),
        "constraint" => task.placement.constraints = vec![value.replace('_', " ").parse().unwrap()],
        "spread" if value.contains('.') => task.placement.preferences.push(SpreadOver::from(value.to_owned())),
        "spread" => task.placement.preferences.push(SpreadOver::NodeLabel(value.into())),
        "max" => task.placement.max_replicas = value.parse().unwrap(),
        "arch" => {
            task.placement.platforms = value.split(',').map(platform).collect();
        }
        "port" if value == "none" => spec.endpoint.ports.clear(),
        "port" => spec.endpoint.ports.push(PortConfig::new(
            PortProtocol::Tcp,
            80,
            Some(value.parse().unwrap()),
            PublishMode::Host,
        )),
        "order" if value == "stop-first" => spec.update.order = UpdateOrder::StopFirst,
        "publish" if value == "none" => spec.endpoint.ports.clear(),
        "publish" => spec.endpoint.ports.extend(ports(value)),
        "proxy" => spec.endpoint.ports.iter_mut().for_each(|port| port.proxy_protocol = true),
        "policy" => spec.endpoint.mesh.policy = value.parse().unwrap(),
        "affinity" => spec.endpoint.mesh.affinity = value.parse().unwrap(),
        "priority" => _ = spec.labels.insert(PRIORITY_LABEL.into(), value.into()),
        "strategy" => _ = spec.labels.insert(STRATEGY_LABEL.into(), value.into()),
        "rebalance" => _ = spec.labels.insert(REBALANCE_LABEL.into(), value.into()),
        "on-missing" => _ = spec.labels.insert(ON_MISSING_LABEL.into(), value.into()),
        "volumes" => task.container.mounts.clear(),
        "constraints" => task.placement.constraints.clear(),
        "volume" => {
            let kind = MountKind::Volume {
                name: value.into(),
                no_copy: false,
                labels: Labels::new(),
                driver_options: Labels::new(),
                subpath: String::new(),
            };
            task.container.mounts.push(Mount { kind, target: "/data".into(), read_only: false });
        }
        "label" => {
            let (name, value) = value.split_once(':').unwrap();
            _ = spec.labels.insert(name.into(), value.into());
        }
        "net" => {
            let (target, aliases) = value.split_once(':').unwrap_or((value, ""));
            let aliases = aliases.split(',').filter(|alias| !alias.is_empty()).map(str::to_owned).collect();
            task.networks.push(NetworkAttachmentSpec { target: target.into(), aliases, options: Labels::new() });
        }
        "needs" if value == "-" => spec.needs.clear(),
        "needs" => spec.needs.push(need(value)),
        "secret" => task.container.dependencies.push(wanted(DependencyKind::Secret, value)),
        "config" => task.container.dependencies.push(wanted(DependencyKind::Config, value)),
        "secrets" => task.container.dependencies.clear(),
        "nets" => task.networks.clear(),
        "dnsrr" => spec.endpoint.mode = EndpointMode::DnsRoundRobin,
        "vip" => spec.endpoint.mode = EndpointMode::Vip,
        "order" => spec.update.order = UpdateOrder::StartFirst,
        "parallelism" => spec.update.parallelism = value.parse().unwrap(),
        "delay" => spec.update.delay = duration(value),
        "monitor" => spec.update.monitor = duration(value),
        "deadline" => spec.update.progress_deadline = duration(value),
        "ratio" => spec.update.max_failure_permille = value.parse().unwrap(),
        "action" => {
            spec.update.failure_action = match value {
                "rollback" => FailureAction::Rollback,
                "continue" => FailureAction::Continue,
                _ => FailureAction::Pause,
            };
        }
        "restart" if value == "none" => task.restart.condition = RestartCondition::None,
        "restart" => task.restart.condition = RestartCondition::OnFailure,
        "attempts" => task.restart.max_attempts = value.parse().unwrap(),
        "window" => task.restart.window = duration(value),
        "pause" => task.restart.delay = duration(value),
        "lost-after" => spec.disconnect.lost_after = duration(value),
        "reconcile" => spec.disconnect.reconcile = Reconcile::KeepReplacement,
        other => panic!("unknown word {other:?}"),
    }
}

/// `db:healthy`, `db:started`, `migrate:completed`.
fn need(text: &str) -> Need {
    let (service, condition) = text.split_once(':').unwrap();
    let condition = match condition {
        "started" => NeedCondition::Started,
        "healthy" => NeedCondition::Healthy,
        _ => NeedCondition::Completed,
    };
    Need { service: service.parse().unwrap(), condition }
}

/// `shop prune | network n1 | secret s1 text | service web x2 net=n1`
pub fn stack(text: &str) -> StackDeploy {
    let mut parts = text.split('|').map(str::trim);
    let head: Vec<&str> = parts.next().unwrap_or_default().split_whitespace().collect();
    let name = head[0].parse().unwrap();
    let prune = head.contains(&"prune");
    let mut stack =
        StackDeploy { name, prune, services: vec![], networks: vec![], dependencies: vec![], by: "me".to_owned() };
    for part in parts {
        let words: Vec<&str> = part.split_whitespace().collect();
        match words[0] {
            "network" => stack.networks.push(network(&words[1..])),
            "service" => stack.services.push(service(None, &words[1..])),
            kind => stack.dependencies.push(DependencySpec {
                kind: if kind == "secret" { DependencyKind::Secret } else { DependencyKind::Config },
                name: words[1].parse().unwrap(),
                labels: Labels::new(),
                data: Payload::new(words[2].as_bytes().to_vec()),
                is_template: false,
            }),
        }
    }
    stack
}

/// `name` or `name:target`.
fn wanted(kind: DependencyKind, text: &str) -> DependencyRef {
    let (name, target) = text.split_once(':').unwrap_or((text, text));
    let file = TargetFile { name: target.into(), uid: 0, gid: 0, mode: DEFAULT_FILE_MODE };
    DependencyRef { kind, id: None, name: Some(name.parse().unwrap()), file }
}

/// How many at once and how many in all; what was no job becomes one.
fn job(spec: &mut ServiceSpec) -> (&mut u64, &mut u64) {
    if !matches!(spec.mode, ServiceMode::ReplicatedJob { .. }) {
        spec.mode = ServiceMode::ReplicatedJob { max_concurrent: 1, total_completions: 1 };
    }
    match &mut spec.mode {
        ServiceMode::ReplicatedJob { max_concurrent, total_completions } => (max_concurrent, total_completions),
        _ => unreachable!("it was made one"),
    }
}

/// `80`, `8080:80/udp`, `192.0.2.1@8080:80`, `eth0@8080:80`, `host@8080:80`, `7000-7003:70-73`.
fn ports(text: &str) -> Vec<PortConfig> {
    let (text, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol {
        "tcp" => PortProtocol::Tcp,
        "udp" => PortProtocol::Udp,
        _ => PortProtocol::Sctp,
    };
    let (place, numbers) = text.split_once('@').unwrap_or(("", text));
    let bind = match (place, place.parse::<std::net::IpAddr>()) {
        ("" | "host", _) => PortBind::All,
        (_, Ok(address)) => PortBind::Address(address),
        _ => PortBind::Interface(place.into()),
    };
    let mode = if place == "host" { PublishMode::Host } else { PublishMode::Ingress };
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        first.parse::<u16>().unwrap()..=last.parse::<u16>().unwrap()
    };
    let port =
        |published, target| PortConfig { bind: bind.clone(), ..PortConfig::new(protocol, target, published, mode) };
    match numbers.split_once(':') {
        Some((published, targets)) => range(published).zip(range(targets)).map(|(p, t)| port(Some(p), t)).collect(),
        None => range(numbers).map(|target| port(None, target)).collect(),
    }
}

/// `n1 subnet=10.1.0.0/29 gateway=10.1.0.1 range=10.1.0.4/30 aux=10.1.0.5 mtu=1400 vni=5000 driver=macvlan
/// parent=eth0 mode=l3 from=c config-only attachable encrypted internal ingress ipv6`
pub fn network(words: &[&str]) -> NetworkSpec {
    let mut spec = NetworkSpec::overlay(words[0].parse().unwrap());
    for word in &words[1..] {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "subnet" => spec.subnets.push(SubnetSpec {
                subnet: value.parse().unwrap(),
                gateway: None,
                ip_range: None,
                auxiliary: std::collections::BTreeMap::new(),
            }),
            "gateway" => spec.subnets.last_mut().unwrap().gateway = Some(value.parse().unwrap()),
            "range" => spec.subnets.last_mut().unwrap().ip_range = Some(value.parse().unwrap()),
            "aux" => {
                _ = spec.subnets.last_mut().unwrap().auxiliary.insert("router".into(), value.parse().unwrap());
            }
            "mtu" => spec.mtu = Some(value.parse().unwrap()),
            "vni" => {
                let option = "com.docker.network.driver.overlay.vxlanid_list";
                _ = spec.options.insert(option.into(), value.into());
            }
            "driver" => {
                spec.driver = match value {
                    "bridge" => NetworkDriver::Bridge,
                    "host" => NetworkDriver::Host,
                    "ipvlan" => NetworkDriver::Ipvlan,
                    _ => NetworkDriver::Macvlan,
                };
            }
            "parent" => _ = spec.options.insert("parent".into(), value.into()),
            "mode" => _ = spec.options.insert("ipvlan_mode".into(), value.into()),
            "from" => spec.config_from = Some(value.parse().unwrap()),
            "config-only" => spec.config_only = true,
            "attachable" => spec.attachable = true,
            "encrypted" => spec.encrypted = true,
            "internal" => spec.internal = true,
            "ingress" => spec.ingress = true,
            "ipv6" => spec.ipv6 = true,
            other => panic!("unknown word {other:?}"),
        }
    }
    spec
}

pub fn state(text: &str) -> TaskState {
    match text {
        "preparing" => TaskState::Preparing,
        "running" => TaskState::Running,
        "complete" => TaskState::Complete,
        "failed" => TaskState::Failed,
        "rejected" => TaskState::Rejected,
        "shutdown" => TaskState::Shutdown,
        other => panic!("unknown state {other:?}"),
    }
}

pub fn duration(text: &str) -> Duration {
    let number = |suffix: &str| text.strip_suffix(suffix).and_then(|n| n.parse::<u64>().ok());
    number("ms")
        .map(Duration::from_millis)
        .or_else(|| number("s").map(Duration::from_secs))
        .or_else(|| number("m").map(|n| Duration::from_secs(n * 60)))
        .or_else(|| number("h").map(|n| Duration::from_secs(n * 3600)))
        .unwrap_or_else(|| panic!("bad duration {text:?}"))
}

fn cpus(text: &str) -> NanoCpus {
    NanoCpus((text.parse::<f64>().unwrap() * 1e9) as u64)
}

fn bytes(text: &str) -> Bytes {
    let number = |suffix: char| text.strip_suffix(suffix).and_then(|n| n.parse::<u64>().ok());
    Bytes(number('g').map(|n| n << 30).or_else(|| number('m').map(|n| n << 20)).unwrap())
}

fn platform(text: &str) -> Platform {
    match text {
        "any" => Platform::any(),
        "unknown" => Platform::new("unknown", "unknown", ""),
        text => format!("linux/{text}").parse().unwrap(),
    }
}
