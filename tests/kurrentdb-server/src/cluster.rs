//! The services that say what the server is: who leads the cluster, and which methods there are.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tonic::{Request, Response, Status};

use crate::node::Node;
use crate::protocol::event_store::client;
use crate::protocol::event_store::client::gossip::gossip_server::{self, GossipServer};
use crate::protocol::event_store::client::gossip::member_info::VNodeState;
use crate::protocol::event_store::client::gossip::{ClusterInfo, EndPoint, MemberInfo};
use crate::protocol::event_store::client::server_features::server_features_server::{self, ServerFeaturesServer};
use crate::protocol::event_store::client::server_features::{SupportedMethod, SupportedMethods};
use crate::{Member, Role};

/// Nanoseconds in a tick of the server's clock.
const TICK_NANOS: u128 = 100;
const STREAMS: &str = "event_store.client.streams.streams";
const GOSSIP: &str = "event_store.client.gossip.gossip";
const SERVER_FEATURES: &str = "event_store.client.server_features.serverfeatures";

/// Each method with its service and its features, in lower case, as clients compare them.
const METHODS: [(&str, &str, &[&str]); 7] = [
    ("read", STREAMS, &["position", "events"]),
    ("append", STREAMS, &[]),
    ("delete", STREAMS, &[]),
    ("tombstone", STREAMS, &[]),
    ("batchappend", STREAMS, &["deadline_duration"]),
    ("read", GOSSIP, &[]),
    ("getsupportedmethods", SERVER_FEATURES, &[]),
];

pub(crate) fn gossip(node: Arc<Node>) -> GossipServer<Gossip> {
    GossipServer::new(Gossip { node })
}

pub(crate) fn features(node: Arc<Node>) -> ServerFeaturesServer<Features> {
    ServerFeaturesServer::new(Features { node })
}

#[derive(Debug)]
pub(crate) struct Gossip {
    node: Arc<Node>,
}

#[tonic::async_trait]
impl gossip_server::Gossip for Gossip {
    async fn read(&self, _: Request<()>) -> Result<Response<ClusterInfo>, Status> {
        Ok(Response::new(ClusterInfo { members: self.node.members().into_iter().map(info).collect() }))
    }
}

fn info(member: Member) -> MemberInfo {
    let state = match member.role {
        Role::Leader => VNodeState::Leader,
        Role::Follower => VNodeState::Follower,
        Role::ReadOnlyReplica => VNodeState::ReadOnlyReplica,
    };
    let id = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_DNS, member.endpoint.to_string().as_bytes());
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    MemberInfo {
        instance_id: Some(client::Uuid { value: Some(client::uuid::Value::String(id.to_string())) }),
        time_stamp: i64::try_from(since.as_nanos() / TICK_NANOS).unwrap_or(i64::MAX),
        state: state.into(),
        is_alive: member.alive,
        http_end_point: Some(EndPoint { address: member.endpoint.host, port: member.endpoint.port.into() }),
    }
}

#[derive(Debug)]
pub(crate) struct Features {
    node: Arc<Node>,
}

#[tonic::async_trait]
impl server_features_server::ServerFeatures for Features {
    async fn get_supported_methods(&self, _: Request<()>) -> Result<Response<SupportedMethods>, Status> {
        let methods = METHODS.into_iter().map(|(method, service, features)| SupportedMethod {
            method_name: method.to_owned(),
            service_name: service.to_owned(),
            features: features.iter().map(|&feature| feature.to_owned()).collect(),
        });
        let event_store_server_version = self.node.settings.version.clone();
        Ok(Response::new(SupportedMethods { methods: methods.collect(), event_store_server_version }))
    }
}
