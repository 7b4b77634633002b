//! Finds a first member, and again whenever none is heard any more.
use super::{Backoff, Input, Source, follow::describe};
use crate::model::Description;
use chord_client::net::{self, Dial, Io};
use chord_proto::{MESSAGE_BYTES_MAX, v1::ring_view_client::RingViewClient};
use futures::{StreamExt as _, stream};
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpStream, sync::mpsc, time::timeout};

/// Time to resolve a name.
const RESOLVE: Duration = Duration::from_secs(3);
/// Addresses asked at once.
const AT_ONCE: usize = 8;
/// Addresses taken of one name.
const ADDRESSES_MAX: usize = 64;
/// While members are heard, how often to see whether that is still so.
const REST: Duration = Duration::from_secs(1);

/// Until it is dropped.
pub async fn discover(source: Source, inputs: mpsc::Sender<Input>, is_heard: Arc<AtomicBool>) {
    let mut backoff = Backoff::new();
    loop {
        if is_heard.load(Ordering::Relaxed) {
            backoff.succeeded();
            tokio::time::sleep(REST).await;
            continue;
        }
        let mut reasons: Vec<String> = Vec::new();
        let mut places = Vec::new();
        for endpoint in &source.endpoints {
            match timeout(RESOLVE, tokio::net::lookup_host(endpoint.as_str())).await {
                Ok(Ok(addresses)) => {
                    places.extend(addresses.take(ADDRESSES_MAX).map(|address| (endpoint.clone(), address)));
                }
                Ok(Err(error)) => reasons.push(format!("{endpoint}: {error}")),
                Err(_) => reasons.push(format!("{endpoint}: its name was not resolved in time")),
            }
        }
        // Another one is asked first each time.
        if !places.is_empty() {
            let first = rand::random_range(0..places.len());
            places.rotate_left(first);
        }
        let asked = places.into_iter().map(|(endpoint, address)| ask(source.clone(), endpoint, address));
        let mut answers = stream::iter(asked).buffer_unordered(AT_ONCE);
        let mut is_found = false;
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(description) => {
                    is_found = description.ring_id.is_some();
                    if !is_found {
                        reasons.push(format!("{}: waits to be told which ring to join", description.node.name));
                    }
                    if inputs.send(Input::Discovered(description)).await.is_err() {
                        return;
                    }
                    if is_found {
                        break;
                    }
                }
                Err(why) => reasons.push(why),
            }
        }
        drop(answers);
        if is_found {
            tokio::time::sleep(REST).await;
        } else {
            let reasons = reasons.join("; ");
            tracing::warn!(reasons, "no member of the ring answers at --endpoints; trying again");
            tokio::time::sleep(backoff.next()).await;
        }
    }
}

/// The certificate must be good for the endpoint's name, whichever of its addresses is asked.
async fn ask(source: Source, endpoint: String, address: SocketAddr) -> Result<Description, String> {
    let dial: Dial = Arc::new(move |_| {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(Box::new(stream) as Box<dyn Io>)
        })
    });
    let why = |why: String| format!("{endpoint} ({address}): {why}");
    let link = net::link(&endpoint, source.tls, dial).map_err(why)?;
    let mut client = RingViewClient::new(link.channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let wire = describe(&mut client).await.map_err(why)?;
    Description::parse(wire).map_err(why)
}
