//! The safety rules of the protocol, each with a name, so that a test can turn one off and show that it is needed.
//!
//! A build without the feature `mutants` has no such switch: [`Settings::holds`] is constantly true there.
use crate::settings::Settings;

/// Declares [`Rule`] with one sentence per rule: its documentation, and what the table of mutants prints.
macro_rules! rules {
    ($($rule:ident: $sentence:literal,)*) => {
        /// A rule without which an acknowledged write could be lost, a read be stale, or the ring fall apart.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Rule {
            $(#[doc = $sentence] $rule,)*
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &[Rule] = &[$(Rule::$rule),*];

            /// What the rule protects, in a sentence.
            pub const fn protects(self) -> &'static str {
                match self { $(Rule::$rule => $sentence,)* }
            }
        }
    };
}

rules! {
    ConfirmReads: "A read is answered only after a majority has confirmed that its leader still leads, so that a deposed leader serves nothing stale.",
    ReadMajorityFirst: "A new leader whose majority disagrees reads a key from a majority before it serves it, so that it misses no acknowledged write.",
    RecommitOnFirstTouch: "What only a minority may hold is written again under the new ballot before it is served, so that a value once read stays.",
    BallotLeadsVersion: "The version of a record begins with epoch and ballot, so that a later leader's write always replaces an earlier one's.",
    PromiseBinds: "A replica refuses a leader below the ballot that it has promised, so that a deposed leader commits nothing.",
    EpochBinds: "A replica refuses requests of another configuration than its own, so that an old configuration commits nothing.",
    SealIsFinished: "A new leader that finds a seal finishes it and serves nothing, so that a shard never lives in two configurations.",
    HighestSealWins: "Of several seals the one with the highest ballot is finished, so that a decided configuration is never replaced by another.",
    SealMajority: "A configuration is left only after a majority of it has sealed, so that it commits nothing any more.",
    TransferMajority: "The snapshot of the next configuration is the union of a sealed majority, so that it holds every acknowledged write.",
    AckMajority: "A write is acknowledged only after a majority has stored it, so that every later majority knows it.",
    PersistFirst: "A replica's word leaves only after what it reveals is on disk, so that a crash takes nothing back.",
    RememberFirst: "A member's new state is told to others only after it is on disk, so that a restart never contradicts it.",
    UnknownIsSaid: "A write that has begun and is cut short has an unknown outcome, so that no client counts it as without effect.",
    ScanCommitted: "A page of a scan shows a key as committed, never a write that is on its way and may be lost.",
    RememberOps: "A record keeps the ids of its last operations, so that a retry is answered and not applied twice.",
    TombstoneAge: "A tombstone stays until no retry can come, so that a late retry does not bring a deleted value back.",
    TombstoneEverywhere: "A tombstone is dropped only when every member holds it, so that no forgotten copy brings the value back.",
    ExpireByTombstone: "A value whose time has ended becomes a tombstone before anybody is told, so that it is not there again by another clock.",
    DiskNamesMember: "A member is an id with its disk, so that a wiped disk does not answer for what the old one had promised.",
    LeaveEmptyHanded: "A member leaves only when no configuration counts on it, so that scaling down takes no copy away.",
    RetireWhenUnsealed: "An ex-member drops its records only when all of the present configuration have installed it, so that no earlier seal calls for them.",
    AdoptJoiner: "The member that accepts a joiner makes it its successor in the same step, so that no member lies beside the circle.",
    OrphanRejoins: "A member that has lost all successors rejoins through the others, so that it never becomes a second ring.",
    Probe: "Members look for others that ought to lie before their successor, so that a ring that has split finds together.",
    LateReply: "A reply to a question that was asked of another first successor is not applied, so that an old list brings nobody back who has left.",
    CutLists: "A successor list ends at the node itself, at a repetition and where the order wraps, so that no list hides a second turn.",
    RectifyDead: "A notifier replaces a predecessor that does not answer even if it is not closer, so that a dead one is not kept for ever.",
    OnlyMembersCount: "A successor that answers but is no member of the ring, or is another disk, counts as dead, so that nobody follows it.",
}

impl Settings {
    /// Whether a rule is in force.
    #[cfg(not(feature = "mutants"))]
    #[inline]
    pub const fn holds(&self, _: Rule) -> bool {
        true
    }

    /// Whether a rule is in force: all but the one that a mutant does without.
    #[cfg(feature = "mutants")]
    pub fn holds(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }
}
