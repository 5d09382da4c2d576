//! Published ports: who gets which number, what is refused, and what nodes are told of the routing mesh.

use expect_test::expect;
use types::*;

use crate::{check, script::World};

/// S-72, P32: numbers are unique where two could meet; who has one is named.
#[test]
fn s_72_a_number_is_one_services_and_the_owner_is_named() {
    check(
        "network i ingress
         node a
         service web publish=8080:80
         service api publish=8080:81
         service api publish=8080:81/udp publish=192.0.2.1@9000:90
         service one publish=192.0.2.2@9000:90
         service two publish=192.0.2.1@9000:90
         service all publish=9000:90
         service eth publish=eth0@9000:90
         service eth publish=eth0@9001:90
         service eth1 publish=eth1@9001:90
         service host publish=host@8080:80
         service host publish=host@7000:80
         service mesh publish=7000:80
         service host2 publish=host@7000:80
         update web publish=8081:80
         update api publish=8081:80
         remove web
         update api publish=8081:80
         service late publish=8080:80
         ports",
        expect![[r#"
            refused: service api cannot publish port 8080/tcp: service web publishes 8080/tcp through the mesh; take another number or address, or let web give it up first
            refused: service two cannot publish port 192.0.2.1:9000/tcp: service api publishes 192.0.2.1:9000/tcp through the mesh; take another number or address, or let api give it up first
            refused: service all cannot publish port 9000/tcp: service api publishes 192.0.2.1:9000/tcp through the mesh; take another number or address, or let api give it up first
            refused: service eth cannot publish port eth0:9000/tcp: service api publishes 192.0.2.1:9000/tcp through the mesh; take another number or address, or let api give it up first
            refused: service host cannot publish port 8080/tcp: service web publishes 8080/tcp through the mesh; take another number or address, or let web give it up first
            refused: service mesh cannot publish port 7000/tcp: service host publishes 7000/tcp on the nodes of its tasks (mode host); take another number or address, or let host give it up first
            refused: service api cannot publish port 8081/tcp: service web publishes 8081/tcp through the mesh; take another number or address, or let web give it up first
            web at 8080/tcp->80 8081/tcp->80
            api at 8080/udp->81 192.0.2.1:9000/tcp->90 8081/tcp->80
            one at 192.0.2.2:9000/tcp->90
            eth at eth0:9001/tcp->90
            eth1 at eth1:9001/tcp->90
            host at 7000/tcp->80
            host2 at 7000/tcp->80
            late at 8080/tcp->80
        "#]],
    );
}

/// S-72: ports without a number get one of 30000 to 32767 and keep it; explicit ones in that range are respected.
#[test]
fn s_72_numbers_are_given_kept_and_given_back() {
    check(
        "network i ingress
         node a
         service web publish=80
         ports
         update web publish=81 publish=8080:82
         update web x2
         ports
         update web publish=none publish=81
         ports
         update web publish=none publish=81 publish=30005:80
         rollback web
         ports
         remove web
         service other publish=80
         ports",
        expect![[r#"
            web at 31330/tcp->80
            web at 31330/tcp->80 31331/tcp->81 8080/tcp->82
            web at 31331/tcp->81
            web at 31331/tcp->81
            web at 31331/tcp->81
            other at 31331/tcp->80
        "#]],
    );
}

#[test]
fn s_72_the_end_of_the_range_is_said() {
    let mut world = World::new();
    let lines = "network i ingress\nnode a\nservice all publish=1-2768\nservice more publish=80\nservice udp publish=80/udp\n\
                 service said publish=33000:80\nupdate all publish=none publish=1-2767\nservice more publish=80\nports";
    for line in lines.lines() {
        world.line(line);
        control::invariants::check(&world.tables).expect("invariant");
    }
    let short: Vec<String> = world.out.lines().filter(|line| line.len() < 400).map(str::to_owned).collect();
    expect![[r#"
        refused: service more: no number is left for port 80/tcp: all of 30000 to 32767 are published over tcp; give it a number outside of these, or remove services that publish
        udp at 31332/udp->80
        said at 33000/tcp->80
        more at 31329/tcp->80"#]].assert_eq(&short.join("\n"));
}

/// S-71 and more: what contradicts itself is refused with the reason.
#[test]
fn s_72_contradictions_are_refused() {
    check(
        "network i ingress
         service web publish=0:80
         service web publish=80:0
         service web publish=80:80 dnsrr
         service web publish=53:53/udp proxy
         service web publish=53:53/sctp proxy
         service web publish=80:80 publish=80:81
         service web publish=80:80 publish=127.0.0.1@80:81
         service web publish=80 publish=80
         service web publish=0.0.0.0@80:80
         service web publish=::@80:80
         service web publish=an-interface-with-a-long-name@80:80
         service web publish=80:80 net=host
         service web publish=80:80 label=rswarm.mesh.policy:fastest
         service web publish=80:80 label=rswarm.mesh.affinity:cookie
         service web publish=80:80 policy=local-only label=rswarm.mesh.policy:cluster
         node a
         label a rswarm.mesh.weight=0
         label a rswarm.mesh.weight=many
         label a rswarm.mesh.weight=100
         service web publish=80:80 publish=127.0.0.1@81:80 publish=::1@81:80 net=bridge",
        expect![[r#"
            refused: service web: port 80: published must be 1 to 65535, or left out
            refused: service web: a published port needs the container's port: give a target of 1 to 65535
            refused: service web: port 80 is published through the mesh, which needs endpoint mode vip; use mode=host or vip
            refused: service web: port 53/udp cannot begin with a PROXY protocol header: only connections over tcp have a beginning; leave proxy_protocol out
            refused: service web: port 53/sctp cannot begin with a PROXY protocol header: only connections over tcp have a beginning; leave proxy_protocol out
            refused: service web publishes port 80/tcp twice: give one of the two another number or address
            refused: service web publishes port 127.0.0.1:80/tcp twice: give one of the two another number or address
            refused: service web publishes port 80/tcp twice without a number: leave one out, or give it a number
            refused: service web: host address 0.0.0.0 of port 80 stands for every address: leave it out to publish at all addresses, IPv4 and IPv6
            refused: service web: host address :: of port 80 stands for every address: leave it out to publish at all addresses, IPv4 and IPv6
            refused: service web: "an-interface-with-a-long-name", where port 80 shall be published, is no name of an interface: 1 to 15 characters without '/' and blanks
            refused: service web publishes port 80 and asks for network host: its containers have the host's own ports: they listen there by themselves; leave one of the two out
            refused: service web: label rswarm.mesh.policy: "fastest" is no mesh policy; use cluster, local-first or local-only
            refused: service web: label rswarm.mesh.affinity: "cookie" is no mesh affinity; use none or source
            refused: service web: label rswarm.mesh.policy=cluster contradicts the spec, which says local-only: change one of them
            refused: node a: label rswarm.mesh.weight: "0" is no mesh weight; use a whole number from 1 to 100
            refused: node a: label rswarm.mesh.weight: "many" is no mesh weight; use a whole number from 1 to 100
        "#]],
    );
}

/// N-07: without an ingress network nothing is published; it goes when nobody publishes, and another takes its place.
#[test]
fn n_07_the_ingress_network_is_replaced() {
    check(
        "node a
         service web publish=80:80
         service web
         settle
         update web publish=80:80
         network i ingress
         update web publish=80:80
         remove-network i
         settle
         network j ingress
         update web publish=none
         remove-network i
         settle
         remove-network i
         rollback web
         network j ingress subnet=10.9.0.0/24 encrypted mtu=1400
         rollback web
         settle
         networks",
        expect![[r#"
            refused: service web publishes port 80/tcp through the mesh, and there is no ingress network: make one with `network create --driver overlay --ingress ingress`, or publish with mode=host
            0s create web.1/1 on a
            refused: service web publishes port 80/tcp through the mesh, and there is no ingress network: make one with `network create --driver overlay --ingress ingress`, or publish with mode=host
            refused: network i is in use by service web: update or remove them first
            0s web Updating: update in progress
            0s want web.1/1 shutdown
            0s create web.1/2 on a 10.255.0.2 fd72:7377:726d::2
            5s web Completed: update completed
            refused: name conflicts with an existing object: ingress network i already exists
            refused: network i is in use by task web.1.000000000000000000000035x: they are being replaced, wait for their end
            5s web Updating: update in progress
            5s want web.1/2 shutdown
            5s create web.1/3 on a
            10s web Completed: update completed
            refused: service web cannot be rolled back: service web publishes port 80/tcp through the mesh, and there is no ingress network: make one with `network create --driver overlay --ingress ingress`, or publish with mode=host
            10s want web.1/3 shutdown
            10s create web.1/4 on a 10.9.0.2 fd72:7377:726d::2
            15s web RollbackCompleted: rollback completed
              j vni 4096 10.9.0.0/24 gateway 10.9.0.1 (2 of 254 used) fd72:7377:726d::/64 gateway fd72:7377:726d::1 (2 of 18446744073709551615 used)
        "#]],
    );
}

/// N-16: tasks get a place in the ingress network with their first port there and lose it with the last one; that a
/// number changes is no task's matter.
#[test]
fn n_16_only_the_first_and_the_last_port_replace_tasks() {
    check(
        "node a
         network i ingress subnet=10.255.0.0/28
         network n1 subnet=10.1.0.0/28
         service web net=n1
         settle
         update web publish=8080:80
         settle
         update web publish=none publish=8081:80 publish=9000:90/udp
         settle
         ports
         update web publish=none
         settle
         networks",
        expect![[r#"
            0s web has addresses n1 [10.1.0.2]
            0s create web.1/1 on a 10.1.0.3
            0s web Updating: update in progress
            0s want web.1/1 shutdown
            0s create web.1/2 on a 10.1.0.4 10.255.0.2 fd72:7377:726d::2
            5s web Completed: update completed
            web at 8081/tcp->80 9000/udp->90
            5s web Updating: update in progress
            5s want web.1/2 shutdown
            5s create web.1/3 on a 10.1.0.5
            10s web Completed: update completed
              i vni 4096 10.255.0.0/28 gateway 10.255.0.1 (1 of 14 used) fd72:7377:726d::/64 gateway fd72:7377:726d::1 (1 of 18446744073709551615 used)
              n1 vni 4097 10.1.0.0/28 gateway 10.1.0.1 (3 of 14 used)
        "#]],
    );
}

/// N-16, P43: every node is told of all published ports, by differences, whether it has a task or not; nodes that are
/// down are not reached.
#[test]
fn n_16_every_node_takes_part_in_the_mesh() {
    check(
        "network i ingress subnet=10.255.0.0/28
         network n1 subnet=10.1.0.0/28
         node a address=192.0.2.1
         node b address=192.0.2.2
         node c address=192.0.2.3
         mesh c
         service web x2 publish=8080:80 net=n1 policy=local-first
         service db net=n1 x0
         plan
         mesh c
         agents
         mesh c
         label a rswarm.mesh.weight=7
         update web label=rswarm.mesh.affinity:source
         mesh c
         remove-node b
         mesh c
         update web x0
         plan
         agents
         plan
         remove web
         plan
         mesh c
         remove-network i
         mesh c",
        expect![[r#"
              peers a b
            0s web has addresses n1 [10.1.0.2]
            0s db has addresses n1 [10.1.0.3]
            0s create web.1/1 on a 10.1.0.4 10.255.0.2 fd72:7377:726d::2
            0s create web.2/1 on b 10.1.0.5 10.255.0.3 fd72:7377:726d::3
              web local-first none [] 8080/tcp->80
              web.1/1 on a starting weight 1 [10.255.0.2, fd72:7377:726d::2]
              web.2/1 on b starting weight 1 [10.255.0.3, fd72:7377:726d::3]
              peers a b
              web local-first none [] 8080/tcp->80
              web.1/1 on a serving weight 1 [10.255.0.2, fd72:7377:726d::2]
              web.2/1 on b serving weight 1 [10.255.0.3, fd72:7377:726d::3]
              peers a b
              web local-first source [] 8080/tcp->80
              web.1/1 on a serving weight 7 [10.255.0.2, fd72:7377:726d::2]
              web.2/1 on b serving weight 1 [10.255.0.3, fd72:7377:726d::3]
              peers a b
              web local-first source [] 8080/tcp->80
              web.1/1 on a serving weight 7 [10.255.0.2, fd72:7377:726d::2]
              peers a
            0s status web.2/1 orphaned: its node is gone
            0s want web.2/1 shutdown
            0s want web.1/1 remove
            0s want web.2/1 remove
            0s forget web.2/1
            0s forget web.1/1
            0s service web gone
              peers a
              no mesh
        "#]],
    );
}

/// P05, N-20: a task that is to stop is DRAINING for every node at once, before its own node has stopped it; the new
/// one serves only when it said RUNNING.
#[test]
fn p_05_endpoints_drain_before_they_stop_and_serve_when_running() {
    check(
        "network i ingress subnet=10.255.0.0/28
         node a
         node b
         service web publish=8080:80 order=start-first
         settle
         update web image=b
         plan
         agents a
         plan
         mesh b
         agents
         plan
         mesh b
         settle
         mesh b
         update web order=stop-first image=c
         plan
         mesh b
         agents
         plan
         mesh b",
        expect![[r#"
            0s create web.1/1 on a 10.255.0.2 fd72:7377:726d::2
            0s web Updating: update in progress
            0s create web.1/2 on b 10.255.0.3 fd72:7377:726d::3
              web cluster none [] 8080/tcp->80
              web.1/1 on a serving weight 1 [10.255.0.2, fd72:7377:726d::2]
              web.1/2 on b starting weight 1 [10.255.0.3, fd72:7377:726d::3]
              peers 
            0s want web.1/1 shutdown
              web cluster none [] 8080/tcp->80
              web.1/1 on a draining weight 1 [10.255.0.2, fd72:7377:726d::2]
              web.1/2 on b serving weight 1 [10.255.0.3, fd72:7377:726d::3]
              peers 
            5s web Completed: update completed
              web cluster none [] 8080/tcp->80
              web.1/2 on b serving weight 1 [10.255.0.3, fd72:7377:726d::3]
              peers 
            5s web Updating: update in progress
            5s want web.1/2 shutdown
              web cluster none [] 8080/tcp->80
              web.1/2 on b draining weight 1 [10.255.0.3, fd72:7377:726d::3]
              peers 
            5s create web.1/3 on a 10.255.0.4 fd72:7377:726d::4
              web cluster none [] 8080/tcp->80
              web.1/3 on a starting weight 1 [10.255.0.4, fd72:7377:726d::4]
              peers 
        "#]],
    );
}

/// P32: host-mode ports at two addresses of one node do not exclude each other.
#[test]
fn p_32_host_ports_at_two_addresses_share_a_node() {
    let mut world = World::new();
    world.line("node a");
    for (service, address) in [("one", "192.0.2.1"), ("two", "192.0.2.2"), ("three", "192.0.2.1")] {
        let mut spec = crate::spec::service(None, &[service, "port=443"]);
        spec.endpoint.ports[0].bind = PortBind::Address(address.parse().unwrap());
        let request = WriteRequest::CreateService(Box::new(spec));
        let id = u128::from(service.as_bytes()[1]);
        let (proposal, _) = control::admission::admit(&world.tables, &request, world.now, &mut || id).unwrap();
        world.apply(&proposal);
    }
    world.line("plan");
    control::invariants::check(&world.tables).expect("invariant");
    expect![[r#"
        0s create three.1/1 on a
        0s create one.1/1 waiting: no suitable node: the only node has host port 192.0.2.1:443/tcp in use
        0s create two.1/1 on a
    "#]]
    .assert_eq(&world.out);
}

/// S-13: what a rollback would need may be somebody else's by now.
#[test]
fn s_13_a_rollback_whose_port_is_gone_is_refused_or_pauses() {
    check(
        "network i ingress subnet=10.255.0.0/28
         node a
         service web publish=8080:80 action=rollback restart=none
         settle
         update web publish=none image=bad
         service thief publish=8080:80
         rollback web
         settle",
        expect![[r#"
            0s create web.1/1 on a 10.255.0.2 fd72:7377:726d::2
            refused: service web cannot be rolled back: service web cannot publish port 8080/tcp: service thief publishes 8080/tcp through the mesh; take another number or address, or let thief give it up first
            0s create thief.1/1 on a 10.255.0.3 fd72:7377:726d::3
            0s web Updating: update in progress
            0s want web.1/1 shutdown
            0s create web.1/2 on a
            0s web Paused: update paused due to failure or early termination of task web.1/2; service web cannot be rolled back: service web cannot publish port 8080/tcp: service thief publishes 8080/tcp through the mesh; take another number or address, or let thief give it up first
        "#]],
    );
}

fn bootstrap(pools: &[&str], routes: &[&str]) -> String {
    let words: Vec<String> = routes.iter().map(|route| format!("route={route}")).collect();
    let words: Vec<&str> = ["a"].into_iter().chain(words.iter().map(String::as_str)).collect();
    let now = Timestamp::from_unix_ms(1);
    let first = crate::spec::node(NodeId::from_random(1), &words, now);
    let mut cluster = crate::spec::cluster();
    cluster.spec.address_pools.pools = pools.iter().map(|pool| pool.parse().unwrap()).collect();
    let proposal = control::admission::bootstrap(cluster, first, now, &mut || 9);
    let mut tables = control::Tables::default();
    tables.apply(1, &proposal).unwrap();
    control::invariants::check(&tables).unwrap();
    let Some(network) = tables.ingress() else { return "none".to_owned() };
    assert_eq!((network.spec.name.as_str(), network.spec.ingress), ("ingress", true));
    network.subnets.iter().map(|subnet| subnet.range.to_string()).collect::<Vec<_>>().join(" ")
}

/// N-07, P09, P25: a cluster begins with an ingress network that holds 65,533 tasks, where that is free.
#[test]
fn n_07_a_cluster_begins_with_an_ingress_network() {
    let v6 = "fd72:7377:726d::/48";
    assert_eq!(bootstrap(&["10.0.0.0/8", v6], &[]), "10.255.0.0/16 fd72:7377:726d::/64");
    assert_eq!(bootstrap(&["10.0.0.0/8", v6], &["10.255.3.0/24"]), "10.0.0.0/24 fd72:7377:726d::/64");
    assert_eq!(bootstrap(&["172.20.0.0/14"], &["172.20.0.0/16"]), "172.21.0.0/24");
    assert_eq!(bootstrap(&["172.20.0.0/16"], &["172.16.0.0/12"]), "none");
}

/// P53: ten thousand ports of one service; what grew with their square would take minutes here.
#[test]
fn p_53_ten_thousand_ports_in_one_service() {
    let mut world = World::new();
    world.line("network i ingress");
    world.line("node a");
    world.line("service media publish=10000-19999:10000-19999/udp");
    world.line("service other publish=10000:80/tcp");
    world.line("service thief publish=15000:80/udp");
    world.line("settle");
    world.line("update media x2");
    world.line("settle");
    assert!(world.out.contains("cannot publish port 15000/udp: service media publishes 15000/udp"), "{}", world.out);
    let media = world.tables.services().find(|service| service.spec.name.as_str() == "media").unwrap();
    assert_eq!(media.published.len(), 10_000);
}
