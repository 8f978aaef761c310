//! What a run must remember to be resumed.
