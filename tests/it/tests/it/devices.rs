//! Devices as their vendors describe them.

use anyhow::{Result, ensure};
use it::{ClusterUnderTest, DEADLINE, Docker, IMAGE, until};

use crate::can_make_hosts;

/// Two devices of a vendor, with a hook, a file, a variable and a node each.
const VENDOR: &str = r#"
cdiVersion: "0.6.0"
kind: acme.com/gpu
devices:
- name: "0"
  containerEdits:
    deviceNodes: [{path: /dev/acme0, hostPath: /dev/null, fileMode: 438}]
- name: "1"
  containerEdits:
    deviceNodes: [{path: /dev/acme1, hostPath: /dev/zero, permissions: r}]
containerEdits:
  env: [ACME=yes]
  hooks:
  - hookName: createContainer
    path: /bin/sh
    args: [sh, -c, "cat > /run/acme-hooked"]
  mounts:
  - {hostPath: /run/acme.so, containerPath: /usr/lib/acme.so, options: [ro, nosuid, nodev, bind]}
"#;

/// E-20, P13: `--device` by a vendor's name and `--gpus`, for single containers and for services; what is not there is
/// named with what is.
#[test]
fn e20_p13_devices_of_vendors() -> Result<()> {
    if !can_make_hosts("e20_p13_devices_of_vendors") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("cdi", 1, 0)?;
    let d = Docker::new(&t, "h1");
    let (code, _, errors) = d.run(&["run", "--rm", "--gpus", "all", IMAGE, "true"])?;
    let part = "could not select device driver \"\" with capabilities: [[gpu]]: no such device is described";
    ensure!(code == 125 && errors.contains(part), "{code} {errors}");
    let write =
        format!("mkdir -p /run/cdi && echo library > /run/acme.so && cat > /run/cdi/acme.yaml <<'END'\n{VENDOR}END");
    t.lab().run("h1", &["sh", "-c", &write])?;
    t.restart_with("h1", &["--cdi-spec-dir", "/etc/cdi", "--cdi-spec-dir", "/run/cdi"])?;
    d.says("info --format {{range.DiscoveredDevices}}{{.ID}},{{end}}", "acme.com/gpu=0,acme.com/gpu=1,")?;

    let look = "stat -c '%n %t %a' /dev/acme* && cat /usr/lib/acme.so && env | grep ACME && grep -c '/usr/lib/acme.so ro,nosuid,nodev' /proc/self/mountinfo";
    let run = |flags: &[&str], script: &str| {
        let (code, out, errors) = d.run(&[&["run", "--rm"], flags, &[IMAGE, "sh", "-c", script]].concat())?;
        Ok::<_, anyhow::Error>((code, out + &errors))
    };
    let (code, out) = run(&["--device", "acme.com/gpu=0"], look)?;
    ensure!(code == 0 && out == "/dev/acme0 1 666\nlibrary\nACME=yes\n1\n", "{code} {out}");
    t.lab().run("h1", &["sh", "-c", "grep -q ociVersion /run/acme-hooked"])?;
    let (code, out) = run(&["--gpus", "all"], "ls /dev/acme0 && head -c 1 /dev/acme1 | od -An -tx1")?;
    ensure!(code == 0 && out == "/dev/acme0\n 00\n", "{code} {out}");
    for (flags, part) in [
        (["--gpus", "3"], "wants 3 of acme.com/gpu, this host has 2"),
        (["--device", "acme.com/gpu=7"], "unresolvable CDI devices acme.com/gpu=7"),
        (["--gpus", "driver=nvidia,count=1"], "could not select device driver \"nvidia\""),
    ] {
        let (code, out) = run(&flags, "true")?;
        ensure!(code == 125 && out.contains(part), "{flags:?}: {code} {out}");
    }

    let create = ["service", "create", "--detach", "--name"];
    t.cli("h1", &[&create[..], &["web", "--gpus", "1", IMAGE, "sleep", "100000"]].concat())?;
    t.running("web", 1)?;
    let container = d.ok("ps -q --filter name=web.1")?;
    d.says(&format!("exec {} ls /dev/acme0 /usr/lib/acme.so", container.trim()), "/dev/acme0\n/usr/lib/acme.so")?;
    t.cli("h1", &[&create[..], &["no", "--device", "acme.com/gpu=9", IMAGE, "sleep", "100000"]].concat())?;
    until("the task says which device no node has", DEADLINE, || {
        d.shows("service ps no --no-trunc --format {{.Error}}", "the only node lacks devices (want acme.com/gpu=9)")
    })?;
    t.cli("h1", &["service", "update", "--detach", "--gpus", "none", "web"])?;
    until("the service has no devices any more", DEADLINE, || {
        let spec = t.first()?.get("/services/web")?;
        let claims = &spec["Spec"]["TaskTemplate"]["ContainerSpec"]["DeviceRequests"];
        ensure!(claims.is_null(), "{claims}");
        Ok(())
    })?;
    Ok(())
}
