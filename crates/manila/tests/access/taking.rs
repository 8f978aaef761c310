//! What is made, in which order, what is refused, and what is told when it does not work.

use std::time::Duration;

use job::{Hold, PassKind, ShareAccess, Side};

use crate::kit::{Scene, job, runtime, settings, side_of};
use crate::world::Faults;

fn casts(scene: &Scene) -> Vec<String> {
    scene.world.state().casts.iter().map(|(host, instance)| format!("{host} {instance}")).collect()
}

#[test]
fn both_sides_are_let_in_one_after_the_other_and_out_again() {
    let scene = Scene::new(1, &["10.0.0.5"]);
    let (source, dest) = (format!("rig@alpha#pool {}", scene.source), format!("rig@beta#pool {}", scene.dest));
    let (holds, taken) = scene.take_all();
    taken.unwrap();
    assert_eq!(holds.iter().map(side_of).collect::<Vec<_>>(), [Side::Source, Side::Dest]);
    assert_eq!(casts(&scene), [source.clone(), dest.clone()]);
    {
        let state = scene.world.state();
        let rules: Vec<_> = state.rules.values().collect();
        let [rule] = rules.as_slice() else { panic!("{rules:?}") };
        assert_eq!((&*rule.access_type, &*rule.access_to, &*rule.level), ("ip", "10.0.0.5", "rw"));
        for instance in [&scene.source, &scene.dest] {
            assert_eq!(state.ours(instance).iter().map(|mapping| &*mapping.state).collect::<Vec<_>>(), ["active"]);
        }
    }
    scene.give_all_back(&holds);
    assert_eq!(casts(&scene), [source.clone(), dest.clone(), dest, source]);
    scene.assert_clean();
}

#[test]
fn several_addresses_are_applied_together() {
    let scene = Scene::new(2, &["10.0.0.5", "fd00::5", "10.1.0.0/16"]);
    let (holds, taken) = scene.take_all();
    taken.unwrap();
    assert_eq!(casts(&scene).len(), 2);
    assert_eq!(scene.world.state().ours(&scene.source).len(), 3);
    scene.give_all_back(&holds);
    assert_eq!(casts(&scene).len(), 4);
    scene.assert_clean();
}

#[test]
fn without_a_type_in_common_nothing_is_touched() {
    for dest_access in [&[][..], &[("ip", &["cifs"][..])], &[("user", &["nfs"])]] {
        let scene = Scene::offering(3, &["10.0.0.5"], dest_access);
        assert_eq!(scene.holds(), []);
    }
    let scene = Scene::new(3, &["10.0.0.5"]);
    assert_eq!(scene.access().needed(&job(None), PassKind::Single), []);
    assert_eq!(scene.world.state().operations, 0);
}

#[test]
fn what_is_not_configured_is_refused_before_anything_is_made() {
    let check = |dest_access: &[(&str, &[&str])], expected: &str| {
        let scene = Scene::offering(4, &[], dest_access);
        let holds = scene.holds();
        for hold in &holds {
            assert_eq!(scene.take(hold).unwrap_err().message, expected);
        }
        scene.give_all_back(&holds);
        assert_eq!(scene.world.state().operations, 0);
    };
    check(&[("ip", &["nfs"])], "Configuration for Data node mounting access type ip has not been set.");
    check(&[("user", &["cifs"])], "Unsupported access type provided: user.");
}

#[track_caller]
fn refused(scene: &Scene, part: &str) {
    let (holds, taken) = scene.take_all();
    let error = taken.unwrap_err();
    assert!(error.message.contains(part), "`{part}` in `{error}`");
    scene.give_all_back(&holds);
    scene.assert_clean();
}

#[test]
fn instances_that_cannot_be_served_are_told() {
    let without_host = Scene::new(5, &["10.0.0.5"]);
    let dest = without_host.dest.clone();
    without_host.world.state().instances.get_mut(&dest).unwrap().host = None;
    refused(&without_host, &format!("share instance {dest} has no host"));

    let gone = Scene::new(5, &["10.0.0.5"]);
    gone.world.state().instances.remove(&gone.source);
    refused(&gone, &format!("Share instance {} could not be found.", gone.source));

    let of_another_share = Scene::new(5, &["10.0.0.5"]);
    let source = of_another_share.source.clone();
    of_another_share.world.state().instances.get_mut(&source).unwrap().share = "other".into();
    refused(&of_another_share, "is not one of share");
}

#[test]
fn what_the_share_manager_cannot_do_is_told() {
    let scene = Scene::new(6, &["10.0.0.5"]);
    scene.world.state().faults = Faults { budget: 1, driver_fails: 100, ..Faults::default() };
    refused(&scene, "the share manager of rig@alpha#pool could not apply the access rules of share instance source-");
}

#[test]
fn a_rule_of_the_tenant_that_failed_is_told_as_such_and_keeps_nothing_of_ours() {
    let scene = Scene::new(7, &["10.0.0.5"]);
    {
        let mut state = scene.world.state();
        let rule = state.add_tenants_rule(&scene.share, "192.168.0.1", "rw");
        state.map(&rule, &scene.source, "error");
        state.instances.get_mut(&scene.source).unwrap().rules_status = "error".into();
    }
    refused(&scene, "is error because of another rule of the share");
    assert_eq!(scene.world.state().instances[&scene.source].rules_status, "error");
}

#[test]
fn a_share_manager_that_is_away_is_waited_for_and_then_told() {
    let scene = Scene::new(8, &["10.0.0.5"]);
    scene.world.state().is_managed = false;
    let holds = scene.holds();
    let begun = tokio::time::Instant::now;
    runtime().block_on(async {
        let start = begun();
        let error = scene.access().take(&scene.job, &holds[0]).await.unwrap_err();
        assert!(error.message.contains("did not apply the access rules"), "{error}");
        assert!(error.message.contains("within 180 s") && error.message.contains("syncing"), "{error}");
        let waited = start.elapsed();
        assert!(waited >= Duration::from_mins(3) && waited < Duration::from_secs(190), "{waited:?}");
        // It is told again, and all of that is one change to it when it is back.
        assert!(scene.world.state().casts.len() > 5);
        let error = scene.access().give_back(&scene.job, &holds[0]).await.unwrap_err();
        assert!(error.message.contains("did not remove the access rules"), "{error}");
    });
    scene.world.state().is_managed = true;
    scene.give_all_back(&holds);
    scene.assert_clean();
}

#[test]
fn a_message_that_was_lost_is_sent_again() {
    let scene = Scene::new(9, &["10.0.0.5"]);
    scene.world.state().faults = Faults { budget: 1, cast_lost: 100, ..Faults::default() };
    let (holds, taken) = scene.take_all();
    taken.unwrap();
    assert_eq!(casts(&scene).len(), 3);
    scene.world.state().faults.budget = 1;
    scene.give_all_back(&holds);
    assert_eq!(casts(&scene).len(), 6);
    scene.assert_clean();
}

#[test]
fn a_database_and_a_broker_that_are_away_for_a_while_are_waited_for() {
    let scene = Scene::new(10, &["10.0.0.5", "fd00::5"]);
    let away = Faults { budget: 40, away_before: 60, away_after: 60, cast_fails: 60, ..Faults::default() };
    scene.world.state().faults = away.clone();
    let (holds, taken) = scene.take_all();
    taken.unwrap();
    scene.world.state().faults = away;
    scene.give_all_back(&holds);
    scene.assert_clean();
}

#[test]
fn a_database_that_stays_away_ends_the_wait() {
    let scene = Scene::new(11, &["10.0.0.5"]);
    scene.world.state().faults = Faults { budget: u32::MAX, away_before: 100, ..Faults::default() };
    let (holds, taken) = scene.take_all();
    assert_eq!(taken.unwrap_err().message, "Manila's database does not answer: server has gone away");
    assert!(scene.give_back(&holds[0]).is_err());
    scene.world.state().faults.budget = 0;
    scene.give_all_back(&holds);
    scene.assert_clean();
}

#[test]
fn what_was_never_made_or_is_gone_is_given_back_at_once() {
    let scene = Scene::new(12, &["10.0.0.5"]);
    let holds = scene.holds();
    scene.give_all_back(&holds);
    assert_eq!(casts(&scene), Vec::<String>::new());
    let (holds, taken) = scene.take_all();
    taken.unwrap();
    scene.give_all_back(&holds);
    let before = casts(&scene);
    scene.give_all_back(&holds);
    assert_eq!(casts(&scene), before);
    scene.assert_clean();
}

#[test]
fn an_instance_or_a_host_that_is_gone_keeps_nobody_waiting() {
    for is_deleted in [true, false] {
        let scene = Scene::new(13, &["10.0.0.5"]);
        let (holds, taken) = scene.take_all();
        taken.unwrap();
        {
            let mut state = scene.world.state();
            if is_deleted {
                state.instances.remove(&scene.dest);
            } else {
                state.instances.get_mut(&scene.dest).unwrap().host = None;
            }
        }
        let before = casts(&scene).len();
        scene.give_back(&holds[1]).unwrap();
        assert_eq!(casts(&scene).len(), before);
        if !is_deleted {
            // Nobody would ever write `active` again.
            assert_eq!(scene.world.state().instances[&scene.dest].rules_status, "active");
        }
        scene.give_back(&holds[0]).unwrap();
        assert!(scene.world.state().ours(&scene.source).is_empty());
    }
}

#[test]
fn a_rule_that_somebody_removes_while_it_is_applied_is_told() {
    let scene = Scene::new(14, &["10.0.0.5"]);
    let holds = scene.holds();
    scene.world.state().is_managed = false;
    runtime().block_on(async {
        let access = scene.access();
        let removing = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let mut state = scene.world.state();
                let ids: Vec<_> = state.mappings.keys().cloned().collect();
                if let [id] = ids.as_slice() {
                    state.delete(id);
                    return;
                }
            }
        };
        let (taken, ()) = tokio::join!(access.take(&scene.job, &holds[0]), removing);
        let error = taken.unwrap_err();
        assert!(error.message.contains("somebody removed access rules"), "{error}");
    });
    // It is not made anew under a name that was used.
    assert!(scene.take(&holds[0]).is_err());
    assert!(scene.world.state().ours(&scene.source).is_empty());
}

#[test]
fn a_rule_that_cannot_be_removed_is_told_and_tried_again() {
    let scene = Scene::new(15, &["10.0.0.5"]);
    let (holds, taken) = scene.take_all();
    taken.unwrap();
    scene.world.state().faults = Faults { budget: 1, driver_fails: 100, ..Faults::default() };
    let error = scene.give_back(&holds[1]).unwrap_err();
    assert!(error.message.contains("rig@beta#pool could not remove the access rules"), "{error}");
    scene.give_all_back(&holds);
    scene.assert_clean();
}

#[test]
fn our_own_being_gone_is_enough_where_a_rule_of_the_tenant_failed() {
    let scene = Scene::new(16, &["10.0.0.5"]);
    let (holds, taken) = scene.take_all();
    taken.unwrap();
    {
        let mut state = scene.world.state();
        let rule = state.add_tenants_rule(&scene.share, "192.168.0.1", "rw");
        state.map(&rule, &scene.dest, "error");
    }
    scene.give_back(&holds[1]).unwrap();
    scene.world.come_to_rest();
    assert_eq!(scene.world.state().instances[&scene.dest].rules_status, "error");
    scene.give_all_back(&holds);
    scene.assert_clean();
}

#[test]
fn identifiers_that_are_no_names_of_files_are_refused() {
    let mut scene = Scene::new(17, &["10.0.0.5"]);
    let behalf = scene.job.origin.on_behalf.as_mut().unwrap();
    behalf.request["source_instance_id"] = "../../etc/cron.d/x".into();
    {
        let mut state = scene.world.state();
        let instance = state.instances[&scene.source].clone();
        state.instances.insert("../../etc/cron.d/x".into(), instance);
    }
    let holds = scene.holds();
    let error = scene.take(&holds[0]).unwrap_err();
    assert!(error.message.contains("`../../etc/cron.d/x` is no identifier"), "{error}");
    scene.give_all_back(&holds);
    scene.assert_clean();
}

#[test]
fn a_directory_of_locks_that_cannot_be_used_lets_jobs_fail_but_not_hang() {
    let mut scene = Scene::new(18, &["10.0.0.5"]);
    scene.settings =
        settings("[DEFAULT]\ndata_node_access_ips = 10.0.0.5\n[oslo_concurrency]\nlock_path = /dev/null/x");
    let holds = scene.holds();
    let error = scene.take(&holds[0]).unwrap_err();
    assert!(error.message.contains("cannot open the lock file `/dev/null/x/manila-locked_access_rules"), "{error}");
    assert!(error.message.contains("lock_path"), "{error}");
    scene.give_all_back(&holds);
    scene.assert_clean();
}

#[test]
fn a_hold_of_somebody_else_is_not_taken_and_one_that_cannot_be_read_is_not_lost() {
    let scene = Scene::new(19, &["10.0.0.5"]);
    let hook = Hold::ReadOnly { hook: "freeze".into() };
    assert!(scene.take(&hook).is_err());
    scene.give_back(&hook).unwrap();
    let unreadable = Hold::Access { side: Side::Dest, grant: "{".into() };
    assert_eq!(scene.give_back(&unreadable).unwrap_err().side, Some(Side::Dest));
}
