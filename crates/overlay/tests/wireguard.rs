//! N-04, P15: encrypted overlays between hosts. Real processes and kernel; the wire is the witness.

#[path = "support/capture.rs"]
mod capture;
#[path = "support/mesh.rs"]
mod mesh;
mod support;

use std::{
    net::{SocketAddr, UdpSocket},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use capture::Capture;
use mesh::*;
use overlay::wireguard::generate_key_pair;
use support::*;

#[test]
fn netd_process() {
    support::netd_process();
}

const SOON: Duration = Duration::from_secs(5);
const MARKER: &[u8] = b"plaintext-marker-of-the-encrypted-network";
/// A transfer, and a piece that ends nowhere in particular.
const TRANSFER: usize = (16 << 20) + 12_345;

async fn reach_each_other(a: u8, b: u8) {
    eventually("a ping passes", SOON, async || pings(&endpoint(a), &inside(b).to_string())).await;
}

fn bytes_with_markers() -> Vec<u8> {
    let mut state = 1u64;
    let mut bytes: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(TRANSFER)
    .collect();
    for at in (0..TRANSFER - MARKER.len()).step_by(1000) {
        bytes[at..at + MARKER.len()].copy_from_slice(MARKER);
    }
    bytes
}

fn digest(bytes: &[u8]) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA256, bytes).as_ref().to_vec()
}

#[test]
fn n04_p15a_all_passes_and_the_underlay_sees_only_wireguard() {
    in_host(|| async {
        let _hosts = mesh(&[1, 2]).await;
        let capture = Capture::start("v1", MARKER);
        reach_each_other(1, 2).await;
        assert!(pings(&endpoint(2), &inside6(1).to_string()), "IPv6 inside");
        let full = format!("nsenter --net=/run/netns/e1 ping -c 2 -i 0.2 -W 1 -M do -s {} {}", MTU - 28, inside(2));
        run(&full);
        let bytes = bytes_with_markers();
        let expected = digest(&bytes);
        for (from, to, address) in [
            (1, 2, SocketAddr::new(inside(2), 5001)),
            (2, 1, SocketAddr::new(inside(1), 5002)),
            (1, 2, SocketAddr::new(inside6(2), 5003)),
        ] {
            let got = transfer(&endpoint(from), &endpoint(to), address, &bytes);
            assert_eq!((got.len(), digest(&got)), (TRANSFER, expected.clone()), "{address}");
        }
        let seen = capture.end();
        assert!(seen.wireguard > 100, "{seen:?}");
        assert_eq!((seen.other, seen.markers), (0, 0), "{seen:?}");
    });
}

#[test]
fn p15a_the_capture_would_see_the_marker() {
    in_host(|| async {
        underlay_switch();
        let _host = Host::new(1);
        let capture = Capture::start("v1", MARKER);
        let sending = inside_namespace(&host_namespace(1), || {
            let socket = UdpSocket::bind("10.1.0.1:0").expect("bind");
            socket.set_broadcast(true).expect("broadcast");
            socket.send_to(MARKER, "10.1.0.255:9").expect("send");
        });
        sending.join().expect("sent");
        std::thread::sleep(Duration::from_millis(100));
        let seen = capture.end();
        assert!(seen.other > 0 && seen.markers == 1, "{seen:?}");
    });
}

#[test]
fn n04_p15_with_a_wrong_key_nothing_passes() {
    in_host(|| async {
        let (_, wrong) = generate_key_pair().expect("key");
        underlay_switch();
        let (one, two) = (Host::new(1), Host::new(2));
        let capture = Capture::start("v1", MARKER);
        one.apply(&plan_of(&one, &[(1, one.public()), (2, wrong)])).await;
        two.apply(&plan_of(&two, &[(1, one.public()), (2, two.public())])).await;
        let passed = (0..4).filter(|_| pings(&endpoint(1), &inside(2).to_string())).count();
        let back = (0..2).filter(|_| pings(&endpoint(2), &inside(1).to_string())).count();
        assert_eq!((passed, back), (0, 0));
        let seen = capture.end();
        assert_eq!((seen.other, seen.markers), (0, 0), "{seen:?}");
        one.apply(&plan_of(&one, &[(1, one.public()), (2, two.public())])).await;
        reach_each_other(1, 2).await;
    });
}

#[test]
fn p15c_forged_vxlan_reaches_nobody() {
    in_host(|| async {
        let _hosts = mesh(&[1, 2]).await;
        reach_each_other(1, 2).await;
        let capture = Capture::in_namespace(&endpoint(2), "eth0", MARKER);
        let forging = inside_namespace(&host_namespace(1), || {
            let mut forged = vec![8, 0, 0, 0];
            forged.extend((VNI << 8).to_be_bytes());
            forged.extend(mac(2).bytes());
            forged.extend(mac(1).bytes());
            forged.extend([8, 0]);
            forged.extend(MARKER);
            for target in ["10.1.0.2", "250.1.0.2", "10.1.0.1", "250.1.0.1"] {
                for port in [VXLAN_PORT, WIREGUARD_PORT] {
                    let socket = UdpSocket::bind("10.1.0.1:0").expect("bind");
                    // No route to a tunnel address is as good as no answer.
                    let _ = socket.send_to(&forged, (target, port));
                }
            }
        });
        forging.join().expect("forged");
        reach_each_other(1, 2).await;
        assert_eq!(capture.end().markers, 0);
    });
}

#[test]
fn p15_a_peer_that_is_not_in_the_network_cannot_enter_it() {
    in_host(|| async {
        let hosts = mesh(&[1, 2, 3]).await;
        reach_each_other(3, 1).await;
        // Host 3 stays a peer of host 1, but no endpoint of the network is there any more.
        let keys: Vec<_> = hosts.iter().map(|host| (host.n, host.public())).collect();
        let mut plan = plan_of(&hosts[0], &keys);
        plan.overlays.get_mut(&network()).expect("network").remotes.remove(&mac(3));
        hosts[0].apply(&plan).await;
        let capture = Capture::in_namespace(&endpoint(1), "eth0", &mac(3).bytes());
        assert!(!pings(&endpoint(3), &inside(1).to_string()));
        assert_eq!(capture.end().markers, 0, "no frame of its address");
        reach_each_other(1, 2).await;
    });
}

#[test]
fn n04_an_ipv6_underlay_carries_the_same() {
    in_host(|| async {
        let hosts = mesh(&[1, 2]).await;
        let keys: Vec<_> = hosts.iter().map(|host| (host.n, host.public())).collect();
        for host in &hosts {
            // 20 bytes more of outer header.
            ip(&format!("-n e{} link set eth0 mtu {}", host.n, MTU - 20));
            let applied = host.apply(&over_ipv6(plan_of(host, &keys), host.n)).await;
            assert_eq!(applied.errors, Vec::<String>::new());
        }
        reach_each_other(1, 2).await;
        let bytes = bytes_with_markers();
        let got = transfer(&endpoint(2), &endpoint(1), SocketAddr::new(inside(1), 5001), &bytes);
        assert_eq!((got.len(), digest(&got)), (TRANSFER, digest(&bytes)));
        let standing = hosts[0].client.status().await.expect("status").encryption;
        assert_eq!(standing.peers, [(node(2), true)].into());
        assert_eq!(standing.dropped.not_sent, 0);
    });
}

#[test]
fn n04_a_killed_netd_resumes_by_itself() {
    in_host(|| async {
        let mut hosts = mesh(&[1, 2]).await;
        reach_each_other(1, 2).await;
        let address = SocketAddr::new(inside(2), 5001);
        let stream =
            std::thread::spawn(move || throughput(&endpoint(1), &endpoint(2), address, 1, Duration::from_secs(4)));
        tokio::time::sleep(Duration::from_millis(500)).await;
        hosts[1].kill();
        hosts[1].start();
        let start = Instant::now();
        eventually("it passes again", Duration::from_secs(2), async || {
            output(&format!("nsenter --net=/run/netns/e1 ping -c 1 -W 0.1 {}", inside(2))).status.success()
        })
        .await;
        eprintln!("resumed after {:?}", start.elapsed());
        let rate = stream.join().expect("the open connection goes on");
        eprintln!("{rate:.2} Gbit/s with a restart in between");
    });
}

#[test]
fn n04_p15d_keys_are_replaced_without_losing_packets() {
    in_host(|| async {
        let mut hosts = mesh(&[1, 2]).await;
        reach_each_other(1, 2).await;
        let mut flood = Command::new("nsenter");
        flood.args(["--net=/run/netns/e1", "ping", "-q", "-i", "0.001", "-c", "4000", "-W", "1"]);
        let flood = flood.arg(inside(2).to_string()).stdout(Stdio::piped()).spawn().expect("ping");
        for round in 0..4 {
            tokio::time::sleep(Duration::from_millis(400)).await;
            let changed = round % 2;
            hosts[changed].key = generate_key_pair().expect("key").0;
            // The host itself knows first, the other a moment later.
            let keys: Vec<_> = hosts.iter().map(|host| (host.n, host.public())).collect();
            hosts[changed].apply(&plan_of(&hosts[changed], &keys)).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            hosts[1 - changed].apply(&plan_of(&hosts[1 - changed], &keys)).await;
        }
        let said = flood.wait_with_output().expect("ping ends");
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let received = said.split(" received").next().and_then(|s| s.rsplit(' ').next()?.parse::<u32>().ok());
        assert!(received.is_some_and(|received| received >= 3997), "less than 0.1 % lost: {said}");
    });
}

#[test]
fn n04_without_a_tun_device_the_network_says_so() {
    in_host(|| async {
        underlay_switch();
        run("mount -t tmpfs none /dev/net");
        let host = Host::new(1);
        let (_, other) = generate_key_pair().expect("key");
        let applied = host.apply(&plan_of(&host, &[(1, host.public()), (2, other)])).await;
        assert_eq!(
            applied.errors,
            [
                "network secret is encrypted and carries nothing to other hosts: cannot open /dev/net/tun, which encrypted \
              networks need: load the kernel module (modprobe tun), or pass the device into the container: \
              No such file or directory (os error 2)"
            ]
        );
        run("umount /dev/net");
        assert!(host.apply(&plan_of(&host, &[(1, host.public()), (2, other)])).await.errors.is_empty());
    });
}
