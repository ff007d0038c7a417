//! Caps of connections, in all and of one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::cidr::caller_block;

/// Who is connected.
#[derive(Debug, Default)]
pub struct Connections(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    total: u32,
    by_address: HashMap<IpAddr, u32, ahash::RandomState>,
}

/// A connection's place, free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    connections: Arc<Connections>,
    address: Option<IpAddr>,
}

impl Connections {
    /// A place, where neither cap is reached.
    pub fn admit(self: &Arc<Self>, address: IpAddr, most: u32, most_of_one: Option<u32>) -> Option<Place> {
        let address = caller_block(address);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.total >= most {
            return None;
        }
        if let Some(most_of_one) = most_of_one {
            let count = counts.by_address.entry(address).or_default();
            if *count >= most_of_one {
                return None;
            }
            *count += 1;
        }
        counts.total += 1;
        Some(Place { connections: self.clone(), address: most_of_one.map(|_| address) })
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.connections.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total -= 1;
        if let Some(address) = self.address
            && let Some(count) = counts.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                counts.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_caps_hold() {
        let connections = Arc::new(Connections::default());
        let [one, other] = [1, 2].map(|last| IpAddr::from([10, 0, 0, last]));
        let first = connections.admit(one, 2, Some(1)).unwrap();
        assert!(connections.admit(one, 2, Some(1)).is_none());
        let _second = connections.admit(other, 2, Some(1)).unwrap();
        assert!(connections.admit(IpAddr::from([10, 0, 0, 3]), 2, None).is_none());
        drop(first);
        assert!(connections.admit(one, 2, Some(1)).is_some());
        assert_eq!(connections.count(), 1);
        // An IPv6 caller has a whole block of addresses.
        let [one, same, other] = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"].map(|text| text.parse().unwrap());
        let _place = connections.admit(one, 9, Some(1)).unwrap();
        assert!(connections.admit(same, 9, Some(1)).is_none());
        assert!(connections.admit(other, 9, Some(1)).is_some());
    }
}
