//! Races against a second process that moves whole subtrees of the source.

use copy::Weakness;

use crate::harness::{attack, build, quick};
use crate::races::{Trap, empty, race, tree};

/// Whole subtrees change places, and go out of the tree and come back.
#[test]
fn source_ancestors_move() {
    attack(Weakness::None, |arena| {
        build(&tree(), &arena.source());
        let at = |name: &str| arena.source().join(name);
        let parking = arena.beside("parking");
        std::fs::create_dir_all(parking.join("below")).unwrap();
        let traps = [
            Trap::other(at("d0"), at("d1")),
            Trap::other(at("d2"), parking),
            Trap::other(at("d3/below"), at("d1/below")),
            Trap::other(at("d0/f1"), at("d0/f2")),
        ];
        race(arena, &traps, &quick(), || empty(&arena.dest()));
    });
}
