//! Checks out of specs and images; findings in, news out.

use expect_test::{Expect, expect};
use image::Healthcheck;

use super::*;

fn image(test: &[&str]) -> RunConfig {
    let test = test.iter().map(|word| (*word).to_owned()).collect();
    let healthcheck = Some(Healthcheck { test, interval: 7_000_000_000, retries: 5, ..Healthcheck::default() });
    RunConfig { healthcheck, ..RunConfig::default() }
}

fn spec(test: HealthTest) -> HealthCheck {
    let zero = Duration::ZERO;
    HealthCheck { test, interval: zero, timeout: zero, start_period: zero, start_interval: zero, retries: 0 }
}

#[expect(clippy::needless_pass_by_value, reason = "the macro's result reads best passed by value")]
fn check(spec: Option<HealthCheck>, image: RunConfig, want: Expect) {
    let text = match settings(spec.as_ref(), &image) {
        Ok(None) => "none".to_owned(),
        Ok(Some(s)) => format!(
            "{:?} every {:?} for {:?}, start {:?} every {:?}, retries {}",
            s.args, s.interval, s.timeout, s.start_period, s.start_interval, s.retries
        ),
        Err(error) => error.to_string(),
    };
    want.assert_eq(&text);
}

#[test]
fn s_58_the_spec_stands_over_the_image_field_by_field() {
    let none = RunConfig::default;
    check(None, none(), expect!["none"]);
    check(Some(spec(HealthTest::Image)), none(), expect!["none"]);
    check(
        Some(spec(HealthTest::Shell("wget -q x".into()))),
        none(),
        expect![[r#"["/bin/sh", "-c", "wget -q x"] every 30s for 30s, start 0ns every 5s, retries 3"#]],
    );
    check(
        None,
        image(&["CMD", "probe", "-v"]),
        expect![[r#"["probe", "-v"] every 7s for 30s, start 0ns every 5s, retries 5"#]],
    );
    let timed = HealthCheck { interval: Duration::from_secs(1), ..spec(HealthTest::Image) };
    let shell = vec!["/bin/ash".to_owned(), "-ec".to_owned()];
    check(
        Some(timed),
        RunConfig { shell, ..image(&["CMD-SHELL", "probe"]) },
        expect![[r#"["/bin/ash", "-ec", "probe"] every 1s for 30s, start 0ns every 5s, retries 5"#]],
    );
    let full = HealthCheck {
        timeout: Duration::from_secs(2),
        start_period: Duration::from_secs(3),
        start_interval: Duration::from_secs(4),
        retries: 1,
        ..spec(HealthTest::Command(vec!["own".into()]))
    };
    check(Some(full), image(&["CMD", "probe"]), expect![[r#"["own"] every 7s for 2s, start 3s every 4s, retries 1"#]]);
}

#[test]
fn s_58_a_check_can_be_switched_off() {
    check(Some(spec(HealthTest::None)), image(&["CMD", "probe"]), expect!["none"]);
    check(None, image(&["NONE"]), expect!["none"]);
    check(
        None,
        image(&["RUN", "probe"]),
        expect![[
            r#"the image's HEALTHCHECK "RUN probe" is neither NONE nor CMD nor CMD-SHELL; correct the image, or give a check with --health-cmd or --no-healthcheck"#
        ]],
    );
}

/// A life in words: at each second of `steps` a check ends, `+` well and `-` sick; then what came of it and the
/// pause to the next.
#[expect(clippy::needless_pass_by_value, reason = "the macro's result reads best passed by value")]
fn life(settings: &HealthSettings, is_healthy: bool, steps: &[(u64, char)], want: Expect) {
    let at = |second: u64| Timestamp::EPOCH + Duration::from_secs(1000 + second);
    let mut health = Health::new(settings.clone(), at(0), is_healthy);
    let mut text = format!("0: next in {:?}\n", health.pause(at(0)));
    for (second, sign) in steps {
        let finding = if *sign == '+' { Finding::Well } else { Finding::Sick("exit code 1".into()) };
        let news = health.take(at(*second), finding).map_or_else(|| "nothing".to_owned(), |news| format!("{news:?}"));
        text.push_str(&format!("{second}: {news}, next in {:?}\n", health.pause(at(*second))));
    }
    want.assert_eq(&text);
}

fn common() -> HealthSettings {
    let second = Duration::from_secs;
    HealthSettings {
        args: vec!["probe".into()],
        interval: second(30),
        timeout: second(30),
        start_period: second(10),
        start_interval: second(2),
        retries: 2,
    }
}

#[test]
fn s_58_failures_in_the_start_period_do_not_count_until_it_was_healthy() {
    life(
        &common(),
        false,
        &[(2, '-'), (4, '-'), (6, '-'), (8, '+'), (9, '-'), (39, '-')],
        expect![[r#"
            0: next in 2s
            2: Waiting("health check failed in the start period: exit code 1"), next in 2s
            4: Waiting("health check failed in the start period: exit code 1"), next in 2s
            6: Waiting("health check failed in the start period: exit code 1"), next in 2s
            8: Healthy, next in 30s
            9: Failing("health check failed (1 of 2): exit code 1"), next in 30s
            39: Unhealthy("health check failed 2 times in a row, last: exit code 1"), next in 30s
        "#]],
    );
}

#[test]
fn s_58_a_success_forgives_and_enough_failures_in_a_row_do_not() {
    life(
        &common(),
        false,
        &[(12, '-'), (42, '+'), (72, '-'), (102, '+'), (132, '-'), (162, '-')],
        expect![[r#"
            0: next in 2s
            12: Waiting("health check failed (1 of 2): exit code 1"), next in 30s
            42: Healthy, next in 30s
            72: Failing("health check failed (1 of 2): exit code 1"), next in 30s
            102: Healthy, next in 30s
            132: Failing("health check failed (1 of 2): exit code 1"), next in 30s
            162: Unhealthy("health check failed 2 times in a row, last: exit code 1"), next in 30s
        "#]],
    );
    let never = HealthSettings { retries: 1, start_period: Duration::ZERO, ..common() };
    life(
        &never,
        false,
        &[(30, '-')],
        expect![[r#"
            0: next in 30s
            30: Unhealthy("health check failed once, last: exit code 1"), next in 30s
        "#]],
    );
}

#[test]
fn s_58_a_restarted_daemon_goes_on_with_what_was_healthy() {
    life(
        &common(),
        true,
        &[(1, '-'), (31, '+')],
        expect![[r#"
            0: next in 30s
            1: Failing("health check failed (1 of 2): exit code 1"), next in 30s
            31: Healthy, next in 30s
        "#]],
    );
}

#[test]
fn s_58_what_a_check_says_is_one_bounded_line() {
    let captured = |end, output: &str| Captured { end, output: output.as_bytes().to_vec(), is_cut: false };
    let found = |end, output: &str| finding(&captured(end, output), Duration::from_secs(5));
    assert_eq!(found(ExecEnd::Code(0), "noise"), Finding::Well);
    assert_eq!(found(ExecEnd::Code(1), " no\nroute\t\u{1b}\n"), Finding::Sick("exit code 1: no route".into()));
    assert_eq!(found(ExecEnd::TimedOut, ""), Finding::Sick("it took longer than 5s and was killed".into()));
    let Finding::Sick(long) = found(ExecEnd::Code(2), &format!("{}end", "x".repeat(4000))) else { panic!("sick") };
    assert!(long.chars().count() < SHOWN_MAX + 20 && long.ends_with("xend"), "{long}");
}
