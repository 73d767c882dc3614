//! The fake passes the suite, too: what runs against it runs against something like a system.

use mast_conformance::fake::FakeSystem;
use mast_conformance::suite;

#[tokio::test]
async fn declared() {
    suite::declared(&FakeSystem::default()).await;
}

#[tokio::test]
async fn surroundings() {
    suite::surroundings(&FakeSystem::default()).await;
}

#[tokio::test]
async fn tun() {
    suite::tun(&FakeSystem::default()).await;
}

#[tokio::test]
async fn uplinks() {
    let address = |last: u8| std::net::Ipv4Addr::new(127, 78, 0, last).into();
    suite::uplinks(&FakeSystem::default(), address(1), address(2)).await;
}
