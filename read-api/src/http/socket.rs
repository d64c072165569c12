//! Operations over a WebSocket, by the protocol `graphql-transport-ws`:
//! <https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md>

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use access::{Caller, Gate, Refusal};
use async_graphql::ServerError;
use axum::extract::WebSocketUpgrade;
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use axum::response::Response;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::live::{self, Frame};
use super::problem::Problem;
use super::request::{NO_DEMAND, Request};
use super::{Endpoint, LARGEST_BODY};
use crate::error::{Code, request_error};
use crate::feed::{Turn, stopped};

const PROTOCOL: &str = "graphql-transport-ws";

/// How many answers are made for one connection at a time. A slow query holds up none but itself, unless there are so many.
const TURNS: usize = 4;

/// How long a client may take for the farewell.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why a connection is closed, by the codes of the protocol where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Closing(u16, &'static str);

const GOING_AWAY: Closing = Closing(1001, "the server stops");
const SLOW: Closing = Closing(1008, "what was sent was not read in time");
const SILENT: Closing = Closing(1008, "no answer to a ping");
const INVALID: Closing = Closing(4400, "Invalid message");
const BUSY: Closing = Closing(1013, "as many clients follow something as may");
const NO_KEYS: Closing = Closing(1013, "tokens cannot be verified at the moment");
const UNAUTHORIZED: Closing = Closing(4401, "Unauthorized");
const FORBIDDEN: Closing = Closing(4403, "Forbidden");
const EXPIRED: Closing = Closing(4403, "the token has expired");
const NO_PROTOCOL: Closing = Closing(4406, "Subprotocol not acceptable");
const NO_INIT: Closing = Closing(4408, "Connection initialisation timeout");
const EXISTS: Closing = Closing(4409, "There is a subscriber of this id already");
const INIT_TWICE: Closing = Closing(4429, "Too many initialisation requests");

/// Takes a client in.
pub(super) fn accept(
    endpoint: Arc<Endpoint>,
    caller: Option<Caller>,
    gate: Option<Gate>,
    socket: WebSocketUpgrade,
) -> Result<Response, Problem> {
    // Those of whom nothing is known do not take the places of others.
    let is_stranger = gate.is_some() && caller.is_none();
    let places = if is_stranger { &endpoint.strangers } else { &endpoint.connections };
    let place = places.clone().try_acquire_owned().map_err(|_| Problem::too_many_connections())?;
    let socket = socket.protocols([PROTOCOL]).max_message_size(LARGEST_BODY).max_frame_size(LARGEST_BODY);
    Ok(socket.on_upgrade(move |socket| Connection::new(endpoint, caller, gate, socket, place).serve()))
}

/// Names one operation of a connection for ever: a client may use the id of one that is over again.
type Serial = u64;

struct Connection {
    endpoint: Arc<Endpoint>,
    /// Who the client is, as far as it was proved.
    caller: Option<Caller>,
    /// What verifies its token. Without one, nobody is asked for any.
    gate: Option<Gate>,
    socket: WebSocket,
    /// Whether the client has introduced itself.
    initialised: bool,
    /// The operations that are under way, by the client's ids. To drop one's sender stops it.
    operations: HashMap<String, (Serial, watch::Sender<bool>)>,
    ids: HashMap<Serial, String>,
    next: Serial,
    turns: Arc<Semaphore>,
    out: mpsc::Sender<(Serial, Frame)>,
    frames: mpsc::Receiver<(Serial, Frame)>,
    place: OwnedSemaphorePermit,
}

/// What a client sends.
#[derive(Deserialize)]
struct Incoming<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: Option<String>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

impl Connection {
    fn new(
        endpoint: Arc<Endpoint>,
        caller: Option<Caller>,
        gate: Option<Gate>,
        socket: WebSocket,
        place: OwnedSemaphorePermit,
    ) -> Self {
        // What is ready waits with its operation, so that a client that does not read is not written for.
        let (out, frames) = mpsc::channel(1);
        let (operations, ids, turns) = (HashMap::new(), HashMap::new(), Arc::new(Semaphore::new(TURNS)));
        Self { endpoint, caller, gate, socket, initialised: false, operations, ids, next: 0, turns, out, frames, place }
    }

    /// Serves until either side has enough.
    async fn serve(mut self) {
        let closing = match self.socket.protocol().map(|protocol| protocol.as_bytes()) {
            Some(protocol) if protocol == PROTOCOL.as_bytes() => self.converse().await,
            _ => Some(NO_PROTOCOL),
        };
        // Whatever is under way stops.
        self.operations.clear();
        if let Some(Closing(code, reason)) = closing {
            let farewell = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
            let said = async {
                self.socket.send(farewell).await?;
                // The client's own farewell, so that it is not cut off before it has read this one.
                while let Some(Ok(_)) = self.socket.recv().await {}
                Ok::<(), axum::Error>(())
            };
            // A client that does not read it in time is cut off.
            let _ = tokio::time::timeout(FAREWELL, said).await;
        }
    }

    /// Answers until the client is gone (`None`) or the connection is to be closed.
    async fn converse(&mut self) -> Option<Closing> {
        let limits = self.endpoint.limits;
        let mut end = self.endpoint.stop.clone();
        let introduced_until = Instant::now() + limits.init_timeout;
        let mut ping = tokio::time::interval_at(Instant::now() + limits.ping, limits.ping);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = true;
        loop {
            let server_stops = async {
                match &mut end {
                    Some(end) => stopped(end).await,
                    None => std::future::pending().await,
                }
            };
            let expiry = self.caller.as_ref().and_then(live::expiry);
            let sent = tokio::select! {
                received = self.socket.recv() => {
                    heard = true;
                    match received {
                        None | Some(Err(_) | Ok(Message::Close(_))) => return None,
                        Some(Ok(Message::Text(text))) => self.take(&text).await,
                        Some(Ok(Message::Binary(_))) => Err(INVALID),
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
                    }
                }
                Some((serial, frame)) = self.frames.recv() => self.forward(serial, frame).await,
                () = server_stops => Err(GOING_AWAY),
                () = live::expired(expiry) => Err(EXPIRED),
                () = tokio::time::sleep_until(introduced_until), if !self.initialised => Err(NO_INIT),
                _ = ping.tick() => match std::mem::take(&mut heard) {
                    true => self.send(Message::Ping(Default::default())).await,
                    false => Err(SILENT),
                },
            };
            if let Err(closing) = sent {
                return Some(closing);
            }
        }
    }

    /// Does what a client says.
    async fn take(&mut self, text: &str) -> Result<(), Closing> {
        let Ok(Incoming { kind, id, payload }) = serde_json::from_str(text) else { return Err(INVALID) };
        match (kind, id) {
            ("connection_init", None) if self.initialised => Err(INIT_TWICE),
            ("connection_init", None) => {
                self.introduce(payload).await?;
                self.initialised = true;
                self.say(json!({ "type": "connection_ack" })).await
            }
            ("ping", None) => self.say(json!({ "type": "pong" })).await,
            ("pong", None) => Ok(()),
            ("subscribe", Some(_)) if !self.initialised => Err(UNAUTHORIZED),
            ("subscribe", Some(id)) if self.operations.contains_key(&id) => Err(EXISTS),
            ("subscribe", Some(id)) => self.subscribe(id, payload.ok_or(INVALID)?).await,
            ("complete", Some(id)) => {
                if let Some((serial, _)) = self.operations.remove(&id) {
                    self.ids.remove(&serial);
                }
                Ok(())
            }
            _ => Err(INVALID),
        }
    }

    /// Lets in who may follow something: by the token that it brings along, as a browser does, which can send no header,
    /// or by the one of the handshake.
    async fn introduce(&mut self, payload: Option<&RawValue>) -> Result<(), Closing> {
        let Some(gate) = &self.gate else { return Ok(()) };
        let is_stranger = self.caller.is_none();
        if let Some(authorization) = authorization(payload)? {
            let caller = gate.authorized(&authorization).await.map_err(|refusal| {
                tracing::debug!(reason = %refusal, "a token was refused");
                if refusal == Refusal::NoKeys { NO_KEYS } else { FORBIDDEN }
            })?;
            self.caller = Some(caller);
        }
        // What is for everybody can be asked for without a connection.
        if self.caller.is_none() {
            return Err(FORBIDDEN);
        }
        if is_stranger {
            self.place = self.endpoint.connections.clone().try_acquire_owned().map_err(|_| BUSY)?;
        }
        Ok(())
    }

    async fn subscribe(&mut self, id: String, payload: &RawValue) -> Result<(), Closing> {
        let Ok(request) = Request::parse(payload.get().as_bytes()) else { return Err(INVALID) };
        if self.operations.len() >= self.endpoint.limits.per_connection {
            let most = self.endpoint.limits.per_connection;
            let message = format!("A connection has at most {most} operations at a time.");
            return self.refuse(&id, vec![request_error(Code::TooManySubscriptions, message)]).await;
        }
        let serial = self.next;
        self.next += 1;
        let (stop, stopped) = watch::channel(false);
        self.operations.insert(id.clone(), (serial, stop));
        self.ids.insert(serial, id);
        let prepared = self.endpoint.prepare(request, NO_DEMAND, self.caller.clone());
        let turn = Turn::new(self.turns.clone());
        // How long the client may leave things unread is a matter of the connection, which its operations share.
        live::start(self.endpoint.clone(), prepared, serial, self.out.clone(), stopped, None, turn, None);
        Ok(())
    }

    /// Sends what an operation has, unless the client has stopped it.
    async fn forward(&mut self, serial: Serial, frame: Frame) -> Result<(), Closing> {
        let Some(id) = self.ids.get(&serial).cloned() else { return Ok(()) };
        if let Frame::Next(json) = frame {
            let id = serde_json::Value::from(id);
            return self
                .send(Message::Text(format!("{{\"id\":{id},\"type\":\"next\",\"payload\":{json}}}").into()))
                .await;
        }
        self.ids.remove(&serial);
        self.operations.remove(&id);
        match frame {
            Frame::Refused(errors) => self.refuse(&id, errors).await,
            _ => self.say(json!({ "id": id, "type": "complete" })).await,
        }
    }

    async fn refuse(&mut self, id: &str, errors: Vec<ServerError>) -> Result<(), Closing> {
        self.say(json!({ "id": id, "type": "error", "payload": errors })).await
    }

    async fn say(&mut self, message: serde_json::Value) -> Result<(), Closing> {
        self.send(Message::Text(message.to_string().into())).await
    }

    async fn send(&mut self, message: Message) -> Result<(), Closing> {
        // That the client is gone is noticed by whoever reads from it.
        tokio::time::timeout(self.endpoint.limits.unread, self.socket.send(message)).await.map(drop).map_err(|_| SLOW)
    }
}

/// What a client says under `Authorization` when it introduces itself, however that is written.
fn authorization(payload: Option<&RawValue>) -> Result<Option<String>, Closing> {
    let Some(payload) = payload else { return Ok(None) };
    let Ok(payload) = serde_json::from_str::<Option<Map<String, Value>>>(payload.get()) else { return Err(INVALID) };
    let named = |(name, value): (String, Value)| name.eq_ignore_ascii_case("authorization").then_some(value);
    let mut given = payload.into_iter().flatten().filter_map(named);
    match (given.next(), given.next()) {
        (None, _) => Ok(None),
        (Some(Value::String(authorization)), None) => Ok(Some(authorization)),
        _ => Err(FORBIDDEN),
    }
}
