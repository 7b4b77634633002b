//! The only caller of `Core::step` outside the simulator: receive, step, carry out.
//!
//! One thread owns the core. It takes everything that has gathered in its queue, steps through it, and
//! hands on what came out: messages grouped by peer, answers to whoever waits for them.
use crate::peers::Peers;
use chord::{
    Core,
    io::{AdminError, AdminRequest, CallError, CallId, Event, Input, Operation, Outcome, Output, Token},
    member::{MemberKey, NodeRef},
    msg::{RingReply, RingRequest, ShardMsg},
    store::Store,
    time::{Nanos, Now},
};
use rand_chacha::ChaCha12Rng;
use std::{
    collections::{BTreeMap, HashMap},
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::sync::{broadcast, oneshot};

/// Most commands of applications that wait for the core; more are refused before any work.
const QUEUE_MAX: usize = 16_384;
/// Most inputs between two rounds of output.
const ROUND_MAX: usize = 1024;
/// Events kept for a watcher that is slow.
const EVENTS_KEPT: usize = 1024;

/// Something for the core's thread.
pub enum Command {
    /// Straight to the core.
    Input(Input),
    /// A peer's question.
    Ring(RingRequest, oneshot::Sender<RingReply>),
    /// A client's operation, with the time left for it.
    Client(Operation, Duration, oneshot::Sender<Outcome>),
    /// An administrator's wish.
    Admin(AdminRequest, oneshot::Sender<Result<(), AdminError>>),
    /// A look at the core.
    Inspect(Look),
    /// The thread ends, and the core with it. A process that ends needs none: its disk is always as after a crash.
    Stop,
}

/// What somebody does while looking at the core.
pub type Look = Box<dyn FnOnce(&dyn Inspect) + Send>;

/// What may be looked at.
pub trait Inspect {
    fn me(&self) -> &NodeRef;
    fn state(&self) -> chord::member::MemberState;
    fn ring_id(&self) -> Option<u128>;
    fn view(&self) -> Vec<(chord::member::Member, bool)>;
    fn is_reachable(&self, node: &NodeRef) -> bool;
    fn neighbours(&self) -> chord::msg::Neighbours;
    fn fingers(&self) -> Vec<(u32, chord::id::Id, NodeRef)>;
    fn shard_map(&self) -> Vec<chord::msg::MapEntry>;
    fn status(&self) -> chord::Status;
    fn settings(&self) -> &chord::settings::Settings;
}

impl<S: Store> Inspect for Core<S> {
    fn me(&self) -> &NodeRef {
        Core::me(self)
    }
    fn state(&self) -> chord::member::MemberState {
        Core::state(self)
    }
    fn ring_id(&self) -> Option<u128> {
        Core::ring_id(self)
    }
    fn view(&self) -> Vec<(chord::member::Member, bool)> {
        Core::view(self).iter().map(|member| (member.clone(), self.is_reachable(&member.node))).collect()
    }
    fn is_reachable(&self, node: &NodeRef) -> bool {
        Core::is_reachable(self, node)
    }
    fn neighbours(&self) -> chord::msg::Neighbours {
        Core::neighbours(self)
    }
    fn fingers(&self) -> Vec<(u32, chord::id::Id, NodeRef)> {
        Core::fingers(self)
    }
    fn shard_map(&self) -> Vec<chord::msg::MapEntry> {
        Core::shard_map(self)
    }
    fn status(&self) -> chord::Status {
        Core::status(self)
    }
    fn settings(&self) -> &chord::settings::Settings {
        Core::settings(self)
    }
}

/// The way to the core's thread. Cheap to clone.
#[derive(Clone)]
pub struct Driver {
    commands: mpsc::Sender<Command>,
    queued: Arc<AtomicUsize>,
    events: broadcast::Sender<(u64, Event)>,
}

/// The core's thread is gone; the process is ending.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the node is shutting down")]
pub struct Gone;

impl Driver {
    /// A driver whose thread is not started yet, and the end of its queue.
    pub fn new() -> (Driver, mpsc::Receiver<Command>) {
        let (commands, receiver) = mpsc::channel();
        let driver =
            Driver { commands, queued: Arc::new(AtomicUsize::new(0)), events: broadcast::channel(EVENTS_KEPT).0 };
        (driver, receiver)
    }

    /// Hands something to the core's thread.
    pub fn send(&self, command: Command) {
        self.queued.fetch_add(1, Ordering::Relaxed);
        // An error means that the process is ending; whoever waits for an answer sees its channel close.
        let _ = self.commands.send(command);
    }

    /// Commands that wait.
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// Whether applications should be told to come back later.
    pub fn is_overloaded(&self) -> bool {
        self.queued() > QUEUE_MAX
    }

    /// Runs an operation.
    pub async fn operate(&self, operation: Operation, time: Duration) -> Outcome {
        if self.is_overloaded() {
            return Outcome::Overloaded(Nanos::from_millis(100));
        }
        let (reply, answer) = oneshot::channel();
        self.send(Command::Client(operation, time, reply));
        match tokio::time::timeout(time, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Outcome::Unknown("the node is shutting down; send it again to another one"),
            Err(_) => Outcome::Unknown("no majority of the shard answered in time"),
        }
    }

    /// Asks the core something a peer wants to know.
    pub async fn ring(&self, request: RingRequest) -> Result<RingReply, Gone> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Ring(request, reply));
        answer.await.map_err(|_| Gone)
    }

    /// Carries out an administrator's wish.
    pub async fn admin(&self, request: AdminRequest) -> Result<Result<(), AdminError>, Gone> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Admin(request, reply));
        answer.await.map_err(|_| Gone)
    }

    /// Looks at the core.
    pub async fn inspect<T: Send + 'static>(
        &self,
        look: impl FnOnce(&dyn Inspect) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Inspect(Box::new(move |core| {
            let _ = reply.send(look(core));
        })));
        answer.await.map_err(|_| Gone)
    }

    /// What happens from now on: milliseconds since the Unix epoch, and what.
    pub fn events(&self) -> broadcast::Receiver<(u64, Event)> {
        self.events.subscribe()
    }

    /// Starts the core's thread.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn start<S: Store + Send + 'static>(
        &self,
        core: Core<S>,
        rng: ChaCha12Rng,
        clock: Clock,
        commands: mpsc::Receiver<Command>,
        peers: Peers,
    ) -> std::io::Result<thread::JoinHandle<()>> {
        let driver = self.clone();
        let run = Run { core, rng, clock, peers, driver, tokens: 0, waiting: Waiting::default() };
        thread::Builder::new().name("core".into()).spawn(move || run.run(&commands))
    }
}

/// The two clocks of the process.
#[derive(Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// Starts the monotonic one at one second, so that zero lies in the past.
    pub fn start() -> Clock {
        Clock(Instant::now())
    }
    /// Both, now.
    pub fn now(self) -> Now {
        let mono = Nanos::from(self.0.elapsed()) + Nanos::from_millis(1000);
        Now { mono, wall_ms: wall_ms() }
    }
}

/// Milliseconds since the Unix epoch.
pub fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Default)]
struct Waiting {
    ring: HashMap<Token, oneshot::Sender<RingReply>>,
    clients: HashMap<Token, oneshot::Sender<Outcome>>,
    admins: HashMap<Token, oneshot::Sender<Result<(), AdminError>>>,
}

struct Run<S: Store> {
    core: Core<S>,
    rng: ChaCha12Rng,
    clock: Clock,
    peers: Peers,
    driver: Driver,
    tokens: u64,
    waiting: Waiting,
}

impl<S: Store> Run<S> {
    fn run(mut self, commands: &mpsc::Receiver<Command>) {
        let mut out = Vec::new();
        loop {
            let wait = self.core.next_deadline().since(self.clock.now().mono);
            let first = match commands.recv_timeout(Duration::from_nanos(wait.0).min(Duration::from_secs(60))) {
                Ok(command) => Some(command),
                Err(mpsc::RecvTimeoutError::Timeout) => None,
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            };
            let due = self.core.next_deadline() <= self.clock.now().mono;
            if first.is_none() || due {
                self.core.step(self.clock.now(), &mut self.rng, Input::Tick, &mut out);
            }
            let more = std::iter::from_fn(|| commands.try_recv().ok()).take(ROUND_MAX);
            for command in first.into_iter().chain(more) {
                self.driver.queued.fetch_sub(1, Ordering::Relaxed);
                if self.on_command(command, &mut out).is_break() {
                    return;
                }
            }
            self.carry_out(&mut out);
        }
    }

    fn token(&mut self) -> Token {
        self.tokens += 1;
        Token(self.tokens)
    }

    fn on_command(&mut self, command: Command, out: &mut Vec<Output>) -> ControlFlow<()> {
        let now = self.clock.now();
        let input = match command {
            Command::Input(input) => input,
            Command::Ring(request, reply) => {
                let token = self.token();
                self.waiting.ring.insert(token, reply);
                Input::Ring { token, request }
            }
            Command::Client(operation, time, reply) => {
                let token = self.token();
                self.waiting.clients.insert(token, reply);
                Input::Client { token, operation, deadline: now.mono + Nanos::from(time) }
            }
            Command::Admin(request, reply) => {
                let token = self.token();
                self.waiting.admins.insert(token, reply);
                Input::Admin { token, request }
            }
            Command::Inspect(look) => {
                look(&self.core);
                return ControlFlow::Continue(());
            }
            Command::Stop => return ControlFlow::Break(()),
        };
        self.core.step(now, &mut self.rng, input, out);
        ControlFlow::Continue(())
    }

    fn carry_out(&mut self, out: &mut Vec<Output>) {
        let mut frames: BTreeMap<MemberKey, (NodeRef, Vec<ShardMsg>)> = BTreeMap::new();
        for output in out.drain(..) {
            match output {
                Output::Shard { to, message } => {
                    frames.entry(to.key).or_insert_with(|| (to, Vec::new())).1.push(message);
                }
                Output::Call { call, addr, request, timeout } => self.peers.call(call, addr, request, timeout),
                // Whoever waited may have gone meanwhile; then nobody minds.
                Output::Reply { token, reply } => {
                    if let Some(waiting) = self.waiting.ring.remove(&token) {
                        let _ = waiting.send(reply);
                    }
                }
                Output::Client { token, outcome } => {
                    if let Some(waiting) = self.waiting.clients.remove(&token) {
                        let _ = waiting.send(outcome);
                    }
                }
                Output::Admin { token, result } => {
                    if let Some(waiting) = self.waiting.admins.remove(&token) {
                        let _ = waiting.send(result);
                    }
                }
                Output::Event(event) => self.tell(event),
            }
        }
        for (to, messages) in frames.into_values() {
            self.peers.send(to, messages);
        }
    }

    fn tell(&self, event: Event) {
        let member = event.subject.as_ref().map(|node| node.name.as_str()).unwrap_or_default();
        match event.kind {
            // The other one speaks for this member now.
            "superseded" => end(&event.message),
            "move" => tracing::debug!(kind = event.kind, shard = event.shard.map(|s| s.0), "{}", event.message),
            "suspect" | "join-refused" => tracing::warn!(kind = event.kind, member, "{}", event.message),
            _ => tracing::info!(kind = event.kind, member, "{}", event.message),
        }
        metrics::counter!("chord_events_total", "kind" => event.kind).increment(1);
        let _ = self.driver.events.send((wall_ms(), event));
    }
}

/// Ends the process at once.
fn end(why: &str) -> ! {
    tracing::error!("{why}; ending the process");
    eprintln!("chord-node: {why}");
    std::process::exit(1)
}

/// A call's end, for the core.
pub fn call_done(call: CallId, result: Result<RingReply, CallError>) -> Command {
    Command::Input(Input::CallDone { call, result })
}
