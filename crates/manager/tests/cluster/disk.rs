//! A disk that is full: the manager says so, stops, and has lost nothing it acknowledged.

use std::{path::PathBuf, process::Command};

use manager::Manager;
use types::ReadRequest;

use crate::harness::{eventually, found, quick_spec, vault};

/// A small file system of its own, gone when the test ends, however it ends.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    fn mount(path: PathBuf, size: &str) -> Self {
        std::fs::create_dir_all(&path).unwrap();
        let options = format!("size={size}");
        assert!(
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&path).status().unwrap().success()
        );
        Self { path }
    }

    fn resize(&self, size: &str) {
        let options = format!("remount,size={size}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.path).status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // lazily: a failed test may still hold files open
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_the_manager_and_loses_nothing() {
    let mut host = found(quick_spec()).await;
    host.kill().await;
    // the same state, on a disk that is nearly full
    let small = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(small.path().join("disk"), "16m");
    let copied = Command::new("cp").arg("-a").arg(host.directory.path().join("raft")).arg(&disk.path).status();
    assert!(copied.unwrap().success());
    host.config.vault = vault(&disk.path);
    host.restart().await;
    let filler = disk.path.join("filler");
    let failed = host.manager().failed();
    let client = host.client();
    let mut acknowledged = Vec::new();
    for number in 0..2000 {
        if number == 20 {
            // the rest of the disk goes to somebody else
            let mut file = std::fs::File::create(&filler).unwrap();
            while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
        }
        let name = format!("web-{number}");
        match client.create(&name, 0).await {
            Ok(_) => acknowledged.push(name),
            Err(_) => break,
        }
    }
    let reason = tokio::time::timeout(crate::harness::PATIENCE, failed).await.expect("the manager stops by itself");
    assert!(reason.contains("No space left on device") && reason.contains("make room"), "{reason}");
    host.manager.take().unwrap().abort().await;

    std::fs::remove_file(&filler).unwrap();
    disk.resize("64m");
    host.manager = Some(Manager::open(host.config.clone()).await.unwrap());
    for name in &acknowledged {
        eventually(name, || async { host.client().try_read(ReadRequest::Service(name.clone()), false).await.ok() })
            .await;
    }
    assert!(acknowledged.len() >= 20);
    host.client().create("after", 0).await.unwrap();
    host.manager.take().unwrap().shutdown().await;
}
