//! The way to another network.

use super::*;

#[test]
fn a_server_on_another_network_needs_a_gateway() {
    let far = SocketAddr::new(Ipv4Addr::new(10, 9, 0, 5).into(), 10809);
    let mut machine = Machine::new(ADDRESS, far);
    machine.client.open();
    machine.run(SECOND_NS, |_| false);
    assert_eq!(machine.host.frames(), 0, "no way, no frame");
    let mut machine =
        Machine::new(Address { gateway: Some(Ipv4Addr::new(10, 0, 0, 5).into()), ..ADDRESS }, far);
    machine.client.open();
    machine.run(SECOND_NS, |_| false);
    assert!(
        machine.host.frames() >= 3,
        "a question for the gateway's address, its answer, and a frame for it"
    );
}
