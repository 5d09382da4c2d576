//! Clients at a container's streams: every byte arrives, slow ones are waited for, dead ones are let go, and the log
//! has all of it in any case.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test says what failed by failing, and prints figures")]

mod bench;

use std::{
    io::{Read, Write},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use bench::{Bench, can_run};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use runtime::{AttachConfig, Attached, LogConfig, LogDriver, LogQuery};
use tokio_stream::StreamExt;

const OUTPUTS: AttachConfig = AttachConfig { stdin: false, stdout: true, stderr: true, replay: false };

/// As an ordinary file, which blocks.
fn blocking(fd: Option<OwnedFd>) -> std::fs::File {
    let fd = fd.unwrap();
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL).unwrap()) & !OFlag::O_NONBLOCK;
    fcntl(&fd, FcntlArg::F_SETFL(flags)).unwrap();
    fd.into()
}

async fn read_to_end(fd: Option<OwnedFd>) -> Vec<u8> {
    let mut file = blocking(fd);
    let read = move || {
        let mut all = Vec::new();
        file.read_to_end(&mut all).unwrap();
        all
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

fn numbers(count: u32) -> Vec<u8> {
    (1..=count).flat_map(|number| format!("{number}\n").into_bytes()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_before_the_start_misses_nothing() {
    if !can_run() {
        return;
    }
    let bench = Bench::embedded();
    let config = bench.shell("c", "echo oops >&2; seq 1 200000; printf end");
    bench.runtime.create(&config).await.unwrap();
    let Attached { stdin, stdout, stderr, .. } = bench.runtime.attach("c", &OUTPUTS).await.unwrap();
    assert!(stdin.is_none());
    bench.runtime.start("c").await.unwrap();
    let (stdout, stderr) = tokio::join!(read_to_end(stdout), read_to_end(stderr));
    let wanted = [numbers(200_000), b"end".to_vec()].concat();
    assert!(stdout == wanted, "{} bytes instead of {}", stdout.len(), wanted.len());
    assert_eq!(stderr, b"oops\n");
    bench.runtime.wait("c").await.unwrap();
    let logged: Vec<u8> =
        bench.entries("c").await.into_iter().filter(|e| e.bytes != b"oops\n").flat_map(|e| e.bytes).collect();
    assert!(logged == wanted, "the log has {} bytes", logged.len());
    let late = bench.runtime.attach("c", &OUTPUTS).await.unwrap_err().to_string();
    assert_eq!(late, "container c: cannot attach to it: it has ended");
    bench.runtime.delete("c").await.unwrap();
}

/// What a client has not read yet when the container ends stays for it, even if the container is deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_waits_for_nobody_and_is_lost_by_nobody() {
    if !can_run() {
        return;
    }
    let bench = Bench::embedded();
    bench.runtime.create(&bench.shell("c", "seq 1 15000; exit 3")).await.unwrap();
    let Attached { stdout, .. } = bench.runtime.attach("c", &OUTPUTS).await.unwrap();
    bench.runtime.start("c").await.unwrap();
    let begun = Instant::now();
    assert_eq!(bench.runtime.wait("c").await.unwrap().code, 3);
    bench.runtime.delete("c").await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    let all = read_to_end(stdout).await;
    assert!(all == numbers(15_000), "{} bytes", all.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_client_is_waited_for_and_a_dead_one_is_not() {
    if !can_run() {
        return;
    }
    let bench = Bench::embedded();
    bench.runtime.create(&bench.shell("c", "seq 1 100000; echo last")).await.unwrap();
    let slow = bench.runtime.attach("c", &OUTPUTS).await.unwrap();
    let dead = bench.runtime.attach("c", &OUTPUTS).await.unwrap();
    bench.runtime.start("c").await.unwrap();
    // Neither reads: the container stands, with what fits between.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(bench.output("c").await.len() < 400_000, "it went on without its clients");
    let mut file = blocking(dead.stdout);
    let mut some = vec![0; 1000];
    file.read_exact(&mut some).unwrap();
    drop((file, dead.stderr));
    let mut slow_out = blocking(slow.stdout);
    let read = move || {
        let (mut all, mut chunk) = (Vec::new(), vec![0; 9000]);
        loop {
            match slow_out.read(&mut chunk).unwrap() {
                0 => return all,
                length => all.extend_from_slice(&chunk[..length]),
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    let all = tokio::task::spawn_blocking(read).await.unwrap();
    let wanted = [numbers(100_000), b"last\n".to_vec()].concat();
    assert!(all == wanted, "{} bytes instead of {}", all.len(), wanted.len());
    bench.runtime.wait("c").await.unwrap();
    assert_eq!(bench.output("c").await.into_bytes(), wanted);
    bench.runtime.delete("c").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_and_stream_join_without_gap_or_overlap() {
    if !can_run() {
        return;
    }
    let bench = Bench::embedded();
    let line = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); printf 'a%d' $i; printf 'b\\n'; done; sleep 0.2; printf half; sleep 1; echo way";
    bench.start(&bench.shell("c", line)).await;
    let mut clients = Vec::new();
    for pause in [0, 3, 7, 13, 400] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let config = AttachConfig { replay: true, ..OUTPUTS };
        let attached = bench.runtime.attach("c", &config).await.unwrap();
        let query = LogQuery { until_ns: attached.at_ns, ..LogQuery::default() };
        let before = bench.runtime.logs("c", &query).unwrap();
        clients.push(tokio::spawn(async move {
            let mut all: Vec<u8> = Vec::new();
            let entries: Vec<_> = before.map(Result::unwrap).collect().await;
            entries.into_iter().for_each(|entry| all.extend(entry.bytes));
            all.extend(read_to_end(attached.stdout).await);
            String::from_utf8(all).unwrap()
        }));
    }
    let wanted: String = (1..=3000).map(|i| format!("a{i}b\n")).chain(["halfway\n".to_owned()]).collect();
    for client in clients {
        let all = client.await.unwrap();
        assert!(all == wanted, "{} characters instead of {}", all.len(), wanted.len());
    }
    bench.runtime.wait("c").await.unwrap();
    bench.runtime.delete("c").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_input_reaches_the_container_and_ends() {
    if !can_run() {
        return;
    }
    const MIB: usize = 1 << 20;
    let bench = Bench::embedded();
    let mut config = bench.shell("c", "cat");
    config.open_stdin = true;
    config.log = LogConfig { path: bench.path("log"), driver: LogDriver::None, forward: None };
    bench.runtime.create(&config).await.unwrap();
    let Attached { stdin, stdout, .. } =
        bench.runtime.attach("c", &AttachConfig { stdin: true, ..OUTPUTS }).await.unwrap();
    bench.runtime.start("c").await.unwrap();
    let begun = Instant::now();
    let mut writer = blocking(stdin);
    let piece: Vec<u8> = (0..MIB).map(|at| (at * 31 % 251) as u8).collect();
    let sent = piece.clone();
    let runtime = bench.runtime.clone();
    let writing = tokio::task::spawn_blocking(move || (0..256).for_each(|_| writer.write_all(&sent).unwrap()));
    let reading = tokio::spawn(read_to_end(stdout));
    writing.await.unwrap();
    runtime.close_stdin("c").await.unwrap();
    let all = reading.await.unwrap();
    assert_eq!(all.len(), 256 * MIB);
    assert!(all.chunks(MIB).all(|chunk| chunk == piece));
    let seconds = begun.elapsed().as_secs_f64();
    eprintln!("256 MiB through a container's cat and its shim: {:.0} MiB/s", 256.0 / seconds);
    assert_eq!(bench.runtime.wait("c").await.unwrap().code, 0);
    bench.runtime.delete("c").await.unwrap();
}

/// Figures: lines of 100 bytes into the log, against the same container writing into a file of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_speed_of_the_log() {
    if !can_run() {
        return;
    }
    const MIB: u64 = 256;
    let bench = Bench::embedded();
    let line = [vec![b'x'; 99], b"\n".to_vec()].concat();
    let lines = line.repeat((MIB << 20) as usize / 4 / line.len());
    std::fs::write(bench.path("rootfs/etc/lines"), &lines).unwrap();
    let line = "cat /etc/lines /etc/lines /etc/lines /etc/lines".to_owned();
    let mut seconds = Vec::new();
    for (id, line, driver) in [
        ("file", format!("{line} > /tmp/out"), LogDriver::None),
        ("none", line.clone(), LogDriver::None),
        ("log", line.clone(), LogDriver::JsonFile { max_size_bytes: 20 << 20, max_files: 5, compress: false }),
    ] {
        let mut config = bench.shell(id, &line);
        config.log = LogConfig { path: bench.path(id), driver, forward: None };
        bench.runtime.create(&config).await.unwrap();
        let begun = Instant::now();
        bench.runtime.start(id).await.unwrap();
        bench.runtime.wait(id).await.unwrap();
        seconds.push(begun.elapsed().as_secs_f64());
        bench.runtime.delete(id).await.unwrap();
    }
    let rate = |index: usize| MIB as f64 / seconds[index];
    eprintln!(
        "into a file: {:.0} MiB/s; read and forgotten: {:.0} MiB/s; into the log: {:.0} MiB/s, {:.2} of the file",
        rate(0),
        rate(1),
        rate(2),
        rate(2) / rate(0)
    );
    assert!(rate(2) > 20.0, "the log takes {:.0} MiB/s", rate(2));
}
