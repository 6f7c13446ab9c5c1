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
