//! The receiving facility's metrics page, on loopback. No label can hold an address, a port, a host or a rule.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::status::ReceiveStatus;
use crate::notice::intake::Intake;

/// Serves `/metrics` until `shutdown` turns true.
pub(super) async fn serve(
    listener: TcpListener,
    status: Arc<ReceiveStatus>,
    intake: Arc<Intake>,
    mut shutdown: watch::Receiver<bool>,
) {
    let router = Router::new().route(
        "/metrics",
        get(move || {
            let (status, intake) = (Arc::clone(&status), Arc::clone(&intake));
            async move {
                // Whoever looked into them moves them away while this runs.
                status.receipts_set_aside.store(intake.set_aside(), Relaxed);
                page(&status)
            }
        }),
    );
    let stop = async move { super::stopped(&mut shutdown).await };
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop).await {
        tracing::error!(%error, "metrics page");
    }
}

fn page(status: &ReceiveStatus) -> Response {
    match encode(status) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics page");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The page's text.
///
/// # Errors
/// A family is defined twice or badly: a mistake in this file, which its test looks for.
pub fn encode(status: &ReceiveStatus) -> Result<String, prometheus::Error> {
    let registry = Registry::new();
    let open = IntGauge::new("gwtap_receive_sessions_open", "Exporters' connections open now.")?;
    open.set(i64::try_from(status.sessions_open.load(Relaxed)).unwrap_or(i64::MAX));
    registry.register(Box::new(open))?;
    for (name, help, value) in [
        ("gwtap_receive_notices_waiting", "Notices that the Commission has not acknowledged.", &status.notices_waiting),
        ("gwtap_receive_notices_late", "Of them, those that are late.", &status.notices_late),
        (
            "gwtap_receive_receipts_set_aside",
            "Receipts in the store's directory set-aside: they do not count, and nobody is told of them.",
            &status.receipts_set_aside,
        ),
    ] {
        let gauge = IntGauge::new(name, help)?;
        gauge.set(i64::try_from(value.load(Relaxed)).unwrap_or(i64::MAX));
        registry.register(Box::new(gauge))?;
    }
    for (name, help, value) in [
        ("gwtap_receive_sessions_total", "Connections accepted.", &status.sessions_total),
        ("gwtap_receive_stored_messages_total", "Messages stored durably.", &status.stored_messages),
        ("gwtap_receive_stored_bytes_total", "Bytes of the files stored.", &status.stored_bytes),
        ("gwtap_receive_stored_records_total", "Packet records in the messages stored.", &status.stored_records),
        ("gwtap_receive_repeated_messages_total", "Messages that were stored before.", &status.repeated_messages),
        ("gwtap_receive_acknowledgements_total", "Acknowledgements sent.", &status.acknowledgements),
        (
            "gwtap_receive_notices_acknowledged_total",
            "Notices in the outbox that the Commission acknowledged.",
            &status.notices_acknowledged,
        ),
        (
            "gwtap_receive_notice_failures_total",
            "Attempts after which a notice was not acknowledged.",
            &status.notice_failures,
        ),
    ] {
        let counter = IntCounter::new(name, help)?;
        counter.inc_by(value.load(Relaxed));
        registry.register(Box::new(counter))?;
    }
    let help = "Sessions that ended with an error, by reason.";
    let refused = IntCounterVec::new(Opts::new("gwtap_receive_failed_sessions_total", help), &["reason"])?;
    for (reason, count) in status.refused_sessions() {
        refused.with_label_values(&[reason]).inc_by(count);
    }
    registry.register(Box::new(refused))?;
    TextEncoder::new().encode_to_string(&registry.gather())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_counter_with_its_value() {
        let status = ReceiveStatus::default();
        status.stored_records.store(7, Relaxed);
        status.refused("tls");
        let page = encode(&status).unwrap();
        assert!(page.contains("\ngwtap_receive_stored_records_total 7\n"), "{page}");
        assert!(page.contains("gwtap_receive_failed_sessions_total{reason=\"tls\"} 1"), "{page}");
        assert!(page.contains("gwtap_receive_sessions_open 0"), "{page}");
    }
}
