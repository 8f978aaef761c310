//! A rule of the tenant for the very address of this machine: used where it is enough, never changed.

use crate::kit::Scene;

/// Where the tenant's rule is, in which level and state, and whether ours has to be made on each side.
#[track_caller]
fn check(level: &str, source: Option<&str>, dest: Option<&str>, expected: (bool, bool)) {
    let what = format!("{level} {source:?} {dest:?}");
    for seed in 0..10 {
        let scene = Scene::new(seed, &["10.0.0.5"]);
        let tenants = {
            let mut state = scene.world.state();
            let rule = state.add_tenants_rule(&scene.share, "10.0.0.5", level);
            for (instance, on) in [(&scene.source, source), (&scene.dest, dest)] {
                if let Some(on) = on {
                    state.map(&rule, instance, on);
                }
            }
            rule
        };
        let (holds, taken) = scene.take_all();
        taken.unwrap_or_else(|error| panic!("{what}: {error}"));
        {
            let state = scene.world.state();
            let is_made = |instance| !state.ours(instance).is_empty();
            assert_eq!((is_made(&scene.source), is_made(&scene.dest)), expected, "{what}");
            // A rule that is not needed is not queued, and nobody is told of nothing.
            let count = usize::from(expected.0) + usize::from(expected.1);
            assert_eq!(state.casts.len(), count, "{what}");
        }
        scene.give_all_back(&holds);
        scene.world.come_to_rest();
        let state = scene.world.state();
        assert!(state.ours(&scene.source).is_empty() && state.ours(&scene.dest).is_empty(), "{what}");
        assert_eq!(state.rules[&tenants].level, level);
        for (instance, on) in [(&scene.source, source), (&scene.dest, dest)] {
            if let Some(on @ ("active" | "queued_to_apply")) = on {
                let mapping = &state.mappings[&format!("{tenants}-on-{instance}")];
                // What was queued may have been applied with ours; without a change of ours nobody asked for it.
                let is_kept = !mapping.is_deleted && (mapping.state == on || mapping.state == "active");
                assert!(is_kept, "{what}: {mapping:?}");
            }
            assert_ne!(state.instances[instance].rules_status, "syncing", "{what}");
        }
    }
}

#[test]
fn a_tenants_rule_that_is_in_force_is_used() {
    check("rw", Some("active"), Some("active"), (false, false));
    check("rw", Some("active"), None, (false, true));
    check("rw", None, Some("active"), (true, false));
    check("rw", None, None, (true, true));
}

#[test]
fn reading_is_enough_of_the_source_and_not_of_the_destination() {
    check("ro", Some("active"), Some("active"), (false, true));
    check("ro", Some("active"), None, (false, true));
    check("ro", None, Some("active"), (true, true));
    check("ro", None, None, (true, true));
}

#[test]
fn a_tenants_rule_that_is_not_in_force_is_no_help() {
    for level in ["rw", "ro"] {
        for state in ["queued_to_apply", "queued_to_deny"] {
            check(level, Some(state), None, (true, true));
            check(level, None, Some(state), (true, true));
            check(level, Some(state), Some(state), (true, true));
            check(level, Some("active"), Some(state), (false, true));
        }
        for state in ["queued_to_apply", "queued_to_deny"] {
            check(level, Some(state), Some("active"), (true, level == "ro"));
        }
    }
}

#[test]
fn rules_for_other_addresses_are_no_concern() {
    let scene = Scene::new(1, &["10.0.0.5"]);
    {
        let mut state = scene.world.state();
        let rule = state.add_tenants_rule(&scene.share, "10.0.0.0/24", "rw");
        state.map(&rule, &scene.source, "active");
        let elsewhere = state.add_tenants_rule("another share", "10.0.0.5", "rw");
        state.map(&elsewhere, "another instance", "active");
    }
    let (holds, taken) = scene.take_all();
    taken.unwrap();
    assert_eq!(scene.world.state().ours(&scene.source).len(), 1);
    scene.give_all_back(&holds);
    scene.assert_clean();
}

#[test]
fn of_several_addresses_only_those_are_made_that_are_needed() {
    let scene = Scene::new(1, &["10.0.0.5", "fd00::5"]);
    {
        let mut state = scene.world.state();
        let rule = state.add_tenants_rule(&scene.share, "10.0.0.5", "rw");
        state.map(&rule, &scene.source, "active");
    }
    let (holds, taken) = scene.take_all();
    taken.unwrap();
    assert_eq!(scene.world.state().ours(&scene.source).len(), 1);
    assert_eq!(scene.world.state().ours(&scene.dest).len(), 2);
    scene.give_all_back(&holds);
    scene.assert_clean();
}
