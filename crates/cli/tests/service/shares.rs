//! Shares that the service mounts by itself, as source and as destination.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use testkit::disk::{Place, SkipReason, need_root};
use testkit::lend;
use testkit::random::Random;

use crate::daemon::Daemon;
use crate::kit::{ROOM, build, check_same, picture, spec};

/// A file system on an image file that is not mounted anywhere.
fn unmounted_disk(place: &Place, name: &str) -> Result<Value, SkipReason> {
    need_root()?;
    let image = place.path(name);
    let file = std::fs::File::create_new(&image).unwrap();
    file.set_len(128 << 20).unwrap();
    let made = Command::new("mkfs.ext4").args(["-q", "-F", "-b", "4096"]).arg(&image).status();
    match made {
        Ok(status) if status.success() => {
            Ok(json!({ "type": "mount", "fs_type": "ext4", "source": image, "options": ["loop"] }))
        }
        other => Err(SkipReason(format!("mkfs.ext4: {other:?}"))),
    }
}

fn bindfs(dir: &Path) -> Result<Value, SkipReason> {
    need_root()?;
    if Command::new("bindfs").arg("--version").output().is_err() {
        return Err(SkipReason("bindfs is not installed".into()));
    }
    Ok(json!({ "type": "mount", "fs_type": "fuse.bindfs", "source": dir, "options": [] }))
}

#[test]
fn a_share_in_user_space_is_migrated_to_a_disk_and_back() {
    let name = "a_share_in_user_space_is_migrated_to_a_disk_and_back";
    let place = Place::new(ROOM);
    let source_dir = place.path("source");
    let share = lend!(name, bindfs(&source_dir));
    let disk = lend!(name, unmounted_disk(&place, "image"));
    let source = build(&source_dir, 500, &mut Random::new(5));
    let mut daemon = Daemon::start(&place.path("service"), &[]);
    let more = json!({ "options": { "delete": true, "ignore": ["lost+found"] }, "migrate": { "interval_seconds": 0 } });
    let mut there = spec("migrate", &source_dir, &source_dir, &more);
    there["source"] = share;
    there["dest"] = disk.clone();
    let id = daemon.create(&there);
    daemon.wait_for("a pass has ended", |daemon| !daemon.job(&id)["passes"].as_array().unwrap().is_empty());
    daemon.call("POST", &format!("/v1/jobs/{id}/cutover"), None, 200);
    let job = daemon.ended(&id);
    assert_eq!(job["state"], "completed", "{job:#}");
    daemon.check_nothing_left();

    let back_dir = place.path("back");
    std::fs::create_dir(&back_dir).unwrap();
    let mut back = spec("copy", &source_dir, &back_dir, &json!({ "options": { "ignore": ["lost+found"] } }));
    back["source"] = disk;
    back["dest"] = lend!(name, bindfs(&back_dir));
    let id = daemon.create(&back);
    let job = daemon.ended(&id);
    assert_eq!(job["state"], "completed", "{job:#}");
    daemon.check_nothing_left();
    check_same(&source, &back_dir);
}

#[test]
fn a_command_as_manila_gives_it_mounts_a_share() {
    let name = "a_command_as_manila_gives_it_mounts_a_share";
    let place = Place::new(ROOM);
    let disk = lend!(name, unmounted_disk(&place, "image"));
    let image = disk["source"].as_str().unwrap();
    let source_dir = place.path("source");
    let source = build(&source_dir, 200, &mut Random::new(6));
    let mut daemon = Daemon::start(&place.path("service"), &[]);
    let share = json!({
        "type": "command",
        "mount": format!("mount -vt ext4 %(options)s {image} %(path)s"),
        "unmount": "umount -v %(path)s",
        "options": "-o loop,noatime",
    });
    let without_lost_and_found = json!({ "options": { "ignore": ["lost+found"] } });
    let mut there = spec("copy", &source_dir, &source_dir, &without_lost_and_found);
    there["dest"] = share.clone();
    let back_dir = place.path("back");
    let mut back = spec("copy", &back_dir, &back_dir, &without_lost_and_found);
    back["source"] = share;
    for spec in [there, back] {
        let id = daemon.create(&spec);
        let job = daemon.ended(&id);
        assert_eq!(job["state"], "completed", "{job:#}");
        daemon.check_nothing_left();
    }
    check_same(&source, &back_dir);
}

#[test]
fn a_share_that_cannot_be_mounted_fails_its_job_with_the_words_of_the_helper() {
    let name = "a_share_that_cannot_be_mounted_fails_its_job_with_the_words_of_the_helper";
    lend!(name, need_root());
    let place = Place::new(ROOM);
    let source_dir = place.path("source");
    build(&source_dir, 1, &mut Random::new(7));
    let before = picture(&source_dir);
    let mut daemon = Daemon::start(&place.path("service"), &[]);
    let mut job = spec("copy", &source_dir, &place.path("dest"), &json!({}));
    let image = place.path("no image");
    job["dest"] =
        json!({ "type": "mount", "fs_type": "ext4", "source": image, "options": ["loop", "password=geheim"] });
    let id = daemon.create(&job);
    let job = daemon.ended(&id);
    assert_eq!(job["state"], "failed", "{job:#}");
    let failure = job["failure"].to_string();
    assert!(failure.contains("mount_failed") && failure.contains("no image"), "{failure}");
    assert!(!daemon.log().contains("geheim") && !job.to_string().contains("geheim"));
    check_same(&before, &source_dir);
    daemon.check_nothing_left();
}
