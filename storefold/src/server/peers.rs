//! From where a request comes, where it came by proxies; and how many connections there are from one place.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::HeaderMap;

use crate::config::{ForwardedBy, Network};

/// Those who may say from where a request comes.
#[derive(Debug)]
pub(super) struct Proxies {
    trusted: Vec<Network>,
    by: ForwardedBy,
}

impl Proxies {
    pub(super) fn new(trusted: Vec<Network>, by: ForwardedBy) -> Self {
        Self { trusted, by }
    }

    /// The address of the client: that of whoever is connected, or, where that is a proxy which is trusted, the last one
    /// that a trusted proxy has written and that is none itself. What stands before it may have been made up.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let trusted = |address: IpAddr| self.trusted.iter().any(|network| network.contains(address));
        if self.trusted.is_empty() || !trusted(peer) {
            return peer;
        }
        let name = match self.by {
            ForwardedBy::XForwardedFor => "x-forwarded-for",
            ForwardedBy::Forwarded => "forwarded",
        };
        let lines: Vec<_> = headers.get_all(name).iter().collect();
        // What is no text ends the search, as does what is no address: nobody who is trusted writes that.
        let hops = lines.iter().rev().map_while(|line| line.to_str().ok()).flat_map(|line| line.rsplit(','));
        let mut client = peer;
        for address in hops.map_while(|hop| self.address(hop)) {
            client = address;
            if !trusted(address) {
                break;
            }
        }
        client
    }

    fn address(&self, hop: &str) -> Option<IpAddr> {
        let node = match self.by {
            ForwardedBy::XForwardedFor => hop.trim(),
            ForwardedBy::Forwarded => hop.split(';').find_map(|pair| {
                let (name, value) = pair.split_once('=')?;
                name.trim().eq_ignore_ascii_case("for").then(|| value.trim().trim_matches('"'))
            })?,
        };
        let host = match node.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?.0,
            None if node.matches(':').count() == 1 => node.split_once(':')?.0,
            None => node,
        };
        host.parse().ok().map(|address: IpAddr| address.to_canonical())
    }
}

/// The network that an address stands for: whoever has one address of IPv6 has as many as are in its /64.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX)).into(),
    }
}

/// Those who are connected, by where they are. As much is remembered as there are connections.
#[derive(Debug)]
pub(super) struct Crowd {
    /// How many may be connected from one place, unless it is a proxy that is trusted: behind that are many.
    most: usize,
    trusted: Vec<Network>,
    there: Mutex<HashMap<IpAddr, usize>>,
}

impl Crowd {
    pub(super) fn new(most: usize, trusted: Vec<Network>) -> Arc<Self> {
        Arc::new(Self { most, trusted, there: Mutex::default() })
    }

    /// Lets somebody in, unless there are as many from the same place as may be.
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<Guest> {
        if self.trusted.iter().any(|network| network.contains(peer)) {
            return Some(Guest(None));
        }
        let place = network(peer);
        let mut there = self.lock();
        let count = there.entry(place).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Guest(Some((self.clone(), place))))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.there.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who is connected, until it is dropped; with the crowd where those of its place are counted.
#[derive(Debug)]
pub(super) struct Guest(Option<(Arc<Crowd>, IpAddr)>);

impl Drop for Guest {
    fn drop(&mut self) {
        let Some((crowd, place)) = &self.0 else { return };
        let mut there = crowd.lock();
        if let Some(count) = there.get_mut(place) {
            *count -= 1;
            if *count == 0 {
                there.remove(place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn client(by: ForwardedBy, peer: &str, lines: &[&str]) -> String {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap());
        let proxies = Proxies::new(trusted.to_vec(), by);
        let name = match by {
            ForwardedBy::XForwardedFor => "x-forwarded-for",
            ForwardedBy::Forwarded => "forwarded",
        };
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        proxies.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn only_who_is_trusted_is_believed() {
        let client = |peer, lines: &[&str]| client(ForwardedBy::XForwardedFor, peer, lines);
        assert_eq!(client("203.0.113.1", &["198.51.100.1"]), "203.0.113.1");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &["1.2.3.4, 198.51.100.1, 10.0.0.2"]), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &["1.2.3.4", "198.51.100.1", "10.0.0.2"]), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &["198.51.100.1:4711, [fd00::7]:80"]), "198.51.100.1");
        assert_eq!(client("fd00::1", &["2001:db8::1"]), "2001:db8::1");
        for nonsense in ["", "unknown", "1.2.3.4, who?", "1.2.3.4, \u{fc}", "[::1", "1.2.3.4,,"] {
            assert_eq!(client("10.0.0.1", &[nonsense]), "10.0.0.1", "{nonsense}");
        }
        assert_eq!(client("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
    }

    #[test]
    fn the_other_header_is_read_where_it_is_the_one() {
        let client = |lines: &[&str]| client(ForwardedBy::Forwarded, "10.0.0.1", lines);
        assert_eq!(client(&["for=1.2.3.4, For=\"[2001:db8::1]:4711\";proto=https;by=10.0.0.1"]), "2001:db8::1");
        assert_eq!(client(&["by=10.0.0.9;for=198.51.100.1, for=10.0.0.2"]), "198.51.100.1");
        for nonsense in ["for=_hidden", "by=1.2.3.4", "for", "for=\"[\""] {
            assert_eq!(client(&[nonsense]), "10.0.0.1", "{nonsense}");
        }
    }

    #[test]
    fn so_many_come_from_one_place_and_no_more() {
        let crowd = Crowd::new(2, vec!["10.0.0.0/8".parse().unwrap()]);
        let enter = |address: &str| crowd.enter(address.parse().unwrap());
        let first = enter("198.51.100.1").unwrap();
        let _second = enter("198.51.100.1").unwrap();
        assert!(enter("198.51.100.1").is_none() && enter("198.51.100.1").is_none());
        let _other = enter("198.51.100.2").unwrap();
        drop(first);
        let _third = enter("198.51.100.1").unwrap();
        assert!(enter("198.51.100.1").is_none());
        // One /64 is one place.
        let _network = ["2001:db8::1", "2001:db8::2"].map(|address| enter(address).unwrap());
        assert!(enter("2001:db8::3").is_none() && enter("2001:db8:0:1::1").is_some());
        let proxied: Vec<_> = (0..100).map(|_| enter("10.1.2.3").unwrap()).collect();
        assert_eq!(crowd.lock().len(), 3, "who has gone is forgotten, and a proxy is not counted");
        drop(proxied);
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let network = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("198.51.100.1"), "198.51.100.1");
    }
}
