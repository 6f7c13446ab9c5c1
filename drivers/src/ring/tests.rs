//! The ring against a peer that keeps the rules, and one that does not.
