//! The front end against a fake blkback.
