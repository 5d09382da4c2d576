//! Networks: what is allocated, what is refused, and what is said when nothing is left.

use expect_test::expect;

use crate::check;

#[test]
fn networks_get_the_next_free_subnet_and_identifier_n_02_n_09() {
    check(
        "network a
         network a
         network b ipv6
         network c subnet=10.0.2.0/23
         network d
         network e subnet=10.9.0.0/24 range=10.9.0.128/25 gateway=10.9.0.254 aux=10.9.0.130 vni=9000
         network f
         networks
         remove-network b
         network g
         networks",
        expect![[r#"
            refused: name conflicts with an existing object: network a already exists
              a vni 4096 10.0.0.0/24 gateway 10.0.0.1 (1 of 254 used)
              b vni 4097 10.0.1.0/24 gateway 10.0.1.1 (1 of 254 used) fd72:7377:726d::/64 gateway fd72:7377:726d::1 (1 of 18446744073709551615 used)
              c vni 4098 10.0.2.0/23 gateway 10.0.2.1 (1 of 510 used)
              d vni 4099 10.0.4.0/24 gateway 10.0.4.1 (1 of 254 used)
              e vni 9000 10.9.0.0/24 gateway 10.9.0.254 (2 of 127 used)
              f vni 9001 10.0.5.0/24 gateway 10.0.5.1 (1 of 254 used)
              a vni 4096 10.0.0.0/24 gateway 10.0.0.1 (1 of 254 used)
              c vni 4098 10.0.2.0/23 gateway 10.0.2.1 (1 of 510 used)
              d vni 4099 10.0.4.0/24 gateway 10.0.4.1 (1 of 254 used)
              e vni 9000 10.9.0.0/24 gateway 10.9.0.254 (2 of 127 used)
              f vni 9001 10.0.5.0/24 gateway 10.0.5.1 (1 of 254 used)
              g vni 9002 10.0.1.0/24 gateway 10.0.1.1 (1 of 254 used)
        "#]],
    );
}

#[test]
fn routes_and_addresses_of_nodes_are_left_alone_p25() {
    check(
        "node a route=10.0.0.0/16 route=172.16.0.0/12 route=0.0.0.0/0
         node b route=10.1.0.0/24 address=10.1.2.9
         network a
         network b
         network c
         network d subnet=10.0.5.0/24
         network e subnet=10.1.2.0/24
         network f subnet=10.0.0.0/8
         networks",
        expect![[r#"
            refused: network d: subnet 10.0.5.0/24 overlaps 10.0.0.0/16, which node a has an address in or a route to: its containers could not reach it; choose another, or none
            refused: network e: subnet 10.1.2.0/24 overlaps 10.1.2.9/32, which node b has an address in or a route to: its containers could not reach it; choose another, or none
            refused: network f: subnet 10.0.0.0/8 overlaps 10.1.1.0/24 of network a: choose another, or none
              a vni 4096 10.1.1.0/24 gateway 10.1.1.1 (1 of 254 used)
              b vni 4097 10.1.3.0/24 gateway 10.1.3.1 (1 of 254 used)
              c vni 4098 10.1.4.0/24 gateway 10.1.4.1 (1 of 254 used)
        "#]],
    );
}

#[test]
fn networks_are_refused_with_the_reason() {
    check(
        "network web subnet=10.5.0.0/24
         network web
         network host
         network a subnet=10.5.0.128/25
         network a subnet=10.6.0.0/24 gateway=10.7.0.1
         network a subnet=10.6.0.0/24 gateway=10.6.0.0
         network a subnet=10.6.0.0/24 gateway=10.6.0.255
         network a subnet=10.6.0.0/24 range=10.7.0.0/25
         network a subnet=10.6.0.0/31
         network a ingress subnet=10.6.0.0/24 subnet=10.7.0.0/24
         network a subnet=10.6.0.0/24 subnet=10.6.0.0/25
         network a mtu=67
         network a mtu=70000
         network a mtu=1200 encrypted
         network a mtu=1200 ipv6
         network a vni=12
         network a vni=4096
         network a vni=many
         network a driver=host
         network a driver=macvlan encrypted
         network i ingress
         network j ingress
         network a from=web
         network a from=nothing
         network conf subnet=10.8.0.0/24 mtu=1400 config-only
         network a driver=macvlan from=conf
         remove-network conf
         service s net=conf
         networks",
        expect![[r#"
            refused: name conflicts with an existing object: network web already exists
            refused: network host is predefined on every node: take another name
            refused: network a: subnet 10.5.0.128/25 overlaps 10.5.0.0/24 of network web: choose another, or none
            refused: network a: gateway 10.7.0.1 is outside of its subnet 10.6.0.0/24
            refused: network a: gateway 10.6.0.0 is the address of the subnet 10.6.0.0/24 itself
            refused: network a: gateway 10.6.0.255 is the broadcast address of 10.6.0.0/24
            refused: network a: ip range 10.7.0.0/25 is not within its subnet 10.6.0.0/24
            refused: network a: subnet 10.6.0.0/31 cannot be used: give a prefix length of 1 to 30
            refused: network a: 10.6.0.0/24 and 10.7.0.0/24 are of one family: published ports lead into one subnet of each family, give a larger one
            refused: network a: its subnets 10.6.0.0/24 and 10.6.0.0/25 overlap
            refused: network a: MTU 67 is out of range: give 68 to 65535
            refused: network a: MTU 70000 is out of range: give 68 to 65535
            refused: network a: MTU 1200 is out of range: give 1280 to 65535 when encrypted
            refused: network a: MTU 1200 is out of range: give 1280 to 65535 with IPv6
            refused: network a: com.docker.network.driver.overlay.vxlanid_list=12 is no VXLAN identifier: give 4096 to 16777215
            refused: network a: VXLAN identifier 4096 belongs to network web: give another, or none
            refused: network a: com.docker.network.driver.overlay.vxlanid_list=many is no VXLAN identifier: give 4096 to 16777215
            refused: network a: the host and null networks are each node's own and cannot be made
            refused: network a cannot be encrypted: only overlay networks can
            refused: name conflicts with an existing object: ingress network i already exists
            refused: network web is no configuration: create it with config-only to take it as one
            refused: network nothing not found
            refused: network conf is in use by network a: remove them first
            refused: network conf is a configuration only: no task can join it
              web vni 4096 10.5.0.0/24 gateway 10.5.0.1 (1 of 254 used)
              i vni 4097 10.255.0.0/16 gateway 10.255.0.1 (1 of 65534 used) fd72:7377:726d::/64 gateway fd72:7377:726d::1 (1 of 18446744073709551615 used)
              conf vni 0
              a vni 0 10.8.0.0/24 gateway 10.8.0.1 (1 of 254 used)
        "#]],
    );
}

#[test]
fn services_name_networks_and_are_refused_with_the_reason_s_71_s_75() {
    check(
        "node a
         network web
         network i ingress
         service s net=nowhere
         service s net=web net=web
         service s net=i
         service s net=web:-db
         service s net=web:db,DB
         service s net=host:db
         service s net=host net=web
         service s net=host port=8080
         service s net=none port=80
         service s net=none publish=80:80
         service s net=web dnsrr publish=80:80
         service s net=web:db
         remove-network web
         plan
         update s nets=- net=bridge
         remove-network web
         settle
         remove-network web
         rollback s
         service m publish=80:80
         remove-network i
         networks",
        expect![[r#"
            refused: network nowhere (asked for by service s; create it first) not found
            refused: service s names network web twice
            refused: network i is the routing mesh's own: service s gets into it by publishing a port
            refused: alias "-db" in network web is no DNS name: letters, digits, '-', '_' and '.', at most 253 characters, beginning and ending with a letter or digit
            refused: alias DB is given twice in network web
            refused: alias db of service s: network host has no names
            refused: service s asks for network host and others: a container on host can join no other network
            refused: service s publishes port 8080 and asks for network host: its containers have the host's own ports: they listen there by themselves; leave one of the two out
            refused: service s publishes port 80 and asks for network none: its containers have no network that a port could lead to; leave one of the two out
            refused: service s publishes port 80 and asks for network none: its containers have no network that a port could lead to; leave one of the two out
            refused: service s: port 80 is published through the mesh, which needs endpoint mode vip; use mode=host or vip
            refused: network web is in use by service s: update or remove them first
            0s s has addresses web [10.0.0.2]
            0s create s.1/1 on a 10.0.0.3
            refused: network web is in use by service s: update or remove them first
            0s s has addresses
            0s s Updating: update in progress
            0s want s.1/1 shutdown
            0s create s.1/2 on a
            5s s Completed: update completed
            refused: service s cannot be rolled back: a network of its previous spec is gone
            refused: network i is in use by service m: update or remove them first
              i vni 4097 10.255.0.0/16 gateway 10.255.0.1 (1 of 65534 used) fd72:7377:726d::/64 gateway fd72:7377:726d::1 (1 of 18446744073709551615 used)
        "#]],
    );
}

#[test]
fn a_full_network_makes_tasks_wait_with_the_reason_until_something_is_free_p09_s_70() {
    check(
        "node a
         node b
         network n1 subnet=10.1.0.0/29
         service web x5 net=n1
         plan
         networks
         update web x3
         settle
         update web x4
         settle
         networks
         remove web
         plan
         agents
         plan
         networks",
        expect![[r#"
            0s web has addresses n1 [10.1.0.2]
            0s create web.1/1 on a 10.1.0.3
            0s create web.2/1 on b 10.1.0.4
            0s create web.3/1 on a 10.1.0.5
            0s create web.4/1 on b 10.1.0.6
            0s create web.5/1 waiting: network n1: all 6 addresses of 10.1.0.0/29 are in use (gateway and virtual addresses included); give it more: rswarm network update --subnet-add SUBNET n1
              n1 vni 4096 10.1.0.0/29 gateway 10.1.0.1 (6 of 6 used)
            0s want web.4/1 remove
            0s want web.5/1 remove
            0s status web.5/1 shutdown: network n1: all 6 addresses of 10.1.0.0/29 are in use (gateway and virtual addresses included); give it more: rswarm network update --subnet-add SUBNET n1
            0s forget web.5/1
            0s forget web.4/1
            0s create web.4/2 on b 10.1.0.6
              n1 vni 4096 10.1.0.0/29 gateway 10.1.0.1 (6 of 6 used)
            0s want web.1/1 remove
            0s want web.2/1 remove
            0s want web.3/1 remove
            0s want web.4/2 remove
            0s forget web.1/1
            0s forget web.2/1
            0s forget web.3/1
            0s forget web.4/2
            0s service web gone
              n1 vni 4096 10.1.0.0/29 gateway 10.1.0.1 (1 of 6 used)
        "#]],
    );
}

#[test]
fn an_address_given_back_is_not_the_next_and_dnsrr_takes_no_address() {
    check(
        "node a
         network n1 subnet=10.1.0.0/28
         service web net=n1
         settle
         update web dnsrr force
         settle
         update web vip
         settle
         service other x2 net=n1
         settle",
        expect![[r#"
            0s web has addresses n1 [10.1.0.2]
            0s create web.1/1 on a 10.1.0.3
            0s web has addresses
            0s web Updating: update in progress
            0s want web.1/1 shutdown
            0s create web.1/2 on a 10.1.0.4
            5s web Completed: update completed
            5s web has addresses n1 [10.1.0.5]
            5s other has addresses n1 [10.1.0.6]
            5s create other.1/1 on a 10.1.0.7
            5s create other.2/1 on a 10.1.0.8
        "#]],
    );
}

#[test]
fn changing_networks_replaces_tasks_and_keeps_the_address_in_those_kept() {
    check(
        "node a
         network n1 subnet=10.1.0.0/28
         network n2 subnet=10.2.0.0/28
         service web net=n1
         settle
         update web net=n2
         settle
         update web nets=- net=n2
         settle
         networks",
        expect![[r#"
            0s web has addresses n1 [10.1.0.2]
            0s create web.1/1 on a 10.1.0.3
            0s web has addresses n1 [10.1.0.2] n2 [10.2.0.2]
            0s web Updating: update in progress
            0s want web.1/1 shutdown
            0s create web.1/2 on a 10.1.0.4 10.2.0.3
            5s web Completed: update completed
            5s web has addresses n2 [10.2.0.2]
            5s web Updating: update in progress
            5s want web.1/2 shutdown
            5s create web.1/3 on a 10.2.0.4
            10s web Completed: update completed
              n1 vni 4096 10.1.0.0/28 gateway 10.1.0.1 (1 of 14 used)
              n2 vni 4097 10.2.0.0/28 gateway 10.2.0.1 (3 of 14 used)
        "#]],
    );
}

/// One more than fits a /24, scaled down and up again, and planned by another leader each time: no address is
/// ever two tasks', and none is lost (P09).
#[test]
fn a_24_fills_up_frees_and_fills_again_whoever_leads() {
    let mut world = crate::script::World::new();
    let lines = "node a\nnode b\nnetwork web subnet=10.0.1.0/24\nservice w x260 net=web dnsrr\nplan\nagents";
    lines.lines().for_each(|line| world.line(line));
    let count = |world: &crate::script::World| world.tables.tasks().filter(|task| task.node.is_some()).count();
    assert_eq!(count(&world), 253, "254 addresses, one of them the gateway's");
    let reason = "network web: all 254 addresses of 10.0.1.0/24 are in use";
    let waiting: Vec<_> = world.tables.tasks().filter(|task| task.node.is_none()).collect();
    assert!(waiting.iter().all(|task| task.status.error.starts_with(reason)), "{:?}", waiting[0].status);
    for replicas in [100, 253, 7, 250] {
        let line = format!("update w x{replicas}");
        for line in [line.as_str(), "plan", "agents", "plan", "agents", "plan", "agents"] {
            world.line(line);
            control::invariants::check(&world.tables).expect("invariant");
        }
        assert_eq!(count(&world), replicas);
    }
}

/// Networks that end at the host: the cluster gives out the addresses of a macvlan network, whose hosts share one
/// wire, and leaves those of bridges to the hosts; none has a virtual address (N-11).
#[test]
fn networks_of_single_hosts_n_10_n_11() {
    check(
        "node a
         network b driver=bridge subnet=172.30.0.0/24
         network l driver=macvlan parent=eth0 subnet=192.0.2.0/24
         network m driver=macvlan subnet=192.0.2.0/24
         network m driver=macvlan parent=eth0
         network i driver=ipvlan parent=eth0 subnet=192.0.2.0/24
         network i driver=ipvlan parent=eth1 mode=l4 subnet=192.0.2.0/24
         network i driver=ipvlan parent=eth1 mode=l3
         network i driver=ipvlan parent=eth1 subnet=198.51.100.0/24
         network j driver=ipvlan parent=eth1 mode=l3 subnet=203.0.113.0/24
         network m driver=bridge ipv6
         network m driver=macvlan from=of-the-nodes
         network n from=of-the-nodes
         networks
         service s net=b net=l net=m net=bridge
         plan",
        expect![[r#"
            refused: network m: a macvlan network needs an interface of each host: give the option parent=eth0, or take the nodes' own configurations with config-from
            refused: network m: a macvlan network needs the subnet its parents are on: give it
            refused: network i: its parent eth0 is that of network l too, of another driver or mode, and an interface of a host bears one: choose another parent, or a VLAN of it (parent=eth0.50)
            refused: network i: option ipvlan_mode=l4: ipvlan networks have mode l2, l3 or l3s
            refused: network i: an ipvlan network of this mode needs a subnet that is routed to its hosts: give it
            refused: network j: its parent eth1 is that of network i too, of another driver or mode, and an interface of a host bears one: choose another parent, or a VLAN of it (parent=eth1.50)
            refused: network m: networks that a cluster has on each host by itself have IPv4 only in this version of rswarm
            refused: network of-the-nodes not found
              b vni 0
              l vni 0 192.0.2.0/24 gateway 192.0.2.1 (1 of 254 used)
              i vni 0 198.51.100.0/24 gateway 198.51.100.1 (1 of 254 used)
              m vni 0
            0s create s.1/1 on a 192.0.2.2
        "#]],
    );
}

/// N-12, E-34: single containers get addresses that nobody has, are shown to all that have the network, and go.
#[test]
fn single_containers_in_attachable_networks_n_12() {
    check(
        "node a
         node b
         node c
         network web subnet=10.1.0.0/24 attachable
         network closed
         service db x1 net=web constraint=node.hostname==a
         settle
         attach b c1 web
         attach b c2 web 10.1.0.9 db front
         attach b c2 web 10.1.0.9 db front
         attach c c3 web
         guests
         attach c c2 web
         attach c c4 web 10.1.0.9
         attach c c4 web 10.2.0.9
         attach c c4 web 10.1.0.1
         attach c c4 web -x
         attach c c4 closed
         remove-network web
         attach b c2 web other
         detach c c1 web
         detach b c1 web
         detach b c1 web
         guests
         networks",
        expect![[r#"
            0s db has addresses web [10.1.0.2]
            0s create db.1/1 on a 10.1.0.3
              c1 in web at 10.1.0.4 [] told to a b c
              c2 in web at 10.1.0.9 [db,front] told to a b c
              c3 in web at 10.1.0.5 [] told to a b c
            refused: container c2 is in network web on node 00000000000alio6svwp1hpfl: remove it there first
            refused: network web: address 10.1.0.9 is already in use, or not to be given out: choose another, or none
            refused: network web: no configured subnet contains IP address 10.2.0.9
            refused: network web: address 10.1.0.1 is already in use, or not to be given out: choose another, or none
            refused: alias "-x" in network web is no DNS name: letters, digits, '-', '_' and '.', at most 253 characters, beginning and ending with a letter or digit
            refused: Could not attach to network closed: rpc error: code = PermissionDenied desc = network closed not manually attachable
            refused: network web is in use by service db: update or remove them first
            refused: container c1 is one of node 00000000000alio6svwp1hpfl, which alone may take it out of a network
              c2 in web at 10.1.0.9 [other] told to a b c
              c3 in web at 10.1.0.5 [] told to a b c
              web vni 4096 10.1.0.0/24 gateway 10.1.0.1 (5 of 254 used)
              closed vni 4097 10.0.0.0/24 gateway 10.0.0.1 (1 of 254 used)
        "#]],
    );
}

/// N-12: a new leader knows the places, and with its node a container's place goes. (What a node that is down shows
/// is an invariant, which the simulator checks.)
#[test]
fn places_of_single_containers_follow_their_node_n_12() {
    check(
        "node a
         node b
         network web subnet=10.1.0.0/24 attachable
         network closed
         attach a c1 closed
         attach a c1 web
         attach b c2 web
         guests
         snapshot
         guests
         remove-node b
         guests
         networks",
        expect![[r#"
            refused: Could not attach to network closed: rpc error: code = PermissionDenied desc = network closed not manually attachable
              c1 in web at 10.1.0.2 [] told to a b
              c2 in web at 10.1.0.3 [] told to a b
              c1 in web at 10.1.0.2 [] told to a b
              c2 in web at 10.1.0.3 [] told to a b
              c1 in web at 10.1.0.2 [] told to a b
              web vni 4096 10.1.0.0/24 gateway 10.1.0.1 (2 of 254 used)
              closed vni 4097 10.0.0.0/24 gateway 10.0.0.1 (1 of 254 used)
        "#]],
    );
}

/// N-23, P09: every address of a subnet is used, one task more waits and says why, and what is given back is given
/// out again, whoever leads.
#[test]
fn a_full_network_p_09() {
    check(
        "node a
         network small subnet=10.1.0.0/29 attachable
         service web x5 net=small
         settle 1m
         networks
         attach a c1 small
         update web x3
         settle
         attach a c1 small
         guests
         snapshot
         update web x4
         settle 1m
         detach a c1 small
         settle 1m
         show
         networks",
        expect![[r#"
            0s web has addresses small [10.1.0.2]
            0s create web.1/1 on a 10.1.0.3
            0s create web.2/1 on a 10.1.0.4
            0s create web.3/1 on a 10.1.0.5
            0s create web.4/1 on a 10.1.0.6
            0s create web.5/1 waiting: network small: all 6 addresses of 10.1.0.0/29 are in use (gateway and virtual addresses included); give it more: rswarm network update --subnet-add SUBNET small
              small vni 4096 10.1.0.0/29 gateway 10.1.0.1 (6 of 6 used)
            refused: network small: all 6 addresses of 10.1.0.0/29 are in use (gateway and virtual addresses included); give it more: rswarm network update --subnet-add SUBNET small, or remove tasks or containers from it
            60s want web.4/1 remove
            60s want web.5/1 remove
            60s status web.5/1 shutdown: network small: all 6 addresses of 10.1.0.0/29 are in use (gateway and virtual addresses included); give it more: rswarm network update --subnet-add SUBNET small
            60s forget web.5/1
            60s forget web.4/1
              c1 in small at 10.1.0.6 [] told to a
            60s create web.4/2 waiting: network small: all 6 addresses of 10.1.0.0/29 are in use (gateway and virtual addresses included); give it more: rswarm network update --subnet-add SUBNET small
            120s place web.4/2 on a 10.1.0.6
              web.1/1 on a running (wants running)
              web.2/1 on a running (wants running)
              web.3/1 on a running (wants running)
              web.4/2 on a running (wants running)
              small vni 4096 10.1.0.0/29 gateway 10.1.0.1 (6 of 6 used)
        "#]],
    );
}

/// N-23: the same of a subnet of Docker's usual size: 253 addresses beside the gateway's, one of them virtual.
#[test]
fn a_network_of_253_addresses_n_23() {
    let mut world = crate::script::World::new();
    for line in ["node a", "network wide subnet=10.1.0.0/24", "service web x254 net=wide", "settle"] {
        world.line(line);
    }
    let placed = |world: &crate::script::World| {
        let placed = world.tables.tasks().filter(|task| task.status.state == types::TaskState::Running);
        let addresses: std::collections::BTreeSet<_> = placed.map(|task| task.attachments[0].addresses[0]).collect();
        addresses.len()
    };
    let waits = |world: &crate::script::World| {
        let waiting = world.tables.tasks().filter(|task| task.status.state == types::TaskState::Pending);
        waiting.map(|task| task.status.error.clone()).collect::<Vec<_>>()
    };
    assert_eq!(placed(&world), 252);
    let full = "network wide: all 254 addresses of 10.1.0.0/24 are in use (gateway and virtual addresses included); give \
                it more: rswarm network update --subnet-add SUBNET wide";
    assert_eq!(waits(&world), [full, full]);
    for line in ["snapshot", "update web x200", "settle", "update web x252", "settle"] {
        world.line(line);
        control::invariants::check(&world.tables).expect("invariant");
    }
    assert_eq!((placed(&world), waits(&world)), (252, Vec::new()));
    for line in ["snapshot", "remove web", "settle"] {
        world.line(line);
    }
    assert_eq!(world.tables.tasks().count(), 0);
    world.out.clear();
    world.line("networks");
    assert_eq!(world.out.trim(), "wide vni 4096 10.1.0.0/24 gateway 10.1.0.1 (1 of 254 used)");
}
