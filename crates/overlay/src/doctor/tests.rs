//! The comparing, on the plan and kernel of the tests of `diff`.

use expect_test::{Expect, expect};

use super::{Seen, Wanted, judge};
use crate::{
    NetworkPlan, OverlayNamespace, OverlayPlan,
    diff::overlay_tests::{applied, mac, network, plan, remote},
};

/// What is in order, but for DNS, which is asked of nobody here.
fn seen(plan: &NetworkPlan) -> Seen {
    let mut seen = Seen { observed: applied(plan, 1500), ..Seen::default() };
    let services = plan.overlays[&network()].services.clone();
    seen.balanced.insert("a".parse().expect("id"), Ok(services));
    seen
}

fn check(plan: &NetworkPlan, value: Option<&OverlayPlan>, seen: &Seen, expected: &Expect) {
    let value = value.map(|overlay| [(network(), overlay.clone())].into());
    let findings = judge(&Wanted { plan, value: value.as_ref() }, seen);
    let mut text = String::new();
    for difference in findings.networks.iter().flat_map(|network| &network.differences) {
        text.push_str(&format!("{difference}\n"));
    }
    text.extend(findings.host.iter().map(|difference| format!("host: {difference}\n")));
    expected.assert_eq(&text);
}

#[test]
fn what_is_as_planned_is_equal() {
    let plan = plan();
    check(&plan, plan.overlays.get(&network()), &seen(&plan), &expect![""]);
    check(&plan, None, &seen(&plan), &expect![""]);
}

/// P02: a dead endpoint that is still known, and one that is not known, are named where they are.
#[test]
fn stale_and_missing_entries_are_named() {
    let plan = plan();
    let mut seen = seen(&plan);
    if let Some(OverlayNamespace::Alive(inside)) = seen.observed.overlays.get_mut(&network()) {
        inside.hosts.remove(&mac(9));
        inside.hosts.insert(mac(7), [192, 0, 2, 7].into());
        inside.neighbours.insert([10, 0, 0, 7].into(), mac(7));
        inside.ports.insert(mac(9), "br0".to_owned());
    }
    let id = "a".parse().expect("id");
    seen.balanced
        .insert(id, Ok([([10, 0, 0, 100].into(), [[10, 0, 0, 2].into(), [10, 0, 0, 7].into()].into())].into()));
    check(
        &plan,
        plan.overlays.get(&network()),
        &seen,
        &expect![[r#"
            fdb 02:42:0a:00:00:09 (overlay namespace, vxlan0): expected 192.0.2.2, found nothing
            fdb 02:42:0a:00:00:09 (overlay namespace, br0): expected vxlan0, found br0
            fdb 02:42:0a:00:00:07 (overlay namespace, vxlan0): expected nothing, found 192.0.2.7
            neighbour 10.0.0.7 (overlay namespace, br0): expected nothing, found 02:42:0a:00:00:07
            virtual address 10.0.0.100 (namespace of a): expected 10.0.0.2 10.0.0.9, found 10.0.0.2 10.0.0.7
        "#]],
    );
}

#[test]
fn a_plan_behind_the_value_is_named() {
    let plan = plan();
    let mut value = plan.overlays[&network()].clone();
    value.remotes.extend([remote(8, [192, 0, 2, 3])]);
    value.services.clear();
    value.names.insert("web".to_owned(), vec![[10, 0, 0, 100].into()]);
    check(
        &plan,
        Some(&value),
        &seen(&plan),
        &expect![[r#"
            endpoint 02:42:0a:00:00:08 (plan of rswarm netd): expected 10.0.0.8 at 192.0.2.3, found nothing
            virtual address 10.0.0.100 (plan of rswarm netd): expected nothing, found backends [10.0.0.2 10.0.0.9]
            name web (plan of rswarm netd): expected [10.0.0.100], found nothing
        "#]],
    );
}

#[test]
fn an_endpoint_that_is_not_there_is_named() {
    let plan = plan();
    let mut seen = seen(&plan);
    seen.observed.namespaces.clear();
    seen.balanced.clear();
    let findings = judge(&Wanted { plan: &plan, value: None }, &seen);
    let first = findings.networks[0].differences.first().map(ToString::to_string);
    assert_eq!(first.as_deref(), Some("namespace (namespace of a): expected one, found nothing"));
    assert!(!findings.is_equal());
}
