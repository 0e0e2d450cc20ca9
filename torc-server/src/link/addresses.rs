//! Where a server may be reached: every address of its host that somebody else might have a way to.
//!
//! Knows nothing of which ways there are; clients try. Invariant: what is only this host's comes last.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// All addresses, each `host:port`, at which a socket bound like this can be reached: those of the
/// host's interfaces, the host's name, and the loopback address.
pub fn candidates(bound: SocketAddr) -> Vec<String> {
    let name = nix::unistd::gethostname().ok();
    let name = name.as_ref().and_then(|name| name.to_str());
    list(bound, &interfaces(), name)
}

/// The addresses of the interfaces that are up. Nothing is worth failing for: the name is left then.
fn interfaces() -> Vec<IpAddr> {
    let Ok(found) = getifaddrs() else { return Vec::new() };
    found
        .filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP))
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
            v4.or_else(|| Some(IpAddr::V6(address.as_sockaddr_in6()?.ip())))
        })
        .collect()
}

fn list(bound: SocketAddr, interfaces: &[IpAddr], name: Option<&str>) -> Vec<String> {
    if !bound.ip().is_unspecified() {
        return vec![bound.to_string()];
    }
    let is_reachable = |address: &&IpAddr| match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        // Link-local addresses mean nothing without the name of an interface.
        IpAddr::V6(address) => {
            bound.is_ipv6() && !address.is_loopback() && !address.is_unicast_link_local()
        }
    };
    let port = bound.port();
    let mut list: Vec<String> = Vec::new();
    let addresses = interfaces.iter().filter(is_reachable);
    let addresses = addresses.map(|address| SocketAddr::new(*address, port).to_string());
    let name = name.filter(|name| !name.is_empty()).map(|name| format!("{name}:{port}"));
    let own = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port).to_string();
    for address in addresses.chain(name).chain([own]) {
        if !list.contains(&address) {
            list.push(address);
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_last_and_what_nobody_reaches_is_left_out() {
        #[track_caller]
        fn check(bound: &str, name: Option<&str>, expected: &[&str]) {
            let interfaces: Vec<IpAddr> = [
                "127.0.0.1",
                "10.1.2.3",
                "169.254.9.9",
                "::1",
                "fe80::1",
                "2001:db8::7",
                "10.1.2.3",
            ]
            .iter()
            .map(|address| address.parse().expect("an address"))
            .collect();
            let bound = bound.parse().expect("an address and a port");
            assert_eq!(list(bound, &interfaces, name), expected);
        }
        check("0.0.0.0:70", Some("login1"), &["10.1.2.3:70", "login1:70", "127.0.0.1:70"]);
        check(
            "[::]:70",
            Some("login1"),
            &["10.1.2.3:70", "[2001:db8::7]:70", "login1:70", "127.0.0.1:70"],
        );
        check("0.0.0.0:70", None, &["10.1.2.3:70", "127.0.0.1:70"]);
        check("127.0.0.1:70", Some("login1"), &["127.0.0.1:70"]);
        check("10.1.2.3:70", Some("login1"), &["10.1.2.3:70"]);
    }

    #[test]
    fn this_host_has_a_loopback_address() {
        let bound = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 7);
        assert_eq!(candidates(bound).last().map(String::as_str), Some("127.0.0.1:7"));
    }
}
