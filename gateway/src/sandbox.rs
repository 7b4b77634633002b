//! A ring to play with: shipped cores over a simulated network, one world for each visitor's socket.
//!
//! It touches nothing of the real ring. What a visitor can cost is bounded: nodes, keys, events and log entries in a
//! world, worlds for each visitor and in all, commands a second, and, for all worlds together, one thread that works
//! at most half of the time. A world ends with its socket, and after half an hour.
//!
//! Reading order: [`schema`] is what is said, [`world`] what happens, [`words`] what it means, [`socket`] the rest.
mod net;
pub mod schema;
pub mod socket;
pub mod store;
mod words;
pub mod world;

use crate::schema::HexId;
use bytes::Bytes;
use chord::{
    io::{Operation, Retryable},
    member::{MemberKey, MemberState},
    shard::record::OpId,
    time::Nanos,
};
use rand::RngExt as _;
use schema::{Command, FILL_MAX, Frame, KEY_BYTES_MAX, NodeView, VALUE_BYTES_MAX};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use world::World;

/// Keys a visitor may write in one world.
const KEYS_MAX: u64 = 1000;
/// Fastest pace.
const SPEED_MAX: f64 = 8.0;
/// Pace while a new ring finds together.
const SETTLING_SPEED: f64 = 60.0;

/// A world with the pace at which its time passes.
pub struct Sandbox {
    pub world: World,
    worlds: u64,
    speed: f64,
    stepping: bool,
    keys: u64,
    operations: u64,
}

impl Sandbox {
    /// A ring of `nodes` that is about to find together.
    pub fn new(nodes: usize) -> Sandbox {
        Sandbox {
            world: World::new(nodes, rand::rng().random()),
            worlds: 1,
            speed: 1.0,
            stepping: false,
            keys: 0,
            operations: 0,
        }
    }

    /// Does what a visitor wants; what cannot be done is said in the log.
    pub fn command(&mut self, command: Command) {
        if let Err(why) = self.try_command(command) {
            self.world.say(None, None, "refused", why);
        }
    }

    fn try_command(&mut self, command: Command) -> Result<(), String> {
        let world = &mut self.world;
        let running = |world: &World, node: usize| match world.nodes.get(node) {
            Some(found) if found.core.is_some() => Ok(()),
            Some(found) => Err(format!("{} does not run", found.me.name)),
            None => Err(format!("there is no node {node}")),
        };
        match command {
            Command::Reset { nodes } => {
                let worlds = self.worlds + 1;
                *self = Sandbox { worlds, ..Sandbox::new(nodes as usize) };
            }
            Command::Add {} => {
                world.add()?;
            }
            Command::Fail { node } => {
                running(world, node)?;
                let name = world.nodes[node].me.name.clone();
                world.say(None, Some(node), "fail", format!("{name} stops at once, without a word. Its disk stays."));
                world.fail(node);
            }
            Command::Revive { node } => {
                if world.nodes.get(node).is_none_or(|node| node.left || node.core.is_some()) {
                    return Err(format!("node {node} runs, has left for good, or never was"));
                }
                world.start(node);
            }
            Command::Leave { node } => {
                running(world, node)?;
                world.leave(node);
            }
            Command::Put { key, value } => self.put(key, value)?,
            Command::Fill { keys } => {
                for _ in 0..keys.min(FILL_MAX) {
                    let number = self.keys + 1;
                    self.put(format!("key-{number}"), format!("value {number}"))?;
                }
            }
            Command::Get { key } => {
                let what = format!("get “{}”", checked("key", &key, 1, KEY_BYTES_MAX)?);
                world.begin(what, Operation::Get { key: Bytes::from(key), stale_ok: false }, None);
            }
            Command::Lookup { node, key } => {
                running(world, node)?;
                let what = format!("lookup of “{}”", checked("key", &key, 1, KEY_BYTES_MAX)?);
                let target = chord::id::Id::of_key(key.as_bytes());
                world.begin(what, Operation::Lookup { target }, Some(node));
            }
            Command::Cut { nodes } => {
                let side: BTreeSet<usize> = nodes.into_iter().filter(|node| *node < world.nodes.len()).collect();
                world.say(
                    None,
                    None,
                    "cut",
                    "Nothing passes between the two sides. Each sees the other fall silent.".into(),
                );
                world.cut(side);
            }
            Command::Heal {} => {
                world.say(None, None, "heal", "Everything passes again.".into());
                world.cut(BTreeSet::new());
            }
            Command::Speed { factor } if factor.is_finite() => {
                (self.speed, self.stepping) = (factor.clamp(0.0, SPEED_MAX), false);
            }
            Command::Speed { .. } => return Err("a speed is a number from 0 to 8".into()),
            Command::Step {} => (self.speed, self.stepping) = (0.0, true),
        }
        Ok(())
    }

    fn put(&mut self, key: String, value: String) -> Result<(), String> {
        let what = format!("put “{}”", checked("key", &key, 1, KEY_BYTES_MAX)?);
        checked("value", &value, 0, VALUE_BYTES_MAX)?;
        if self.keys >= KEYS_MAX {
            return Err(format!("a sandbox holds at most {KEYS_MAX} keys; begin anew"));
        }
        self.keys += 1;
        self.operations += 1;
        let id = OpId { client: 1, number: self.operations };
        let op = Retryable { id, retry: false, age: Nanos(0) };
        let operation = Operation::Put { key: Bytes::from(key), value: Bytes::from(value), ttl_ms: None, op };
        self.world.begin(what, operation, None);
        Ok(())
    }

    /// Lets real time pass. Whether there is anything to do.
    ///
    /// # Errors
    /// When the world has become too much.
    pub fn pass(&mut self, real: Duration, budget: Duration) -> Result<bool, &'static str> {
        let world = &mut self.world;
        if world.settling {
            let until = world.now + nanos(real, SETTLING_SPEED);
            world.advance(until, budget, |_| false)?;
            world.settling = !world.is_at_rest();
            return Ok(true);
        }
        if self.stepping {
            // Half a minute without anything to explain: it rests.
            let until = world.now + 30_000_000_000;
            self.stepping = !world.advance(until, budget, World::has_log)?;
            return Ok(true);
        }
        if self.speed > 0.0 {
            let until = world.now + nanos(real, self.speed);
            world.advance(until, budget, |_| false)?;
        }
        Ok(self.speed > 0.0)
    }

    /// Everything, as of now, and what was logged since the last time.
    pub fn frame(&mut self, expires_in: Duration) -> Frame {
        let world = &mut self.world;
        let (now_ms, log) = (world.now as f64 / 1e6, world.take_log());
        world.flights.retain(|flight| flight.arrives_ms > now_ms);
        let places: BTreeMap<MemberKey, usize> =
            world.nodes.iter().enumerate().map(|(place, node)| (node.me.key, place)).collect();
        let nodes = world.nodes.iter().enumerate().filter(|(_, node)| !node.left);
        Frame {
            world: self.worlds,
            now_ms,
            speed: self.speed,
            ideal: world.is_ideal(),
            replication_factor: world::settings().replication_factor,
            nodes: nodes.map(|(place, node)| view(place, node, &places)).collect(),
            cut: world.net.side.iter().copied().collect(),
            flights: world.flights.clone(),
            log,
            expires_in_ms: u64::try_from(expires_in.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

fn view(place: usize, node: &world::Node, places: &BTreeMap<MemberKey, usize>) -> NodeView {
    let core = node.core.as_ref();
    let near = core.map(chord::Core::neighbours);
    let status = core.map(chord::Core::status).unwrap_or_default();
    let fingers: BTreeSet<usize> = core
        .map(|core| core.fingers().iter().filter_map(|(_, _, node)| places.get(&node.key).copied()).collect())
        .unwrap_or_default();
    NodeView {
        node: place,
        name: node.me.name.clone(),
        id: HexId(node.me.id()),
        state: match core.map(chord::Core::state) {
            Some(MemberState::Joining) => "Joining",
            Some(MemberState::Serving) => "Serving",
            Some(MemberState::Leaving) => "Leaving",
            Some(MemberState::Empty | MemberState::Left | MemberState::Evicted) => "Empty",
            None => "Unknown",
        },
        up: core.is_some(),
        predecessor: near.as_ref().and_then(|near| places.get(&near.predecessor.as_ref()?.key).copied()),
        successors: near
            .map(|near| near.successors.iter().filter_map(|node| places.get(&node.key).copied()).collect())
            .unwrap_or_default(),
        fingers: fingers.into_iter().filter(|finger| *finger != place).collect(),
        keys_leader: status.keys_led,
        keys_replica: status.keys_held,
        shards_moving: status.shards_moving,
        keys_sent: status.counters.keys_sent,
        keys_received: status.counters.keys_received,
    }
}

fn nanos(real: Duration, speed: f64) -> u64 {
    Nanos::from(real.mul_f64(speed)).0
}

fn checked<'a>(name: &str, text: &'a str, least: usize, most: usize) -> Result<&'a str, String> {
    if (least..=most).contains(&text.len()) {
        return Ok(text);
    }
    Err(format!("a {name} has {least} to {most} bytes here, not {}", text.len()))
}

#[cfg(test)]
mod tests;
