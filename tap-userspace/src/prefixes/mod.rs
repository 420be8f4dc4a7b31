//! Address ranges: merging and intersecting prefixes, how much of an address family they are, the special-purpose
//! registries ([`special`]) and the country table ([`country`]).
//!
//! Everything is exact integer arithmetic on inclusive ranges ([`range`]); IPv4 and IPv6 are never mixed.

pub mod country;
mod delegated;
pub mod range;
pub mod special;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use range::Range;

/// A condition whose values cover more than one in this many addresses of a family is trivial.
pub const TRIVIAL_ADDRESS_DIVISOR: u128 = 256;

/// Merges prefixes: sorted (IPv4 first), without overlap, host bits zero, and as few as possible.
#[must_use]
pub fn merge(prefixes: Vec<IpNetwork>) -> Vec<IpNetwork> {
    let (ipv4, ipv6) = split(&prefixes);
    join(&range::union(ipv4), &range::union(ipv6))
}

/// Addresses that are in both, as merged prefixes. Neither needs to be merged.
#[must_use]
pub fn intersect(one: &[IpNetwork], other: &[IpNetwork]) -> Vec<IpNetwork> {
    let ((one4, one6), (other4, other6)) = (split(one), split(other));
    join(
        &range::intersection(&range::union(one4), &range::union(other4)),
        &range::intersection(&range::union(one6), &range::union(other6)),
    )
}

/// Whether any of `prefixes` holds an address that none of `scope` holds.
#[must_use]
pub fn leaves(prefixes: &[IpNetwork], scope: &[IpNetwork]) -> bool {
    let ((mine4, mine6), (scope4, scope6)) = (split(prefixes), split(scope));
    !range::difference(&range::union(mine4), &range::union(scope4)).is_empty()
        || !range::difference(&range::union(mine6), &range::union(scope6)).is_empty()
}

/// Whether the union of `prefixes` is more than one in `divisor` of the IPv4 or of the IPv6 addresses, exactly.
#[must_use]
pub fn over_share_of_family(prefixes: &[IpNetwork], divisor: u128) -> bool {
    let (ipv4, ipv6) = split(prefixes);
    let over = |ranges: Vec<Range>, last: u128| {
        // Counts are kept one too small per range, so that the whole of IPv6 fits; each range adds its one at the end,
        // and only a family's last address can be lost to saturation.
        let count = range::union(ranges)
            .iter()
            .fold(0_u128, |sum, range| sum.saturating_add(range.last - range.first).saturating_add(1));
        // count > (last + 1) / divisor, without the overflow of last + 1: families are powers of two.
        count > last / divisor + u128::from(last % divisor == divisor - 1)
    };
    over(ipv4, range::LAST_IPV4) || over(ipv6, range::LAST_IPV6)
}

/// Writes a range of IPv4 addresses as the fewest prefixes.
fn join(ipv4: &[Range], ipv6: &[Range]) -> Vec<IpNetwork> {
    let mut prefixes = Vec::with_capacity(ipv4.len() + ipv6.len());
    for range in ipv4 {
        prefixes.extend(range::blocks(*range, 32).filter_map(|(first, length)| {
            let first = u32::try_from(first).ok()?;
            Some(IpNetwork::V4(Ipv4Network::new(first.into(), length).ok()?))
        }));
    }
    for range in ipv6 {
        prefixes.extend(
            range::blocks(*range, 128)
                .filter_map(|(first, length)| Some(IpNetwork::V6(Ipv6Network::new(first.into(), length).ok()?))),
        );
    }
    prefixes
}

/// The ranges of the IPv4 and of the IPv6 prefixes.
pub(crate) fn split(prefixes: &[IpNetwork]) -> (Vec<Range>, Vec<Range>) {
    let (mut ipv4, mut ipv6) = (Vec::new(), Vec::new());
    for prefix in prefixes {
        match prefix {
            IpNetwork::V4(prefix) => ipv4
                .push(Range { first: u32::from(prefix.network()).into(), last: u32::from(prefix.broadcast()).into() }),
            IpNetwork::V6(prefix) => {
                ipv6.push(Range { first: prefix.network().into(), last: prefix.broadcast().into() });
            }
        }
    }
    (ipv4, ipv6)
}

#[cfg(test)]
mod tests;
