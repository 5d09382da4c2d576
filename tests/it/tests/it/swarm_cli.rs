//! Every command of swarm, node, service and network that docker has, on three managers and two workers: what it prints,
//! its exit code, and what comes of it in the containers (parity C-13 to C-26, S-01 to S-75).

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, Docker, IMAGE, until};

use crate::can_make_hosts;

const MANAGERS: [&str; 3] = ["h1", "h2", "h3"];
const WORKERS: [&str; 2] = ["h4", "h5"];
const SLEEP: &str = "sleep 100000";

/// Of a task that runs: its id, its host and its container there.
struct Found {
    task: String,
    host: String,
    container: String,
}

fn tasks(d: &Docker<'_>, service: &str) -> Result<Vec<Found>> {
    let ids = d.ok(&format!("service ps -q --no-trunc --filter desired-state=running {service}"))?;
    let of = |id: &str| {
        let format = "{{.NodeID}}~{{.Status.ContainerStatus.ContainerID}}";
        let said = d.ok(&format!("inspect {id} --format {format}"))?;
        let (node, container) = said.trim().split_once(' ').context("node and container")?;
        let host = d.ok(&format!("node inspect {node} --format {{{{.Description.Hostname}}}}"))?;
        Ok(Found { task: id.to_owned(), host: host.trim().to_owned(), container: container.to_owned() })
    };
    ids.split_whitespace().map(of).collect()
}

fn cluster(name: &str) -> Result<ClusterUnderTest> {
    let t = ClusterUnderTest::up(name, MANAGERS.len(), WORKERS.len())?;
    for host in MANAGERS.iter().chain(&WORKERS) {
        Docker::new(&t, host).ok(&format!("tag {IMAGE} app:2"))?;
    }
    Ok(t)
}

/// S-16, S-30 to S-32, S-40, S-41, S-44, S-50 to S-52, S-55 to S-59, S-61 to S-66: all that a service can be created with reaches
/// its containers, and is shown as it was asked for.
#[test]
fn docker_s_50_every_flag_of_service_create() -> Result<()> {
    if !can_make_hosts("docker_s_50_every_flag_of_service_create") {
        return Ok(());
    }
    let t = cluster("svcflags")?;
    let d = Docker::new(&t, "h1");
    d.ok("node update --label-add rack=a h4")?;
    d.ok("node update --label-add rack=b h5")?;
    d.ok(&format!(
        "service create -q --name all --replicas 2 --hostname {{{{.Node.Hostname}}}}-{{{{.Task.Slot}}}} --env \
         WHO={{{{.Service.Name}}}}.{{{{.Task.Slot}}}} --env PLAIN=1 --label tier=web --container-label inner=yes --limit-cpu 0.5 \
         --limit-memory 32m --limit-pids 50 --reserve-cpu 0.01 --reserve-memory 8m --user nobody --group 7 --workdir /tmp \
         --stop-grace-period 2s --stop-signal INT --restart-condition on-failure --restart-delay 1s --restart-max-attempts 3 \
         --restart-window 10s --update-delay 1s --update-parallelism 2 --update-monitor 2s --update-failure-action continue \
         --update-max-failure-ratio 0.5 --update-order start-first --rollback-parallelism 0 --rollback-monitor 3s \
         --rollback-order start-first --rollback-failure-action continue --cap-add NET_ADMIN --cap-drop MKNOD --ulimit \
         nofile=100:200 --sysctl net.ipv4.ip_unprivileged_port_start=0 --init --dns 192.0.2.53 --dns-search example.com \
         --dns-option ndots:2 --host foo:192.0.2.9 --health-cmd true --health-interval 1s --health-timeout 2s --health-retries 4 \
         --health-start-period 5s --log-driver json-file --log-opt max-size=1m --endpoint-mode vip --constraint \
         node.role==worker --constraint node.labels.rack!=c --placement-pref spread=node.labels.rack --replicas-max-per-node 2 \
         --read-only --oom-score-adj 100 --mount type=tmpfs,target=/t,tmpfs-size=1m --mount type=volume,source=kept,target=/v \
         {IMAGE} {SLEEP}"
    ))?;
    let found = tasks(&d, "all")?;
    let mut hosts: Vec<&str> = found.iter().map(|found| found.host.as_str()).collect();
    hosts.sort_unstable();
    ensure!(hosts == WORKERS, "one in each rack, none on a manager: {hosts:?}");

    for Found { host, container, task } in &found {
        let there = Docker::new(&t, host);
        let inside = |script: &str, wanted: &str| {
            there.says(&format!("exec {container} sh -c {}", script.replace(' ', "~")), wanted)
        };
        let slot = d.ok(&format!("inspect {task} --format {{{{.Slot}}}}"))?.trim().to_owned();
        inside("hostname", &format!("{host}-{slot}"))?;
        inside("echo $WHO $PLAIN", &format!("all.{slot} 1"))?;
        inside("id -u", "65534")?;
        inside("id -G", "65534 7")?;
        inside("pwd", "/tmp")?;
        inside("ulimit -n", "100")?;
        inside("ulimit -Hn", "200")?;
        inside("cat /proc/sys/net/ipv4/ip_unprivileged_port_start", "0")?;
        inside("cat /proc/1/oom_score_adj", "100")?;
        inside("touch /x 2>/dev/null || echo refused", "refused")?;
        inside("grep -c size=1024k /proc/mounts", "1")?;
        inside("grep -c foo /etc/hosts", "1")?;
        inside("grep -c example.com /etc/resolv.conf", "1")?;
        inside("grep -c ndots:2 /etc/resolv.conf", "1")?;
        there.says(
            &format!("inspect {container} --format {{{{.HostConfig.Memory}}}}~{{{{.HostConfig.NanoCpus}}}}~{{{{.HostConfig.PidsLimit}}}}"),
            "33554432 500000000 50",
        )?;
        there.says(
            &format!("inspect {container} --format {{{{.Config.StopSignal}}}}~{{{{.HostConfig.Init}}}}"),
            "INT true",
        )?;
        there.says(&format!("inspect {container} --format {{{{index~.Config.Labels~\"inner\"}}}}"), "yes")?;
        there.says(&format!("inspect {container} --format {{{{.State.Health.Status}}}}"), "healthy")?;
        there.says("volume ls -q --filter name=kept", "kept")?;
    }
    let spec =
        |path: &str, wanted: &str| d.says(&format!("service inspect all --format {{{{json~.Spec.{path}}}}}"), wanted);
    spec("Labels", r#"{"tier":"web"}"#)?;
    spec("Mode", r#"{"Replicated":{"Replicas":2}}"#)?;
    let task = |path: &str, wanted: &str| spec(&format!("TaskTemplate.{path}"), wanted);
    task("ContainerSpec.Hostname", r#""{{.Node.Hostname}}-{{.Task.Slot}}""#)?;
    task("ContainerSpec.Env", r#"["WHO={{.Service.Name}}.{{.Task.Slot}}","PLAIN=1"]"#)?;
    task("ContainerSpec.Args", r#"["sleep","100000"]"#)?;
    task("ContainerSpec.Groups", r#"["7"]"#)?;
    task("ContainerSpec.StopGracePeriod", "2000000000")?;
    task("ContainerSpec.Hosts", r#"["192.0.2.9 foo"]"#)?;
    task(
        "ContainerSpec.DNSConfig",
        r#"{"Nameservers":["192.0.2.53"],"Search":["example.com"],"Options":["ndots:2"]}"#,
    )?;
    task("ContainerSpec.CapabilityAdd", r#"["CAP_NET_ADMIN"]"#)?;
    task("ContainerSpec.CapabilityDrop", r#"["CAP_MKNOD"]"#)?;
    task("ContainerSpec.Ulimits", r#"[{"Name":"nofile","Hard":200,"Soft":100}]"#)?;
    task("Resources.Limits", r#"{"NanoCPUs":500000000,"MemoryBytes":33554432,"Pids":50}"#)?;
    task("Resources.Reservations", r#"{"NanoCPUs":10000000,"MemoryBytes":8388608}"#)?;
    task("RestartPolicy", r#"{"Condition":"on-failure","Delay":1000000000,"MaxAttempts":3,"Window":10000000000}"#)?;
    task("Placement.Constraints", r#"["node.role==worker","node.labels.rack!=c"]"#)?;
    task("Placement.Preferences", r#"[{"Spread":{"SpreadDescriptor":"node.labels.rack"}}]"#)?;
    task("Placement.MaxReplicas", "2")?;
    task("LogDriver", r#"{"Name":"json-file","Options":{"max-size":"1m"}}"#)?;
    let update = r#""Monitor":2000000000,"MaxFailureRatio":0.5,"Order":"start-first"}"#;
    spec("UpdateConfig", &format!(r#"{{"Parallelism":2,"Delay":1000000000,"FailureAction":"continue",{update}"#))?;
    let rollback = r#""Monitor":3000000000,"MaxFailureRatio":0,"Order":"start-first"}"#;
    spec("RollbackConfig", &format!(r#"{{"Parallelism":0,"FailureAction":"continue",{rollback}"#))?;
    spec("EndpointSpec.Mode", r#""vip""#)?;
    for part in [
        "Name:\t\tall",
        "Replicas:\t2",
        "Constraints:\t[node.role==worker node.labels.rack!=c]",
        "Max Replicas Per Node:   2",
    ] {
        d.shows("service inspect --pretty all", part)?;
    }
    Ok(())
}

/// S-01, S-07 to S-15, S-18, S-19, S-23: a service is changed, rolled back, scaled, listed and removed.
#[test]
fn docker_s_07_updates_rollbacks_and_lists() -> Result<()> {
    if !can_make_hosts("docker_s_07_updates_rollbacks_and_lists") {
        return Ok(());
    }
    let t = cluster("svcupdate")?;
    let d = Docker::new(&t, "h2");
    d.ok(&format!("service create -q --name web --replicas 2 --update-monitor 500ms --rollback-monitor 500ms --env A=1 {IMAGE} {SLEEP}"))?;
    d.fails(&format!("service create --name web {IMAGE}"), "name conflicts with an existing object")?;
    let spec = |query: &str| Ok::<_, anyhow::Error>(t.first()?.get(&format!("/services/web{query}"))?["Spec"].clone());
    let (given, whole) = (spec("")?, spec("?insertDefaults=true")?);
    ensure!(
        given["TaskTemplate"].get("RestartPolicy").is_none() && given["UpdateConfig"]["Parallelism"] == 1,
        "{given}"
    );
    ensure!(whole["TaskTemplate"]["RestartPolicy"]["Delay"] == 5_000_000_000_u64, "{whole}");
    let image = "service inspect web --format {{.Spec.TaskTemplate.ContainerSpec.Image}}";
    d.ok("service update -q --image app:2 web")?;
    d.says(image, "app:2")?;
    d.says("service inspect web --format {{.UpdateStatus.State}}", "completed")?;
    d.says("service inspect web --format {{.PreviousSpec.TaskTemplate.ContainerSpec.Image}}", IMAGE)?;
    d.ok("service rollback -q web")?;
    d.says(image, IMAGE)?;
    d.says("service inspect web --format {{.UpdateStatus.State}}", "rollback_completed")?;

    // S-09, S-14: what fails pauses the update, is named, and can be rolled back
    let (code, _, err) = d.run(&["service", "update", "-q", "--args", "false", "web"])?;
    ensure!(code == 1 && err.contains("update paused due to failure"), "{code}: {err}");
    d.says("service inspect web --format {{.UpdateStatus.State}}", "paused")?;
    d.ok("service update -q --rollback web")?;
    d.says("service inspect web --format {{json~.Spec.TaskTemplate.ContainerSpec.Args}}", r#"["sleep","100000"]"#)?;
    d.ok("service update -d --update-failure-action rollback web")?;
    // whether the CLI says so too depends on when it looks
    d.run(&["service", "update", "-q", "--args", "false", "web"])?;
    d.comes_to_say("service inspect web --format {{.UpdateStatus.State}}", "rollback_completed")?;
    d.says("service inspect web --format {{json~.Spec.TaskTemplate.ContainerSpec.Args}}", r#"["sleep","100000"]"#)?;
    d.comes_to_say("service ls --format {{.Name}}~{{.Replicas}}~{{.Image}}", &format!("web 2/2 {IMAGE}"))?;

    d.ok(
        "service update -d --env-add B=2 --env-rm A --label-add x=1 --container-label-add y=2 --mount-add \
         type=tmpfs,target=/tt --constraint-add node.platform.os==linux --host-add bar:192.0.2.1 --dns-add 192.0.2.2 --group-add 5 \
         --ulimit-add nofile=50 --sysctl-add net.ipv4.ip_unprivileged_port_start=0 --cap-add SYS_TIME --limit-pids 20 --init \
         --restart-max-attempts 9 --stop-signal HUP --workdir /tmp --user 1 --hostname named --replicas-max-per-node 3 \
         --placement-pref-add spread=node.labels.z --health-cmd true --read-only --oom-score-adj 5 web",
    )?;
    let spec =
        |path: &str, wanted: &str| d.says(&format!("service inspect web --format {{{{json~.Spec.{path}}}}}"), wanted);
    spec("TaskTemplate.ContainerSpec.Env", r#"["B=2"]"#)?;
    spec("Labels", r#"{"x":"1"}"#)?;
    spec("TaskTemplate.ContainerSpec.Labels", r#"{"y":"2"}"#)?;
    spec("TaskTemplate.ContainerSpec.Hosts", r#"["192.0.2.1 bar"]"#)?;
    spec("TaskTemplate.Placement.MaxReplicas", "3")?;
    spec("TaskTemplate.ContainerSpec.User", r#""1""#)?;
    d.ok(
        "service update -d --env-rm B --label-rm x --container-label-rm y --mount-rm /tt --constraint-rm node.platform.os==linux \
         --host-rm bar:192.0.2.1 --dns-rm 192.0.2.2 --group-rm 5 --ulimit-rm nofile --sysctl-rm net.ipv4.ip_unprivileged_port_start \
         --cap-drop SYS_TIME --placement-pref-rm spread=node.labels.z --no-healthcheck --read-only=false web",
    )?;
    for (path, wanted) in [
        ("Labels", "{}"),
        ("TaskTemplate.ContainerSpec.Env", "null"),
        ("TaskTemplate.ContainerSpec.Hosts", "null"),
        ("TaskTemplate.ContainerSpec.Mounts", "null"),
        ("TaskTemplate.ContainerSpec.Ulimits", "null"),
        ("TaskTemplate.ContainerSpec.Healthcheck.Test", r#"["NONE"]"#),
    ] {
        spec(path, wanted)?;
    }

    // S-15, S-18, S-23
    d.comes_to_say("service inspect web --format {{.UpdateStatus.State}}", "completed")?;
    let before = tasks(&d, "web")?;
    d.ok("service update -d --force web")?;
    until("all are replaced", DEADLINE, || {
        let after = tasks(&d, "web")?;
        ensure!(after.len() == 2 && before.iter().all(|old| after.iter().all(|new| new.task != old.task)));
        Ok(())
    })?;
    d.ok(&format!("service create -d --name other --mode global {IMAGE} {SLEEP}"))?;
    d.shows("service scale -d web=3", "web scaled to 3")?;
    d.fails("service scale -d other=3", "scale can only be used with replicated")?;
    d.comes_to_say("service ls --filter name=web --format {{.Replicas}}", "3/3 (max 3 per node)")?;
    d.comes_to_say("service ls --filter mode=global --format {{.Name}}~{{.Mode}}~{{.Replicas}}", "other global 5/5")?;
    d.says("service ls -q --filter label=none", "")?;
    d.fails("service ls --filter colour=red", "invalid filter 'colour'")?;
    let rows = |line: &str| Ok::<_, anyhow::Error>(d.ok(line)?.lines().count());
    ensure!(rows("service ps -q --filter desired-state=running web other")? == 8);
    let on_h4 = rows("service ps -q --filter node=h4 --filter desired-state=running other")?;
    ensure!(on_h4 == 1, "a global service has one there, not {on_h4}");
    ensure!(rows("service ps -q web")? > 3, "those of before are kept");
    d.shows("service ps --no-trunc web", "\\_ web.1")?;
    d.fails("service ps nope", "no such service: nope")?;
    d.fails("service inspect nope", "no such service: nope")?;
    d.fails("service update nope", "service nope not found")?;
    d.fails("service update --replicas 2 other", "replicas can only be used with replicated mode")?;

    // S-19: lines of all tasks, of one, the last ones; none that never ran is missed
    d.ok(&format!(
        "service create -q --name talk --replicas 2 {IMAGE} sh -c echo~hello;~echo~trouble~>&2;~{}",
        SLEEP.replace(' ', "~")
    ))?;
    until("both have spoken", DEADLINE, || {
        let out = d.ok("service logs talk")?;
        ensure!(out.lines().filter(|line| line.ends_with("| hello")).count() == 2, "{out}");
        Ok(())
    })?;
    let one = &tasks(&d, "talk")?[0].task;
    d.says(&format!("service logs --raw {one}"), "hello")?;
    d.shows("service logs --timestamps --no-task-ids talk", "talk.1@")?;
    d.fails("service logs nope", "no such task or service: nope")?;

    let id = d.ok("service inspect web --format {{.ID}}")?.trim().to_owned();
    d.shows("service rm web other", "web\nother")?;
    d.fails("service rm web", "service web not found")?;
    // its tasks are still being stopped
    d.fails(&format!("service inspect {id}"), "no such service")?;
    d.fails(&format!("service ps {id}"), "no such service")?;
    Ok(())
}

/// C-07, C-11 to C-13, C-21 to C-26, C-28, C-30, C-40: nodes and the cluster itself.
#[test]
fn docker_c_13_nodes_and_settings_of_the_cluster() -> Result<()> {
    if !can_make_hosts("docker_c_13_nodes_and_settings_of_the_cluster") {
        return Ok(());
    }
    let t = cluster("swarmset")?;
    let d = Docker::new(&t, "h1");
    let nodes = |filter: &str| {
        let mut names: Vec<String> = d
            .ok(&format!("node ls {filter} --format {{{{.Hostname}}}}"))?
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        names.sort();
        Ok::<_, anyhow::Error>(names.join(" "))
    };
    ensure!(nodes("")? == "h1 h2 h3 h4 h5");
    ensure!(nodes("--filter role=worker")? == "h4 h5");
    ensure!(nodes("--filter name=h3")? == "h3");
    ensure!(nodes("--filter membership=accepted")? == "h1 h2 h3 h4 h5");
    d.fails("node ls --filter role=king", "role")?;
    d.says("node ls --filter name=h4 --format {{.TLSStatus}}", "Ready")?;
    d.ok("node update --label-add disk=ssd --label-add gone=1 h4")?;
    d.ok("node update --label-rm gone --availability pause h4")?;
    ensure!(nodes("--filter node.label=disk=ssd")? == "h4");
    d.says("node inspect h4 --format {{json~.Spec.Labels}}", r#"{"disk":"ssd"}"#)?;
    d.says(
        "node inspect h4 --format {{.Spec.Availability}}~{{.Status.State}}~{{.Description.Platform.OS}}",
        "pause ready linux",
    )?;
    d.says("node inspect self --format {{.ManagerStatus.Leader}}~{{.Description.Hostname}}", "true h1")?;
    let drivers = "bridge, host, ipvlan, macvlan, null, overlay";
    for part in ["Hostname:", "Availability:", "Pause", "Operating System:", "Platform", drivers, "Engine Version:"] {
        d.shows("node inspect --pretty h4", part)?;
    }
    d.fails("node inspect nope", "node nope not found")?;
    d.fails("node update --availability asleep h4", "availability")?;
    d.fails("node update --label-rm none h4", "none")?;
    d.ok("node update --availability active h4")?;

    // C-22: drained, and its task runs elsewhere at once
    d.ok(&format!("service create -d --name web --constraint node.hostname!=h1 --replicas 4 {IMAGE} {SLEEP}"))?;
    d.ok("node update --availability drain h5")?;
    until("nothing runs on the drained node", DEADLINE, || {
        let found = tasks(&d, "web")?;
        ensure!(found.len() == 4 && found.iter().all(|found| found.host != "h5"));
        Ok(())
    })?;
    d.ok("node update --availability active h5")?;
    d.shows("node ps h4 --filter desired-state=running --format {{.Name}}~{{.CurrentState}}", "Running")?;

    // C-21
    d.shows("node promote h5", "Node h5 promoted to a manager in the swarm.")?;
    until("it is one", DEADLINE, || d.says("node inspect h5 --format {{.ManagerStatus.Reachability}}", "reachable"))?;
    d.shows("node promote h5", "is already a manager.")?;
    until("it is none any more", DEADLINE, || {
        d.shows("node demote h5", "demoted in the swarm")
            .map(drop)
            .or_else(|_| d.says("node inspect h5 --format {{.Spec.Role}}", "worker"))
    })?;
    until("it says so itself", DEADLINE, || {
        Docker::new(&t, "h5").says("info --format {{.Swarm.ControlAvailable}}", "false")
    })?;
    Docker::new(&t, "h5").fails("node ls", "This node is not a swarm manager")?;

    // C-13, C-28, C-30
    d.shows(
        "swarm update --task-history-limit 3 --dispatcher-heartbeat 3s --snapshot-interval 5000 --cert-expiry 48h",
        "Swarm updated.",
    )?;
    d.says(
        "info --format {{.Swarm.Cluster.Spec.Orchestration.TaskHistoryRetentionLimit}}~{{.Swarm.Cluster.Spec.Dispatcher.HeartbeatPeriod}}~{{.Swarm.Cluster.Spec.Raft.SnapshotInterval}}~{{.Swarm.Cluster.Spec.CAConfig.NodeCertExpiry}}",
        "3 3s 5000 48h0m0s",
    )?;
    // C-29
    d.shows("swarm update --max-snapshots 2", "Swarm updated.")?;
    d.says("info --format {{.Swarm.Cluster.Spec.Raft.KeepOldSnapshots}}", "2")?;
    d.fails("swarm update --max-snapshots 1000", "give at most 100")?;
    d.fails("swarm update --cert-expiry 1m", "must not be shorter than one hour")?;
    let token = d.ok("swarm join-token -q worker")?;
    ensure!(token.trim().starts_with("SWMTKN-1-"), "{token}");
    let fresh = d.ok("swarm join-token -q --rotate worker")?;
    ensure!(token != fresh && Docker::new(&t, "h2").ok("swarm join-token -q worker")? == fresh);
    let manager = d.ok("swarm join-token -q manager")?;
    ensure!(manager != fresh, "managers have a token of their own");
    ensure!(
        manager.rsplit_once('-').map(|(ca, _)| ca.to_owned()) == fresh.rsplit_once('-').map(|(ca, _)| ca.to_owned())
    );
    d.shows("swarm ca", "-----BEGIN CERTIFICATE-----")?;
    d.fails("swarm init", "This node is already part of a swarm")?;
    d.fails("swarm leave", "--force")?;

    // C-12, C-24
    d.fails("node rm h4", "is not down")?;
    Docker::new(&t, "h4").shows("swarm leave", "Node left the swarm.")?;
    until("its node is gone or down", DEADLINE, || {
        let left = d.ok("node ls --format {{.Hostname}}={{.Status}}")?;
        ensure!(!left.contains("h4=Ready"), "{left}");
        Ok(())
    })?;
    d.says("info --format {{.Swarm.LocalNodeState}}~{{.Swarm.ControlAvailable}}~{{.Swarm.Managers}}", "active true 3")?;
    let left = Docker::new(&t, "h4");
    left.says("info --format {{.Swarm.LocalNodeState}}", "inactive")?;

    // C-07
    let (token, address) = (d.ok("swarm join-token -q worker")?, d.ok("info --format {{.Swarm.NodeAddr}}")?);
    left.ok(&format!("swarm join --availability drain --token {} {}:2377", token.trim(), address.trim()))?;
    let node = left.ok("info --format {{.Swarm.NodeID}}")?;
    d.says(&format!("node inspect {} --format {{{{.Spec.Availability}}}}", node.trim()), "drain")?;
    Ok(())
}
