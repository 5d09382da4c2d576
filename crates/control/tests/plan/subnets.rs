//! Networks with more than one subnet of a family, from the beginning or added to one that is full.

use expect_test::expect;

use crate::check;

/// P09: what waits for an address goes on as soon as there is one; who has one keeps it, whoever leads; what cannot be
/// added is refused, and nothing of it is there.
#[test]
fn p09_a_subnet_is_added_to_a_full_network() {
    check(
        "node a
         network web subnet=10.1.0.0/29 subnet=fd01::/64
         network other subnet=10.3.0.0/24
         network plain subnet=10.4.0.0/29
         service w x5 net=web
         settle
         networks
         add-subnet web subnet=10.3.0.0/29
         add-subnet web subnet=10.1.0.0/30
         add-subnet web subnet=10.2.0.0/29 gateway=10.5.0.1
         add-subnet plain subnet=fd02::/64
         network b driver=bridge
         add-subnet b subnet=10.9.0.0/24
         networks
         add-subnet web subnet=10.2.0.0/29 gateway=10.2.0.6
         settle
         networks
         snapshot
         update w x8
         settle
         networks
         update w x2
         settle
         add-subnet web subnet=fd03::/64
         networks",
        expect![[r#"
            0s w has addresses web [10.1.0.2, fd01::2]
            0s create w.1/1 on a 10.1.0.3 fd01::3
            0s create w.2/1 on a 10.1.0.4 fd01::4
            0s create w.3/1 on a 10.1.0.5 fd01::5
            0s create w.4/1 on a 10.1.0.6 fd01::6
            0s create w.5/1 waiting: network web: all 6 addresses of 10.1.0.0/29 are in use (gateway and virtual addresses included); give it more: rswarm network update --subnet-add SUBNET web
              web vni 4096 10.1.0.0/29 gateway 10.1.0.1 (6 of 6 used) fd01::/64 gateway fd01::1 (6 of 18446744073709551615 used)
              other vni 4097 10.3.0.0/24 gateway 10.3.0.1 (1 of 254 used)
              plain vni 4098 10.4.0.0/29 gateway 10.4.0.1 (1 of 6 used)
            refused: network web: subnet 10.3.0.0/29 overlaps 10.3.0.0/24 of network other: choose another, or none
            refused: network web: subnet 10.1.0.0/30 overlaps 10.1.0.0/29 of network web: choose another, or none
            refused: network web: gateway 10.5.0.1 is outside of its subnet 10.2.0.0/29
            refused: network plain: subnet fd02::/64 is of a family that its endpoints have no address of: give one of the family of 10.4.0.0/29
            refused: network b: only an overlay network can get another subnet: make a second network
              web vni 4096 10.1.0.0/29 gateway 10.1.0.1 (6 of 6 used) fd01::/64 gateway fd01::1 (6 of 18446744073709551615 used)
              other vni 4097 10.3.0.0/24 gateway 10.3.0.1 (1 of 254 used)
              plain vni 4098 10.4.0.0/29 gateway 10.4.0.1 (1 of 6 used)
              b vni 0
            598.8s place w.5/1 on a 10.2.0.1 fd01::7
              web vni 4096 10.1.0.0/29 gateway 10.1.0.1 (6 of 6 used) 10.2.0.0/29 gateway 10.2.0.6 (2 of 6 used) fd01::/64 gateway fd01::1 (7 of 18446744073709551615 used)
              other vni 4097 10.3.0.0/24 gateway 10.3.0.1 (1 of 254 used)
              plain vni 4098 10.4.0.0/29 gateway 10.4.0.1 (1 of 6 used)
              b vni 0
            598.8s create w.6/1 on a 10.2.0.2 fd01::8
            598.8s create w.7/1 on a 10.2.0.3 fd01::9
            598.8s create w.8/1 on a 10.2.0.4 fd01::a
              web vni 4096 10.1.0.0/29 gateway 10.1.0.1 (6 of 6 used) 10.2.0.0/29 gateway 10.2.0.6 (5 of 6 used) fd01::/64 gateway fd01::1 (10 of 18446744073709551615 used)
              other vni 4097 10.3.0.0/24 gateway 10.3.0.1 (1 of 254 used)
              plain vni 4098 10.4.0.0/29 gateway 10.4.0.1 (1 of 6 used)
              b vni 0
            598.8s want w.3/1 remove
            598.8s want w.4/1 remove
            598.8s want w.5/1 remove
            598.8s want w.6/1 remove
            598.8s want w.7/1 remove
            598.8s want w.8/1 remove
            598.8s forget w.3/1
            598.8s forget w.4/1
            598.8s forget w.5/1
            598.8s forget w.6/1
            598.8s forget w.7/1
            598.8s forget w.8/1
              web vni 4096 10.1.0.0/29 gateway 10.1.0.1 (4 of 6 used) 10.2.0.0/29 gateway 10.2.0.6 (1 of 6 used) fd01::/64 gateway fd01::1 (4 of 18446744073709551615 used) fd03::/64 gateway fd03::1 (1 of 18446744073709551615 used)
              other vni 4097 10.3.0.0/24 gateway 10.3.0.1 (1 of 254 used)
              plain vni 4098 10.4.0.0/29 gateway 10.4.0.1 (1 of 6 used)
              b vni 0
        "#]],
    );
}

/// P09, N-06: an overlay may begin with several subnets of a family, in any order; they are used when those before are full.
#[test]
fn p09_a_network_may_begin_with_more_subnets() {
    check(
        "node a
         network web subnet=10.1.0.0/29 subnet=fd01::/64 subnet=10.2.0.0/29
         service w x6 net=web
         settle
         networks",
        expect![[r#"
            0s w has addresses web [10.1.0.2, fd01::2]
            0s create w.1/1 on a 10.1.0.3 fd01::3
            0s create w.2/1 on a 10.1.0.4 fd01::4
            0s create w.3/1 on a 10.1.0.5 fd01::5
            0s create w.4/1 on a 10.1.0.6 fd01::6
            0s create w.5/1 on a 10.2.0.2 fd01::7
            0s create w.6/1 on a 10.2.0.3 fd01::8
              web vni 4096 10.1.0.0/29 gateway 10.1.0.1 (6 of 6 used) 10.2.0.0/29 gateway 10.2.0.1 (3 of 6 used) fd01::/64 gateway fd01::1 (8 of 18446744073709551615 used)
        "#]],
    );
}
