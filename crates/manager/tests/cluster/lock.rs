//! Managers that are locked (parity C-14): the disk follows the value, and a wrong or missing key keeps a manager shut.

use identity::{UnlockError, Vault};
use manager::{Error, Manager};
use types::{ReadReply, ReadRequest, UnlockKey, WriteRequest};

use crate::harness::{Host, eventually, found, join_manager, quick_spec, vault, wait_for_voters};

/// Sets the lock; gives the key that managers have from then on.
async fn set(host: &Host, auto_lock_managers: bool, rotate_unlock_key: bool) -> Option<UnlockKey> {
    let ReadReply::Cluster(cluster) = host.client().read(ReadRequest::Cluster).await else { panic!() };
    let mut spec = cluster.spec.clone();
    spec.encryption.auto_lock_managers = auto_lock_managers;
    let update = WriteRequest::UpdateCluster {
        version: cluster.meta.version,
        spec: Box::new(spec),
        rotate_worker_token: false,
        rotate_manager_token: false,
        rotate_unlock_key,
        root: None,
    };
    host.client().write(update).await.unwrap();
    let ReadReply::Cluster(cluster) = host.client().read(ReadRequest::Cluster).await else { panic!() };
    cluster.unlock_key
}

/// The disk as a daemon finds it at its start.
fn disk(host: &Host) -> Vault {
    vault(host.directory.path())
}

async fn comes_to_open_with(host: &Host, key: &UnlockKey) {
    eventually("the disk opens with the key", || async {
        let found = disk(host);
        (found.is_locked() && found.unlock(key).is_ok()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c_14_every_managers_disk_follows_the_unlock_key() {
    let mut first = found(quick_spec()).await;
    let second = join_manager(&first).await;
    wait_for_voters(std::slice::from_ref(&first), 2).await;
    let hosts = [&first, &second];
    assert!(hosts.iter().all(|host| !disk(host).is_locked()));
    assert_eq!(set(&first, false, true).await, None);

    let key = set(&first, true, false).await.expect("a key");
    for host in hosts {
        comes_to_open_with(host, &key).await;
    }
    let fresh = set(&first, true, true).await.expect("another key");
    assert!(fresh != key);
    for host in hosts {
        comes_to_open_with(host, &fresh).await;
        assert!(matches!(disk(host).unlock(&key), Err(UnlockError::WrongKey)));
    }

    first.kill().await;
    first.config.vault = disk(&first);
    let Err(error) = Manager::open(first.config.clone()).await else { panic!("a locked manager opened") };
    assert!(matches!(error, Error::Identity(identity::Error::Locked)), "{error}");
    first.config.vault.unlock(&fresh).unwrap();
    first.restart().await;
    eventually("it serves again", || async { first.client().try_read(ReadRequest::Cluster, true).await.ok() }).await;

    assert_eq!(set(&first, false, false).await, None);
    for host in [&first, &second] {
        eventually("the disk is plain", || async { (!disk(host).is_locked()).then_some(()) }).await;
    }
    first.manager.unwrap().shutdown().await;
    second.manager.unwrap().shutdown().await;
}
