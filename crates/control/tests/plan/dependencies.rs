//! Secrets and configs: who is told of them, what is refused, and how services follow a new version.

use std::fmt::Write as _;

use expect_test::expect;
use types::*;

use crate::{check, script::World};

impl World {
    pub fn create_dependency(&mut self, kind: DependencyKind, words: &[&str]) {
        let data = Payload::new(words[1].as_bytes().to_vec());
        let (name, labels) = (words[0].parse().unwrap(), Labels::new());
        let spec = DependencySpec { kind, name, labels, data, is_template: false };
        self.write(&WriteRequest::CreateDependency(Box::new(spec)));
    }

    pub fn has_dependency(&self, name: &str) -> bool {
        self.present(name).is_some()
    }

    fn present(&self, name: &str) -> Option<&Dependency> {
        let is_it = |version: &&std::sync::Arc<Dependency>| version.spec.name.as_str() == name && !version.superseded;
        self.tables.dependencies().find(is_it).map(|version| &**version)
    }

    pub fn dependency_id(&self, name: &str) -> DependencyId {
        self.present(name).expect("secret or config of the script").id
    }

    pub fn new_version(&mut self, name: &str, data: &str) {
        let old = self.present(name).expect("secret or config of the script");
        let (id, version, labels) = (old.id, old.meta.version, old.spec.labels.clone());
        let data = Some(Payload::new(data.as_bytes().to_vec()));
        self.write(&WriteRequest::UpdateDependency { id, version, labels, data });
    }

    /// From what the node was told, not from the value.
    pub fn show_files(&mut self, node: NodeId) {
        let (_, set) = &self.told[&node];
        let text = |file: &AssignedDependency| String::from_utf8_lossy(file.data.bytes()).into_owned();
        let mut all: Vec<String> = set.dependencies.values().map(text).collect();
        all.sort();
        let name = self.node_name(node);
        writeln!(self.out, "  {name} has [{}]", all.join(" ")).unwrap();
    }
}

#[test]
fn x02_only_the_node_of_a_task_is_told_and_only_as_long_as_it_may_need_it() {
    check(
        "node a
         node b
         secret s1 password
         config c1 settings
         config c2 unused
         files a
         service web x1 secret=s1 config=c1:/etc/app
         plan
         files a
         files b
         report web.1 running
         files b
         snapshot
         files b
         report web.1 failed
         files b",
        expect![[r#"
              a has []
            0s create web.1/1 on b
              a has []
              b has [password settings]
              b has [password settings]
              b has [password settings]
              b has []
        "#]],
    );
}

#[test]
fn x01_what_is_refused_is_said() {
    check(
        "node a
         secret s1 one
         secret s1 two
         config s1 a-config-may-have-the-name
         service web secret=s1 secret=s1:other secret=nope secret=neither
         service web secret=s1 secret=s1
         service web secret=s1:a/../b
         service web secret=s1
         service api secret=s1:/key
         remove-secret s1
         update api secrets=-
         remove-secret s1
         remove web
         remove-secret s1
         files a",
        expect![[r#"
            refused: name conflicts with an existing object: secret s1 already exists
            refused: secrets not found: nope, neither; create them first, service web asks for them
            refused: secret references 's1' and 's1' have a conflicting target: 's1'; give one of them another target
            refused: secret s1: invalid target "a/../b": a path cannot have . or .. in it
            refused: secret 's1' is in use by the following services: web, api; take it from them with `service update --secret-rm s1`, or remove them, first
            refused: secret 's1' is in use by the following service: web; take it from them with `service update --secret-rm s1`, or remove them, first
              a has []
        "#]],
    );
}

#[test]
fn p12_services_follow_a_new_version_by_a_rollout_and_a_rollback_finds_the_old_one() {
    check(
        "node a
         secret s1 one
         service web x2 secret=s1 parallelism=1 monitor=1s delay=1s
         service other x1
         settle
         new s1 two
         plan
         settle
         files a
         rollback web
         settle
         files a
         new s1 three
         settle
         new s1 four
         settle
         files a",
        expect![[r#"
            0s create web.1/1 on a
            0s create web.2/1 on a
            0s create other.1/1 on a
            0s web Updating: update in progress
            0s want web.1/1 shutdown
            0s create web.1/2 on a
            1s want web.2/1 shutdown
            1s create web.2/2 on a
            2s web Completed: update completed
              a has [two]
            2s want web.1/2 shutdown
            2s create web.1/3 on a
            2s want web.2/2 shutdown
            2s create web.2/3 on a
            7s web RollbackCompleted: rollback completed
              a has [one]
            7s web Updating: update in progress
            7s want web.1/3 shutdown
            7s create web.1/4 on a
            8s want web.2/3 shutdown
            8s create web.2/4 on a
            9s web Completed: update completed
            9s web Updating: update in progress
            9s want web.1/4 shutdown
            9s create web.1/5 on a
            10s want web.2/4 shutdown
            10s create web.2/5 on a
            11s web Completed: update completed
              a has [four]
        "#]],
    );
    let mut world = World::new();
    for line in ["node a", "secret s1 one", "service web secret=s1", "settle"] {
        world.line(line);
    }
    for data in 2..=20 {
        world.line(&format!("new s1 v{data}"));
        world.line("settle");
    }
    let count = world.tables.dependencies().count();
    // the present one, those that the service can go back to, and the one that the next change will drop
    assert_eq!(count, KEPT_REVISIONS + 2);
    for line in ["rollback web 12", "settle", "files a"] {
        world.line(line);
    }
    assert!(world.out.ends_with("a has [v12]\n"), "{}", world.out);
}

#[test]
fn p12_with_the_label_tasks_stay_and_get_the_new_version_and_a_rollback_gives_back_the_old_one() {
    check(
        "node a
         secret s1 one
         config c1 blue
         service web x2 secret=s1 config=c1 monitor=1s label=rswarm.refresh:signal:HUP
         service other x1 secret=s1
         settle
         new c1 red
         settle
         files a
         rollback web
         settle
         files a
         show",
        expect![[r#"
            0s create web.1/1 on a
            0s create web.2/1 on a
            0s create other.1/1 on a
            0s web Updating: update in progress
            0s refresh web.1/1
            0s refresh web.2/1
            1s web Completed: update completed
              a has [one red]
            1s refresh web.1/1
            1s refresh web.2/1
            6s web RollbackCompleted: rollback completed
              a has [blue one]
              other.1/1 on a running (wants running)
              web.1/1 on a running (wants running)
              web.2/1 on a running (wants running)
        "#]],
    );
}

#[test]
fn p12_a_task_that_fails_with_its_new_files_fails_the_update() {
    check(
        "node a
         config c1 good
         service web config=c1 action=rollback restart=none label=rswarm.refresh:signal:HUP
         settle
         wait 10s
         new c1 bad
         plan
         files a
         report web.1 failed exit 1
         settle
         files a
         show",
        expect![[r#"
            0s create web.1/1 on a
            10s web Updating: update in progress
            10s refresh web.1/1
              a has [bad]
            10s web back to image app
            10s want web.1/1 shutdown
            10s create web.1/2 on a
            15s web RollbackCompleted: rollback completed: the update was undone due to failure or early termination of task web.1/1: exit 1
              a has [good]
              web.1/1 on a failed (wants shutdown): exit 1
              web.1/2 on a running (wants running)
        "#]],
    );
}

/// What does not run yet is replaced, and so is what needs more than other data.
#[test]
fn p12_only_what_runs_is_refreshed_and_only_by_other_data() {
    check(
        "node a
         config c1 one
         service web config=c1 monitor=1s label=rswarm.refresh:none
         plan
         new c1 two
         plan
         settle
         update web secrets=- config=c1:/etc/other
         settle
         service bad label=rswarm.refresh:restart
         service night done=1 label=rswarm.refresh:none",
        expect![[r#"
            0s create web.1/1 on a
            0s web Updating: update in progress
            0s want web.1/1 shutdown
            0s create web.1/2 on a
            1s web Completed: update completed
            1s web Updating: update in progress
            1s want web.1/2 shutdown
            1s create web.1/3 on a
            2s web Completed: update completed
            refused: service bad: label rswarm.refresh: "restart" does not say what a container gets when its files change; use signal:NAME, such as signal:HUP, or none
            refused: service night: label rswarm.refresh is for services that go on running; the next tasks of a replicated-job have the new files by themselves: leave it off
        "#]],
    );
}

/// The value names the new version at once; the node hears of it when it is back.
#[test]
fn p12_a_task_whose_node_is_away_stays_too() {
    check(
        "node a
         config c1 one
         service web config=c1 lost-after=10m label=rswarm.refresh:signal:HUP
         settle
         silent a
         wait 2m
         plan
         new c1 two
         plan
         files a",
        expect![[r#"
            0s create web.1/1 on a
            120s node a unreachable control stream silent for 2m0s; 0 of 0 probing nodes still reach it: its tasks are left alone
            120s web Updating: update in progress
            120s refresh web.1/1
              a has [two]
        "#]],
    );
}

#[test]
fn x01_the_data_of_a_secret_is_in_no_view_and_no_print() {
    let mut world = World::new();
    world.line("secret s1 hidden");
    world.line("config c1 shown");
    let read = |request| control::view::read(&world.tables, &request).unwrap();
    let ReadReply::Dependency(secret) = read(ReadRequest::Dependency(DependencyKind::Secret, "s1".into())) else {
        panic!("a secret was asked for");
    };
    let ReadReply::Dependencies(configs) = read(ReadRequest::Dependencies(DependencyKind::Config, Filters::new()))
    else {
        panic!("configs were asked for");
    };
    assert!(secret.spec.data.is_empty());
    assert_eq!(configs[0].spec.data.bytes(), b"shown");
    assert!(!format!("{:?}", world.tables).contains("hidden"));
    let filters = |key: &str, value: &str| Filters::from([(key.to_owned(), vec![value.to_owned()])]);
    let count = |filters| match read(ReadRequest::Dependencies(DependencyKind::Secret, filters)) {
        ReadReply::Dependencies(all) => all.len(),
        _ => 99,
    };
    assert_eq!(["s", "s1", "1"].map(|name| count(filters("name", name))), [1, 1, 0]);
    assert_eq!(["s", "s1"].map(|name| count(filters("names", name))), [0, 1]);
    assert_eq!(count(filters("label", "x")), 0);
}

#[test]
fn x01_x05_limits_of_size() {
    let world = World::new();
    let say = |kind, size| {
        let (name, data) = ("big".parse().unwrap(), Payload::new(vec![b'x'; size]));
        let spec = DependencySpec { kind, name, labels: Labels::new(), data, is_template: false };
        let request = WriteRequest::CreateDependency(Box::new(spec));
        let admitted = control::admission::admit(&world.tables, &request, world.now, &mut || 1);
        admitted.map_or_else(|refused| refused.to_string(), |_| "fine".to_owned())
    };
    use DependencyKind::{Config, Secret};
    let all = [(Secret, 511_999), (Secret, 512_000), (Secret, 0), (Config, 1_023_999), (Config, 1_024_000)];
    let all = all.map(|(kind, size)| say(kind, size));
    expect![[r#"
        fine
        secret data must be larger than 0 and less than 512000 bytes: secret big has 512000
        secret data must be larger than 0 and less than 512000 bytes: secret big has 0
        fine
        config data must be larger than 0 and less than 1024000 bytes: config big has 1024000"#]]
    .assert_eq(&all.join("\n"));
}
