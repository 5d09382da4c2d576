//! Preemption within budgets: a service loses no more tasks at once than an update would stop, while others make room.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use types::{NodeId, Resources, Service, ServiceId, Slot, Task, TaskState};

use crate::script::World;

const NODES: [&str; 3] = ["a", "b", "c"];

/// Who made way for the service of this name, by service.
fn made_way_for(world: &World, name: &str) -> BTreeMap<ServiceId, usize> {
    let why = format!("made way for service {name} of ");
    let mut victims = BTreeMap::new();
    for task in world.tables.tasks().filter(|task| task.reason.starts_with(&why)) {
        *victims.entry(task.service).or_default() += 1;
    }
    victims
}

/// How many more tasks each service may lose: its parallelism without the slots that nobody runs in since one made way.
fn budgets(world: &World) -> BTreeMap<ServiceId, usize> {
    let left = |service: &Service| {
        let tasks: Vec<_> = world.tables.tasks_of_service(service.id).collect();
        let slots: BTreeSet<Slot> = tasks.iter().map(|task| task.slot).collect();
        let under_way = slots.into_iter().filter(|slot| {
            let of_slot: Vec<&Task> = tasks.iter().filter(|task| task.slot == *slot).map(|task| &***task).collect();
            let runs = of_slot.iter().any(|task| is_there(task) && task.status.state == TaskState::Running);
            let ran = of_slot.iter().filter(|task| task.running_since.is_some());
            let ran = ran.max_by_key(|task| (task.meta.created_at, task.id));
            !runs && ran.is_some_and(|task| task.reason.starts_with("made way for service"))
        });
        (service.spec.update.parallelism.max(1) as usize).saturating_sub(under_way.count())
    };
    world.tables.services().map(|service| (service.id, left(service))).collect()
}

fn is_there(task: &Task) -> bool {
    task.desired == TaskState::Running && !task.status.state.is_terminal()
}

fn cpus(resources: &Resources) -> u64 {
    resources.nano_cpus.0 / 1_000_000_000
}

/// The most CPUs that a node could have free if each service of low priority lost no more than its budget.
fn most_room(world: &World, node: NodeId, budgets: &BTreeMap<ServiceId, usize>) -> u64 {
    let mut free = cpus(&world.tables.node(node).unwrap().description.as_ref().unwrap().resources);
    let mut low: BTreeMap<ServiceId, usize> = BTreeMap::new();
    for task in world.tables.tasks_of_node(node).filter(|task| is_there(task)) {
        free -= cpus(&task.spec.resources.reservations);
        if world.tables.service(task.service).unwrap().spec.name.as_str().starts_with("low") {
            *low.entry(task.service).or_default() += 1;
        }
    }
    // each of them has one CPU
    free + low.iter().map(|(id, there)| (*there).min(budgets[id]) as u64).sum::<u64>()
}

fn rest(world: &mut World) {
    for _ in 0..4 {
        world.line("plan");
        world.line("agents");
    }
}

fn low() -> impl Strategy<Value = String> {
    let place = prop::sample::select(vec!["", "constraint=node.hostname==a", "constraint=node.hostname==b"]);
    (1..5u8, 0..4u8, place).prop_map(|(replicas, parallelism, place)| {
        format!("x{replicas} cpu=1 priority=-10 parallelism={parallelism} {place}")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn no_service_loses_more_than_an_update_stops_while_others_make_room(
        nodes in prop::collection::vec(1..5u8, 1..=NODES.len()),
        services in prop::collection::vec(low(), 1..4),
        wants in prop::collection::vec(1..4u64, 1..5),
    ) {
        let mut world = World::new();
        for (name, cpus) in NODES.iter().zip(&nodes) {
            world.line(&format!("node {name} cpu={cpus}"));
        }
        for (number, words) in services.iter().enumerate() {
            world.line(&format!("service low{number} {words}"));
        }
        for (number, want) in wants.into_iter().enumerate() {
            rest(&mut world);
            let budgets = budgets(&world);
            let name = format!("high{number}");
            let room: Vec<u64> = world.nodes.values().map(|node| most_room(&world, *node, &budgets)).collect();
            world.line(&format!("service {name} x1 cpu={want} priority=10"));
            world.line("plan");
            control::invariants::check(&world.tables).expect("invariant");
            for (service, lost) in made_way_for(&world, &name) {
                let within = lost <= budgets[&service];
                prop_assert!(within || room.iter().all(|room| *room < want), "{lost} of {}", budgets[&service]);
            }
        }
    }
}

#[test]
fn who_loses_one_task_only_makes_way_before_who_would_lose_two() {
    let mut world = World::new();
    for line in [
        "node a cpu=2",
        "node b cpu=2",
        "service two x2 cpu=1 priority=-10 constraint=node.hostname==a",
        "service one x1 cpu=1 priority=-10 constraint=node.hostname==b",
        "service other x1 cpu=1 priority=-5 constraint=node.hostname==b",
    ] {
        world.line(line);
    }
    rest(&mut world);
    let mut lost_for = |name: &str| -> Vec<(String, usize)> {
        world.line(&format!("service {name} x1 cpu=2 priority=10"));
        rest(&mut world);
        let name_of = |id: &ServiceId| world.tables.service(*id).unwrap().spec.name.to_string();
        made_way_for(&world, name).iter().map(|(id, lost)| (name_of(id), *lost)).collect()
    };
    // both services on b keep within their budgets, though one of them has a higher priority
    assert_eq!(lost_for("first"), [("one".to_owned(), 1), ("other".to_owned(), 1)]);
    // nobody else makes room at all
    assert_eq!(lost_for("second"), [("two".to_owned(), 2)]);
}
