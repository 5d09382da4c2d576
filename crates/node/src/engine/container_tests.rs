//! Specs in, container configurations out.

use std::sync::Arc;

use types::LogDriver as WantedLog;

use super::*;
use crate::agent::testing::assignment;

fn image() -> RunConfig {
    RunConfig {
        entrypoint: vec!["/entry".into()],
        cmd: vec!["serve".into()],
        env: vec!["A=image".into(), "B=image".into()],
        working_dir: "/srv".into(),
        user: "app".into(),
        stop_signal: "SIGQUIT".into(),
        volumes: [("/data".to_owned(), image::Empty {}), ("/logs".to_owned(), image::Empty {})].into(),
        exposed_ports: [("80".to_owned(), image::Empty {}), ("53/udp".to_owned(), image::Empty {})].into(),
        ..RunConfig::default()
    }
}

fn context(assignment: &Assignment) -> Context<'_> {
    Context { assignment, node: None, node_hostname: "h", node_os: "linux", node_architecture: "amd64" }
}

fn with(change: impl FnOnce(&mut TaskSpec)) -> Assignment {
    let mut assignment = assignment(1);
    change(Arc::make_mut(&mut assignment.spec));
    assignment
}

fn config(assignment: &Assignment) -> ContainerConfig {
    let planned = plan(&context(assignment)).expect("a good spec");
    let mut volumes: BTreeMap<_, _> =
        image_volumes(&planned, &image()).map(|t| (t, PathBuf::from("/volumes/5e1f/_data"))).collect();
    for mount in &planned.mounts {
        volumes.insert(mount.target.clone(), "/named".into());
    }
    let made = Made {
        rootfs: "/rootfs".into(),
        netns: Some("/netns".into()),
        files: vec![("/files/hosts".into(), "/etc/hosts")],
        dependencies: Vec::new(),
        volumes,
        log_path: "/log".into(),
    };
    container_config(assignment, &planned, &image(), &made, None, &[]).expect("a good spec")
}

#[test]
fn the_image_says_what_the_spec_does_not() {
    let made = config(&assignment(1));
    assert_eq!(made.args, ["/entry", "serve"]);
    assert_eq!((made.cwd.as_str(), made.user.as_str()), ("/srv", "app"));
    assert_eq!(made.hostname, container_id(assignment(1).id)[..12]);
    assert_eq!(stop_of_labels(&made.labels), ("SIGQUIT".into(), Some(10_000)));
    assert_eq!(made.mounts.iter().map(|m| m.target.as_str()).collect::<Vec<_>>(), ["/data", "/logs"]);
    assert_eq!(made.labels[LABEL_TASK_NAME], format!("web.1.{}", assignment(1).id));
}

#[test]
fn the_spec_stands_over_the_image() {
    let made = config(&with(|task| {
        let spec = &mut task.container;
        spec.command = vec!["/own".into()];
        spec.env = vec!["B=spec".into(), "A".into(), "SLOT={{.Task.Slot}}".into()];
        spec.user = "1:2".into();
        spec.stop_signal = "TERM".into();
        let kind = WantedMount::Volume {
            name: "v".into(),
            no_copy: false,
            labels: BTreeMap::new(),
            driver_options: BTreeMap::new(),
            subpath: "a/b".into(),
        };
        spec.mounts = vec![types::Mount { target: "/data/".into(), read_only: true, kind }];
        task.resources.limits.memory = types::Bytes(64 << 20);
    }));
    assert_eq!(made.args, ["/own"], "an own entrypoint switches off the image's command");
    assert_eq!(made.env, ["B=spec", "SLOT=1"]);
    assert_eq!((made.user.as_str(), made.resources.memory_bytes), ("1:2", 64 << 20));
    assert_eq!(stop_of_labels(&made.labels).0, "TERM");
    assert_eq!(
        made.mounts.iter().map(|m| (m.target.as_str(), m.readonly)).collect::<Vec<_>>(),
        [("/data", true), ("/logs", false)]
    );
}

#[test]
fn s_58_a_check_travels_with_its_container_and_only_ours_does() {
    let second = std::time::Duration::from_secs(1);
    let settings = HealthSettings {
        args: vec!["true".into()],
        interval: second,
        timeout: second,
        start_period: second,
        start_interval: second,
        retries: 2,
    };
    let assignment = with(|task| {
        task.container.labels.insert(LABEL_HEALTH_CHECK.into(), "of the user".into());
    });
    assert_eq!(health_of_labels(&labels(&assignment, None, &image(), Some(&settings))), Some(settings));
    assert_eq!(labels(&assignment, None, &image(), None).get(LABEL_HEALTH_CHECK), None);
}

/// E-25: what somebody changes of a task's container by hand stays with it: its name and its limits.
#[test]
fn e_25_what_is_changed_by_hand_stays_with_the_container() {
    use crate::engine::containers::spec::Limits;
    let mut labels = config(&assignment(1)).labels;
    let limits = Limits { memory_bytes: 64 << 20, ..Limits::default() };
    let (label, text) = with_limits(&labels, limits.clone()).expect("it has a record");
    labels.insert(label.to_owned(), text);
    labels.insert(LABEL_RENAMED.to_owned(), "shop".to_owned());
    let record = record_of_labels(&container_id(assignment(1).id), &labels);
    assert_eq!((record.name.as_str(), &record.spec.limits), ("shop", &limits));
    assert_eq!(with_limits(&BTreeMap::new(), limits), None, "an older version's has no record");
}

/// S-75: tools group containers by what Docker writes on those of tasks, whatever a spec or an image says there.
#[test]
fn s_75_a_container_says_whose_it_is() {
    let node = NodeId::from_random(3);
    let own = with(|task| {
        for key in [LABEL_NODE, LABEL_IS_TASK, "own"] {
            task.container.labels.insert(key.into(), "of the user".into());
        }
    });
    let shown = labels(&own, Some(node), &image(), None);
    assert_eq!(
        (shown["com.docker.swarm.node.id"].as_str(), shown["com.docker.swarm.task"].as_str()),
        (node.to_string().as_str(), "")
    );
    assert_eq!(shown["own"], "of the user");
}

/// E-23, E-42: what is shown and told of a task's container is found on it: name, image, labels, and the ports and volumes
/// that its image says it has.
#[test]
fn e_23_a_container_bears_what_is_shown_of_it() {
    let made = config(&with(|task| {
        task.container.labels.insert("tier".into(), "front".into());
    }));
    let shown = record_of_labels(&made.id, &made.labels);
    assert_eq!((shown.id.as_str(), shown.spec.image.as_str()), (made.id.as_str(), "app:1"));
    assert_eq!(shown.name, format!("web.1.{}", assignment(1).id));
    let exposed: Vec<_> = shown.merged.exposed.into_iter().collect();
    assert_eq!(exposed, [(53, types::PortProtocol::Udp), (80, types::PortProtocol::Tcp)]);
    let volumes: Vec<_> = shown.points.iter().map(|point| (point.target.as_str(), point.volume().cloned())).collect();
    let name = || Some("5e1f".to_owned());
    assert_eq!(volumes, [("/data", name()), ("/logs", name())]);
    let labels = shown.merged.labels;
    assert_eq!(labels["tier"], "front");
    assert!(labels.keys().all(|key| !key.starts_with("rswarm.")), "{labels:?}");
}

#[test]
fn what_cannot_be_honoured_is_refused_and_not_ignored() {
    let refused = |a: Assignment| plan(&context(&a)).expect_err("must be refused").to_string();
    let driver = |name: &str, options: &[(&str, &str)]| {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        with(|task| task.log_driver = Some(WantedLog { name: name.into(), options }))
    };
    assert!(refused(driver("splunk", &[])).contains("log driver \"splunk\""));
    assert!(refused(driver("json-file", &[("max-size", "ten")])).contains("max-size"));
    let log = plan(&context(&driver("json-file", &[("max-size", "10m"), ("max-file", "3")]))).expect("good").log;
    assert_eq!(log.driver, runtime::LogDriver::JsonFile { max_size_bytes: 10 << 20, max_files: 3, compress: false });
    assert!(refused(with(|task| task.container.hostname = "{{.Nope}}".into())).contains("unknown placeholder"));
}

#[test]
fn s_43_a_container_is_told_the_resources_that_are_its_own() {
    let mut own = with(|task| task.container.env = vec!["A=spec".into()]);
    own.granted = types::parse_generic_resources(["nvidia-gpu=UUID1", "nvidia-gpu=UUID2", "SSD=3"]).expect("good");
    let env = config(&own).env;
    for wanted in ["A=spec", "DOCKER_RESOURCE_NVIDIA-GPU=UUID1,UUID2", "DOCKER_RESOURCE_SSD=3"] {
        assert!(env.iter().any(|found| found == wanted), "{wanted} is not in {env:?}");
    }
}

#[test]
fn c_43_the_clusters_log_driver_is_followed_where_the_spec_names_none() {
    let driver = |max: &str| WantedLog { name: "json-file".into(), options: [("max-size".into(), max.into())].into() };
    let mut plain = with(|_| ());
    plain.default_log = Some(driver("20m"));
    let own =
        Assignment { default_log: plain.default_log.clone(), ..with(|task| task.log_driver = Some(driver("10m"))) };
    for (assignment, bytes) in [(plain, 20 << 20), (own, 10 << 20)] {
        let log = plan(&context(&assignment)).expect("good").log;
        let runtime::LogDriver::JsonFile { max_size_bytes, .. } = log.driver else { panic!("{log:?}") };
        assert_eq!(max_size_bytes, bytes);
    }
}

/// S-42: what a service says of swap alone, the runtime counts with the memory.
#[test]
fn s_42_swap_is_counted_with_memory() {
    let of = |swap_bytes, swappiness| {
        let limits = types::Resources { memory: types::Bytes(64 << 20), ..types::Resources::default() };
        swap(&types::ResourceRequirements { limits, swap_bytes, swappiness, ..Default::default() })
    };
    assert_eq!(of(None, None), (0, None));
    assert_eq!(of(Some(0), Some(0)), (64 << 20, Some(0)));
    assert_eq!(of(Some(1 << 20), Some(-1)), (65 << 20, None));
    assert_eq!(of(Some(-1), Some(100)), (-1, Some(100)));
}
