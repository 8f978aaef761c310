//! Hard links of which a killed run had made only some: the content that is there is found, under whatever name.

use std::fs;

use testkit::disk::Place;
use testkit::model::{Entry, TreeModel, materialise};

use crate::harness::{Job, picture};

#[test]
fn a_name_that_is_missing_is_linked_to_the_one_that_is_there() {
    let place = Place::new(2 << 30);
    let source_dir = place.path("source");
    fs::create_dir(&source_dir).unwrap();
    let mut tree = TreeModel::new();
    for dir in ["a", "b", "c"] {
        tree.insert(dir, Entry::dir());
    }
    for number in 0..300 {
        tree.insert(format!("a/{number}"), Entry::file(format!("content of {number}").as_bytes()));
        tree.link(format!("a/{number}"), format!("b/{number}"));
        tree.link(format!("a/{number}"), format!("c/{number}"));
    }
    assert!(materialise(&tree, &source_dir).unwrap().left_out.is_empty());
    let source = picture(&source_dir);
    // Whichever directory is walked first, one of these runs comes to missing names before it comes to the others.
    for kept in ["a", "b", "c"] {
        let job = Job::new(&source_dir, place.path(&format!("kept-{kept}")));
        job.complete();
        for lost in ["a", "b", "c"].into_iter().filter(|dir| *dir != kept) {
            fs::remove_dir_all(job.dest().join(lost)).unwrap();
            if lost < kept {
                // A directory that is there and one that has to be made are two ways through the engine.
                fs::create_dir(job.dest().join(lost)).unwrap();
            }
        }
        let report = job.complete();
        job.check_result(&source);
        let counts = &report.summary["counts"];
        assert_eq!((&counts["copied_files"], &counts["copied_bytes"]), (&0.into(), &0.into()), "{kept}: {counts}");
        assert_eq!(report.summary["actions"]["linked"], 600);
    }
}
