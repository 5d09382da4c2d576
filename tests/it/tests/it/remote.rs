//! The API from other hosts (E-43): TCP with certificates on both sides, and ssh.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, IMAGE, until};
use lab::{ExecOptions, ExecOutput};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::can_make_hosts;

/// Where both hosts find their certificates.
const DIRECTORY: &str = "/var/lib/tls";

/// `ca.pem`, `cert.pem`, `key.pem` of each host, all of one authority; and of a stranger.
fn make_certificates(t: &ClusterUnderTest, names: &[String]) -> Result<()> {
    let authority = || -> Result<_> {
        let key = KeyPair::generate()?;
        let mut parameters = CertificateParams::new(Vec::new())?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = parameters.self_signed(&key)?.pem();
        Ok((Issuer::new(parameters, key), pem))
    };
    let (ours, ours_pem) = authority()?;
    let (theirs, _) = authority()?;
    for (host, name, issuer) in [("h1", "tls", &ours), ("h2", "tls", &ours), ("h1", "stranger", &theirs)] {
        let directory = t.lab().var_lib(host)?.join(name);
        fs::create_dir_all(&directory)?;
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(names.to_vec())?.signed_by(&key, issuer)?;
        for (file, text) in [("ca.pem", &ours_pem), ("cert.pem", &certificate.pem()), ("key.pem", &key.serialize_pem())]
        {
            fs::write(directory.join(file), text)?;
        }
    }
    Ok(())
}

/// An ssh that goes nowhere: it runs the command here.
fn make_ssh(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    let program = directory.join("ssh");
    let script = "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nshift\n[ \"$1\" = root@there ] || exit 255\nshift\nexec \"$@\"\n";
    fs::write(&program, script)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).context("make it a program")
}

fn shell(t: &ClusterUnderTest, host: &str, line: &str) -> Result<ExecOutput> {
    let options = ExecOptions { timeout: Some(DEADLINE), ..ExecOptions::default() };
    Ok(t.lab().exec(host, &["sh", "-c", line], &options)?)
}

/// The same work through each way: a look, a container fed by standard input, a followed log, wrong words.
fn work(t: &ClusterUnderTest, client: &str) -> Result<()> {
    let said = |line: &str| -> Result<String> {
        let output = shell(t, "h1", &format!("{client} {line}"))?;
        ensure!(output.success(), "{client} {line}: {}{}", output.stdout, output.stderr);
        Ok(output.stdout)
    };
    ensure!(said("ps -aq")?.is_empty(), "nothing runs there");
    let megabyte = format!("head -c 1000000 /dev/zero | {client} run --rm -i {IMAGE} wc -c");
    let counted = shell(t, "h1", &megabyte)?;
    ensure!(counted.stdout.trim() == "1000000", "{megabyte}: {}{}", counted.stdout, counted.stderr);
    said(&format!("run -d --name far {IMAGE} sh -c 'echo one; echo two >&2; exec sleep 600'"))?;
    let both = shell(t, "h1", &format!("{client} logs far"))?;
    ensure!((both.stdout.trim(), both.stderr.trim()) == ("one", "two"), "{both:?}");
    ensure!(said("exec far hostname")?.trim().len() == 12, "its own name");
    ensure!(shell(t, "h1", &format!("{client} exec far sh -c 'exit 7'"))?.code == 7, "the command's code");
    said("rm -f far")?;
    let refused = shell(t, "h1", &format!("{client} start far"))?;
    ensure!(refused.code == 1 && refused.stderr.contains("No such container: far"), "{refused:?}");
    Ok(())
}

/// E-43: the daemon serves TCP to clients with a certificate and to nobody else; docker and rswarm both speak it; over
/// ssh the far host's own program carries the bytes.
#[test]
fn e_43_the_api_from_other_hosts() -> Result<()> {
    if !can_make_hosts("e_43_the_api_from_other_hosts") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("remote", 1, 1)?;
    let address = t.lab().address("h2")?.to_string();
    make_certificates(&t, &[address.clone(), "h2".to_owned()])?;
    let pem = |name: &str| format!("{DIRECTORY}/{name}.pem");
    let (ca, certificate, key) = (pem("ca"), pem("cert"), pem("key"));
    let served = ["-H", "tcp://0.0.0.0", "--tlscacert", &ca, "--tlscert", &certificate, "--tlskey", &key];
    t.restart_with("h2", &served)?;
    let flags = |directory: &str| {
        format!("--tlscacert {directory}/ca.pem --tlscert {directory}/cert.pem --tlskey {directory}/key.pem")
    };
    let host = format!("-H tcp://{address}:2376");
    let (rswarm, docker) =
        (format!("rswarm {host} {}", flags(DIRECTORY)), format!("docker {host} --tlsverify {}", flags(DIRECTORY)));
    work(&t, &rswarm)?;
    work(&t, &docker)?;
    let by_variables = format!("DOCKER_CERT_PATH={DIRECTORY} DOCKER_TLS_VERIFY=1 DOCKER_HOST=tcp://{address}:2376");
    for program in ["rswarm", "docker"] {
        let there = shell(&t, "h1", &format!("{by_variables} {program} info --format '{{{{.Name}}}}'"))?;
        ensure!(there.stdout.trim() == "h2", "{program}: {there:?}");
    }
    for (client, why) in [
        (format!("rswarm {host} {}", flags("/var/lib/stranger")), "is closed|certificate|UnknownCA|alert"),
        (format!("docker {host} --tlsverify {}", flags("/var/lib/stranger")), "certificate|tls"),
        (format!("docker {host}"), "HTTP request to an HTTPS server|EOF|reset|malformed"),
        (format!("rswarm {host}"), "only spoken to with certificates"),
    ] {
        let refused = shell(&t, "h1", &format!("{client} ps"))?;
        ensure!(!refused.success() && why.split('|').any(|w| refused.stderr.contains(w)), "{client}: {refused:?}");
    }
    left_streams(&t, &docker)?;
    over_ssh(&t)
}

/// P35: clients that go while nothing is written to them leave nothing open.
fn left_streams(t: &ClusterUnderTest, client: &str) -> Result<()> {
    let pid = t.cluster.daemon("h2")?.context("the daemon runs")?.pid;
    let open = || Ok::<_, anyhow::Error>(fs::read_dir(format!("/proc/{pid}/fd"))?.count());
    let before = open()?;
    let one = format!("busybox timeout -s KILL 20 {client} events");
    let line = format!("for i in $(busybox seq 20); do {one} & done; wait");
    t.lab().spawn("h1", "watchers", &["sh", "-c", &line], &[])?;
    until("they are read to", DEADLINE, || {
        let now = open()?;
        ensure!(now >= before + 20, "{before} descriptors before, {now} now");
        Ok(())
    })?;
    until("the daemon has closed their streams", DEADLINE, || {
        let now = open()?;
        ensure!(now < before + 10, "{before} descriptors before, {now} now");
        Ok(())
    })?;
    Ok(())
}

fn over_ssh(t: &ClusterUnderTest) -> Result<()> {
    make_ssh(&t.lab().var_lib("h1")?.join("bin"))?;
    let ssh = |place: &str| format!("PATH=/var/lib/bin:$PATH rswarm -H ssh://{place}");
    work(t, &ssh("root@there:22"))?;
    let nobody = shell(t, "h1", &format!("{} ps", ssh("root@elsewhere")))?;
    ensure!(nobody.code == 1 && nobody.stderr.contains("ssh://root@elsewhere closed the connection"), "{nobody:?}");
    Ok(())
}
