//! The hosts and services of a simulated cluster.

use std::time::Duration;

use types::{
    Bytes, Cluster, ClusterId, ClusterSpec, Constraint, ContainerSpec, DEFAULT_FILE_MODE, DependencyKind,
    DependencyRef, DependencySpec, DisconnectPolicy, EndpointMode, EndpointSpec, FailureAction, GenericResource,
    ImageReference, JoinSecrets, Labels, Meta, Name, NanoCpus, Need, NeedCondition, NetworkAttachmentSpec, NetworkSpec,
    Node, NodeDescription, NodeId, NodeRole, NodeSpec, NodeState, NodeStatus, Payload, Placement, Platform, PortBind,
    PortConfig, PortProtocol, PublishMode, Reconcile, ResourceRequirements, Resources, RestartPolicy, RootCa,
    ScheduleConcurrency, ScheduleSpec, ServiceMode, ServiceSpec, SpreadOver, TargetFile, TaskSpec, Timestamp,
    UpdateConfig, UpdateOrder, WriteRequest,
};

use crate::random::Random;

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

pub fn description(number: usize) -> NodeDescription {
    let generic = [("gpu".to_owned(), GenericResource::Count(number as u64 % 3))].into();
    NodeDescription {
        hostname: format!("host{number}"),
        platform: Platform::new("linux", "amd64", ""),
        resources: Resources { nano_cpus: NanoCpus(8_000_000_000), memory: Bytes(16 << 30), pids: 0, generic },
        ..NodeDescription::default()
    }
}

/// READY, with the label `zone` of three values.
pub fn node(id: NodeId, number: usize, now: Timestamp) -> Node {
    let labels = Labels::from([("zone".to_owned(), zone(number))]);
    let status = NodeStatus {
        state: NodeState::Ready,
        message: String::new(),
        since: now,
        address: None,
        unreachable_peers: Vec::new(),
    };
    let spec = NodeSpec { labels, ..NodeSpec::default() };
    let role = NodeRole::Worker;
    Node { id, meta: Meta::default(), role, spec, status, description: Some(description(number)), raft: None }
}

pub fn zone(number: usize) -> String {
    ["a", "b", "c"][number % 3].to_owned()
}

pub fn image(name: &str) -> ImageReference {
    name.parse().expect("names of simulated images are good")
}

pub fn service(name: &str, replicas: u64) -> ServiceSpec {
    let name: Name = name.parse().expect("names of simulated services are good");
    ServiceSpec {
        name,
        labels: Labels::new(),
        task: TaskSpec {
            container: ContainerSpec::of_image(image("app:1")),
            resources: ResourceRequirements::default(),
            restart: RestartPolicy::default(),
            placement: Placement::default(),
            log_driver: None,
            networks: Vec::new(),
            force_update: 0,
        },
        mode: ServiceMode::Replicated { replicas },
        update: UpdateConfig::default(),
        rollback: UpdateConfig::default(),
        endpoint: EndpointSpec::default(),
        disconnect: DisconnectPolicy::default(),
        schedule: None,
        needs: Vec::new(),
        stated: Default::default(),
    }
}

/// Small enough to fill up, or from the pools, with a bit of everything.
pub fn any_network(name: &str, random: &mut Random) -> NetworkSpec {
    let mut spec = NetworkSpec::overlay(name.parse().expect("names of simulated networks are good"));
    spec.ipv6 = random.chance(20);
    spec.ingress = random.chance(20);
    spec.attachable = !spec.ingress && random.chance(20);
    if random.chance(60) {
        spec.subnets = vec![any_subnet(random)];
    }
    spec
}

/// Of IPv4, and often where there is something already.
pub fn any_subnet(random: &mut Random) -> types::SubnetSpec {
    let subnet = format!("10.{}.{}.0/{}", random.between(1, 3), random.below(4), random.between(26, 28));
    let subnet = subnet.parse().expect("a subnet");
    types::SubnetSpec { subnet, gateway: None, ip_range: None, auxiliary: std::collections::BTreeMap::new() }
}

/// Whether a family of the network has no address left.
pub fn is_full(view: &types::NetworkView) -> bool {
    let subnets = || view.network.subnets.iter().zip(&view.usage);
    let of = |ipv4: bool| move |(subnet, _): &(&types::Subnet, _)| subnet.range.address().is_ipv4() == ipv4;
    let is_used_up =
        |ipv4| subnets().any(|one| of(ipv4)(&one)) && subnets().filter(of(ipv4)).all(|(_, u)| u.used == u.total);
    is_used_up(true) || is_used_up(false)
}

/// Makes the network of the routing mesh, too small for all.
pub fn ingress() -> WriteRequest {
    let mut spec = NetworkSpec::overlay("ingress".parse().expect("a good name"));
    spec.ingress = true;
    spec.subnets = vec![types::SubnetSpec {
        subnet: "10.255.0.0/27".parse().expect("a subnet"),
        gateway: None,
        ip_range: None,
        auxiliary: std::collections::BTreeMap::new(),
    }];
    WriteRequest::CreateNetwork(Box::new(spec))
}

pub fn secret(name: &str, data: Vec<u8>) -> WriteRequest {
    WriteRequest::CreateDependency(Box::new(DependencySpec {
        kind: DependencyKind::Secret,
        name: name.parse().expect("names of simulated secrets are good"),
        labels: Labels::new(),
        data: Payload::new(data),
        is_template: false,
    }))
}

pub fn use_of(secret: &str) -> DependencyRef {
    let file = TargetFile { name: secret.to_owned(), uid: 0, gid: 0, mode: DEFAULT_FILE_MODE };
    let name = Some(secret.parse().expect("names of simulated secrets are good"));
    DependencyRef { kind: DependencyKind::Secret, id: None, name, file }
}

/// Some of these networks, for the tasks of a service.
pub fn any_attachments(names: &[String], random: &mut Random) -> Vec<NetworkAttachmentSpec> {
    let mut picked: Vec<&String> = names.iter().filter(|_| random.chance(40)).collect();
    picked.truncate(2);
    let attachment = |target: &String| NetworkAttachmentSpec {
        target: target.clone(),
        aliases: vec!["alias".to_owned()],
        options: Labels::new(),
    };
    picked.into_iter().map(attachment).collect()
}

/// What may be waited for of a service.
pub fn any_need(other: &ServiceSpec, random: &mut Random) -> Need {
    let condition = match random.below(3) {
        0 => NeedCondition::Started,
        1 if other.mode.is_job() => NeedCondition::Completed,
        _ => NeedCondition::Healthy,
    };
    Need { service: other.name.clone(), condition }
}

/// None, or one or two ports of few numbers, so that services want the same.
pub fn any_ports(random: &mut Random) -> Vec<PortConfig> {
    let mut ports = Vec::new();
    if random.chance(20) {
        let published = if random.chance(50) { 8080 } else { 9090 };
        ports.push(PortConfig::new(PortProtocol::Tcp, 80, Some(published), PublishMode::Host));
    }
    if random.chance(30) {
        let published = *random.pick(&[Some(7000), Some(7001), Some(8080), None, None]).expect("five");
        let bind = match random.below(4) {
            0 => PortBind::Address([192, 0, 2, 1].into()),
            1 => PortBind::Address([192, 0, 2, 2].into()),
            _ => PortBind::All,
        };
        let port = PortConfig::new(PortProtocol::Tcp, 81, published, PublishMode::Ingress);
        ports.push(PortConfig { bind, ..port });
    }
    ports
}

/// More or fewer tasks, where the mode has a number of them.
pub fn scale(mode: &mut ServiceMode, random: &mut Random, most: u64) {
    match mode {
        ServiceMode::Replicated { replicas } => *replicas = random.below(most + 1),
        ServiceMode::ReplicatedJob { max_concurrent, total_completions } => {
            *max_concurrent = random.between(1, most);
            *total_completions = random.below(most * 2 + 1);
        }
        ServiceMode::Global | ServiceMode::GlobalJob => {}
    }
}

/// Containers of such an image end by themselves.
pub fn is_job(spec: &TaskSpec) -> bool {
    spec.container.image.repository.contains("job")
}

fn make_job(spec: &mut ServiceSpec, random: &mut Random, most: u64) {
    spec.mode = match spec.mode {
        ServiceMode::Global => ServiceMode::GlobalJob,
        _ => ServiceMode::ReplicatedJob {
            max_concurrent: random.between(1, most.div_ceil(2)),
            total_completions: random.between(1, most * 2),
        },
    };
    spec.task.container.image = image("job:1");
    spec.update = UpdateConfig::default();
    if random.chance(25) {
        let cron = if random.chance(50) { "* * * * *" } else { "*/2 * * * *" };
        let all = [ScheduleConcurrency::Skip, ScheduleConcurrency::Replace, ScheduleConcurrency::Queue];
        let concurrency = *random.pick(&all).expect("three");
        spec.schedule = Some(ScheduleSpec { cron: cron.to_owned(), timezone: String::new(), concurrency });
    }
}

/// A service with a bit of everything.
pub fn any_service(name: &str, random: &mut Random, most: u64) -> ServiceSpec {
    let mut spec = service(name, random.between(1, most));
    if random.chance(20) {
        spec.mode = ServiceMode::Global;
    }
    let reserved = &mut spec.task.resources.reservations;
    if random.chance(50) {
        reserved.nano_cpus = NanoCpus(random.between(1, 8) * 250_000_000);
        reserved.memory = Bytes(random.between(1, 4) * (512 << 20));
    }
    if random.chance(15) {
        reserved.generic.insert("gpu".to_owned(), GenericResource::Count(1));
    }
    if random.chance(30) {
        let one = zone(random.below(3) as usize);
        let text = match random.chance(70) {
            true => format!("node.labels.zone=={one}"),
            false => format!("node.labels.zone in ({one},{})", zone(random.below(3) as usize)),
        };
        spec.task.placement.constraints = vec![text.parse::<Constraint>().expect("good constraint")];
    } else if random.chance(40) {
        spec.task.placement.preferences = vec![SpreadOver::NodeLabel("zone".to_owned())];
    }
    if random.chance(15) {
        spec.task.placement.max_replicas = 1;
    }
    spec.endpoint.ports = any_ports(random);
    if random.chance(25) {
        spec.endpoint.mode = EndpointMode::DnsRoundRobin;
    }
    spec.update.parallelism = random.below(4);
    spec.update.monitor = Duration::from_secs(2);
    if random.chance(40) && matches!(spec.mode, ServiceMode::Replicated { .. }) {
        spec.update.order = UpdateOrder::StartFirst;
    }
    spec.update.failure_action = if random.chance(50) { FailureAction::Rollback } else { FailureAction::Continue };
    spec.rollback.failure_action = FailureAction::Continue;
    if random.chance(35) {
        make_job(&mut spec, random, most);
    }
    spec.disconnect.lost_after = Duration::from_secs(random.between(1, 40));
    if random.chance(30) {
        spec.disconnect.reconcile = Reconcile::KeepReplacement;
    }
    spec
}
