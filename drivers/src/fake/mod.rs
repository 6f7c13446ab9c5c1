//! Stateful fakes of the peers, for host tests over [`kernel::fake::FakeXen`].
