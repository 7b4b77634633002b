//! Identifiers: points on a circle of 2^160, and the one `between` used everywhere.
use sha2::{Digest as _, Sha256};
use std::{cmp::Ordering, fmt};

/// Bits of an identifier.
pub const BITS: u32 = 160;
/// Bytes of an identifier.
pub const BYTES: usize = 20;

/// A point on the circle of 2^160, compared as an unsigned big-endian number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Id([u8; BYTES]);

impl Id {
    /// 0, the point that follows 2^160 - 1.
    pub const ZERO: Id = Id([0; BYTES]);
    /// 2^160 - 1.
    pub const MAX: Id = Id([0xff; BYTES]);

    /// From 20 bytes, big-endian.
    pub const fn from_bytes(bytes: [u8; BYTES]) -> Id {
        Id(bytes)
    }

    /// From a slice; `None` unless it has exactly 20 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Id> {
        bytes.try_into().ok().map(Id)
    }

    /// From 40 hexadecimal digits; `None` for anything else.
    pub fn from_hex(text: &str) -> Option<Id> {
        // Not left to `from_str_radix`, which takes a sign.
        if text.len() != 2 * BYTES || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0; BYTES];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Id(bytes))
    }

    /// 20 bytes, big-endian.
    pub const fn to_bytes(self) -> [u8; BYTES] {
        self.0
    }

    /// The point of a client's key: SHA-256 cut to its first 160 bits.
    pub fn of_key(key: &[u8]) -> Id {
        Id::hash(key)
    }

    /// The point of a node placed by hashing its stable name, as in the Chord paper.
    pub fn of_name(name: &str) -> Id {
        Id::hash(name.as_bytes())
    }

    /// The balanced point of a StatefulSet ordinal: its bits reversed, in the top of the id.
    ///
    /// N members split the circle evenly (max/mean at most 2, exactly 1 at powers of two), and each
    /// new ordinal halves one arc. Source: ring.md 1.3, item 5.
    pub fn of_ordinal(ordinal: u32) -> Id {
        let mut bytes = [0; BYTES];
        bytes[..4].copy_from_slice(&ordinal.reverse_bits().to_be_bytes());
        Id(bytes)
    }

    fn hash(bytes: &[u8]) -> Id {
        let digest = Sha256::digest(bytes);
        let mut id = [0; BYTES];
        id.copy_from_slice(&digest[..BYTES]);
        Id(id)
    }

    /// The upper 128 bits and the lower 32: arithmetic is made on these.
    fn parts(self) -> (u128, u32) {
        let (mut high, mut low) = ([0; 16], [0; 4]);
        high.copy_from_slice(&self.0[..16]);
        low.copy_from_slice(&self.0[16..]);
        (u128::from_be_bytes(high), u32::from_be_bytes(low))
    }

    fn of_parts(high: u128, low: u32) -> Id {
        let mut bytes = [0; BYTES];
        bytes[..16].copy_from_slice(&high.to_be_bytes());
        bytes[16..].copy_from_slice(&low.to_be_bytes());
        Id(bytes)
    }

    /// `self + 2^exponent` modulo 2^160: the start of finger `exponent`.
    ///
    /// # Panics
    /// When `exponent` is 160 or more.
    #[must_use]
    pub fn plus_power_of_two(self, exponent: u32) -> Id {
        assert!(exponent < BITS, "a finger's exponent is below 160, not {exponent}");
        let (high, low) = self.parts();
        if exponent < 32 {
            let (low, carry) = low.overflowing_add(1 << exponent);
            Id::of_parts(high.wrapping_add(carry.into()), low)
        } else {
            Id::of_parts(high.wrapping_add(1 << (exponent - 32)), low)
        }
    }

    /// Clockwise distance from `self` to `other`, modulo 2^160.
    #[must_use]
    pub fn distance_to(self, other: Id) -> Id {
        let ((from_high, from_low), (to_high, to_low)) = (self.parts(), other.parts());
        let (low, borrow) = to_low.overflowing_sub(from_low);
        Id::of_parts(to_high.wrapping_sub(from_high).wrapping_sub(borrow.into()), low)
    }

    /// Exponent of the highest power of two that is not above this number; `None` for 0.
    pub fn ilog2(self) -> Option<u32> {
        let (high, low) = self.parts();
        high.checked_ilog2().map(|exponent| exponent + 32).or(low.checked_ilog2())
    }

    /// The top 64 bits.
    pub fn top(self) -> u64 {
        let mut top = [0; 8];
        top.copy_from_slice(&self.0[..8]);
        u64::from_be_bytes(top)
    }
}

impl Ord for Id {
    fn cmp(&self, other: &Id) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl PartialOrd for Id {
    fn partial_cmp(&self, other: &Id) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<u64> for Id {
    /// A small number as a point, for examples and tests.
    fn from(value: u64) -> Id {
        let mut bytes = [0; BYTES];
        bytes[BYTES - 8..].copy_from_slice(&value.to_be_bytes());
        Id(bytes)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "…")
    }
}

/// Whether walking clockwise from `a` meets `b` strictly before `c`.
///
/// Ids are points on a circle of 2^160; clockwise is increasing, and 0 follows 2^160 - 1.
/// `between(a, b, a)` is true for every `b != a`: a ring of one node owns the whole circle.
/// Source: Zave, arXiv 1610.01140 (ring.md 2.3).
/// ```
/// # use chord::id::{between, Id};
/// let [a, b, c] = [10, 20, 30].map(Id::from);
/// assert!(between(a, b, c) && between(c, a, b), "the arc from 30 to 20 wraps past zero");
/// ```
pub fn between(a: Id, b: Id, c: Id) -> bool {
    if a < c { a < b && b < c } else { (a < b || b < c) && a != b && b != c }
}

/// Whether `key` belongs to the node at `owner` whose predecessor is at `predecessor`: the range
/// (predecessor, owner], which is the whole circle when both are the same.
pub fn owns(predecessor: Id, key: Id, owner: Id) -> bool {
    key == owner || between(predecessor, key, owner) || (predecessor == owner)
}

/// Place of the owner of `point` among `ring`, sorted by id: the first at or after it, clockwise; 0 in an empty ring.
pub fn successor<T>(ring: &[T], point: Id, id: impl Fn(&T) -> Id) -> usize {
    let place = ring.partition_point(|node| id(node) < point);
    if place == ring.len() { 0 } else { place }
}
