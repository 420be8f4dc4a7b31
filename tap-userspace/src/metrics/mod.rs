//! The metrics page, on loopback.
//!
//! In: a [`crate::control::status::Status`] for each scrape. Out: Prometheus text format 0.0.4 at `/metrics`. It must
//! never carry what tells of one party's traffic: label names come from a closed list, counts are per measure
//! (Art. 23(1)). Bound: one family per name, labels of fixed sets.

pub mod encode;
pub mod interface;
mod page;
pub mod share;

use crate::control::status::Status;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Where a page's numbers come from. It is called on a thread where waiting is allowed.
pub type Source = Arc<dyn Fn() -> Status + Send + Sync>;

/// Serves `/metrics` until the future is dropped.
///
/// # Errors
/// The listener failed.
pub async fn serve(listener: TcpListener, source: Source) -> std::io::Result<()> {
    let router = Router::new().route("/metrics", get(move || page(Arc::clone(&source))));
    axum::serve(listener, router).await
}

async fn page(source: Source) -> Response {
    let text = tokio::task::spawn_blocking(move || encode::encode(&source())).await;
    match text {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Ok(Err(error)) => {
            tracing::error!(%error, "metrics page");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
        Err(error) => {
            tracing::error!(%error, "metrics page");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
