//! Inclusive ranges of one address family, as numbers: union, intersection, difference, prefix blocks.
//!
//! "Disjoint" below means: sorted, without overlap, and no two touching.

/// Last IPv4 address as a number.
pub const LAST_IPV4: u128 = u32::MAX as u128;
/// Last IPv6 address as a number.
pub const LAST_IPV6: u128 = u128::MAX;

/// Addresses from `first` to `last`, both included; `first <= last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// First address.
    pub first: u128,
    /// Last address.
    pub last: u128,
}

/// The union of any ranges, disjoint.
#[must_use]
pub fn union(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut disjoint: Vec<Range> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match disjoint.last_mut() {
            Some(before) if range.first <= before.last.saturating_add(1) => before.last = before.last.max(range.last),
            _ => disjoint.push(range),
        }
    }
    disjoint
}

/// What two disjoint lists share, disjoint.
#[must_use]
pub fn intersection(one: &[Range], other: &[Range]) -> Vec<Range> {
    let mut shared = Vec::new();
    let (mut ones, mut others) = (one.iter().peekable(), other.iter().peekable());
    while let (Some(a), Some(b)) = (ones.peek(), others.peek()) {
        let (first, last) = (a.first.max(b.first), a.last.min(b.last));
        if first <= last {
            shared.push(Range { first, last });
        }
        if a.last < b.last {
            ones.next();
        } else {
            others.next();
        }
    }
    shared
}

/// What is in the disjoint list `from` and not in the disjoint list `taken`, disjoint.
#[must_use]
pub fn difference(from: &[Range], taken: &[Range]) -> Vec<Range> {
    let mut left = Vec::with_capacity(from.len());
    let mut takens = taken.iter().peekable();
    for range in from {
        let mut rest = Some(*range);
        while let (Some(now), Some(take)) = (rest, takens.peek()) {
            if take.first > now.last {
                break;
            }
            if take.last >= now.first {
                if take.first > now.first {
                    left.push(Range { first: now.first, last: take.first - 1 });
                }
                rest = (take.last < now.last).then(|| Range { first: take.last + 1, last: now.last });
            }
            // A taken range that reaches beyond this one may take from the next one too.
            if take.last <= now.last {
                takens.next();
            }
        }
        left.extend(rest);
    }
    left
}

/// The fewest aligned power-of-two blocks that make up `range`, as (first address, prefix length), in order.
/// `bits` is 32 or 128.
pub fn blocks(range: Range, bits: u8) -> impl Iterator<Item = (u128, u8)> {
    let mut next = Some(range.first);
    std::iter::from_fn(move || {
        let first = next?;
        // Bits of the block: as far as `first` is aligned and the range lasts; a family's whole has `bits`.
        let aligned = first.trailing_zeros().min(u32::from(bits));
        let room = (range.last - first).checked_add(1).map_or(128, u128::ilog2);
        let size = aligned.min(room);
        let span = if size == 128 { u128::MAX } else { (1 << size) - 1 };
        next = first.checked_add(span)?.checked_add(1).filter(|next| *next <= range.last);
        Some((first, bits - u8::try_from(size).ok()?))
    })
}
