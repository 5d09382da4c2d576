//! The life of a container: from creation to deletion, with the embedded runtime and with runc, and
//! through the loss of the daemon and of the shim.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test says what failed by failing, and what it skips")]

mod bench;

use std::time::{Duration, Instant};

use bench::{Bench, can_run, runc, until};
use nix::{sys::signal::kill, unistd::Pid};
use runtime::{AttachConfig, Error, ExitReason, OciRuntime, Runtime, Signal, Status};

/// What holds for every OCI runtime.
async fn conformance(oci_runtime: OciRuntime) {
    let bench = Bench::new(oci_runtime);
    exit_codes_and_output(&bench).await;
    states(&bench).await;
    commands_that_cannot_run(&bench).await;
    terminal(&bench).await;
}

async fn exit_codes_and_output(bench: &Bench) {
    let (exit, output) = bench.run(&bench.shell("out", "echo one; echo two >&2; printf three; exit 7")).await;
    assert_eq!((exit.code, exit.signal, exit.oom_killed, exit.reason), (7, None, false, ExitReason::Observed));
    assert!(exit.finished_at_ns > exit.started_at_ns && exit.started_at_ns > 0);
    let mut lines: Vec<&str> = output.split_inclusive('\n').collect();
    lines.sort_unstable();
    assert_eq!(output.len(), "one\n! two\nthree".len(), "{output:?}");
    assert!(output.contains("one\n") && output.contains("! two\n") && output.contains("three"), "{output:?}");

    let (exit, _) = bench.run(&bench.shell("kill", "kill -TERM $$; sleep 60 & kill -KILL $!; wait $!; exit 9")).await;
    assert_eq!(exit.code, 9, "process 1 is immune to its own SIGTERM");
}

async fn states(bench: &Bench) {
    let config = bench.shell("states", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done");
    let created = bench.runtime.create(&config).await.unwrap();
    let state = bench.runtime.state("states").await.unwrap();
    assert_eq!((state.status, state.pid, state.started_at_ns), (Status::Created, Some(created.pid), 0));
    assert!(matches!(bench.runtime.create(&config).await, Err(Error::AlreadyExists { .. })));
    bench.runtime.start("states").await.unwrap();
    assert!(bench.runtime.start("states").await.is_err());
    bench.until_output("states", "ready").await;
    assert_eq!(bench.runtime.state("states").await.unwrap().status, Status::Running);
    assert!(bench.runtime.stats("states").unwrap().pids >= 1);
    bench.runtime.pause("states").await.unwrap();
    assert_eq!(bench.runtime.state("states").await.unwrap().status, Status::Paused);
    bench.runtime.unpause("states").await.unwrap();
    let exit = bench.runtime.stop("states", Signal::SIGTERM, Duration::from_secs(20)).await.unwrap();
    assert_eq!(exit.code, 3);
    assert_eq!(bench.runtime.wait("states").await.unwrap(), exit);
    let state = bench.runtime.state("states").await.unwrap();
    assert_eq!((state.pid, state.status), (None, Status::Stopped(exit)));
    assert!(bench.runtime.signal("states", Signal::SIGTERM).await.unwrap_err().to_string().contains("it has ended"));
    bench.runtime.delete("states").await.unwrap();
    bench.runtime.delete("states").await.unwrap();
    assert!(matches!(bench.runtime.wait("states").await, Err(Error::NotFound { .. })));

    // E-25: a signal that comes before the program has begun is not lost.
    for round in 0..20 {
        let id = format!("young-{round}");
        bench.start(&bench.shell(&id, "trap 'exit 4' TERM; while :; do sleep 0.05; done")).await;
        let exit = bench.runtime.stop(&id, Signal::SIGTERM, Duration::from_secs(20)).await.unwrap();
        assert_eq!(exit.code, 4, "{id}");
        bench.runtime.delete(&id).await.unwrap();
    }

    bench.start(&bench.command("stubborn", &["sleep", "1000"])).await;
    let short = Duration::from_millis(100);
    assert_eq!(bench.runtime.ask_to_end("stubborn", Signal::SIGTERM, short).await.unwrap(), None);
    let exit = bench.runtime.stop("stubborn", Signal::SIGTERM, short).await.unwrap();
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
    assert_eq!(bench.runtime.ask_to_end("stubborn", Signal::SIGTERM, short).await.unwrap(), Some(exit));
    bench.runtime.delete("stubborn").await.unwrap();

    // Created, never started; running and paused: delete ends them all.
    bench.runtime.create(&bench.command("unborn", &["true"])).await.unwrap();
    bench.runtime.delete("unborn").await.unwrap();
    bench.start(&bench.command("frozen", &["sleep", "1000"])).await;
    bench.runtime.pause("frozen").await.unwrap();
    bench.runtime.delete("frozen").await.unwrap();
    assert!(bench.runtime.list().await.unwrap().is_empty());
}

async fn commands_that_cannot_run(bench: &Bench) {
    for (command, code, text) in [
        ("nothing", 127, "container bad: exec: \"nothing\": executable file not found in $PATH"),
        ("/bin/nothing", 127, "container bad: exec: \"/bin/nothing\": executable file not found in $PATH"),
        ("/etc/data", 126, "container bad: exec: \"/etc/data\": permission denied"),
        ("/tmp", 126, "container bad: exec: \"/tmp\": permission denied"),
    ] {
        let err = bench.runtime.create(&bench.command("bad", &[command])).await.unwrap_err();
        assert_eq!((err.exit_code(), err.to_string().as_str()), (code, text), "{err:?}");
        assert!(bench.runtime.list().await.unwrap().is_empty());
    }
}

async fn terminal(bench: &Bench) {
    let mut config = bench.shell("tty", "tty; echo $TERM; sleep 0.3; stty size; read line; echo got $line");
    config.tty = true;
    config.open_stdin = true;
    bench.runtime.create(&config).await.unwrap();
    bench.runtime.resize("tty", 33, 77).await.unwrap();
    bench.runtime.start("tty").await.unwrap();
    bench.until_output("tty", "33 77").await;
    let attached = bench.runtime.attach("tty", &AttachConfig { stdin: true, ..AttachConfig::default() }).await.unwrap();
    nix::unistd::write(attached.stdin.unwrap(), b"hello\n").unwrap();
    assert_eq!(bench.runtime.wait("tty").await.unwrap().code, 0);
    let output = bench.output("tty").await;
    for text in ["/dev/pts/0\r\n", "xterm\r\n", "got hello\r\n"] {
        assert!(output.contains(text), "{output:?}");
    }
    bench.runtime.delete("tty").await.unwrap();
}

#[tokio::test]
async fn embedded() {
    if can_run() {
        conformance(OciRuntime::Embedded).await;
    }
}

#[tokio::test]
async fn with_runc() {
    if can_run()
        && let Some(runc) = runc()
    {
        conformance(runc).await;
    }
}

#[tokio::test]
async fn an_external_runtime_refuses_init_in_words() {
    if can_run()
        && let Some(runc) = runc()
    {
        let bench = Bench::new(runc);
        let mut config = bench.command("init", &["true"]);
        config.init = true;
        let err = bench.runtime.create(&config).await.unwrap_err().to_string();
        assert!(err.contains("needs the embedded runtime"), "{err}");
    }
}

#[tokio::test]
async fn a_new_daemon_finds_everything() {
    if !can_run() {
        return;
    }
    let bench = Bench::embedded();
    let mut config = bench.shell("kept", "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done");
    config.labels.insert("task".to_owned(), "7".to_owned());
    let pid = bench.start(&config).await;
    bench.until_output("kept", "up").await;

    // All that a runtime knows is on the host: another one, as after a restart, knows the same.
    let second = Runtime::new(bench.config.clone()).unwrap();
    let found = second.list().await.unwrap();
    assert_eq!((found.len(), found[0].pid, &found[0].labels), (1, Some(pid), &config.labels));
    assert_eq!(found[0].status, Status::Running);
    let exit = second.stop("kept", Signal::SIGTERM, Duration::from_secs(20)).await.unwrap();
    assert_eq!(exit.code, 5);
    assert_eq!(bench.output("kept").await, "up\nbye\n");

    // A container that ends while no daemon looks keeps its exit for the next one.
    let config = bench.shell("alone", "exit 42");
    bench.start(&config).await;
    until("the shim has gone", async || bench.runtime.state("alone").await.unwrap().shim_pid.is_none()).await;
    let third = Runtime::new(bench.config.clone()).unwrap();
    assert_eq!(third.wait("alone").await.unwrap().code, 42);
    third.delete("alone").await.unwrap();
    third.delete("kept").await.unwrap();
}

#[tokio::test]
async fn a_killed_shim_is_noticed_and_its_container_ended() {
    if !can_run() {
        return;
    }
    let bench = Bench::embedded();
    let pid = bench.start(&bench.command("orphan", &["sleep", "1000"])).await;
    let shim = bench.runtime.state("orphan").await.unwrap().shim_pid.unwrap();
    let waiting = tokio::spawn({
        let runtime = bench.runtime.clone();
        async move { runtime.wait("orphan").await }
    });
    until("somebody waits", async || !waiting.is_finished()).await;
    kill(Pid::from_raw(shim), nix::sys::signal::Signal::SIGKILL).unwrap();
    let exit = waiting.await.unwrap().unwrap();
    assert_eq!((exit.code, exit.reason), (137, ExitReason::ShimLost));
    until("its process is gone", async || kill(Pid::from_raw(pid), None).is_err()).await;
    assert_eq!(bench.runtime.state("orphan").await.unwrap().status, Status::Stopped(exit));
    bench.runtime.delete("orphan").await.unwrap();
}

/// E-26: who removes a container by force as soon as it has ended takes nobody's word away from the others who wait.
#[tokio::test]
async fn everybody_hears_of_an_end_before_the_container_goes() {
    if !can_run() {
        return;
    }
    let bench = Bench::embedded();
    for round in 0..10 {
        let id = format!("heard{round}");
        bench.start(&bench.command(&id, &["sleep", "1000"])).await;
        let waiting: Vec<_> = (0..20)
            .map(|_| {
                let (runtime, id) = (bench.runtime.clone(), id.clone());
                tokio::spawn(async move { runtime.wait(&id).await })
            })
            .collect();
        // by then all of them have asked; `sleep`, as a container's first process, does not hear it
        for _ in 0..3 {
            bench.runtime.signal(&id, Signal::SIGTERM).await.unwrap();
        }
        bench.runtime.stop(&id, Signal::SIGKILL, Duration::ZERO).await.unwrap();
        bench.runtime.delete(&id).await.unwrap();
        for waiter in waiting {
            let exit = waiter.await.unwrap().unwrap_or_else(|err| panic!("round {round}: {err}"));
            assert_eq!((exit.code, exit.reason), (137, ExitReason::Observed));
        }
        assert!(matches!(bench.runtime.wait(&id).await, Err(Error::NotFound { .. })));
    }
}

#[tokio::test]
async fn init_reaps_and_forwards() {
    if !can_run() {
        return;
    }
    let bench = Bench::embedded();
    let mut config = bench.command("init", &["sleep", "1000"]);
    config.init = true;
    bench.start(&config).await;
    until("the command runs", async || bench.runtime.stats("init").unwrap().pids == 2).await;
    let pid = bench.runtime.state("init").await.unwrap().pid.unwrap();
    assert_eq!(std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(), 3, "only the standard streams");
    // E-21: in lists of processes it is Docker's, with the command that it looks after
    until("it is shown so", async || {
        let shown = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
        shown("cmdline").trim_end_matches('\0') == "/sbin/docker-init\0--\0sleep\u{0}1000"
            && shown("comm") == "docker-init\n"
    })
    .await;
    let begun = Instant::now();
    // Without an init, process 1 would ignore SIGTERM.
    let exit = bench.runtime.stop("init", Signal::SIGTERM, Duration::from_secs(20)).await.unwrap();
    assert_eq!((exit.code, exit.signal), (143, None));
    assert!(begun.elapsed() < Duration::from_secs(10));
    bench.runtime.delete("init").await.unwrap();

    let mut config = bench.shell("reap", "(sleep 0.1 &) ; sleep 0.4; ps -o stat,comm | grep -c '^Z'; exit 6");
    config.init = true;
    let (exit, output) = bench.run(&config).await;
    assert_eq!((exit.code, output.as_str()), (6, "0\n"));

    // E-25: real-time signals, with which images of other inits are stopped
    let real_time: Signal = "SIGRTMIN+3".parse().unwrap();
    let mut config = bench.command("killed", &["sleep", "1000"]);
    config.init = true;
    bench.start(&config).await;
    until("the command runs", async || bench.runtime.stats("killed").unwrap().pids == 2).await;
    let exit = bench.runtime.stop("killed", real_time, Duration::from_secs(20)).await.unwrap();
    assert_eq!((exit.code, exit.signal), (128 + 37, None));
    bench.runtime.delete("killed").await.unwrap();
    let config = bench.shell("trapped", "trap 'exit 5' 37; echo ready; while :; do sleep 0.05; done");
    bench.start(&config).await;
    bench.until_output("trapped", "ready").await;
    let exit = bench.runtime.stop("trapped", real_time, Duration::from_secs(20)).await.unwrap();
    assert_eq!((exit.code, exit.signal), (5, None));
    bench.runtime.delete("trapped").await.unwrap();

    let mut config = bench.command("gone", &["nothing"]);
    config.init = true;
    assert_eq!(bench.runtime.create(&config).await.unwrap_err().exit_code(), 127);
}
