//! privcmd
