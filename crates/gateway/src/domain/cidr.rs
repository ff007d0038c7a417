//! Blocks of addresses, such as `10.0.0.0/8`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// A block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    network: u128,
    mask: u128,
}

impl Cidr {
    /// Whether the address is in it. An IPv4 address in IPv6 clothes is the same address.
    pub fn contains(&self, address: IpAddr) -> bool {
        widen(address) & self.mask == self.network
    }
}

/// The addresses that count as one caller: an IPv4 address, or the 64 bits that an IPv6 network hands to one customer at
/// least, of which he may use any.
pub fn caller_block(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) & (u128::MAX << 64)).into(),
        v4 => v4,
    }
}

fn widen(address: IpAddr) -> u128 {
    let wide = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    u128::from(wide)
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a block of addresses: write 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32");
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let offset = if address.is_ipv4() { 96 } else { 0 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse::<u8>().map_err(|_| wrong())?.checked_add(offset),
            None => Some(128),
        };
        let prefix = prefix.filter(|prefix| *prefix <= 128).ok_or_else(wrong)?;
        let mask = if prefix == 0 { 0 } else { u128::MAX << (128 - prefix) };
        Ok(Self { network: widen(address) & mask, mask })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wide = Ipv6Addr::from(self.network);
        match wide.to_ipv4_mapped().filter(|_| self.mask.count_ones() >= 96) {
            Some(v4) => write!(f, "{v4}/{}", self.mask.count_ones() - 96),
            None => write!(f, "{wide}/{}", self.mask.count_ones()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_hold_what_they_should() {
        let block: Cidr = "10.1.0.0/16".parse().unwrap();
        assert!(block.contains("10.1.255.1".parse().unwrap()) && block.contains("::ffff:10.1.0.1".parse().unwrap()));
        assert!(!block.contains("10.2.0.1".parse().unwrap()) && !block.contains("::1".parse().unwrap()));
        assert!("::/0".parse::<Cidr>().unwrap().contains("1.2.3.4".parse().unwrap()));
        for text in ["10.1.0.0/16", "192.0.2.7/32", "2001:db8::/32"] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), text);
        }
        for text in ["10.0.0.0/33", "10.0.0/8", "x", "::/129", "10.0.0.0/", "192.0.2.7/4294967200", "192.0.2.7/200"] {
            assert!(text.parse::<Cidr>().unwrap_err().contains(text), "{text}");
        }
    }
}
