//! The rules of the house, as tests. Each names all its offenders at once.

mod edges;
mod licences;
mod sources;
