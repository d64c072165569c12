//! WebSockets and tokens: a browser can send no header with the handshake, and what was let in goes when its token expires.

use std::time::{Duration, Instant};

use access::{Role, Scopes};
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use uuid::Uuid;

use super::{Events, list_and_receive};
use crate::support::{Database, Server, client, token, token_for};

/// A connection that both ends hold, in `/proc/net/tcp`.
const ESTABLISHED: &str = "01";

pub(super) struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    /// Connects, with a header `Authorization` or without. The status, when the handshake is refused.
    pub(super) async fn connect(server: &Server, authorization: Option<&str>) -> Result<Self, u16> {
        let url = format!("{}/graphql", server.url.replace("http://", "ws://"));
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", "graphql-transport-ws".parse().unwrap());
        if let Some(authorization) = authorization {
            request.headers_mut().insert("authorization", authorization.parse().unwrap());
        }
        match tokio_tungstenite::connect_async(request).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// A client that may do everything and has introduced itself.
    pub(super) async fn open(server: &Server) -> Self {
        let token = format!("Bearer {}", token("tests", Scopes::ALL, None));
        let mut socket = Self::connect(server, Some(&token)).await.unwrap_or_else(|status| panic!("{status}"));
        assert_eq!(socket.introduce(Value::Null).await, Ok(json!({ "type": "connection_ack" })));
        socket
    }

    /// Whether the server still holds its end of the connection, as the kernel knows; see proc(5). What was sent and not read
    /// would hide from its client that it does not.
    pub(super) fn is_held(&self) -> bool {
        let MaybeTlsStream::Plain(stream) = self.0.get_ref() else { panic!("it is not encrypted") };
        let ends = [stream.peer_addr().unwrap(), stream.local_addr().unwrap()];
        let [ours, theirs] = ends.map(|end| format!(":{:04X}", end.port()));
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        table.lines().skip(1).any(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            columns[1].ends_with(&ours) && columns[2].ends_with(&theirs) && columns[3] == ESTABLISHED
        })
    }

    /// Begins to follow something.
    pub(super) async fn follow(&mut self, id: &str, query: &str, variables: Value) {
        let payload = json!({ "query": query, "variables": variables });
        self.say(json!({ "id": id, "type": "subscribe", "payload": payload })).await;
    }

    pub(super) async fn say(&mut self, message: Value) {
        self.0.send(Message::Text(message.to_string().into())).await.unwrap();
    }

    /// The next message, or the code with which the server closes.
    pub(super) async fn hear(&mut self) -> Result<Value, u16> {
        loop {
            let message = tokio::time::timeout(Duration::from_secs(60), self.0.next()).await.expect("nothing is said");
            match message.expect("it is cut off without a word").unwrap() {
                Message::Text(text) => return Ok(serde_json::from_str(&text).unwrap()),
                Message::Close(frame) => return Err(frame.expect("it is closed without a code").code.into()),
                _ => {}
            }
        }
    }

    /// Whether there is another message: `false` once the connection has ended, however it did.
    pub(super) async fn hears(&mut self) -> bool {
        let message = tokio::time::timeout(Duration::from_secs(60), self.0.next()).await.expect("nothing is said");
        matches!(message, Some(Ok(message)) if !message.is_close())
    }

    /// What comes of an introduction.
    pub(super) async fn introduce(&mut self, payload: Value) -> Result<Value, u16> {
        self.say(json!({ "type": "connection_init", "payload": payload })).await;
        self.hear().await
    }

    /// The payload of the answer to an operation.
    pub(super) async fn ask(&mut self, query: &str) -> Result<Value, u16> {
        self.say(json!({ "id": "q", "type": "subscribe", "payload": { "query": query } })).await;
        self.hear().await.map(|message| message["payload"].clone())
    }
}

pub(super) fn bearer(token: &str) -> Value {
    json!({ "Authorization": format!("Bearer {token}") })
}

#[tokio::test]
async fn a_socket_is_let_in_by_the_token_that_it_brings_and_by_nothing_else() {
    let database = Database::create().await;
    let roles = ["--roles", "write,project,read"];
    let server = Server::start_as(&database, &roles, &[("STOREFOLD_TOKEN_LEEWAY", "0")]).await;
    list_and_receive(&server, "A").await;
    // From here on the read model has it.
    let last = server.done("/v1/stock/A/receive", json!({ "quantity": 1 })).await["position"].clone();
    server.query("{ products { totalCount } }", json!({}), last.as_str()).await;
    let good = token("alice", Scopes::ALL, None);
    let late = token_for("alice", Scopes::ALL, None, Duration::ZERO);
    let customer = token("eve", Role::Customer.scopes(), Some(Uuid::now_v7()));
    let ack = json!({ "type": "connection_ack" });

    // By the payload, as browsers do it; by the header; or by both, where the payload counts.
    for (header, payload) in [
        (None, bearer(&good)),
        (None, json!({ "authorization": format!("bearer {good}"), "more": 1 })),
        (Some(&good), Value::Null),
        (Some(&good), json!({})),
        (Some(&good), bearer(&good)),
        (None, bearer(&customer)),
        (Some(&good), bearer(&customer)),
    ] {
        let header = header.map(|token| format!("Bearer {token}"));
        let mut socket = Socket::connect(&server, header.as_deref()).await.unwrap_or_else(|status| panic!("{status}"));
        assert_eq!(socket.introduce(payload).await, Ok(ack.clone()));
        assert_eq!(socket.ask(r#"{ product(sku: "A") { name } }"#).await.unwrap()["data"]["product"]["name"], "Tea");
    }
    for (header, payload, code) in [
        (None, Value::Null, 4403),
        (None, json!({}), 4403),
        (None, json!({ "Authorization": null }), 4403),
        (None, json!({ "Authorization": 7 }), 4403),
        (None, json!({ "Authorization": good }), 4403),
        (None, json!({ "Authorization": format!("Basic {good}") }), 4403),
        (None, json!({ "Authorization": format!("Bearer {good}"), "authorization": format!("Bearer {good}") }), 4403),
        (None, bearer(&format!("{good}x")), 4403),
        (None, bearer(&"A".repeat(100_000)), 4403),
        (None, bearer("eyJhbGciOiJub25lIn0.e30."), 4403),
        (None, bearer(&late), 4403),
        (Some(&good), bearer(&format!("{good}x")), 4403),
        (None, json!([good]), 4400),
    ] {
        let header = header.map(|token| format!("Bearer {token}"));
        let mut socket = Socket::connect(&server, header.as_deref()).await.unwrap_or_else(|status| panic!("{status}"));
        let shown: String = payload.to_string().chars().take(80).collect();
        assert_eq!(socket.introduce(payload).await, Err(code), "{shown}");
    }
    // What is asked before is not answered.
    let mut socket = Socket::connect(&server, None).await.unwrap_or_else(|status| panic!("{status}"));
    assert_eq!(socket.ask("{ orders { totalCount } }").await, Err(4401));
    // A header that is there has to be good.
    assert_eq!(Socket::connect(&server, Some(&format!("Bearer {good}x"))).await.err(), Some(401));
    // And nothing but a WebSocket comes in that way.
    let bare = reqwest::Client::new();
    let url = format!("{}/graphql", server.url);
    for (request, status) in [
        (bare.get(format!("{url}?query=%7Borders%7BtotalCount%7D%7D")), 426),
        (bare.get(&url).header("accept", "text/event-stream"), 426),
        (bare.post(&url).json(&json!({ "query": "{ orders { totalCount } }" })), 401),
        (bare.head(format!("{url}?query=%7Borders%7BtotalCount%7D%7D")), 426),
        (bare.put(&url), 405),
    ] {
        for protocol in ["websocket", "h2c"] {
            let request = request.try_clone().unwrap().header("upgrade", protocol).header("connection", "upgrade");
            let request = request.build().unwrap();
            let shown = format!("{} {} {protocol}", request.method(), request.url());
            assert_eq!(bare.execute(request).await.unwrap().status().as_u16(), status, "{shown}");
        }
    }
}

/// Whoever opens sockets and says nothing takes the places of strangers, and none of those who have shown a token.
#[tokio::test]
async fn strangers_keep_nobody_out() {
    let database = Database::create().await;
    let server = Server::start_by_hand(&database).await;
    let strangers = futures::future::join_all((0..150).map(|_| Socket::connect(&server, None))).await;
    let refused: Vec<u16> = strangers.iter().filter_map(|stranger| stranger.as_ref().err().copied()).collect();
    assert!(!refused.is_empty() && refused.iter().all(|status| *status == 503), "{refused:?}");
    let good = format!("Bearer {}", token("alice", Scopes::ALL, None));
    let mut socket = Socket::connect(&server, Some(&good)).await.unwrap_or_else(|status| panic!("{status}"));
    assert_eq!(socket.introduce(Value::Null).await, Ok(json!({ "type": "connection_ack" })));
    // And they do not keep their places for long.
    for mut stranger in strangers.into_iter().flatten() {
        assert_eq!(stranger.hear().await, Err(4408));
    }
}

#[tokio::test]
async fn an_operation_over_a_socket_may_do_what_its_token_allows() {
    let database = Database::create().await;
    let server = Server::start_by_hand(&database).await;
    for (scopes, answer) in [(Scopes::ALL, json!(null)), (Role::Staff.scopes(), json!("FORBIDDEN"))] {
        let mut socket = Socket::connect(&server, None).await.unwrap_or_else(|status| panic!("{status}"));
        socket.introduce(bearer(&token("bob", scopes, None))).await.unwrap();
        let redriven = socket.ask(r#"mutation { redrive(readModel: "orders") { folded } }"#).await.unwrap();
        // What may not be asked for is not executed: the errors are all of the answer.
        assert_eq!(redriven[0]["extensions"]["code"], answer, "{redriven}");
    }
}

/// A socket has begun to answer: how long a request may take does not concern it.
#[tokio::test]
async fn a_socket_outlives_the_time_of_a_request() {
    let database = Database::create().await;
    let roles = ["--roles", "write,project,read"];
    let server = Server::start_as(&database, &roles, &[("STOREFOLD_HTTP_REQUEST_TIMEOUT", "1")]).await;
    let mut socket = Socket::open(&server).await;
    socket.follow("it", "subscription { projectionsChanged { asOf } }", json!({})).await;
    let (begun, mut pace) = (Instant::now(), tokio::time::interval(Duration::from_millis(50)));
    while begun.elapsed() < Duration::from_millis(2_500) {
        pace.tick().await;
        socket.say(json!({ "type": "ping" })).await;
        while socket.hear().await.unwrap()["type"] != "pong" {}
    }
    // What it follows goes on.
    list_and_receive(&server, "A").await;
    let told = socket.hear().await.unwrap();
    assert_eq!((&told["id"], &told["type"]), (&json!("it"), &json!("next")), "{told}");
    assert!(told["payload"]["data"]["projectionsChanged"].is_object(), "{told}");
}

#[tokio::test]
async fn what_is_followed_ends_when_the_token_expires() {
    let database = Database::create().await;
    let roles = ["--roles", "write,project,read"];
    let mut server = Server::start_as(&database, &roles, &[("STOREFOLD_TOKEN_LEEWAY", "0")]).await;
    let lifetime = Duration::from_secs(6);
    let began = Instant::now();
    let short = token_for("alice", Scopes::ALL, None, lifetime);
    let follow = "subscription { projectionsChanged { asOf } }";
    let mut by_header =
        Socket::connect(&server, Some(&format!("Bearer {short}"))).await.unwrap_or_else(|status| panic!("{status}"));
    by_header.introduce(Value::Null).await.unwrap();
    let mut by_payload = Socket::connect(&server, None).await.unwrap_or_else(|status| panic!("{status}"));
    by_payload.introduce(bearer(&short)).await.unwrap();
    server.client = client(&short);
    let mut events = Events::follow(&server, follow, json!({})).await;
    assert!(events.next().await.unwrap()["projectionsChanged"].is_object());
    for socket in [&mut by_header, &mut by_payload] {
        assert!(socket.ask(follow).await.unwrap()["data"]["projectionsChanged"].is_object());
    }
    for socket in [&mut by_header, &mut by_payload] {
        let closed = loop {
            if let Err(code) = socket.hear().await {
                break code;
            }
        };
        assert_eq!(closed, 4403);
        // Its time is told in whole seconds.
        let lasted = began.elapsed();
        assert!(lasted + Duration::from_secs(1) >= lifetime && lasted < 5 * lifetime, "{lasted:?}");
    }
    assert_eq!(events.last_code().await, "UNAUTHENTICATED");
}
