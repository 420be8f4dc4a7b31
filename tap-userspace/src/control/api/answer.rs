//! One call, from its rights to its response: role, rate, condition, body; then the agent; then the audit log.

use super::rights::{RIGHTS, Right, Verb};
use super::server::{Peer, Shared, lock};
use super::wire::{Kind, Problem};
use super::{Answer, Asked, DOCUMENT};
use crate::audit::Leaf;
use crate::limits::{API_DISCARD_BYTES_MAX, CONTROL_READ_MAX, ID_BYTES_MAX};
use axum::body::Body;
use axum::extract::RawPathParams;
use axum::extract::rejection::RawPathParamsRejection;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Request, Response, StatusCode, header};
use axum::routing::{MethodFilter, MethodRouter, on};
use axum::{Extension, Router};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// A path's parameters, or why they cannot be read.
type Parameters = Result<RawPathParams, RawPathParamsRejection>;

/// The router of all rights.
pub(super) fn router(shared: &Arc<Shared>) -> Router {
    let mut paths: BTreeMap<&str, MethodRouter> = BTreeMap::new();
    for right in RIGHTS {
        let shared = Arc::clone(shared);
        let handler = move |parameters: Parameters, Extension(peer): Extension<Peer>, request: Request<Body>| {
            let shared = Arc::clone(&shared);
            async move { call(&shared, &peer, right, parameters, request).await }
        };
        let method = match right.method {
            "PUT" => MethodFilter::PUT,
            "POST" => MethodFilter::POST,
            "DELETE" => MethodFilter::DELETE,
            _ => MethodFilter::GET,
        };
        let methods = paths.remove(right.path).unwrap_or_default();
        paths.insert(right.path, methods.merge(on(method, handler)));
    }
    let router = paths.into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods));
    let nowhere = |kind: Kind| {
        let shared = Arc::clone(shared);
        move |Extension(peer): Extension<Peer>| {
            let shared = Arc::clone(&shared);
            async move { nothing(&shared, &peer, kind).await }
        }
    };
    router.method_not_allowed_fallback(nowhere(Kind::Method)).fallback(nowhere(Kind::NotFound))
}

/// A path or method that is none.
async fn nothing(shared: &Arc<Shared>, peer: &Peer, kind: Kind) -> Response<Body> {
    let outcome = Err(kind.because("see /v1/openapi.json for what there is"));
    if let Err(problem) = rate(shared, peer, None) {
        return response(Err(problem));
    }
    conclude(shared, peer, None, None, || outcome).await
}

async fn call(
    shared: &Arc<Shared>,
    peer: &Peer,
    right: &'static Right,
    parameters: Parameters,
    request: Request<Body>,
) -> Response<Body> {
    // What is above a client's rate is summed, so that it cannot fill the log.
    if let Err(problem) = rate(shared, peer, Some(right)) {
        return response(Err(problem));
    }
    let parameters = parameters.map(|parameters| {
        parameters.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>()
    });
    let measure =
        parameters.as_ref().ok().and_then(|parameters| parameters.get("measure")).filter(|id| is_id(id)).cloned();
    // Nobody waits for it, or makes others wait, who may not have it.
    let may = peer.client.as_ref().is_some_and(|(_, role)| right.roles.contains(role));
    let with_set = may && matches!(right.verb, Verb::Propose | Verb::Contents | Verb::Diff);
    let one = if with_set { shared.with_set.acquire().await.ok() } else { None };
    let (parts, mut body) = request.into_parts();
    let asked = asked(peer, right, parameters, &parts, &mut body).await;
    if asked.is_err() {
        tokio::spawn(discard(body));
    }
    let agent = Arc::clone(&shared.agent);
    let answer = conclude(shared, peer, Some(right), measure, move || match asked? {
        Some(asked) => agent.answer(asked),
        None => Ok(Answer { etag: None, body: DOCUMENT.into() }),
    });
    let response = answer.await;
    drop(one);
    response
}

/// What is asked, if the caller may ask it; nothing where the document is.
async fn asked(
    peer: &Peer,
    right: &Right,
    parameters: Result<BTreeMap<String, String>, RawPathParamsRejection>,
    parts: &Parts,
    body: &mut Body,
) -> Result<Option<Asked>, Problem> {
    match &peer.client {
        None => return Err(Kind::Stranger.because("[[control.api.client]] names none of the certificate's DNS names")),
        Some((_, role)) if !right.roles.contains(role) => {
            return Err(Kind::Role.because(format!("{} is not for the role {}", right.name, role.name())));
        }
        Some(_) => {}
    }
    let mut parameters = parameters.map_err(|_no_text| Kind::Malformed.because("the path is not UTF-8"))?;
    let mut parameter = |name: &str| parameters.remove(name).unwrap_or_default();
    let measure = parameter("measure");
    let etag = if right.conditional { condition(parts)? } else { String::new() };
    let body = if right.body_bytes_max > 0 { read(parts, body, right.body_bytes_max).await? } else { Vec::new() };
    Ok(Some(match right.verb {
        Verb::Document => return Ok(None),
        Verb::Status => Asked::Status,
        Verb::List => Asked::List { measure },
        Verb::Contents => Asked::Contents { measure, set: parameter("set_sha256") },
        Verb::Diff => Asked::Diff { measure, set: parameter("set_sha256"), other: parameter("other_sha256") },
        Verb::Propose => Asked::Propose { measure, etag, proposing: parse(&body)? },
        Verb::Discard => Asked::Discard { measure, etag },
        Verb::Approve => Asked::Approve { measure, etag, noted: parse(&body)? },
        Verb::Activate => Asked::Activate { measure, etag },
        Verb::RollBack => Asked::RollBack { measure, etag, noted: parse(&body)? },
        Verb::Withdraw => Asked::Withdraw { measure, noted: parse(&body)? },
        Verb::Directive => Asked::Directive(parse(&body)?),
        Verb::Stop => Asked::Stop(parse(&body)?),
        Verb::Resume => Asked::Resume(parse(&body)?),
    }))
}

/// The call's outcome, once the log has it.
async fn conclude(
    shared: &Arc<Shared>,
    peer: &Peer,
    right: Option<&'static Right>,
    measure: Option<String>,
    act: impl FnOnce() -> Result<Answer, Problem> + Send + 'static,
) -> Response<Body> {
    let agent = Arc::clone(&shared.agent);
    let peer = peer.clone();
    let concluded = tokio::task::spawn_blocking(move || {
        let outcome = act();
        let (client, role) = peer.client.unzip();
        let verb = right.map_or("none", |right| right.name);
        let leaf = Leaf::ApiCall {
            client: client.unwrap_or_default(),
            role: role.map_or_else(String::new, |role| role.name().to_owned()),
            certificate_sha256: peer.certificate_sha256,
            verb: verb.to_owned(),
            measure,
            outcome: outcome.as_ref().err().map_or("done", Problem::name).to_owned(),
        };
        match agent.tell(&leaf) {
            Ok(()) => outcome,
            Err(error) => {
                tracing::error!(verb, error, "a call of the control API is missing in the audit log");
                // What ends or limits selection has happened, and is said to have.
                if right.is_some_and(|right| right.narrows) { outcome } else { Err(unlogged(outcome.is_ok())) }
            }
        }
    });
    response(concluded.await.unwrap_or_else(|error| Err(Kind::Failed.because(error.to_string()))))
}

fn unlogged(done: bool) -> Problem {
    Kind::Unlogged.because(if done {
        "the call was carried out, but its entry could not be written; mend [log], then look at the state"
    } else {
        "nothing was done; mend [log]"
    })
}

fn rate(shared: &Arc<Shared>, peer: &Peer, right: Option<&Right>) -> Result<(), Problem> {
    // Whoever may stop the tap never waits for it.
    let may_narrow = |(_, role)| right.is_some_and(|right| right.narrows && right.roles.contains(&role));
    if peer.client.clone().is_some_and(may_narrow) {
        return Ok(());
    }
    // A stranger's rate is its certificate's.
    let name = peer.client.as_ref().map_or(&peer.certificate_sha256, |(name, _)| name);
    lock(&shared.rates).take(name, Instant::now()).map_err(|wait| {
        shared.turned_away(peer.client.as_ref().map(|(name, _)| name.clone()), Kind::Rate.parts().0);
        Kind::Rate.because(format!("again in {} ms", wait.as_millis().max(1)))
    })
}

/// The one state that `If-Match` names (RFC 9110, section 13.1.1), without its quotation marks.
fn condition(parts: &Parts) -> Result<String, Problem> {
    let mut values = parts.headers.get_all(header::IF_MATCH).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Err(Kind::Unconditional.because("If-Match: the ETag that a list or an answer before gave")),
        (Some(value), None) => value.to_str().ok(),
        (Some(_), Some(_)) => None,
    };
    let etag = value.and_then(|value| value.trim().strip_prefix('"')?.strip_suffix('"'));
    let etag = etag.filter(|etag| !etag.contains('"'));
    etag.map(str::to_owned).ok_or_else(|| Kind::Malformed.because("If-Match: one strong ETag in quotation marks"))
}

async fn read(parts: &Parts, body: &mut Body, bytes_max: u64) -> Result<Vec<u8>, Problem> {
    if !is_json(&parts.headers) {
        return Err(Kind::MediaType.because("Content-Type: application/json"));
    }
    let large = || Kind::Large.because(format!("at most {bytes_max} bytes"));
    let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > bytes_max) {
        return Err(large());
    }
    let body = Limited::new(body, usize::try_from(bytes_max).unwrap_or(usize::MAX));
    let read = tokio::time::timeout(CONTROL_READ_MAX, body.collect()).await;
    let read = read.map_err(|_elapsed| Kind::Slow.because(format!("within {} s", CONTROL_READ_MAX.as_secs())))?;
    let read = read.map_err(|error| {
        if error.is::<LengthLimitError>() { large() } else { Kind::Malformed.because("the body broke off") }
    })?;
    Ok(read.to_bytes().into())
}

/// Takes what is left of a refused call's body, and throws it away: a caller whose connection is closed while it still writes may
/// never see the answer (RFC 9112, section 9.6).
async fn discard(body: Body) {
    let bytes_max = usize::try_from(API_DISCARD_BYTES_MAX).unwrap_or(usize::MAX);
    let mut body = Limited::new(body, bytes_max);
    let frames = async { while let Some(Ok(_)) = body.frame().await {} };
    if tokio::time::timeout(CONTROL_READ_MAX, frames).await.is_err() {
        tracing::debug!("the body of a refused call came too slowly");
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

/// The parser's own message may quote the body, and a body may hold selectors.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        Kind::Malformed.because(format!("the body is not what /v1/openapi.json says ({place})"))
    })
}

fn is_id(text: &str) -> bool {
    let of_id = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !text.is_empty() && text.len() <= ID_BYTES_MAX && text.bytes().all(of_id)
}

fn response(outcome: Result<Answer, Problem>) -> Response<Body> {
    let built = Response::builder().header(header::CACHE_CONTROL, "no-store");
    let built = match outcome {
        Ok(Answer { etag, body }) => {
            let built = built.header(header::CONTENT_TYPE, "application/json");
            match etag {
                Some(etag) => built.header(header::ETAG, format!("\"{etag}\"")),
                None => built,
            }
            .body(Body::from(body))
        }
        Err(problem) => {
            let rated = problem.status == StatusCode::TOO_MANY_REQUESTS.as_u16();
            let built = built.status(problem.status).header(header::CONTENT_TYPE, "application/problem+json");
            // Whole seconds (RFC 9110, section 10.2.3): one is more than a call's interval.
            let built = if rated { built.header(header::RETRY_AFTER, "1") } else { built };
            built.body(Body::from(serde_json::to_vec(&problem).unwrap_or_default()))
        }
    };
    built.unwrap_or_else(|_invalid| Response::new(Body::empty()))
}
