//! A client of `graphql-transport-ws` that says just what it is told to.

use std::time::Duration;

use access::Caller;
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::harness::{CALLER, Shop, named};

pub(crate) struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    /// Connects and says nothing yet.
    pub(crate) async fn connect(shop: &Shop, protocol: &str) -> Self {
        Self::try_connect(shop, protocol).await.unwrap()
    }

    /// The status of a handshake that is refused.
    pub(crate) async fn try_connect(shop: &Shop, protocol: &str) -> Result<Self, u16> {
        Self::try_connect_as(shop, protocol, None).await
    }

    async fn try_connect_as(shop: &Shop, protocol: &str, caller: Option<&Caller>) -> Result<Self, u16> {
        let mut request = shop.url.replace("http://", "ws://").into_client_request().unwrap();
        if caller.is_some() {
            request.headers_mut().insert(CALLER, named(caller).parse().unwrap());
        }
        if !protocol.is_empty() {
            request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
        }
        match tokio_tungstenite::connect_async(request).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Connects and introduces itself.
    pub(crate) async fn open(shop: &Shop) -> Self {
        let mut socket = Self::connect(shop, "graphql-transport-ws").await;
        socket.say(json!({ "type": "connection_init" })).await;
        assert_eq!(socket.hear().await, json!({ "type": "connection_ack" }));
        socket
    }

    /// The same as somebody.
    pub(crate) async fn open_as(shop: &Shop, caller: &Caller) -> Self {
        let mut socket = Self::try_connect_as(shop, "graphql-transport-ws", Some(caller)).await.unwrap();
        socket.say(json!({ "type": "connection_init" })).await;
        assert_eq!(socket.hear().await, json!({ "type": "connection_ack" }));
        socket
    }

    pub(crate) async fn say(&mut self, message: Value) {
        self.say_text(message.to_string()).await;
    }

    pub(crate) async fn say_text(&mut self, text: String) {
        self.0.send(Message::Text(text.into())).await.unwrap();
    }

    pub(crate) async fn say_bytes(&mut self) {
        self.0.send(Message::Binary(vec![1].into())).await.unwrap();
    }

    pub(crate) async fn follow(&mut self, id: &str, query: &str, variables: Value) {
        self.say(json!({ "id": id, "type": "subscribe", "payload": { "query": query, "variables": variables } })).await;
    }

    /// The next message.
    pub(crate) async fn hear(&mut self) -> Value {
        match self.next().await {
            Ok(message) => message,
            Err(closed) => panic!("closed: {closed:?}"),
        }
    }

    /// The data of the next message, which must be one of the operation `id` without errors.
    pub(crate) async fn data(&mut self, id: &str) -> Value {
        let message = self.hear().await;
        assert_eq!((&message["id"], &message["type"]), (&json!(id), &json!("next")), "{message}");
        assert_eq!(message["payload"].get("errors"), None, "{message}");
        message["payload"]["data"].clone()
    }

    /// Why the server closed the connection, skipping what it says before.
    pub(crate) async fn closed(&mut self) -> Option<(u16, String)> {
        loop {
            if let Err(closed) = self.next().await {
                return closed;
            }
        }
    }

    async fn next(&mut self) -> Result<Value, Option<(u16, String)>> {
        loop {
            let message = tokio::time::timeout(Duration::from_secs(30), self.0.next()).await.expect("nothing is said");
            match message {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(frame))) => {
                    return Err(frame.map(|frame| (frame.code.into(), frame.reason.to_string())));
                }
                Some(Ok(other)) => panic!("{other:?}"),
                Some(Err(_)) | None => return Err(None),
            }
        }
    }
}
