//! Trees in memory, faults on demand, disks and processes for tests.
