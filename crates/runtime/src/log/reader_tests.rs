//! The reader against a writer in the same process: what is written is read, once, in order.

use std::time::Duration;

use tokio::time::timeout;
use tokio_stream::StreamExt;

use super::*;
use crate::{
    log::LogWriter,
    record::{ExitReason, ExitStatus},
};

struct Bench {
    _temp: tempfile::TempDir,
    dir: ContainerDir,
    config: LogConfig,
}

fn bench(max_size_bytes: u64, max_files: u32) -> Bench {
    bench_with(max_size_bytes, max_files, false)
}

fn bench_with(max_size_bytes: u64, max_files: u32, compress: bool) -> Bench {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("container");
    std::fs::create_dir(&dir).unwrap();
    let driver = LogDriver::JsonFile { max_size_bytes, max_files, compress };
    let config = LogConfig { path: temp.path().join("log"), driver, forward: None };
    Bench { dir: ContainerDir::new(dir), config, _temp: temp }
}

impl Bench {
    fn end(&self) {
        let exit = ExitStatus {
            code: 0,
            signal: None,
            oom_killed: false,
            started_at_ns: 0,
            finished_at_ns: 0,
            reason: ExitReason::Observed,
        };
        self.dir.write_exit(&exit).unwrap();
    }

    async fn read(&self, query: &LogQuery) -> Vec<String> {
        let stream = open(&self.config, &self.dir, query).unwrap();
        let text = |entry: io::Result<LogEntry>| String::from_utf8(entry.unwrap().bytes).unwrap().trim_end().to_owned();
        timeout(Duration::from_secs(30), stream.map(text).collect()).await.unwrap()
    }
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn tail_streams_and_times() {
    let bench = bench(500, 100);
    let mut log = LogWriter::open(&bench.config).unwrap();
    for number in 0..50 {
        let stream = if number % 2 == 0 { Stream::Stdout } else { Stream::Stderr };
        log.entry(stream, number.to_string().as_bytes(), true);
    }
    log.flush();
    assert_eq!(bench.read(&LogQuery::default()).await, numbers(0..50));
    for count in [0, 1, 7, 49, 50, 1000] {
        let query = LogQuery { tail: Some(u64::from(count)), ..LogQuery::default() };
        assert_eq!(bench.read(&query).await, numbers(50_u32.saturating_sub(count)..50), "tail {count}");
    }
    let query = LogQuery { stdout: false, tail: Some(4), ..LogQuery::default() };
    assert_eq!(bench.read(&query).await, ["47", "49"]);
    let now = crate::time::now_ns();
    assert!(bench.read(&LogQuery { since_ns: now, ..LogQuery::default() }).await.is_empty());
    assert_eq!(bench.read(&LogQuery { until_ns: now, ..LogQuery::default() }).await.len(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn following_through_rotations_loses_and_repeats_nothing() {
    let bench = bench(2000, 1000);
    let config = bench.config.clone();
    let mut log = LogWriter::open(&config).unwrap();
    let writer = tokio::task::spawn_blocking(move || {
        for number in 0..5000 {
            log.entry(Stream::Stdout, number.to_string().as_bytes(), true);
            if number % 37 == 0 {
                log.flush();
            }
        }
        log.flush();
    });
    let query = LogQuery { follow: true, ..LogQuery::default() };
    let (read, ()) = tokio::join!(bench.read(&query), async {
        writer.await.unwrap();
        bench.end();
    });
    assert_eq!(read.len(), 5000);
    assert_eq!(read, numbers(0..5000));
}

/// E-27: compressed files are read as the others, from any place, and a reader knows again what it has read.
#[tokio::test(flavor = "multi_thread")]
async fn e_27_compressed_files_are_read_once_and_in_order() {
    let bench = bench_with(2000, 1000, true);
    let config = bench.config.clone();
    let mut log = LogWriter::open(&config).unwrap();
    let writer = tokio::task::spawn_blocking(move || {
        for number in 0..1000 {
            log.tick();
            log.entry(Stream::Stdout, number.to_string().as_bytes(), true);
            if number % 20 == 0 {
                log.flush();
            }
        }
        log.flush();
    });
    let query = LogQuery { follow: true, ..LogQuery::default() };
    let following = bench.read(&query);
    let end = async {
        writer.await.unwrap();
        bench.end();
    };
    let (followed, ()) = tokio::join!(following, end);
    assert_eq!(followed, numbers(0..1000));
    let directory = bench.config.path.parent().unwrap();
    let packed = |path: &Path| path.extension().is_some_and(|word| word == "gz");
    let all = || std::fs::read_dir(directory).unwrap().map(|item| item.unwrap().path());
    assert!(all().filter(|path| packed(path)).count() > 20, "most files are compressed");
    for count in [1, 30, 900, 5000] {
        let query = LogQuery { tail: Some(u64::from(count)), ..LogQuery::default() };
        assert_eq!(bench.read(&query).await, numbers(1000_u32.saturating_sub(count)..1000), "tail {count}");
    }
}

/// E-27: what is left of a damaged file is read, the damage told, and then the files after it.
#[tokio::test]
async fn e_27_a_damaged_file_is_told_and_passed_over() {
    let bench = bench_with(2000, 1000, true);
    let mut log = LogWriter::open(&bench.config).unwrap();
    for number in 0..300 {
        log.tick();
        log.entry(Stream::Stdout, number.to_string().as_bytes(), true);
        if number % 20 == 0 {
            log.flush();
        }
    }
    log.flush();
    bench.end();
    drop(log);
    let read = async |query: LogQuery| {
        let entries: Vec<_> = open(&bench.config, &bench.dir, &query).unwrap().collect().await;
        let (lines, errors): (Vec<_>, Vec<_>) = entries.into_iter().partition(Result::is_ok);
        let number = |entry: io::Result<LogEntry>| String::from_utf8(entry.unwrap().bytes).unwrap();
        let lines: Vec<u32> = lines.into_iter().map(|entry| number(entry).trim_end().parse().unwrap()).collect();
        assert!(lines.is_sorted(), "{lines:?}");
        (lines, errors.into_iter().map(|error| error.unwrap_err().to_string()).collect::<Vec<_>>())
    };
    let packed = |age: u32| PathBuf::from(format!("{}.{age}.gz", bench.config.path.display()));
    let (whole, none) = read(LogQuery::default()).await;
    assert_eq!((whole.len(), none.len()), (300, 0));
    let bytes = std::fs::read(packed(2)).unwrap();
    let half = bytes.len() * 2 / 3;
    for (damaged, keeps_some) in [(&bytes[..half], true), (&b"no gzip"[..], false), (&[][..], false)] {
        std::fs::write(packed(2), damaged).unwrap();
        let (lines, errors) = read(LogQuery::default()).await;
        assert!(lines.len() < 300 && lines.ends_with(&[298, 299]) && lines[0] == 0, "{lines:?}");
        assert!(errors.len() == 1 && errors[0].contains(".2.gz is damaged"), "{errors:?}");
        let missing: Vec<u32> = (0..300).filter(|number| !lines.contains(number)).collect();
        assert!(missing.len() < 40, "of one file alone: {missing:?}");
        assert!(!keeps_some || missing.len() < 30, "what was before the damage is there: {missing:?}");
        let (last, errors) = read(LogQuery { tail: Some(1), ..LogQuery::default() }).await;
        assert_eq!((&last[..], errors.len()), (&[299][..], 0), "nothing is told of what was not asked for");
    }
}
