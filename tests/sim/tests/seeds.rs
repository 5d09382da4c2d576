//! Some seeds with every build; `cargo run -p sim -- --seeds 1000` for more.

use sim::Settings;

#[test]
fn small_clusters_keep_their_promises() {
    for seed in 1..=30 {
        let nodes = 1 + (seed as usize * 7) % 12;
        if let Err(story) = sim::run(Settings::new(seed, nodes)) {
            panic!("{story}");
        }
    }
}

#[test]
fn a_run_is_the_same_every_time() {
    let run = || format!("{:?}", sim::run(Settings::new(3, 9)));
    assert_eq!(run(), run());
}
