//! A rotation of the root, as the value tells it (parity C-18).

use control::{Change, Proposal, Rejection, admission, roots};
use types::*;

use crate::script::World;

const OLD: &str = "OLD\n";

struct Rotation {
    world: World,
}

fn next(certificate: &str) -> RootRotation {
    RootRotation { certificate_pem: certificate.into(), key_pem: "KEY".into(), cross_signed_pem: "CROSS".into() }
}

impl Rotation {
    fn new(nodes: &[&str]) -> Self {
        let mut world = World::new();
        for line in nodes {
            world.line(&format!("node {line}"));
        }
        let mut rotation = Self { world };
        let mut cluster = rotation.cluster();
        cluster.root_ca = RootCa::new(OLD, "KEY");
        rotation.apply(Change::PutCluster(Box::new(cluster)));
        for id in rotation.world.tables.nodes().map(|node| node.id).collect::<Vec<_>>() {
            rotation.tell(id, OLD, "");
        }
        rotation
    }

    fn cluster(&self) -> Cluster {
        (**self.world.tables.cluster().unwrap()).clone()
    }

    fn apply(&mut self, change: Change) {
        let at = self.world.now;
        let index = self.world.tables.index() + 1;
        self.world.tables.apply(index, &Proposal { at, expects: vec![], changes: vec![change] }).unwrap();
    }

    /// What a node says of its certificate.
    fn tell(&mut self, node: NodeId, issuer: &str, roots: &str) {
        let known = self.world.tables.node(node).unwrap().description.clone().unwrap_or_default();
        let description =
            Box::new(NodeDescription { tls_issuer_pem: issuer.into(), tls_roots_pem: roots.into(), ..known });
        self.apply(Change::NodeDescribed { node, description, address: None });
    }

    fn ask(&mut self, root: Option<RootRotation>) -> Result<(), Rejection> {
        let cluster = self.cluster();
        let mut spec = cluster.spec.clone();
        spec.ca.force_rotate += u64::from(root.is_none());
        let request = WriteRequest::UpdateCluster {
            version: cluster.meta.version,
            spec: Box::new(spec),
            rotate_worker_token: false,
            rotate_manager_token: false,
            rotate_unlock_key: false,
            root: root.map(Box::new),
        };
        let (proposal, _) = admission::admit(&self.world.tables, &request, self.world.now, &mut || 7)?;
        let index = self.world.tables.index() + 1;
        self.world.tables.apply(index, &proposal)
    }

    /// Applies what the leader proposes.
    fn plan(&mut self) {
        let mut fresh = 0x7000;
        let mut ids = || {
            fresh += 1;
            fresh
        };
        let planned = self.world.planner.plan(&self.world.tables, &self.world.observed, self.world.now, &mut ids);
        if !planned.changes.is_empty() {
            let index = self.world.tables.index() + 1;
            self.world.tables.apply(index, &planned.proposal(self.world.now)).unwrap();
        }
    }

    fn ids(&self) -> Vec<NodeId> {
        self.world.tables.nodes().map(|node| node.id).collect()
    }
}

#[test]
fn c_18_the_old_root_goes_when_all_nodes_have_the_new_one_and_tokens_with_it() {
    let mut r = Rotation::new(&["a", "b state=down", "c"]);
    let [a, b, c] = r.ids()[..] else { panic!() };
    assert!(roots::renewing(&r.world.tables).is_empty(), "at rest nobody renews");
    r.ask(Some(next("NEW\n"))).unwrap();
    let join = r.cluster().join;
    assert_eq!(r.cluster().root_ca.issuer_pem(), "NEW\n");
    assert_eq!(roots::renewing(&r.world.tables), [a, c].into(), "who is down comes later");
    for (node, waiting) in [(a, vec![c]), (c, vec![])] {
        r.plan();
        assert!(r.cluster().root_ca.rotation.is_some());
        r.tell(node, "NEW\n", "OLD\nNEW\n");
        assert_eq!(roots::renewing(&r.world.tables), waiting.into_iter().collect());
    }
    r.plan();
    assert!(r.cluster().root_ca.rotation.is_some(), "the node that is down is waited for: it could not come back");
    r.apply(Change::NodeState { node: b, state: NodeState::Ready, message: String::new() });
    assert_eq!(roots::renewing(&r.world.tables), [b].into());
    r.tell(b, "NEW\n", "OLD\nNEW\n");
    r.plan();
    let cluster = r.cluster();
    assert_eq!(cluster.root_ca, RootCa::new("NEW\n", "KEY"));
    assert!(cluster.join.worker != join.worker && cluster.join.manager != join.manager);
    assert!(cluster.join.worker != cluster.join.manager);
    // and now the old root leaves the nodes' trust
    assert_eq!(roots::renewing(&r.world.tables), [a, b, c].into());
    r.tell(a, "NEW\n", "");
    assert_eq!(roots::renewing(&r.world.tables), [b, c].into());
    r.plan();
    assert_eq!(r.cluster(), cluster, "that is all");
}

#[test]
fn c_18_nodes_that_are_gone_are_not_waited_for() {
    let mut r = Rotation::new(&["a", "b", "c"]);
    let [a, b, c] = r.ids()[..] else { panic!() };
    r.ask(Some(next("NEW\n"))).unwrap();
    r.tell(a, "NEW\n", "OLD\nNEW\n");
    let message = admission::LEFT_MESSAGE.to_owned();
    r.apply(Change::NodeState { node: b, state: NodeState::Down, message });
    r.plan();
    assert!(r.cluster().root_ca.rotation.is_some());
    r.apply(Change::RemoveNode(c));
    r.plan();
    assert_eq!(r.cluster().root_ca, RootCa::new("NEW\n", "KEY"));
}

#[test]
fn c_18_a_second_rotation_replaces_the_first_and_the_present_root_ends_it() {
    let mut r = Rotation::new(&["a", "b"]);
    let [a, b] = r.ids()[..] else { panic!() };
    r.ask(Some(next("FIRST\n"))).unwrap();
    r.tell(a, "FIRST\n", "OLD\nFIRST\n");
    let begun = r.cluster().root_ca;
    let again = RootRotation { cross_signed_pem: "SIGNED ANEW".into(), ..next("FIRST\n") };
    r.ask(Some(again)).unwrap();
    assert_eq!(r.cluster().root_ca, begun, "the same once more changes nothing");
    r.ask(Some(next("SECOND\n"))).unwrap();
    assert_eq!(roots::renewing(&r.world.tables), [a, b].into());
    r.tell(b, "SECOND\n", "OLD\nSECOND\n");
    r.plan();
    assert_eq!(r.cluster().root_ca.issuer_pem(), "SECOND\n", "one has the first still");
    r.ask(Some(next(OLD))).unwrap();
    assert_eq!(r.cluster().root_ca, RootCa::new(OLD, "KEY"));
    assert_eq!(roots::renewing(&r.world.tables), [a, b].into(), "they go back");
    r.tell(a, OLD, "");
    assert_eq!(roots::renewing(&r.world.tables), [b].into());
}

#[test]
fn c_18_nodes_renew_thirty_at_a_time() {
    // the script makes ids of names' lengths
    let names: Vec<String> = (1..=75).map(|length| "n".repeat(length)).collect();
    let mut r = Rotation::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    r.ask(Some(next("NEW\n"))).unwrap();
    let mut rounds = 0;
    while r.cluster().root_ca.rotation.is_some() {
        let turn = roots::renewing(&r.world.tables);
        assert!((1..=30).contains(&turn.len()), "{}", turn.len());
        for node in turn {
            r.tell(node, "NEW\n", "OLD\nNEW\n");
        }
        r.plan();
        rounds += 1;
    }
    assert_eq!(rounds, 3);
}

#[test]
fn c_18_a_root_that_nobody_made_is_refused() {
    let mut r = Rotation::new(&["a"]);
    let refused = r.ask(None).unwrap_err().to_string();
    assert!(refused.contains("older than this one"), "{refused}");
    let unsigned = RootRotation { cross_signed_pem: String::new(), ..next("NEW\n") };
    assert!(r.ask(Some(unsigned)).is_err());
    assert_eq!(r.cluster().root_ca, RootCa::new(OLD, "KEY"));
}
