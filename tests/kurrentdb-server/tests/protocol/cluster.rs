//! What the server says it is, and clients that choose among several.

use eventstore::{Error, StreamState};
use kurrentdb_server::{AppendFault, Endpoint, Member, Role, Server, Settings};

use crate::support::{append, client, connect, events, server, soon};

#[tokio::test]
async fn it_says_its_version() {
    let settings = Settings::since_25_1();
    let server = Server::start(settings).await.unwrap();
    let info = soon(client(&server).server_info()).await.unwrap();
    assert_eq!(info.version(), (25, 1, 0));
}

#[tokio::test]
async fn a_client_finds_the_leader_by_gossip() {
    let (one, two) = two_servers().await;
    let url = format!("esdb://{},{}?tls=false&nodePreference=leader", one.address(), two.address());
    two.faults().next_appends(1, AppendFault::TimeOut);
    append(&connect(&url), "s", StreamState::NoStream, events(1)).await.unwrap_err();
    soon(two.faults().spent()).await;
}

#[tokio::test]
async fn who_does_not_lead_says_who_does() {
    let (one, two) = two_servers().await;
    let client = client(&one);
    one.faults().next_appends(1, AppendFault::NotLeader(two.endpoint()));
    let refused = append(&client, "s", StreamState::NoStream, events(1)).await;
    let Err(Error::NotLeaderException(leader)) = refused else { panic!("it leads: {refused:?}") };
    assert_eq!((leader.host.as_str(), leader.port), ("127.0.0.1", u32::from(two.address().port())));
    assert_eq!(one.log().head(), None);

    // The client goes to the leader by itself.
    two.faults().next_appends(1, AppendFault::TimeOut);
    append(&client, "s", StreamState::NoStream, events(1)).await.unwrap_err();
    soon(two.faults().spent()).await;
}

/// Two servers of one log, the second of which leads.
async fn two_servers() -> (Server, Server) {
    let one = server().await;
    let two = Server::start_with(Settings::default(), one.log().clone()).await.unwrap();
    let member = |endpoint: Endpoint, role| Member { endpoint, role, alive: true };
    let members = vec![member(one.endpoint(), Role::Follower), member(two.endpoint(), Role::Leader)];
    one.announce(members.clone());
    two.announce(members);
    (one, two)
}
