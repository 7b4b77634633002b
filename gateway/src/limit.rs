//! Counting visitors: a token bucket for each address, and how much each holds at once. Pure but for its locks.
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Addresses remembered; when there are more, the rest shares one bucket.
const VISITORS_MAX: usize = 65_536;

/// Refills `per_second` tokens a second up to `burst`.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    pub per_second: u32,
    pub burst: u32,
}

/// A token bucket.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// Full.
    pub fn new(rate: Rate, now: Instant) -> Bucket {
        Bucket { tokens: rate.burst.into(), at: now }
    }

    fn refill(&mut self, rate: Rate, now: Instant) {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + since * f64::from(rate.per_second)).min(rate.burst.into());
        self.at = now;
    }

    /// Takes a token.
    ///
    /// # Errors
    /// The time until there is one.
    pub fn take(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        self.refill(rate, now);
        if self.tokens < 1.0 {
            let wait = (1.0 - self.tokens) / f64::from(rate.per_second.max(1));
            return Err(Duration::from_secs_f64(wait));
        }
        self.tokens -= 1.0;
        Ok(())
    }
}

/// What counts as one visitor: an IPv4 address, or a /64 of IPv6, of which everybody has plenty.
pub fn visitor(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

/// A bucket for each visitor.
pub struct Limiter {
    rate: Rate,
    state: Mutex<Buckets>,
}

struct Buckets {
    by_visitor: HashMap<IpAddr, Bucket>,
    others: Bucket,
}

impl Limiter {
    pub fn new(rate: Rate, now: Instant) -> Limiter {
        let buckets = Buckets { by_visitor: HashMap::new(), others: Bucket::new(rate, now) };
        Limiter { rate, state: Mutex::new(buckets) }
    }

    /// Takes a token of a visitor's bucket.
    ///
    /// # Errors
    /// The time until there is one.
    pub fn take(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let (rate, visitor) = (self.rate, visitor(address));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.by_visitor.len() >= VISITORS_MAX && !state.by_visitor.contains_key(&visitor) {
            // A full bucket is as good as none.
            state.by_visitor.retain(|_, bucket| {
                bucket.refill(rate, now);
                bucket.tokens < f64::from(rate.burst)
            });
            if state.by_visitor.len() >= VISITORS_MAX {
                return state.others.take(rate, now);
            }
        }
        state.by_visitor.entry(visitor).or_insert_with(|| Bucket::new(rate, now)).take(rate, now)
    }
}

/// How many of something are held, by each visitor and in all.
#[derive(Clone)]
pub struct Held {
    each_max: usize,
    all_max: usize,
    by_visitor: Arc<Mutex<(usize, HashMap<IpAddr, usize>)>>,
}

/// One of them; given back when dropped.
pub struct Permit {
    held: Held,
    visitor: IpAddr,
}

/// Which bound is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Full {
    Each,
    All,
}

impl Held {
    pub fn new(each_max: usize, all_max: usize) -> Held {
        Held { each_max, all_max, by_visitor: Arc::default() }
    }

    /// One more.
    ///
    /// # Errors
    /// Which bound is in the way.
    pub fn take(&self, address: IpAddr) -> Result<Permit, Full> {
        let visitor = visitor(address);
        let mut held = self.by_visitor.lock().unwrap_or_else(PoisonError::into_inner);
        if held.0 >= self.all_max {
            return Err(Full::All);
        }
        if held.1.get(&visitor).is_some_and(|count| *count >= self.each_max) {
            return Err(Full::Each);
        }
        held.0 += 1;
        *held.1.entry(visitor).or_default() += 1;
        Ok(Permit { held: self.clone(), visitor })
    }

    /// How many are held in all.
    pub fn count(&self) -> usize {
        self.by_visitor.lock().unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut held = self.held.by_visitor.lock().unwrap_or_else(PoisonError::into_inner);
        held.0 -= 1;
        if let Some(count) = held.1.get_mut(&self.visitor) {
            *count -= 1;
            if *count == 0 {
                held.1.remove(&self.visitor);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn a_burst_is_allowed_then_the_rate_and_each_visitor_counts_apart() {
        let now = Instant::now();
        let limiter = Limiter::new(Rate { per_second: 10, burst: 3 }, now);
        assert!((0..3).all(|_| limiter.take(A, now).is_ok()));
        let wait = limiter.take(A, now).expect_err("the burst is used up");
        assert!(wait <= Duration::from_millis(100), "{wait:?}");
        assert!(limiter.take(B, now).is_ok());
        assert!(limiter.take(A, now + Duration::from_millis(101)).is_ok());
        assert!(limiter.take(A, now + Duration::from_millis(102)).is_err());
    }

    #[test]
    fn many_addresses_neither_fill_the_memory_nor_get_round_the_limit() {
        let now = Instant::now();
        let limiter = Limiter::new(Rate { per_second: 1, burst: 2 }, now);
        let address = |n: usize| IpAddr::V4(std::net::Ipv4Addr::from_bits(n as u32));
        assert!((0..VISITORS_MAX).all(|n| limiter.take(address(n), now).is_ok()));
        let beyond = (VISITORS_MAX..VISITORS_MAX + 10).filter(|n| limiter.take(address(*n), now).is_ok()).count();
        assert_eq!(beyond, 2, "the rest shares one bucket");
        let later = now + Duration::from_secs(10);
        assert!(limiter.take(address(VISITORS_MAX), later).is_ok());
        assert_eq!(limiter.state.lock().expect("not poisoned").by_visitor.len(), 1);
    }

    #[test]
    fn a_whole_ipv6_subnet_is_one_visitor_and_mapped_ipv4_is_ipv4() {
        let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(visitor(parse("2001:db8::1")), visitor(parse("2001:db8::ffff:1")));
        assert_ne!(visitor(parse("2001:db8::1")), visitor(parse("2001:db8:0:1::1")));
        assert_eq!(visitor(parse("::ffff:192.0.2.1")), A);
    }

    #[test]
    fn what_is_held_is_bounded_for_each_and_for_all_and_given_back() {
        let held = Held::new(2, 3);
        let first = held.take(A).expect("the first");
        let _second = held.take(A).expect("the second");
        assert_eq!(held.take(A).err(), Some(Full::Each));
        let _third = held.take(B).expect("another visitor");
        assert_eq!(held.take(B).err(), Some(Full::All));
        drop(first);
        assert!(held.take(B).is_ok());
        assert_eq!(held.count(), 2, "the last one was dropped at once");
    }
}
