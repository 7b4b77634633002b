//! Where a ring is, and how a client behaves.
use crate::{
    error::Error,
    net::{self, Dial, Tls},
};
use std::{fmt, time::Duration};

/// Where to find a ring: client addresses of any of its members, and how to reach them.
#[derive(Clone)]
pub struct Endpoints {
    pub(crate) addresses: Vec<String>,
    pub(crate) tls: Option<Tls>,
    pub(crate) dial: Dial,
    pub(crate) connect_timeout: Duration,
}

impl Endpoints {
    /// `addresses`: `host:port` of the client service of any members, at least one; the rest is learnt.
    pub fn new<A: Into<String>>(addresses: impl IntoIterator<Item = A>) -> Endpoints {
        Endpoints {
            addresses: addresses.into_iter().map(Into::into).collect(),
            tls: None,
            dial: net::tcp(),
            connect_timeout: net::CONNECT_TIMEOUT,
        }
    }

    /// Speaks TLS, and shows this identity. A server's certificate must name the host of its address.
    /// ```no_run
    /// # use chord_client::{Endpoints, net::Tls};
    /// # fn f() -> Result<(), chord_client::net::TlsError> {
    /// let tls = Tls::from_dir(std::path::Path::new("/etc/chord/tls"))?; // tls.crt, tls.key, ca.crt
    /// let endpoints = Endpoints::new(["demo.default.svc:7401"]).tls(tls);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Endpoints {
        self.tls = Some(tls);
        self
    }

    /// Opens byte streams to members by `dial`, which is given `host:port`, instead of by TCP.
    #[must_use]
    pub fn dial(mut self, dial: Dial) -> Endpoints {
        self.dial = dial;
        self
    }

    /// Time to open a connection, TLS included; 1 s by default.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Endpoints {
        self.connect_timeout = timeout;
        self
    }
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoints({:?}, TLS: {})", self.addresses, self.tls.is_some())
    }
}

/// How a client behaves. The defaults suit an application in the ring's own cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSettings {
    /// Total time for one operation with all its retries, 1 ms..=50 s (a write older than a minute cannot be
    /// retried safely).
    pub deadline: Duration,
    /// Time for one attempt, after which another member is asked.
    pub attempt_timeout: Duration,
    /// Longest wait between two attempts; the actual wait is random between zero and a bound that doubles up to this.
    pub backoff_max: Duration,
    /// Retries allowed at once, and as a share of operations in the long run (percent). When they are used up,
    /// retries go on at the slowest pace, so that a ring in trouble is not buried under them.
    pub retry_budget: (u32, u32),
    /// HTTP/2 connections to each member, 1..=16.
    pub connections_per_member: usize,
    /// Ask a second member as well when a read has no answer after this long. Both reads are linearizable. Off by
    /// default.
    pub hedge_after: Option<Duration>,
    /// Learn the shard map anew after so long, while in use.
    pub map_age_max: Duration,
}

impl Default for ClientSettings {
    fn default() -> ClientSettings {
        ClientSettings {
            deadline: Duration::from_secs(10),
            attempt_timeout: Duration::from_secs(2),
            backoff_max: Duration::from_millis(400),
            retry_budget: (200, 10),
            connections_per_member: 2,
            hedge_after: None,
            map_age_max: Duration::from_secs(10),
        }
    }
}

impl ClientSettings {
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let check = |ok: bool, text: &str| if ok { Ok(()) } else { Err(Error::InvalidArgument(text.into())) };
        let deadline = Duration::from_millis(1)..=Duration::from_secs(50);
        check(deadline.contains(&self.deadline), "the deadline must be 1 ms..=50 s")?;
        check(self.attempt_timeout >= Duration::from_millis(1), "the attempt timeout must be at least 1 ms")?;
        check((1..=16).contains(&self.connections_per_member), "connections per member must be 1..=16")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_beyond_the_age_of_safe_retries_is_refused() {
        let with = |deadline| ClientSettings { deadline, ..ClientSettings::default() }.validate();
        assert!(with(Duration::from_secs(50)).is_ok() && with(Duration::from_millis(1)).is_ok());
        for refused in [Duration::from_secs(51), Duration::ZERO] {
            assert_eq!(with(refused), Err(Error::InvalidArgument("the deadline must be 1 ms..=50 s".into())));
        }
    }
}
