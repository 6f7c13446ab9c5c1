//! What the fuzzers found, once mended: it stays found.

/// A transaction whose id is no number was an error of the call, and the connection, which
/// counts as broken then, went on.
#[test]
fn a_malformed_transaction_id_ends_the_connection() {
    // Calls: a transaction, then a write; the daemon's answer to the first is one zero byte.
    let mut data = vec![6, 1];
    data.resize(16, 0);
    data.extend([4, 1, b'x', 4, 1, b'x', 4, 1, b'x']);
    fuzz_targets::xenstore_wire(&data);
}

/// A backslash in a disk file's serial came into a text of the stub's xl configuration, where it begins an escape.
#[test]
fn a_serial_does_not_end_the_text_that_it_is_in() {
    let with_serial = |word| fuzz_targets::disk_lines(&[2, 3, 6, 1, 1, 2, 3, word, 1, 3, 6]);
    assert!(!with_serial(0x1d), "a backslash");
    assert!(with_serial(0x06), "a letter");
}
