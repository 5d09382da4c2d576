//! What is told of objects, step by step: C-39, C-36.

use std::{collections::BTreeSet, fmt::Write as _};

use control::Tables;
use expect_test::expect;
use types::{ObjectAction, ObjectEvent, ObjectKind};

use crate::{check, script::World};

/// Everything told, and what a listener knows from it.
#[derive(Default)]
pub struct Happened {
    told: Vec<ObjectEvent>,
    /// The value when it was last shown.
    shown: Tables,
    known: BTreeSet<(ObjectKind, String)>,
}

impl Happened {
    /// A listener that only hears events has the same list of objects as one who looks.
    pub fn follow(&mut self, before: &Tables, after: &Tables) {
        for event in control::events(before, after) {
            let object = (event.kind, event.id.clone());
            match event.action {
                ObjectAction::Create => assert!(self.known.insert(object), "created twice: {event:?}"),
                ObjectAction::Update | ObjectAction::Rollback => _ = self.known.insert(object),
                ObjectAction::Remove => assert!(self.known.remove(&object), "removed, but not known: {event:?}"),
            }
            self.told.push(event);
        }
        let ids = |kind| self.known.iter().filter(move |(known, _)| *known == kind).map(|(_, id)| id.clone());
        assert!(ids(ObjectKind::Node).eq(after.nodes().map(|node| node.id.to_string())));
        assert!(ids(ObjectKind::Task).eq(after.tasks().map(|task| task.id.to_string())));
        let services = after.services().filter(|service| !service.removing);
        assert!(ids(ObjectKind::Service).eq(services.map(|service| service.id.to_string())));
        assert!(ids(ObjectKind::Stack).eq(after.stacks().map(|stack| stack.name.to_string())));
        assert!(ids(ObjectKind::Network).eq(after.networks().map(|network| network.id.to_string())));
    }
}

impl World {
    pub fn show_events(&mut self) {
        let told = std::mem::take(&mut self.happened.told);
        self.write_events(&told);
        self.happened.shown = self.tables.clone();
    }

    pub fn show_merged(&mut self) {
        let told = control::events(&self.happened.shown, &self.tables);
        self.write_events(&told);
        self.happened.told.clear();
        self.happened.shown = self.tables.clone();
    }

    /// Without ids, which are other ones each time.
    fn write_events(&mut self, told: &[ObjectEvent]) {
        for event in told {
            let (kind, action) = (format!("{:?}", event.kind).to_lowercase(), event.action.name());
            let name = &event.attributes["name"];
            let shown = |key: &&String| !["name", "node", "service.id", "service", "slot"].contains(&key.as_str());
            let attributes = event.attributes.iter().filter(|(key, _)| shown(key));
            let attributes: Vec<String> = attributes.map(|(key, value)| format!("{key}={value}")).collect();
            writeln!(self.out, "{}", format!("  {kind} {action} {name} {}", attributes.join(" ")).trim_end()).unwrap();
        }
    }
}

#[test]
fn c_39_events_of_a_service_and_its_tasks() {
    check(
        "node a
         events
         service web x1 image=a
         plan
         report web.1 running
         events
         update web image=b
         update web x2
         events
         settle
         events
         remove web
         events
         settle
         events",
        expect![[r#"
              node create a
            0s create web.1/1 on a
              service create web
              task create web.1 image=a node.name=a state=assigned
              task update web.1 image=a node.name=a state.new=running state.old=assigned
              service update web image.new=b image.old=a
              service update web replicas.new=2 replicas.old=1
            0s create web.2/1 on a
            0s web Updating: update in progress
            0s want web.1/1 shutdown
            0s create web.1/2 on a
            5s web Completed: update completed
              service update web updatestate.new=updating
              task create web.2 image=b node.name=a state=assigned
              task update web.2 image=b node.name=a state.new=running state.old=assigned
              task update web.1 desired.new=shutdown desired.old=running image=a node.name=a
              task update web.1 image=a node.name=a state.new=shutdown state.old=running
              task create web.1 image=b node.name=a state=assigned
              task update web.1 image=b node.name=a state.new=running state.old=assigned
              service update web updatestate.new=completed updatestate.old=updating
              service remove web
            5s want web.1/1 remove
            5s want web.1/2 remove
            5s want web.2/1 remove
            5s forget web.1/1
            5s forget web.1/2
            5s forget web.2/1
            5s service web gone
              task remove web.1 image=a node.name=a state=shutdown
              task update web.2 desired.new=remove desired.old=running image=b node.name=a
              task update web.1 desired.new=remove desired.old=running image=b node.name=a
              task update web.2 image=b node.name=a state.new=shutdown state.old=running
              task update web.1 image=b node.name=a state.new=shutdown state.old=running
              task remove web.2 image=b node.name=a state=shutdown
              task remove web.1 image=b node.name=a state=shutdown
        "#]],
    );
}

#[test]
fn c_39_events_of_nodes_networks_secrets_and_configs() {
    check(
        "node a
         node b
         events
         drain a
         pause a
         activate a
         label a zone=1
         events
         network n1
         secret s1 one
         config c1 one
         events
         new s1 two
         remove-secret s1
         remove-network n1
         events
         silent b
         wait 2m
         plan
         plan
         remove-node b
         events",
        expect![[r#"
              node create a
              node create b
              node update a availability.new=drain availability.old=active
              node update a availability.new=pause availability.old=drain
              node update a availability.new=active availability.old=pause
              node update a zone=1
              network create n1
              secret create s1
              config create c1
              secret update s1
              secret remove s1
              network remove n1
            120s node b unreachable control stream silent for 2m0s; 0 of 0 probing nodes still reach it: its tasks are left alone
              node update b state.new=disconnected state.old=ready
              node remove b
        "#]],
    );
}

#[test]
fn p12_a_task_tells_that_its_files_changed() {
    check(
        "node a
         config c1 one
         service web config=c1 label=rswarm.refresh:none
         settle
         events
         new c1 two
         plan
         events",
        expect![[r#"
            0s create web.1/1 on a
              node create a
              config create c1
              service create web rswarm.refresh=none
              task create web.1 image=app node.name=a state=assigned
              task update web.1 image=app node.name=a state.new=running state.old=assigned
            0s web Updating: update in progress
            0s refresh web.1/1
              config update c1
              service update web rswarm.refresh=none
              service update web rswarm.refresh=none updatestate.new=updating
              task update web.1 image=app node.name=a refreshed=true
        "#]],
    );
}

/// C-36: who did not see the steps between learns of what there is now, and of nothing that came and went.
#[test]
fn c_36_merged_steps_tell_what_is_there_now() {
    check(
        "node a
         events
         service web x1 image=a
         plan
         report web.1 running
         service gone x0 image=a
         remove gone
         plan
         merged
         update web image=b
         update web image=a
         merged",
        expect![[r#"
              node create a
            0s create web.1/1 on a
            0s service gone gone
              service create web
              task create web.1 image=a node.name=a state=running
              service update web
        "#]],
    );
}

#[test]
fn c_39_events_of_a_stack() {
    check(
        "node a
         events
         stack shop | service web image=a needs=nobody:healthy
         stack shop | service web image=a
         events
         stack shop | service web image=a
         stack shop | service web image=b
         roll-back shop
         events
         remove-stack shop
         events",
        expect![[r#"
              node create a
            refused: nothing of stack shop was changed: service web depends on service nobody, which is not there: create it first, or deploy both as one stack
              service create web com.docker.stack.namespace=shop
              stack create shop by=me revision=1
              service update web com.docker.stack.namespace=shop image.new=b image.old=a
              stack update shop by=me revision.new=2 revision.old=1
              service update web com.docker.stack.namespace=shop image.new=a image.old=b updatestate.new=rollback_started
              stack rollback shop backto=1 by=somebody revision.new=3 revision.old=2
              service remove web com.docker.stack.namespace=shop
              stack remove shop revision=3
        "#]],
    );
}
