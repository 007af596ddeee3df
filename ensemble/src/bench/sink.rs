//! Where the traces of a bench go: an OTLP endpoint that takes everything and keeps nothing.
//!
//! The services make and send traces as they would in production; that costs what it costs.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

// A gRPC frame with an empty message in it: not compressed, of no length.
const EMPTY: &[u8] = &[0; 5];

/// Listens on a free port, for as long as the process lives; gives the endpoint.
pub(super) async fn start() -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot take traces: {error}");
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let served = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service_fn(take));
            tokio::spawn(served);
        }
    });
    Ok(format!("http://{address}"))
}

/// Reads a request to its end, and says that all is well.
async fn take(
    request: Request<Incoming>,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let _ = request.into_body().collect().await;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::new(Bytes::from_static(EMPTY)).with_trailers(async { Some(Ok(trailers)) });
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}
