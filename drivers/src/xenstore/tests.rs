//! The client against a fake xenstored.
