//! Listens to one member, again and again.
use super::{Backoff, Input, reason};
use crate::model::Description;
use chord::member::MemberKey;
use chord_proto::{
    MESSAGE_BYTES_MAX,
    v1::{self, ring_view_client::RingViewClient, watch_response::Kind},
};
use std::time::Duration;
use tokio::{sync::mpsc, time::timeout};
use tonic::transport::Channel;

/// Time for an answer.
const ANSWER: Duration = Duration::from_secs(5);
/// A member from which nothing came for this long is asked whether it is there: it says nothing when nothing changes.
const QUIET: Duration = Duration::from_secs(10);

type Client = RingViewClient<Channel>;

/// Until it is dropped.
pub async fn follow(key: MemberKey, channel: Channel, inputs: mpsc::Sender<Input>) {
    let mut backoff = Backoff::new();
    loop {
        let client = RingViewClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let Err(why) = listen(key, client, &inputs, &mut backoff).await else { return };
        tracing::debug!(?key, why, "listens no more");
        if inputs.send(Input::Lost(key, why)).await.is_err() {
            return;
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

/// Ok when nobody wants to know any more, else why it broke.
async fn listen(
    key: MemberKey,
    mut client: Client,
    inputs: &mpsc::Sender<Input>,
    backoff: &mut Backoff,
) -> Result<(), String> {
    let opened = timeout(ANSWER, client.watch(v1::WatchRequest {})).await;
    let mut stream = opened.map_err(|_| "it does not answer")?.map_err(|status| reason(&status))?.into_inner();
    let mut patience = ANSWER;
    loop {
        let kind = match timeout(patience, stream.message()).await {
            Ok(Ok(Some(message))) => message.kind,
            Ok(Ok(None)) => return Err("it closed the stream".into()),
            Ok(Err(status)) => return Err(reason(&status)),
            Err(_) => Some(Kind::Description(describe(&mut client).await?)),
        };
        let input = match kind {
            Some(Kind::Description(wire)) => {
                let description = Description::parse(wire)?;
                if description.node.key != key {
                    return Err(format!("{} answers at its address", description.node.name));
                }
                backoff.succeeded();
                patience = QUIET;
                Input::Described(key, description)
            }
            Some(Kind::Event(event)) => Input::Event(key, event),
            // A kind that is newer than this gateway.
            None => continue,
        };
        if inputs.send(input).await.is_err() {
            return Ok(());
        }
    }
}

/// One description.
pub async fn describe(client: &mut Client) -> Result<v1::DescribeResponse, String> {
    let answer = timeout(ANSWER, client.describe(v1::DescribeRequest {})).await;
    Ok(answer.map_err(|_| "it does not answer")?.map_err(|status| reason(&status))?.into_inner())
}
