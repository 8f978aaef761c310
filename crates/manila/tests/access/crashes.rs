//! The service ends at every operation of taking and giving back, and what was stored before is enough to leave nothing
//! behind.

use job::{Hold, ShareAccess};
use proptest::prelude::*;

use crate::kit::{Scene, runtime};
use crate::world::{Break, End, Faults};

#[derive(Clone, Copy, Debug)]
enum Task {
    Take,
    GiveBack,
}

/// Does `task` until its end, or until the given point. `true`: it ended by itself, and well, and still holds.
fn disturbed(scene: &Scene, task: Task, hold: &Hold, point: Break) -> bool {
    scene.world.break_at(Some(point));
    let life = runtime();
    let access = scene.access();
    let is_done = life.block_on(async {
        let work = async {
            match task {
                Task::Take => access.take(&scene.job, hold).await.map(|_| ()),
                Task::GiveBack => access.give_back(&scene.job, hold).await,
            }
        };
        tokio::select! {
            biased;
            () = scene.world.broken.notified() => false,
            done = work => done.is_ok(),
        }
    });
    if point.end == End::Process || is_done {
        // All tasks of this life end with it.
        drop(life);
        scene.world.break_at(None);
        return is_done;
    }
    scene.world.break_at(None);
    life.block_on(async {
        for _ in 0..100 {
            if access.give_back(&scene.job, hold).await.is_ok() {
                scene.assert_given_back(hold);
                return false;
            }
        }
        panic!("it cannot be given back: {:#?}", scene.world.state());
    })
}

fn operations_of(scene: &Scene, work: impl FnOnce()) -> usize {
    scene.world.break_at(None);
    work();
    scene.world.state().operations
}

#[test]
fn a_crash_at_any_operation_of_a_taking_leaves_nothing_behind() {
    let mut longest = 0;
    for seed in 0..12 {
        let probe = Scene::new(seed, &["10.0.0.5", "fd00::5"]);
        let count = operations_of(&probe, || probe.take_all().1.unwrap());
        longest = longest.max(count);
        for at in 1..=count {
            for is_done_before in [false, true] {
                let scene = Scene::new(seed, &["10.0.0.5", "fd00::5"]);
                let holds = scene.holds();
                let mut left = at;
                for hold in &holds {
                    let point = Break { end: End::Process, at: left, is_done_before };
                    if !disturbed(&scene, Task::Take, hold, point) {
                        break;
                    }
                    let used = scene.world.state().operations;
                    left = left.saturating_sub(used).max(1);
                }
                scene.give_all_back(&holds);
                scene.assert_clean();
            }
        }
    }
    assert!(longest >= 12, "{longest} operations are too few to be all of them");
}

#[test]
fn a_crash_at_any_operation_of_a_giving_back_leaves_nothing_behind() {
    for seed in 0..12 {
        for side in 0..2 {
            let probe = Scene::new(seed, &["10.0.0.5", "fd00::5"]);
            let (holds, taken) = probe.take_all();
            taken.unwrap();
            let count = operations_of(&probe, || probe.give_back(&holds[side]).unwrap());
            assert!(count >= 5);
            for at in 1..=count {
                for is_done_before in [false, true] {
                    let scene = Scene::new(seed, &["10.0.0.5", "fd00::5"]);
                    let (holds, taken) = scene.take_all();
                    taken.unwrap();
                    let point = Break { end: End::Process, at, is_done_before };
                    disturbed(&scene, Task::GiveBack, &holds[side], point);
                    scene.give_all_back(&holds);
                    scene.assert_clean();
                }
            }
        }
    }
}

/// The share manager does not know yet that the rule is not wanted any more, and may write `active` over that.
#[test]
fn a_rule_that_is_still_being_applied_is_removed_in_one_go() {
    for seed in 0..300 {
        for at in 4..9 {
            let scene = Scene::new(seed, &["10.0.0.5"]);
            let holds = scene.holds();
            let point = Break { end: End::Process, at, is_done_before: false };
            disturbed(&scene, Task::Take, &holds[0], point);
            scene.give_back(&holds[0]).unwrap();
            scene.assert_clean();
        }
    }
}

/// The database makes the rule after the runner's patience was over, and giving back waits for that.
#[test]
fn a_rule_that_is_made_late_is_given_back() {
    for seed in 0..300 {
        for at in 1..6 {
            let scene = Scene::new(seed, &["10.0.0.5"]);
            let holds = scene.holds();
            disturbed(&scene, Task::Take, &holds[0], Break { end: End::Patience, at, is_done_before: false });
            scene.assert_clean();
        }
    }
}

/// Share managers, faults, tenants and ends in an order that the seed decides.
fn live_through(seed: u64) {
    let addresses = ["10.0.0.5", "fd00::5", "10.0.0.6"];
    let probe = testkit::random::Random::new(seed ^ 0x5eed).below(3) as usize + 1;
    let scene = Scene::new(seed, &addresses[..probe]);
    let roll = |end: u64| scene.world.below(end);
    for instance in [&scene.source, &scene.dest] {
        if roll(3) == 0 {
            let is_same = roll(2) == 0;
            let level = if roll(2) == 0 { "rw" } else { "ro" };
            let state = ["active", "queued_to_apply"][roll(2) as usize];
            let mut world = scene.world.state();
            let rule = world.add_tenants_rule(&scene.share, if is_same { "10.0.0.5" } else { "10.9.9.9" }, level);
            world.map(&rule, instance, state);
            world.begin_sync(instance);
        }
    }
    let faults = || Faults {
        budget: roll(30) as u32,
        away_before: roll(40),
        away_after: roll(40),
        cast_lost: roll(30),
        cast_fails: roll(40),
        driver_fails: roll(30),
    };
    scene.world.state().faults = faults();
    // Each attempt after a crash has holds of its own.
    for _ in 0..=roll(2) {
        let holds = scene.holds();
        for hold in &holds {
            let end = if roll(2) == 0 { End::Process } else { End::Patience };
            let point = Break { end, at: roll(14) as usize + 1, is_done_before: roll(2) == 0 };
            let is_taken = match roll(3) {
                0 => disturbed(&scene, Task::Take, hold, point),
                _ => scene.take(hold).is_ok(),
            };
            if !is_taken {
                break;
            }
        }
        scene.world.state().faults = faults();
        for hold in holds.iter().rev() {
            for _ in 0..roll(3) {
                let point = Break { end: End::Process, at: roll(12) as usize + 1, is_done_before: roll(2) == 0 };
                disturbed(&scene, Task::GiveBack, hold, point);
            }
        }
        scene.give_all_back(&holds);
        let state = scene.world.state();
        assert!(state.ours(&scene.source).is_empty() && state.ours(&scene.dest).is_empty(), "{state:#?}");
    }
    scene.assert_clean();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_left_behind_whatever_happens_in_whatever_order(seed in any::<u64>()) {
        live_through(seed);
    }
}
