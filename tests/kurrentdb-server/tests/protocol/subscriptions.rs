//! Subscriptions: catching up, saying so, going on live.

use eventstore::{
    Client, StreamPosition, StreamState, SubscribeToAllOptions, SubscribeToStreamOptions, Subscription,
    SubscriptionEvent, SubscriptionFilter, TombstoneStreamOptions,
};
use kurrentdb_server::Position;

use crate::support::{append, client, events, happen, in_log, server, soon, to_client, to_log};

/// What a subscription says, in short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    Confirmed,
    Event(u64, Position),
    Checkpoint(Position),
    CaughtUp(Option<u64>, Option<Position>),
    FellBehind,
}

pub(crate) async fn next(subscription: &mut Subscription) -> eventstore::Result<Said> {
    Ok(match soon(subscription.next_subscription_event()).await? {
        SubscriptionEvent::Confirmed(_) => Said::Confirmed,
        SubscriptionEvent::EventAppeared(event) => {
            let event = event.get_original_event();
            Said::Event(event.revision, to_log(event.position))
        }
        SubscriptionEvent::Checkpoint(position) => Said::Checkpoint(to_log(position)),
        SubscriptionEvent::CaughtUp(caught_up) => {
            let caught_up = caught_up.expect("it says when");
            Said::CaughtUp(caught_up.stream_revision, caught_up.position.map(to_log))
        }
        SubscriptionEvent::FellBehind(_) => Said::FellBehind,
        _ => panic!("it says something else"),
    })
}

pub(crate) async fn next_many(subscription: &mut Subscription, count: usize) -> Vec<Said> {
    let mut said = Vec::new();
    for _ in 0..count {
        said.push(next(subscription).await.unwrap());
    }
    said
}

async fn to_stream(client: &Client, stream: &str, from: StreamPosition<u64>) -> Subscription {
    client.subscribe_to_stream(stream, &SubscribeToStreamOptions::default().start_from(from)).await
}

#[tokio::test]
async fn a_subscription_to_a_stream_catches_up_and_goes_on() {
    let server = server().await;
    let client = client(&server);
    append(&client, "s", StreamState::NoStream, events(2)).await.unwrap();
    happen(&client, "other", "Happened", 1).await;
    let mut subscription = to_stream(&client, "s", StreamPosition::Start).await;
    let positions = in_log(&server);
    assert_eq!(
        next_many(&mut subscription, 4).await,
        [Said::Confirmed, Said::Event(0, positions[0]), Said::Event(1, positions[1]), Said::CaughtUp(Some(1), None)]
    );
    happen(&client, "other", "Happened", 1).await;
    happen(&client, "s", "Happened", 1).await;
    assert_eq!(next(&mut subscription).await.unwrap(), Said::Event(2, server.log().head().unwrap()));
}

#[tokio::test]
async fn a_subscription_to_a_stream_starts_past_a_revision_or_at_the_end() {
    let server = server().await;
    let client = client(&server);
    append(&client, "s", StreamState::NoStream, events(3)).await.unwrap();
    let mut past = to_stream(&client, "s", StreamPosition::Position(1)).await;
    let mut new = to_stream(&client, "s", StreamPosition::End).await;
    let mut early = to_stream(&client, "nothing yet", StreamPosition::Start).await;
    assert_eq!(
        next_many(&mut past, 3).await,
        [Said::Confirmed, Said::Event(2, in_log(&server)[2]), Said::CaughtUp(Some(2), None)]
    );
    assert_eq!(next_many(&mut new, 2).await, [Said::Confirmed, Said::CaughtUp(Some(2), None)]);
    assert_eq!(next_many(&mut early, 2).await, [Said::Confirmed, Said::CaughtUp(None, None)]);
    happen(&client, "s", "Happened", 1).await;
    let last = server.log().head().unwrap();
    assert_eq!(next(&mut past).await.unwrap(), Said::Event(3, last));
    assert_eq!(next(&mut new).await.unwrap(), Said::Event(3, last));
    happen(&client, "nothing yet", "Happened", 1).await;
    assert_eq!(next(&mut early).await.unwrap(), Said::Event(0, server.log().head().unwrap()));
}

#[tokio::test]
async fn a_subscription_to_the_log_starts_past_a_position() {
    let server = server().await;
    let client = client(&server);
    happen(&client, "s", "Happened", 3).await;
    let positions = in_log(&server);
    let from = StreamPosition::Position(to_client(positions[0]));
    let mut subscription = client.subscribe_to_all(&SubscribeToAllOptions::default().position(from)).await;
    assert_eq!(
        next_many(&mut subscription, 4).await,
        [
            Said::Confirmed,
            Said::Event(1, positions[1]),
            Said::Event(2, positions[2]),
            Said::CaughtUp(None, Some(positions[2]))
        ]
    );
    let options = SubscribeToAllOptions::default().position(StreamPosition::End);
    let mut new = client.subscribe_to_all(&options).await;
    assert_eq!(next_many(&mut new, 2).await, [Said::Confirmed, Said::CaughtUp(None, Some(positions[2]))]);
    happen(&client, "t", "Happened", 1).await;
    assert_eq!(next(&mut new).await.unwrap(), Said::Event(0, server.log().head().unwrap()));
}

#[tokio::test]
async fn a_filtered_subscription_says_how_far_it_is() {
    let server = server().await;
    let client = client(&server);
    happen(&client, "wanted", "Happened", 1).await;
    happen(&client, "other", "Happened", 6).await;
    let positions = in_log(&server);
    // A checkpoint every four records.
    let filter = SubscriptionFilter::on_stream_name().add_prefix("wanted").max(4);
    let mut subscription = client.subscribe_to_all(&SubscribeToAllOptions::default().filter(filter)).await;
    assert_eq!(
        next_many(&mut subscription, 5).await,
        [
            Said::Confirmed,
            Said::Event(0, positions[0]),
            Said::Checkpoint(positions[3]),
            Said::Checkpoint(positions[6]),
            Said::CaughtUp(None, Some(positions[6]))
        ]
    );
    happen(&client, "other", "Happened", 5).await;
    happen(&client, "wanted", "Happened", 1).await;
    let positions = in_log(&server);
    assert_eq!(next_many(&mut subscription, 2).await, [Said::Checkpoint(positions[10]), Said::Event(1, positions[12])]);
}

#[tokio::test]
async fn a_tombstone_ends_a_subscription_to_its_stream() {
    let server = server().await;
    let client = client(&server);
    happen(&client, "s", "Happened", 1).await;
    let mut subscription = to_stream(&client, "s", StreamPosition::End).await;
    next_many(&mut subscription, 2).await;
    soon(client.tombstone_stream("s", &TombstoneStreamOptions::default())).await.unwrap();
    assert!(matches!(next(&mut subscription).await, Err(eventstore::Error::ResourceDeleted)));
}
