//! What members answer: to an application's client, and to a gateway.
use bytes::Bytes;
use chord_client::{
    Client, ClientSettings, CompareAndSet, Endpoints, Operation, Put, Scan,
    net::{Dial, Io},
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::timeout;

/// No operation takes longer than its deadline and what a busy machine adds.
const ANSWER_MAX: Duration = Duration::from_secs(40);

/// An answer: a gRPC status, and the bytes of a message or, of an error, its details.
type Answer = (u8, Vec<u8>);

/// Answers from bytes: status, length (u16 LE), message; again and again.
fn answers(mut rest: &[u8]) -> VecDeque<Answer> {
    let mut answers = VecDeque::new();
    while let Some((&[status, low, high], after)) = rest.split_first_chunk() {
        let (message, after) = after.split_at(after.len().min(u16::from_le_bytes([low, high]).into()));
        answers.push_back((status % 18, message.to_vec()));
        rest = after;
    }
    answers
}

/// One message and the trailers.
struct Body(Option<Bytes>, Option<HeaderMap>);

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        let data = self.0.take().map(hyper::body::Frame::data);
        Poll::Ready(data.or_else(|| self.1.take().map(hyper::body::Frame::trailers)).map(Ok))
    }
}

fn response(answer: Option<Answer>) -> Response<Body> {
    // 14: nobody is here any more.
    let (status, bytes) = answer.unwrap_or((14, Vec::new()));
    let mut trailers =
        HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from(u16::from(status)))]);
    let mut data = None;
    if status == 0 {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
        data = Some([&[0][..], &length, &bytes].concat().into());
    } else {
        use base64::Engine as _;
        let details = base64::engine::general_purpose::STANDARD_NO_PAD.encode(&bytes);
        trailers.extend(
            HeaderValue::try_from(details)
                .ok()
                .map(|value| (HeaderName::from_static("grpc-status-details-bin"), value)),
        );
        trailers
            .extend(HeaderValue::from_bytes(&bytes).ok().map(|value| (HeaderName::from_static("grpc-message"), value)));
    }
    let mut response = Response::new(Body(data, Some(trailers)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// Members that give the next answer to whatever they are asked.
pub fn members(data: &[u8]) -> Dial {
    let answers = Arc::new(Mutex::new(answers(data)));
    Arc::new(move |_| {
        let answers = answers.clone();
        Box::pin(async move {
            let (here, there) = tokio::io::duplex(64 << 10);
            let service = hyper::service::service_fn(move |_| {
                let next = answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                async move { Ok::<_, Infallible>(response(next)) }
            });
            tokio::spawn(async move {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(there), service).await;
            });
            Ok(Box::new(here) as Box<dyn Io>)
        })
    })
}

/// A client that is given these answers to each of its operations.
pub fn client(data: &[u8]) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let settings = ClientSettings {
            deadline: Duration::from_millis(20),
            attempt_timeout: Duration::from_millis(10),
            backoff_max: Duration::from_millis(1),
            ..ClientSettings::default()
        };
        let run = async {
            let endpoints = Endpoints::new(["n-0:7401"]).dial(members(data));
            let Ok(client) = Client::connect(endpoints, settings).await else { return false };
            let _ = client.get("a").await;
            let _ = client.put(Put::new("a", "b")).await;
            let _ = client.compare_and_set(CompareAndSet::new("a", "b").expect_absent()).await;
            let _ = client.delete("a").await;
            let _ = client.scan(Scan::new()).await;
            let _ = client.batch([Operation::Put(Put::new("c", "d")), Operation::Put(Put::new("e", "f"))]).await;
            let _ = client.refresh().await;
            let _ = (client.members(), client.ring());
            true
        };
        timeout(ANSWER_MAX, run).await.expect("every operation ends by its deadline")
    })
}
