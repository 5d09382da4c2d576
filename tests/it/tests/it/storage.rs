//! Images, volumes, events and disk usage of one host, driven by the docker CLI (parity E-03 to E-10, E-24, E-29, E-42).

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, Docker, IMAGE, until};

use crate::can_make_hosts;

const REGISTRY: &str = "127.0.0.1:5000";

/// E-29: volumes as docker makes, shows, refuses and removes them.
#[test]
fn e29_docker_cli_drives_volumes() -> Result<()> {
    if !can_make_hosts("e29_docker_cli_drives_volumes") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("dockervol", 1, 0)?;
    let d = Docker::new(&t, "h1");
    d.says("volume create --label tier=data db", "db")?;
    d.says("volume create db", "db")?;
    d.says("volume inspect db --format {{.Driver}}/{{.Scope}}/{{.Labels.tier}}", "local/local/data")?;
    d.shows("volume inspect db --format {{.Mountpoint}}", "/volumes/db/_data")?;
    d.says("volume ls -q", "db")?;
    d.says("volume ls -q --filter label=tier=data", "db")?;
    d.says("volume ls -q --filter label=tier=web", "")?;
    d.says("volume ls -q --filter name=d", "db")?;
    d.says("volume ls -q --filter driver=local", "db")?;
    d.says("volume ls -q --filter dangling=true", "db")?;
    d.fails("volume ls --filter colour=red", "invalid filter 'colour'")?;
    d.fails("volume inspect nope", "get nope: no such volume")?;
    d.fails("volume rm nope", "get nope: no such volume")?;
    d.ok("volume rm -f nope")?;
    d.fails("volume create a", "volume name is too short")?;
    d.fails("volume create a/b", "includes invalid characters for a local volume name")?;
    d.fails("volume create -d rexray other", "plugin \"rexray\" not found")?;
    d.fails("volume create -o colour=red other", "invalid option: \"colour\"")?;
    d.fails("volume create -o type=tmpfs other", "missing required option: \"device\"")?;
    let anonymous = d.ok("volume create")?.trim().to_owned();
    ensure!(anonymous.len() == 64 && anonymous.bytes().all(|b| b.is_ascii_hexdigit()), "{anonymous}");
    d.shows(&format!("volume inspect {anonymous}"), "com.docker.volume.anonymous")?;

    // a service's task has one by name, one without, and one with a file system of its own
    d.ok("volume create -o type=tmpfs -o device=tmpfs -o o=size=1m,mode=0700 fast")?;
    let mounts =
        ["type=volume,source=db,target=/db", "type=volume,target=/own", "type=volume,source=fast,target=/fast"];
    let more: Vec<&str> = mounts.iter().flat_map(|mount| ["--mount", mount]).collect();
    t.create("web", 1, &more)?;
    let (tasks, _) = t.running("web", 1)?;
    let container = &tasks[0].container;
    d.fails("volume rm db", &format!("remove db: volume is in use - [{container}]"))?;
    d.says("volume ls -q --filter dangling=true", &anonymous)?;
    ensure!(d.ok("volume ls -q")?.lines().count() == 4, "three by hand and one of the task");
    let mount = t.lab().run("h1", &["sh", "-c", &format!("cat /proc/{}/mountinfo", tasks[0].pid)])?;
    ensure!(mount.lines().any(|line| line.contains(" /fast ") && line.contains("size=1024k")), "{mount}");
    d.shows("volume prune -f", &anonymous)?;
    d.shows("system df -v --format {{range~.Volumes}}{{.Name}}={{.Links}};{{end}}", "db=1")?;

    d.ok("service rm web")?;
    until("the task's volumes are let go", DEADLINE, || d.says("volume ls -q --filter dangling=false", "").map(drop))?;
    ensure!(d.ok("volume ls -q")?.lines().count() == 2, "the anonymous volume went with its task");
    let mounts = t.lab().run("h1", &["sh", "-c", "grep -c volumes/fast /proc/self/mountinfo || true"])?;
    ensure!(mounts.trim() == "0", "unmounted after the last use: {mounts}");
    d.shows("volume prune -f", "Total reclaimed space: 0B")?;
    d.shows("volume prune -af --filter label=tier=data", "db")?;
    d.says("volume rm fast", "fast")?;
    d.says("volume ls -q", "")?;
    Ok(())
}

/// E-15, S-52, S-64 to S-66: what a mount can be told, of a service and of a single container.
#[test]
fn e15_s52_mounts_and_their_options() -> Result<()> {
    if !can_make_hosts("e15_s52_mounts_and_their_options") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("mountopts", 1, 0)?;
    let d = Docker::new(&t, "h1");
    let volume = "type=volume,source=v-{{.Task.Slot}},target=/v,volume-opt=type=tmpfs,volume-opt=device=tmpfs,\
                  volume-opt=o=size=2m,volume-label=of={{.Service.Name}}";
    let tmpfs = "type=tmpfs,target=/t,tmpfs-size=1m";
    t.create("web", 2, &["--mount", volume, "--mount", tmpfs])?;
    let (tasks, _) = t.running("web", 2)?;
    ensure!(d.ok("volume ls -q")?.split_whitespace().eq(["v-1", "v-2"]), "one for each slot");
    d.says("volume inspect v-2 --format {{.Labels.of}}/{{.Options.o}}", "web/size=2m")?;
    let mount = t.lab().run("h1", &["sh", "-c", &format!("cat /proc/{}/mountinfo", tasks[0].pid)])?;
    ensure!(mount.lines().any(|line| line.contains(" /v ") && line.contains("size=2048k")), "{mount}");
    // what its placeholder stands for is no name of a volume
    d.ok("service rm web")?;
    let bad = "type=volume,source=v-{{.Service.Name}}/../../x,target=/v";
    let service = ["service", "create", "-d", "--name", "bad", "--mount", bad, IMAGE];
    let (code, _, err) = d.run(&service)?;
    ensure!(code == 0, "{err}");
    until("the task says why", DEADLINE, || {
        d.shows("service ps bad --no-trunc --format {{.Error}}", "\"v-bad/../../x\" is no volume name")
    })?;
    d.ok("service rm bad")?;

    t.lab().run("h1", &["sh", "-c", "mkdir -p /srv/top/below && mount -t tmpfs below /srv/top/below"])?;
    let write = "sh -c echo~1~>/b/f~&&~echo~top;~echo~1~>/b/below/f~&&~echo~below;~true";
    let bind = |options: &str| format!("run --rm --mount type=bind,source=/srv/top,target=/b{options} {IMAGE} {write}");
    d.says(&bind(""), "top\nbelow")?;
    d.says(&bind(",readonly"), "")?;
    d.says(&bind(",readonly,bind-recursive=writable"), "below")?;
    d.says(&bind(",readonly,bind-recursive=readonly,bind-propagation=rprivate"), "")?;
    d.shows(&bind(",bind-recursive=disabled"), "top")?;
    let below = t.lab().run("h1", &["sh", "-c", "rm -f /srv/top/below/f; umount /srv/top/below; ls /srv/top/below"])?;
    ensure!(below.trim() == "f", "it was the directory under the mount that was written to: {below:?}");

    // What is mounted later on the host comes into a slave, and what is mounted in a shared one comes out.
    let host = |script: &str| t.lab().run("h1", &["sh", "-c", script]);
    host("mount --bind /srv/top /srv/top && mount --make-rshared /srv/top && mkdir /srv/top/made")?;
    for propagation in ["rslave", "slave"] {
        d.ok(&format!("run -d --name late -v /srv/top:/b:ro,{propagation} {IMAGE} sleep 600"))?;
        host("mount -t tmpfs late /srv/top/below && echo 1 > /srv/top/below/new")?;
        d.says("exec late cat /b/below/new", "1")?;
        host("umount /srv/top/below")?;
        d.ok("rm -f late")?;
    }
    d.ok(&format!("run --rm --privileged -v /srv/top:/b:rshared {IMAGE} mount -t tmpfs inner /b/made"))?;
    host("grep ' /srv/top/made ' /proc/self/mountinfo && umount /srv/top/made /srv/top")?;

    let seen = format!("{IMAGE} sh -c grep~~/t~~/proc/mounts;~stat~-c~%u:%a~/t");
    let mounts = d.ok(&format!("run --rm --tmpfs /t:exec,uid=7,mode=0700,size=1m {seen}"))?;
    ensure!(mounts.contains("size=1024k") && mounts.contains("nosuid") && !mounts.contains("noexec"), "{mounts}");
    ensure!(mounts.trim_end().ends_with("7:700"), "{mounts}");
    let mounts = d.ok(&format!("run --rm --tmpfs /t {seen}"))?;
    ensure!(mounts.contains("noexec,") || mounts.contains(",noexec"), "{mounts}");
    let (code, _, err) = d.run(&["create", "--tmpfs", "/t:colour=red", IMAGE])?;
    ensure!(code == 1 && err.contains("\"colour=red\" is no option of a tmpfs"), "{code}: {err}");
    Ok(())
}

/// S-68, E-15: the files of an image as a mount, of a single container and of a service.
#[test]
fn s68_e15_images_as_mounts() -> Result<()> {
    if !can_make_hosts("s68_e15_images_as_mounts") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("imagemounts", 1, 0)?;
    let d = Docker::new(&t, "h1");
    d.ok(&format!("run --name maker {IMAGE} sh -c mkdir~-p~/d/e;echo~inside~>/d/e/f;ln~-s~/etc~/d/far"))?;
    d.ok("commit maker files:1")?;
    d.ok("rm maker")?;
    let mount = "--mount type=image,source=files:1,target=/x";
    d.says(&format!("run --rm {mount} {IMAGE} cat /x/d/e/f"), "inside")?;
    d.says(&format!("run --rm {mount},image-subpath=d/e {IMAGE} cat /x/f"), "inside")?;
    d.says(&format!("run --rm {mount} {IMAGE} sh -c touch~/x/new~2>&1|grep~-c~Read-only"), "1")?;
    let refused = |arguments: &str, part: &str| -> Result<()> {
        let (code, _, err) = d.run(&arguments.split(' ').collect::<Vec<_>>())?;
        ensure!(code != 0 && err.contains(part), "{arguments}: {code}: {err}");
        Ok(())
    };
    refused(&format!("run --rm {mount},image-subpath=no {IMAGE} true"), "cannot access path \"no\" in ")?;
    refused(&format!("run --rm {mount},image-subpath=d/far {IMAGE} true"), "leads out of ")?;
    refused(
        &format!("create --pull never --mount type=image,source=lost,target=/x {IMAGE} true"),
        "No such image: lost:latest",
    )?;

    d.ok(&format!("run -d --name one {mount} {IMAGE} sleep 10000"))?;
    d.says(
        "inspect one --format {{range~.Mounts}}{{.Type}}/{{.Name}}/{{.Destination}}/{{.RW}}{{end}}",
        "image/files:1//x/false",
    )?;
    d.says(
        "inspect one --format {{range~.HostConfig.Mounts}}{{.Type}}/{{.Source}}/{{.Target}}{{end}}",
        "image/files:1//x",
    )?;
    d.says("ps --filter volume=files:1 --format {{.Names}}", "one")?;
    d.fails("rmi files:1", "(must force) - container ")?;
    d.says(&format!("run --rm --volumes-from one {IMAGE} cat /x/d/e/f"), "inside")?;
    t.restart_with("h1", &[])?;
    d.ok("restart -t 0 one")?;
    d.says("exec one cat /x/d/e/f", "inside")?;
    d.fails("rmi files:1", "is using its referenced image")?;
    d.ok("rm -f one")?;

    t.create("web", 2, &["--mount", "type=image,src=files:1,dst=/x,image-subpath=d"])?;
    let (tasks, _) = t.running("web", 2)?;
    d.says(&format!("exec {} cat /x/e/f", tasks[0].container), "inside")?;
    let shown =
        "{{range~.Spec.TaskTemplate.ContainerSpec.Mounts}}{{.Type}}:{{.Source}}:{{.ImageOptions.Subpath}}{{end}}";
    d.says(&format!("service inspect web --format {shown}"), "image:files:1:d")?;
    d.fails("rmi files:1", "is using its referenced image")?;
    d.fails(
        &format!("service create --name bad --mount type=image,src={{{{.Node.Hostname}}}},dst=/x {IMAGE}"),
        "invalid image mount source",
    )?;
    d.ok("service create -d --name lost --mount type=image,src=127.0.0.1:1/none,dst=/x busybox")?;
    until("the task says why", DEADLINE, || {
        d.shows("service ps lost --no-trunc --format {{.Error}}", "No such image: 127.0.0.1:1/none:latest")
    })?;
    d.ok("service rm web lost")?;
    until("the image is let go", DEADLINE, || d.ok("rmi files:1").map(drop))?;
    let left = t.lab().run("h1", &["sh", "-c", "grep -c /views/ /proc/self/mountinfo || true"])?;
    ensure!(left.trim() == "0", "nothing stays mounted: {left}");
    Ok(())
}

/// E-03, E-04, E-06 to E-08, E-10, E-48: images, through a registry of Debian's and through archives.
#[test]
fn e04_docker_cli_drives_images() -> Result<()> {
    if !can_make_hosts("e04_docker_cli_drives_images") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("dockerimg", 1, 0)?;
    let files = tempfile::tempdir()?;
    let d = Docker::new(&t, "h1").in_directory(files.path());
    names_and_archives(&d, files.path())?;
    used_images(&d)?;
    if !Path::new("/usr/bin/docker-registry").exists() {
        eprintln!("SKIPPED the registry's part of e04_docker_cli_drives_images: install docker-registry");
        return Ok(());
    }
    start_registry(&t)?;
    registry(&t, &d)
}

fn names_and_archives(d: &Docker<'_>, files: &Path) -> Result<()> {
    d.ok(&format!("tag {IMAGE} mine:2"))?;
    d.shows("images --format {{.Repository}}:{{.Tag}}", "mine:2")?;
    d.says("images -q --filter reference=mine --no-trunc", d.ok("image inspect mine:2 --format {{.Id}}")?.trim())?;
    d.fails("tag nope other", "No such image: nope:latest")?;
    d.says("image inspect mine:2 --format {{.Os}}/{{.RootFS.Type}}/{{.GraphDriver.Name}}", "linux/layers/overlay2")?;
    let history = d.ok("history --human=false --format {{.Size}} mine:2")?;
    let total: u64 = history.lines().filter_map(|line| line.trim().parse::<u64>().ok()).sum();
    let size = d.ok("image inspect mine:2 --format {{.Size}}")?;
    ensure!(total > 0 && total.to_string() == size.trim(), "layers {total}, image {size}");
    d.fails("history nope", "No such image: nope:latest")?;

    let tar = files.join("image.tar").display().to_string();
    d.ok(&format!("save -o {tar} mine:2"))?;
    d.says("rmi mine:2", "Untagged: mine:2")?;
    d.fails("rmi mine:2", "No such image: mine:2")?;
    d.shows(&format!("load -i {tar}"), "Loaded image: mine:2")?;
    d.fails("save -o other.tar nope", "No such image: nope")?;
    d.fails("load -i /etc/hostname", "archive")?;

    std::fs::create_dir(files.join("root"))?;
    std::fs::write(files.join("root/hello"), "there")?;
    let packed = Command::new("tar")
        .arg("-cf")
        .arg(files.join("root.tar"))
        .arg("-C")
        .arg(files.join("root"))
        .arg(".")
        .status()?;
    ensure!(packed.success());
    let id = d.ok("import -c CMD=/hello -m note root.tar flat:1");
    // docker's own words for a change that is none
    ensure!(id.is_err(), "CMD=/hello is no instruction");
    ensure!(d.run(&["import", "-c", "CMD /hello", "-m", "note", "root.tar", "flat:1"])?.0 == 0);
    d.says("image inspect flat:1 --format {{.Comment}}", "note")?;
    d.shows("image inspect flat:1 --format {{.Config.Cmd}}", "/hello")?;
    d.says("images -q --filter before=flat:1 --filter reference=mine --filter dangling=true", "")?;
    d.shows(&format!("images -q --filter since={IMAGE}"), d.ok("images -q flat:1")?.trim())?;
    d.fails("images --filter colour=red", "invalid filter 'colour'")?;
    d.fails("images --filter before=nope", "No such image: nope")?;
    d.shows("rmi flat:1", "Deleted: sha256:")?;
    d.ok("image prune -f --filter until=1h")?;
    d.says("image prune -f", "Total reclaimed space: 0B")?;
    Ok(())
}

/// By force a running container's image loses its name alone, that of another goes. What they have stays theirs.
fn used_images(d: &Docker<'_>) -> Result<()> {
    d.ok(&format!("run --name maker {IMAGE} touch /made"))?;
    d.ok("commit maker own:1")?;
    d.ok("rm maker")?;
    let id = d.ok("images -q own:1")?.trim().to_owned();
    d.ok("run -d --name user own:1 sleep 10000")?;
    d.fails("rmi own:1", "(must force) - container ")?;
    d.fails(&format!("rmi -f {id}"), "(cannot be forced) - image is being used by running container")?;
    d.says("rmi -f own:1", "Untagged: own:1")?;
    d.says("ps --filter name=user --format {{.Image}}", &id)?;
    d.ok("stop -t 0 user")?;
    d.fails(&format!("rmi {id}"), "(must be forced) - image is being used by stopped container")?;
    d.shows(&format!("rmi -f {id}"), "Deleted: sha256:")?;
    d.says("images -aq --filter dangling=true", "")?;
    d.ok("start user")?;
    d.ok("exec user test -e /made")?;
    d.says("ps --filter name=user --format {{.Image}}", &id)?;
    d.ok("rm -f user")?;
    parents(d)
}

/// An image that another was committed from keeps its files for that one, and goes with it.
fn parents(d: &Docker<'_>) -> Result<()> {
    for (image, made) in [(IMAGE, "parent:1"), ("parent:1", "child:1")] {
        d.ok(&format!("run --name maker {image} touch /{}", made.replace(':', "-")))?;
        d.ok(&format!("commit maker {made}"))?;
        d.ok("rm maker")?;
    }
    let id = |image: &str| d.ok(&format!("images -q --no-trunc {image}")).map(|id| id.trim().to_owned());
    let (parent, child, base) = (id("parent:1")?, id("child:1")?, id(IMAGE)?);
    d.says("image inspect child:1 --format {{.Parent}}", &parent)?;
    d.says("history -q --no-trunc child:1", &format!("{child}\n{parent}\n{base}"))?;
    d.fails(&format!("rmi -f {parent}"), "(cannot be forced) - image has dependent child images")?;
    d.says("rmi parent:1", "Untagged: parent:1")?;
    d.ok("run --rm child:1 test -e /parent-1")?;
    d.shows("rmi child:1", &format!("Deleted: {parent}"))?;
    d.fails("image inspect parent:1", "No such image: parent:1")?;
    d.says(&format!("images -q --no-trunc {IMAGE}"), &base)
}

/// Ends with its host.
fn start_registry(t: &ClusterUnderTest) -> Result<()> {
    let config = format!(
        "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: /tmp/registry\nhttp:\n  addr: {REGISTRY}\n"
    );
    t.lab().run("h1", &["sh", "-c", &format!("cat > /tmp/registry.yml <<'END'\n{config}END")])?;
    t.lab().spawn("h1", "registry", &["/usr/bin/docker-registry", "serve", "/tmp/registry.yml"], &[])?;
    until("the registry listens", DEADLINE, || {
        t.lab().run("h1", &["sh", "-c", "grep -q :1388 /proc/net/tcp"]).map(drop).context("not yet")
    })?;
    Ok(())
}

fn registry(t: &ClusterUnderTest, d: &Docker<'_>) -> Result<()> {
    let (one, two) = (format!("{REGISTRY}/team/app:1"), format!("{REGISTRY}/team/app:2"));
    d.fails(&format!("push {one}"), "An image does not exist locally with the tag")?;
    d.ok(&format!("tag {IMAGE} {one}"))?;
    let pushed = d.ok(&format!("push {one}"))?;
    ensure!(pushed.contains(&format!("The push refers to repository [{REGISTRY}/team/app]")), "{pushed}");
    ensure!(pushed.contains("Pushed") && pushed.contains("1: digest: sha256:"), "{pushed}");
    d.shows(&format!("push {one}"), "Layer already exists")?;
    // from one repository of the registry to another nothing is sent
    d.ok(&format!("tag {IMAGE} {REGISTRY}/other/app:1"))?;
    d.shows(&format!("push {REGISTRY}/other/app:1"), "Mounted from team/app")?;
    d.ok(&format!("tag {IMAGE} {two}"))?;
    d.shows(&format!("push -a {REGISTRY}/team/app"), "2: digest: sha256:")?;

    let detail = t.first()?.get(&format!("/images/{one}/json"))?;
    let digests = detail["RepoDigests"].as_array().context("a list")?;
    let mut own = digests.iter().filter_map(|name| name.as_str()?.split_once("/team/app@")).map(|(_, digest)| digest);
    let digest = own.next_back().context("pushed images have a digest")?.to_owned();
    let id = d.ok(&format!("image inspect {one} --format {{{{.Id}}}}"))?;
    for name in [&one, &two, &format!("{REGISTRY}/other/app:1")] {
        d.shows(&format!("rmi {name}"), "Untagged: ")?;
    }
    d.shows(&format!("pull {one}"), "Status: Downloaded newer image")?;
    d.says(&format!("image inspect {one} --format {{{{.Id}}}}"), id.trim())?;
    d.shows(&format!("pull {one}"), "Status: Image is up to date")?;
    d.ok(&format!("pull -a {REGISTRY}/team/app"))?;
    d.shows("images --format {{.Repository}}:{{.Tag}}", &two)?;
    d.fails(&format!("pull {REGISTRY}/team/app:9"), "not found")?;
    let answer = t.first()?.get(&format!("/distribution/{one}/json"))?;
    ensure!(answer["Descriptor"]["digest"].as_str().is_some_and(|found| found == digest), "{answer}");
    ensure!(answer["Platforms"][0]["os"] == "linux", "{answer}");
    Ok(())
}

/// E-42, E-24, E-06: events of the past, filtered; disk usage; an image in use.
#[test]
fn e42_docker_cli_watches_events_and_disk_usage() -> Result<()> {
    if !can_make_hosts("e42_docker_cli_watches_events_and_disk_usage") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("dockerevt", 1, 0)?;
    let d = Docker::new(&t, "h1");
    let until = || (now_seconds() + 1).to_string();
    d.ok("volume create --label a=b seen")?;
    d.ok("volume rm seen")?;
    d.ok(&format!("tag {IMAGE} seen:1"))?;
    d.ok("rmi seen:1")?;
    d.ok("network create -d bridge seennet")?;
    d.ok("network rm seennet")?;
    let all = d.ok(&format!("events --since 1 --until {} --format {{{{.Type}}}}:{{{{.Action}}}}", until()))?;
    for wanted in [
        "image:load",
        "volume:create",
        "volume:destroy",
        "image:tag",
        "image:untag",
        "network:create",
        "network:destroy",
    ] {
        ensure!(all.lines().any(|line| line == wanted), "no {wanted} in {all}");
    }
    let filtered = |filters: &str, wanted: &str| {
        let line = format!("events --since 1 --until {} {filters} --format {{{{.Type}}}}:{{{{.Action}}}}", until());
        d.says(&line, wanted)
    };
    filtered("--filter type=volume --filter event=create", "volume:create")?;
    filtered("--filter volume=seen", "volume:create\nvolume:destroy")?;
    filtered("--filter image=seen:1 --filter event=tag", "image:tag")?;
    filtered("--filter network=seennet", "network:create\nnetwork:destroy")?;
    filtered("--filter scope=swarm --filter type=network", "network:create")?;
    filtered("--filter scope=local --filter type=node", "")?;
    d.fails("events --since 5 --until 1", "cannot be after")?;
    d.says("events --since 1 --until 2 --filter colour=red", "")?;
    // an end alone means all before it
    let ended = format!("events --until {} --filter volume=seen --format {{{{.Type}}}}:{{{{.Action}}}}", until());
    d.says(&ended, "volume:create\nvolume:destroy")?;

    t.create("web", 1, &["--mount", "type=volume,source=db,target=/db"])?;
    t.running("web", 1)?;
    d.fails(&format!("rmi {IMAGE}"), "is using its referenced image")?;
    let id = d.ok(&format!("image inspect {IMAGE} --format {{{{.Id}}}}"))?;
    d.fails(&format!("rmi -f {}", id.trim()), "(cannot be forced) - image is being used by running container")?;
    let df = d.ok("system df --format {{.Type}}={{.TotalCount}}/{{.Active}}")?;
    ensure!(df.contains("Images=1/1") && df.contains("Containers=1/1") && df.contains("Local Volumes=1/1"), "{df}");
    d.shows("system df -v", "Images space usage")?;
    let answer = t.first()?.get("/system/df?type=volume")?;
    ensure!(answer["Volumes"][0]["UsageData"]["RefCount"] == 1, "{answer}");
    ensure!(answer["Images"].is_null() && answer["LayersSize"] == 0, "{answer}");
    let answer = t.first()?.request("GET", "/system/df?type=cat", "", b"")?;
    ensure!(answer.status == 400 && answer.text().contains("unknown object type"), "{}", answer.text());
    filtered("--filter volume=db", "volume:create\nvolume:mount")?;

    d.shows("info", "Storage Driver: overlay2")?;
    d.shows("info", "Backing Filesystem")?;
    d.says("plugin ls -q", "")?;
    d.fails("plugin inspect some", "plugins are not supported")?;
    d.fails("search nginx", "cannot reach registry")?;
    let answer = t.first()?.request("POST", "/build", "application/x-tar", b"")?;
    ensure!(answer.status == 501 && answer.text().contains("docker buildx"), "{}", answer.text());
    Ok(())
}

fn now_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
