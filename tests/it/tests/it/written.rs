//! What clients see of what was asked for, as it was written, and of images by their platforms (parity E-06 to E-28).

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use it::IMAGE;
use serde_json::json;

use crate::{can_make_hosts, containers::Docker};

/// E-15, E-28: mounts are shown in the way in which they were asked for: `-v`, `--mount` and `--tmpfs` apart.
#[test]
fn docker_e_15_mounts_as_they_were_written() -> Result<()> {
    if !can_make_hosts("docker_e_15_mounts_as_they_were_written") {
        return Ok(());
    }
    let d = Docker::up("writmounts")?;
    let here = tempfile::tempdir()?;
    let bind = format!("{}:/b:ro,z", here.path().display());
    let asked = [
        ["-v", "named:/n"],
        ["-v", &bind],
        ["-v", "/own"],
        ["--tmpfs", "/t:size=64m,mode=700"],
        ["--mount", "type=volume,dst=/anon"],
        ["--mount", "type=tmpfs,dst=/m,tmpfs-size=1048576"],
    ];
    d.sleeper("all", &asked.concat())?;
    // docker's command line sends them in any order
    let mut binds: Vec<String> = serde_json::from_str(&d.field("all", "{{json .HostConfig.Binds}}")?)?;
    binds.sort();
    ensure!(binds == [bind.as_str(), "named:/n"], "{binds:?}");
    d.is("all", "{{json .HostConfig.Tmpfs}}", "{\"/t\":\"size=64m,mode=700\"}")?;
    let mounts = "{{range .HostConfig.Mounts}}{{.Type}} {{.Source}} {{.Target}};{{end}}";
    d.is("all", mounts, "volume  /anon;tmpfs  /m;")?;
    d.is("all", "{{json .Config.Volumes}}", "{\"/own\":{}}")?;
    let points = "{{range .Mounts}}{{.Type}} {{.Destination}} {{.Mode}} {{.RW}};{{end}}";
    let shown = d.field("all", points)?;
    let mut shown: Vec<&str> = shown.split_terminator(';').collect();
    shown.sort_unstable();
    let wanted =
        ["bind /b ro,z false", "tmpfs /m  true", "volume /anon z true", "volume /n z true", "volume /own  true"];
    ensure!(shown == wanted, "{shown:?}");
    // a `--tmpfs` is no mount of Docker's, and goes to no other container
    let handed_on =
        ["run", "--rm", "--volumes-from", "all", IMAGE, "sh", "-c", "grep -c -e ' /t ' -e ' /m ' /proc/mounts"];
    ensure!(d.ok(&handed_on)? == "1");

    // paths that lead astray are shown where they lead to
    d.sleeper("plain", &["-v", "/tmp/:/t/", "--mount", "type=volume,src=named,dst=/q/../w"])?;
    let shown = d.field("plain", "{{range .Mounts}}{{.Type}} {{.Destination}};{{end}}")?;
    let mut shown: Vec<&str> = shown.split_terminator(';').collect();
    shown.sort_unstable();
    ensure!(shown == ["bind /t", "volume /w"], "{shown:?}");
    ensure!(d.field("plain", "{{json .Mounts}}")?.contains("\"Source\":\"/tmp\""));

    let slip = ["run", "--name", "slip", "-v", "/etc/hostname:/etc", IMAGE, "true"];
    d.no(125, "mount the file /etc/hostname on the directory /etc: not a directory: Are you trying", &slip)?;
    d.is("slip", "{{.State.Status}} {{.State.ExitCode}}", "created 127")?;

    d.is("all", "{{json .HostConfig.SecurityOpt}}", "null")?;
    let labels = ["--security-opt", "label=level:s0:c1", "--isolation", "default", "--privileged"];
    d.ok(&[&["create", "--name", "labelled"], &labels[..], &[IMAGE, "true"]].concat())?;
    d.is("labelled", "{{.HostConfig.SecurityOpt}} {{.HostConfig.Isolation}}", "[label=level:s0:c1] default")?;
    d.ok(&["create", "--name", "mighty", "--privileged", IMAGE, "true"])?;
    d.is("mighty", "{{.HostConfig.SecurityOpt}}", "[label=disable]")?;

    // a driver of volumes that nobody has matters where one is made with it
    let with_driver = ["create", "--volume-driver", "foo"];
    d.ok(&[&with_driver[..], &["--name", "driven", "--mount", "type=volume,dst=/a", IMAGE, "true"]].concat())?;
    d.is("driven", "{{.HostConfig.VolumeDriver}}", "foo")?;
    let refused = "error looking up volume plugin foo: plugin \"foo\" not found";
    d.no(1, refused, &[&with_driver[..], &["-v", "/a", IMAGE, "true"]].concat())?;
    d.no(1, refused, &[&with_driver[..], &["-v", "of-foo:/a", IMAGE, "true"]].concat())?;
    d.no(1, "of-foo", &["volume", "inspect", "of-foo"])
}

/// E-15: a bind over all of /dev is the host's, writable or not; the container's own memory stays over it.
#[test]
fn docker_e_15_a_bind_over_dev() -> Result<()> {
    if !can_make_hosts("docker_e_15_a_bind_over_dev") {
        return Ok(());
    }
    let d = Docker::up("writdev")?;
    let here = tempfile::tempdir()?;
    let mine = format!("{}:/dev/mine", here.path().display());
    let script = "echo x > /dev/shm/own && echo > /dev/null && ls /dev/shm && touch /dev/mine/file && touch /dev/new";
    let said = d.say(&["run", "--rm", "-v", "/dev:/dev:ro", "-v", &mine, IMAGE, "sh", "-c", script])?;
    // a place for the inner mount cannot be made below what is read-only unless it was made before
    ensure!(
        said.code == 1 && said.out == "own" && said.err.contains("/dev/new: Read-only"),
        "{}: {}",
        said.code,
        said.err
    );
    d.ok(&["run", "--rm", "-v", &mine.replace("/dev/mine", "/mine"), IMAGE, "ls", "/mine/file"])?;
    d.ok(&["run", "--rm", "-v", "/dev:/dev", IMAGE, "sh", "-c", "touch /dev/made-inside"])?;
    let seen = d.ok(&["run", "--rm", "-v", "/dev:/outside", IMAGE, "ls", "/outside/made-inside", "/outside/ptmx"]);
    d.ok(&["run", "--rm", "-v", "/dev:/dev", IMAGE, "sh", "-c", "rm /dev/made-inside; rmdir /dev/mine"])?;
    seen.map(drop)
}

/// E-16, E-25: a link on the host's bridge names the other container, whatever that is called later.
#[test]
fn docker_e_16_names_by_links() -> Result<()> {
    if !can_make_hosts("docker_e_16_names_by_links") {
        return Ok(());
    }
    let d = Docker::up("writlinks")?;
    let id = d.sleeper("db", &[])?;
    d.sleeper("web", &["--link", "db:store"])?;
    ensure!(d.ok(&["ps", "--no-trunc", "--filter", &format!("id={id}"), "--format", "{{.Names}}"])? == "db,web/store");
    ensure!(d.field("web/store", "{{.Id}}")? == id);
    ensure!(d.ok(&["exec", "web/store", "hostname"])? == id[..12]);
    d.ok(&["rename", "db", "db2"])?;
    d.is("web", "{{.HostConfig.Links}}", "[/db2:/web/store]")?;
    d.ok(&["restart", "-t", "0", "web"])?;
    ensure!(d.ok(&["exec", "web", "cat", "/etc/hosts"])?.contains("store"));
    d.ok(&["rm", "-f", "db2"])?;
    d.no(1, "No such object: web/store", &["inspect", "web/store"])
}

/// E-25, E-36: a new name is found in networks at once, the old one no more.
#[test]
fn docker_e_36_a_new_name_is_found() -> Result<()> {
    if !can_make_hosts("docker_e_36_a_new_name_is_found") {
        return Ok(());
    }
    let d = Docker::up("writname")?;
    d.ok(&["network", "create", "own"])?;
    d.sleeper("first", &["--network", "own", "--network-alias", "also"])?;
    d.sleeper("asker", &["--network", "own"])?;
    let address = d.field("first", "{{.NetworkSettings.Networks.own.IPAddress}}")?;
    let finds = |name: &str| -> Result<bool> {
        let said = d.say(&["exec", "asker", "nslookup", name])?;
        Ok(said.code == 0 && said.out.contains(&address))
    };
    ensure!(finds("first")? && finds("also")?);
    d.ok(&["rename", "first", "second"])?;
    ensure!(finds("second")? && finds("also")? && !finds("first")?);
    Ok(())
}

/// E-03, E-06, E-07, E-10, E-13: an image of another platform is here and still not the one that is asked for.
#[test]
fn docker_e_10_platforms_of_images() -> Result<()> {
    if !can_make_hosts("docker_e_10_platforms_of_images") {
        return Ok(());
    }
    let d = Docker::up("writplat")?;
    let here = tempfile::tempdir()?;
    let tar = here.path().join("root.tar").display().to_string();
    d.ok(&["create", "--name", "source", IMAGE, "true"])?;
    d.ok(&["export", "-o", &tar, "source"])?;
    d.ok(&["import", "--platform", "linux/arm64", "--change", "CMD [\"true\"]", &tar, "arm:1"])?;
    let other = "was found but its platform (linux/arm64) does not match the specified platform (linux/s390x)";
    let asked = ["--platform", "linux/s390x"];
    d.no(1, other, &[&["create", "--pull", "never"], &asked[..], &["arm:1"]].concat())?;
    d.no(1, other, &[&["image", "inspect"], &asked[..], &["arm:1"]].concat())?;
    d.no(1, other, &[&["history"], &asked[..], &["arm:1"]].concat())?;
    let no_target = "no suitable export target found for platform linux/s390x";
    d.no(1, no_target, &[&["save", "-o", &format!("{tar}.x")], &asked[..], &["arm:1"]].concat())?;
    d.ok(&["image", "inspect", "--platform", "linux/arm64", "arm:1"])?;

    let made = d.say(&["create", "arm:1"])?;
    ensure!(made.code == 0 && made.err.contains("image's platform (linux/arm64) does not match the detected host"));
    let archive = here.path().join("arm.tar").display().to_string();
    d.ok(&["save", "--platform", "linux/arm64", "-o", &archive, "arm:1"])?;
    d.ok(&["rm", "-f", &made.out])?;
    d.ok(&["rmi", "arm:1"])?;
    d.no(1, "linux/s390x", &["load", "--platform", "linux/s390x", "-i", &archive])?;
    d.no(1, "No such image", &["image", "inspect", "arm:1"])?;
    d.ok(&["load", "--platform", "linux/arm64", "-i", &archive])?;
    let tree = d.ok(&["image", "ls", "--tree"])?;
    ensure!(tree.contains("arm:1") && tree.contains("linux/arm64"), "{tree}");

    // a change that cannot be made is said although a tar is being sent
    d.no(1, "invalid change \"RUN x\"", &["import", "--change", "RUN x", &tar])
}

/// E-09, E-42: a commit does what its container does, and knows where it comes from.
#[test]
fn docker_e_09_a_commit_is_of_its_container() -> Result<()> {
    if !can_make_hosts("docker_e_09_a_commit_is_of_its_container") {
        return Ok(());
    }
    let d = Docker::up("writcommit")?;
    d.sleeper("one", &["--label", "a=b", "-e", "X=y", "-w", "/srv", "--expose", "80"])?;
    d.ok(&["commit", "-m", "words", "--change", "USER 5", "one", "made:1"])?;
    let config =
        "{{.Config.Cmd}} {{.Config.Labels.a}} {{.Config.WorkingDir}} {{.Config.User}} {{len .Config.ExposedPorts}}";
    d.is("made:1", config, "[sleep 10000] b /srv 5 1")?;
    let parent = d.ok(&["image", "inspect", "--format", "{{.Id}}", IMAGE])?;
    ensure!(d.ok(&["image", "inspect", "--format", "{{.Parent}}", "made:1"])? == parent);
    ensure!(d.ok(&["history", "--no-trunc", "--format", "{{.CreatedBy}}", "made:1"])?.starts_with("sleep 10000\n"));
    let soon = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + 1;
    let events = ["events", "--since", "1m", "--until", &soon.to_string(), "--filter", "event=commit", "--format"];
    let told = d.ok(&[&events[..], &["{{.Actor.Attributes.comment}} {{.Actor.Attributes.imageRef}}"]].concat())?;
    ensure!(told == "words made:1", "{told}");

    // the container stands still meanwhile, and the image is there and has its name before it is said what it was made of
    d.ok(&["top", "one"])?;
    let here = tempfile::tempdir()?;
    let tar = here.path().join("one.tar").display().to_string();
    d.ok(&["export", "-o", &tar, "one"])?;
    d.ok(&["import", &tar, "brought:1"])?;
    let soon = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + 1;
    let all = ["events", "--since", "1m", "--until", &soon.to_string(), "--format", "{{.Type}} {{.Action}}"];
    let all = d.ok(&all)?;
    for part in [
        "container pause\nimage create\nimage tag\ncontainer commit\ncontainer unpause",
        "container top\ncontainer export\nimage tag\nimage import",
    ] {
        ensure!(all.contains(part), "{part:?} is not in {all}");
    }
    Ok(())
}

/// E-18, E-25, E-27: bounds that the host cannot keep are refused, details of logs are in their order.
#[test]
fn docker_e_25_updates_and_details() -> Result<()> {
    if !can_make_hosts("docker_e_25_updates_and_details") {
        return Ok(());
    }
    let d = Docker::up("writupdate")?;
    d.no(1, "Requested CPUs are not available - requested 9999", &["create", "--cpuset-cpus", "9999", IMAGE, "true"])?;
    d.sleeper("bound", &["--cpus", "0.5"])?;
    d.no(1, "Requested CPUs are not available", &["update", "--cpuset-cpus", "9999", "bound"])?;
    d.no(
        1,
        "CPU Quota cannot be updated as NanoCPUs has already been set",
        &["update", "--cpu-quota", "50000", "bound"],
    )?;
    d.ok(&["update", "--cpus", "0.25", "bound"])?;
    d.is("bound", "{{.HostConfig.NanoCpus}} {{.HostConfig.CpuQuota}}", "250000000 0")?;
    d.is("bound", "{{json .HostConfig.PidsLimit}}", "null")?;
    for (limit, shown) in [("20", "20"), ("-1", "0")] {
        d.ok(&["update", "--pids-limit", limit, "bound"])?;
        d.is("bound", "{{json .HostConfig.PidsLimit}}", shown)?;
    }
    ensure!(d.inside("bound", &["sh", "-c", "cat /sys/fs/cgroup/pids.max 2>/dev/null || echo max"])?.contains("max"));
    d.sleeper("kept", &["--restart", "unless-stopped", "--memory", "64m"])?;
    d.ok(&["update", "--memory", "96m", "kept"])?;
    let shown = "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.RestartPolicy.Name}}";
    d.is("kept", shown, "100663296 134217728 unless-stopped")?;
    d.no(
        1,
        "Memory limit should be smaller than already set memoryswap limit",
        &["update", "--memory", "256m", "kept"],
    )?;

    let options = ["--log-opt", "labels=z", "--log-opt", "env=A", "--label", "z=a b", "-e", "A=1,2"];
    d.ok(&[&["run", "--name", "said"], &options[..], &[IMAGE, "echo", "line"]].concat())?;
    ensure!(d.ok(&["logs", "--details", "said"])? == "A=1%2C2,z=a+b line");
    d.ok(&["run", "--name", "tagged", "--log-opt", "tag=t/{{.Name}}", IMAGE, "echo", "line"])?;
    ensure!(d.ok(&["logs", "--details", "tagged"])? == "tag=t%2Ftagged line");
    let options = ["--log-opt", "labels-regex=^z", "--log-opt", "env-regex=^(B|C)$", "--label", "zz=1", "-e", "B=2"];
    d.ok(&[&["run", "--name", "like"], &options[..], &["-e", "BC=3", IMAGE, "echo", "line"]].concat())?;
    ensure!(d.ok(&["logs", "--details", "like"])? == "B=2,zz=1 line");
    d.no(1, "labels-regex=\"(\": not a regular", &["create", "--log-opt", "labels-regex=(", IMAGE, "true"])
}

/// E-28: a container that never ran has the places that others are mounted on, and they are no change of its own.
#[test]
fn docker_e_28_what_is_there_before_the_first_start() -> Result<()> {
    if !can_make_hosts("docker_e_28_what_is_there_before_the_first_start") {
        return Ok(());
    }
    let d = Docker::up("writplaces")?;
    let here = tempfile::tempdir()?;
    d.ok(&["create", "--name", "fresh", IMAGE, "sleep", "10000"])?;
    let target = here.path().join("resolv.conf");
    d.ok(&["cp", "fresh:/etc/resolv.conf", target.to_str().context("text")?])?;
    ensure!(target.metadata()?.len() == 0);
    ensure!(d.ok(&["diff", "fresh"])?.is_empty());
    d.ok(&["start", "fresh"])?;
    let table = d.ok(&["exec", "fresh", "sh", "-c", "test -f /.dockerenv && cat /etc/mtab"])?;
    ensure!(table.contains(" / ") && table.contains(" /proc "), "{table}");
    ensure!(d.ok(&["diff", "fresh"])?.is_empty());
    d.ok(&["commit", "fresh", "kept:1"])?;
    ensure!(d.ok(&["history", "--format", "{{.Size}}", "kept:1"])?.starts_with("0B"));
    Ok(())
}

/// E-18: a container's group is where it was asked for; shares of block devices hold where the kernel has them, at once
/// when they are changed, and are left out with a warning where it has not.
#[test]
fn docker_e_18_parents_of_groups_and_shares_of_devices() -> Result<()> {
    if !can_make_hosts("docker_e_18_parents_of_groups_and_shares_of_devices") {
        return Ok(());
    }
    let d = Docker::up("writgroups")?;
    d.sleeper("own", &["--cgroup-parent", "/teams/a", "--cgroupns", "host"])?;
    let id = d.ok(&["inspect", "--format", "{{.Id}}", "own"])?;
    let groups = d.ok(&["exec", "own", "cat", "/proc/1/cgroup"])?;
    ensure!(groups.contains(&format!("/teams/a/{id}")), "{groups}");
    d.is("own", "{{.HostConfig.CgroupParent}}", "/teams/a")?;
    d.ok(&["restart", "-t", "0", "own"])?;
    let groups = d.ok(&["exec", "own", "cat", "/proc/1/cgroup"])?;
    ensure!(groups.contains(&format!("/teams/a/{id}")), "{groups}");
    d.no(1, "is not the path of a control group", &["create", "--cgroup-parent", "../a", IMAGE, "true"])?;
    // a file of the kernel's is no parent: said at the start, and the container can be removed
    d.ok(&["create", "--name", "below", "--cgroup-parent", "/teams/cgroup.procs", IMAGE, "true"])?;
    d.no(1, "cgroup.procs", &["start", "below"])?;
    d.ok(&["rm", "below"])?;
    d.no(1, "--storage-opt is supported only", &["create", "--storage-opt", "size=1G", IMAGE, "true"])?;

    let said = d.say(&["run", "-d", "--name", "shared", "--blkio-weight", "500", IMAGE, "sleep", "10000"])?;
    let id = d.ok(&["inspect", "--format", "{{.Id}}", "shared"])?;
    let find =
        format!("cat $(find /sys/fs/cgroup -path '*{id}/*io.bfq.weight' -o -path '*{id}/blkio.weight') /dev/null");
    let weight = || Ok::<_, anyhow::Error>(d.t.lab().run("h1", &["sh", "-c", &find])?.replace("default ", ""));
    let is_warned = said.err.contains("Weight discarded");
    let now = weight()?;
    ensure!(if is_warned { now.is_empty() } else { now.trim() == "500" }, "{now:?}");
    d.ok(&["update", "--blkio-weight", "300", "shared"])?;
    let now = weight()?;
    ensure!(if is_warned { now.is_empty() } else { now.trim() == "300" }, "{now:?}");
    d.no(125, "is not a device of this host", &["run", "--rm", "--blkio-weight-device", "/dev/no:500", IMAGE, "true"])
}

/// E-42: what is left over goes in one command, which asks for builds as well.
#[test]
fn docker_e_42_everything_is_pruned_at_once() -> Result<()> {
    if !can_make_hosts("docker_e_42_everything_is_pruned_at_once") {
        return Ok(());
    }
    let d = Docker::up("writprune")?;
    d.ok(&["run", "--name", "ended", "-v", "/own", IMAGE, "true"])?;
    d.ok(&["network", "create", "unused"])?;
    d.ok(&["system", "prune", "-f", "--filter", "until=1h"])?;
    d.is("ended", "{{.State.Status}}", "exited")?;
    let gone = d.ok(&["system", "prune", "-f", "--volumes"])?;
    ensure!(gone.contains("unused") && gone.contains("Deleted Containers"), "{gone}");
    ensure!(d.ok(&["ps", "-aq"])?.is_empty());
    d.no(1, "\"soon\" is not a time", &["container", "prune", "-f", "--filter", "until=soon"])
}

/// E-28: a body that says it is no JSON is refused, and nothing is made of it.
#[test]
fn docker_e_28_bodies_are_json() -> Result<()> {
    if !can_make_hosts("docker_e_28_bodies_are_json") {
        return Ok(());
    }
    let d = Docker::up("writbody")?;
    let api = d.api()?;
    let body = format!("{{\"Image\": \"{IMAGE}\", \"Cmd\": [\"true\"]}}");
    let answer = api.request("POST", "/containers/create?name=never", "text/plain", body.as_bytes())?;
    let wanted = "unsupported Content-Type header (text/plain): must be 'application/json'";
    ensure!(answer.status == 400 && answer.json()?["message"] == wanted, "{}: {}", answer.status, answer.text());
    let answer =
        api.request("POST", "/containers/create?name=made", "application/json; charset=utf-8", body.as_bytes())?;
    ensure!(answer.status == 201, "{}", answer.text());
    ensure!(d.ok(&["ps", "-a", "--format", "{{.Names}}"])? == "made");
    // as dockerode sends them: its own options beside the API's, and the name twice
    let body = json!({ "name": "node", "Image": IMAGE, "Cmd": ["sleep", "1000"], "Dns": ["10.0.0.1"], "timeout": 1 });
    api.post("/containers/create?name=node", &body)?;
    let answer = api.request("POST", "/containers/node/start", "application/json", b"{\"hijack\":true}")?;
    ensure!(answer.status == 204, "{}", answer.text());
    let exec =
        api.post("/containers/node/exec", &json!({ "Cmd": ["echo", "said"], "AttachStdout": true, "stdin": true }))?;
    let path = format!("/exec/{}/start", exec["Id"].as_str().context("an id")?);
    let own = json!({ "hijack": true, "stdin": true, "Tty": false });
    let answer = api.request("POST", &path, "application/json", own.to_string().as_bytes())?;
    ensure!(answer.text().contains("said"), "{}", answer.text());
    let known = json!({ "Image": IMAGE, "HostConfig": { "StorageOpt": { "size": "1G" } } });
    let answer = api.request("POST", "/containers/create", "application/json", known.to_string().as_bytes())?;
    ensure!(answer.status == 400 && answer.text().contains("HostConfig.StorageOpt: "), "{}", answer.text());
    d.ok(&["rm", "-f", "node"]).map(drop)
}

/// E-25: what monitors read of a container's use; signals of other inits; names that no kernel knows.
#[test]
fn docker_e_25_use_and_signals() -> Result<()> {
    if !can_make_hosts("docker_e_25_use_and_signals") {
        return Ok(());
    }
    let d = Docker::up("writuse")?;
    d.sleeper("used", &["--memory", "64m"])?;
    let used = d.api()?.get("/containers/used/stats?stream=0&one-shot=1")?;
    let memory = &used["memory_stats"];
    ensure!(memory["limit"] == 64 << 20 && memory["usage"].as_u64() > Some(0), "{memory}");
    for name in ["inactive_file", "active_anon", "pgfault"] {
        ensure!(memory["stats"][name].is_u64(), "{name} is not in {memory}");
    }
    let trap = "trap 'exit 5' 37; echo ready; while :; do sleep 0.1; done";
    d.ok(&["run", "-d", "--name", "real", "--stop-signal", "SIGRTMIN+3", IMAGE, "sh", "-c", trap])?;
    it::until("the trap is set", it::DEADLINE, || {
        ensure!(d.ok(&["logs", "real"])? == "ready");
        Ok(())
    })?;
    d.ok(&["stop", "real"])?;
    d.is("real", "{{.State.ExitCode}}", "5")?;
    d.no(1, "Invalid signal: NOPE", &["create", "--stop-signal", "NOPE", IMAGE, "true"])?;
    d.no(1, "invalid CapAdd: unknown capability: \"CAP_NOPE\"", &["create", "--cap-add", "NOPE", IMAGE, "true"])
}
