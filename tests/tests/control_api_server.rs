//! The control API's server by itself, on loopback, in front of an agent that only counts: limits, conditions, forms, and that
//! nothing is answered that the log does not have. The OpenAPI document against the table of rights.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "helpers of a test")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tap_tests::deployment::Authority;
use tap_tests::lab::wait_until;
use tap_userspace::audit::Leaf;
use tap_userspace::control::api::client::{Call, CallError, Client};
use tap_userspace::control::api::rights::{RIGHTS, Role};
use tap_userspace::control::api::server::{Server, credentials};
use tap_userspace::control::api::wire::{Kind, Problem};
use tap_userspace::control::api::{Agent, Answer, Asked, DOCUMENT};
use tap_userspace::limits::{API_BODY_BYTES_MAX, API_BURST_CALLS, API_CLIENT_CONNECTIONS_MAX};
use tap_userspace::transport::tls::TlsFiles;

/// An agent that does nothing and remembers what was asked.
#[derive(Default)]
struct Counting {
    leaves: Mutex<Vec<Leaf>>,
    asked: Mutex<Vec<&'static str>>,
    log_is_full: AtomicBool,
}

impl Agent for Counting {
    fn answer(&self, asked: Asked) -> Result<Answer, Problem> {
        let what = match asked {
            Asked::Status => "status",
            Asked::List { .. } => "list",
            Asked::Propose { etag, .. } if etag != "7" => return Err(Kind::Stale.because("it is 7")),
            Asked::Propose { .. } => "propose",
            Asked::Stop(_) => "stop",
            Asked::Directive(_) => "directive",
            _ => "other",
        };
        self.asked.lock().unwrap().push(what);
        Ok(Answer { etag: Some("7".into()), ..Answer::of(&what)? })
    }

    fn tell(&self, leaf: &Leaf) -> Result<(), String> {
        if self.log_is_full.load(Ordering::Relaxed) {
            return Err("no space left".into());
        }
        self.leaves.lock().unwrap().push(leaf.clone());
        Ok(())
    }
}

/// A server with a client for each role.
struct Lab {
    directory: tempfile::TempDir,
    agent: Arc<Counting>,
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl Lab {
    fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = |name: &str| directory.path().join(name);
        let authority = Authority::new("everybody's")?;
        authority.write(&path("ca.pem"))?;
        for name in Role::ALL.map(Role::name).into_iter().chain(["tap"]) {
            authority.issue(name, directory.path())?;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let files =
            TlsFiles { ca: path("ca.pem"), certificate: path("tap.pem"), key: path("tap.key"), revocations: None };
        let clients = Role::ALL.into_iter().map(|role| (role.name().to_owned(), role)).collect();
        let agent = Arc::new(Counting::default());
        let _inside = runtime.enter();
        let server = Server::new(listener, credentials(files)?, clients, Arc::clone(&agent) as Arc<dyn Agent>);
        runtime.spawn(server.serve());
        drop(_inside);
        Ok(Self { directory, agent, address, _runtime: runtime })
    }

    fn client(&self, name: &str) -> Client {
        let path = |name: String| self.directory.path().join(name);
        Client {
            endpoint: self.address.to_string(),
            server_name: "tap".into(),
            ca_file: path("ca.pem".into()),
            certificate_file: path(format!("{name}.pem")),
            key_file: path(format!("{name}.key")),
        }
    }

    /// What becomes of a call.
    fn outcome(&self, name: &str, method: &'static str, path: &str, etag: Option<&str>, body: Option<&str>) -> String {
        let body = body.map(|body| body.as_bytes().to_vec());
        match self.client(name).call(&Call { method, path, etag, body }) {
            Ok(_) => "done".into(),
            Err(CallError::Problem(problem)) => problem.name().to_owned(),
            Err(other) => other.to_string(),
        }
    }
}

const PROPOSAL: &str = "/v1/measures/m-1/proposal";
const PROPOSING: &str = r#"{"set": "canary 203.0.113.9", "activation": "note"}"#;

#[test]
fn what_is_not_of_its_form_is_told_so_and_logged() -> Result<()> {
    let lab = Lab::new()?;
    let propose = |etag, body| lab.outcome("selector-author", "PUT", PROPOSAL, etag, body);
    ensure!(propose(Some("7"), Some(PROPOSING)) == "done");
    ensure!(propose(Some("6"), Some(PROPOSING)) == "stale");
    ensure!(propose(None, Some(PROPOSING)) == "unconditional");
    ensure!(propose(Some("7\", \"8"), Some(PROPOSING)) == "malformed");
    ensure!(propose(Some("7"), None) == "media-type");
    ensure!(propose(Some("7"), Some(r#"{"set": 203}"#)) == "malformed");
    ensure!(propose(Some("7"), Some(r#"{"set": "", "activation": "", "sett": ""}"#)) == "malformed");
    let long = format!(r#"{{"reason": "{}"}}"#, "x".repeat(usize::try_from(API_BODY_BYTES_MAX)?));
    ensure!(lab.outcome("operator", "POST", "/v1/stop", None, Some(&long)) == "large");
    ensure!(lab.outcome("operator", "POST", "/v1/status", None, Some("{}")) == "method");
    ensure!(lab.outcome("operator", "GET", "/v2/status", None, None) == "not-found");
    ensure!(lab.outcome("operator", "GET", "/v1/measures/%ff/selectors", None, None) == "malformed");
    // Refused before the body is read: nobody else makes the tap hold a set.
    ensure!(lab.outcome("auditor", "PUT", PROPOSAL, Some("7"), Some(PROPOSING)) == "role");

    let leaves = lab.agent.leaves.lock().unwrap();
    let outcomes: Vec<&str> = leaves
        .iter()
        .map(|leaf| match leaf {
            Leaf::ApiCall { outcome, .. } => outcome.as_str(),
            _ => "another leaf",
        })
        .collect();
    let expected = [
        "done",
        "stale",
        "unconditional",
        "malformed",
        "media-type",
        "malformed",
        "malformed",
        "large",
        "method",
        "not-found",
        "malformed",
        "role",
    ];
    ensure!(outcomes == expected, "{outcomes:?}");
    ensure!(!format!("{leaves:?}").contains("203.0.113.9"), "a selector is in the log: {leaves:?}");
    ensure!(*lab.agent.asked.lock().unwrap() == ["propose"]);
    let Leaf::ApiCall { client, role, verb, measure, certificate_sha256, .. } = &leaves[0] else {
        anyhow::bail!("{:?}", leaves[0])
    };
    let certificate = std::fs::read_to_string(lab.directory.path().join("selector-author.sha256"))?;
    ensure!((client.as_str(), role.as_str(), verb.as_str()) == ("selector-author", "selector-author", "propose"));
    ensure!(measure.as_deref() == Some("m-1") && *certificate_sha256 == certificate);
    Ok(())
}

#[test]
fn a_client_above_its_rate_waits_but_whoever_stops_the_tap_does_not() -> Result<()> {
    let lab = Lab::new()?;
    let status = || lab.outcome("operator", "GET", "/v1/status", None, None);
    let outcomes: Vec<String> = (0..3 * API_BURST_CALLS).map(|_| status()).collect();
    let rated = outcomes.iter().filter(|outcome| *outcome == "rate").count();
    ensure!(rated > 0 && outcomes[..API_BURST_CALLS as usize].iter().all(|outcome| outcome == "done"), "{outcomes:?}");
    let stop = lab.outcome("operator", "POST", "/v1/stop", None, Some(r#"{"reason": "enough"}"#));
    ensure!(stop == "done", "the kill switch waited: {stop}");
    // Another client has a rate of its own, and asking for what one may not is no way around one's own.
    ensure!(lab.outcome("auditor", "GET", "/v1/status", None, None) == "done");
    let denied: Vec<String> = (0..3 * API_BURST_CALLS)
        .map(|_| lab.outcome("auditor", "POST", "/v1/stop", None, Some(r#"{"reason": "enough"}"#)))
        .collect();
    ensure!(denied.iter().any(|outcome| outcome == "rate") && !denied.contains(&"done".to_owned()), "{denied:?}");
    let leaves = lab.agent.leaves.lock().unwrap();
    let turned_away: Vec<&str> = leaves
        .iter()
        .filter_map(|leaf| match leaf {
            Leaf::ApiTurnedAway { client: Some(client), kind, calls: 1 } if kind == "rate" => Some(client.as_str()),
            _ => None,
        })
        .collect();
    ensure!(turned_away == ["operator", "auditor"], "{leaves:?}");
    Ok(())
}

#[test]
fn what_the_log_cannot_have_is_not_answered_but_what_narrows_is_done() -> Result<()> {
    let lab = Lab::new()?;
    lab.agent.log_is_full.store(true, Ordering::Relaxed);
    ensure!(lab.outcome("auditor", "GET", "/v1/status", None, None) == "unlogged");
    ensure!(lab.outcome("selector-author", "PUT", PROPOSAL, Some("7"), Some(PROPOSING)) == "unlogged");
    ensure!(lab.outcome("auditor", "PUT", PROPOSAL, Some("7"), Some(PROPOSING)) == "unlogged");
    ensure!(lab.outcome("operator", "POST", "/v1/stop", None, Some(r#"{"reason": "enough"}"#)) == "done");
    ensure!(lab.outcome("auditor", "POST", "/v1/directives", None, Some(r#"{"note": "stop"}"#)) == "done");
    Ok(())
}

#[test]
fn whoever_is_refused_while_still_writing_sees_why() -> Result<()> {
    let lab = Lab::new()?;
    // As much as a connection's buffers never hold by themselves.
    let body = format!(r#"{{"note": "{}"}}"#, "x".repeat(900_000));
    for (path, status) in [("/v1/measures/m-1/withdrawal", 403), ("/v1/directives", 413)] {
        let answer = over_http1(&lab, path, &body)?;
        ensure!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer:?}");
    }
    Ok(())
}

type Session = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

/// A connection of the client `name`, after its handshake.
fn session(lab: &Lab, name: &str) -> Result<Session> {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
    let file = |name: &str| lab.directory.path().join(name);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file("ca.pem"))?)?;
    let chain = vec![CertificateDer::from_pem_file(file(&format!("{name}.pem")))?];
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(file(&format!("{name}.key")))?)?;
    let mut session = rustls::ClientConnection::new(Arc::new(config), "tap".try_into()?)?;
    let mut stream = TcpStream::connect(lab.address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    session.complete_io(&mut stream)?;
    Ok(rustls::StreamOwned::new(session, stream))
}

/// The auditor's call over HTTP/1.1, all of it written before anything is read.
fn over_http1(lab: &Lab, path: &str, body: &str) -> Result<String> {
    let mut session = session(lab, "auditor")?;
    let length = body.len();
    write!(session, "POST {path} HTTP/1.1\r\nHost: tap\r\nContent-Type: application/json\r\n")?;
    write!(session, "Content-Length: {length}\r\n\r\n")?;
    for piece in body.as_bytes().chunks(16 << 10) {
        session.write_all(piece)?;
        std::thread::sleep(Duration::from_millis(2));
    }
    answer(&mut session)
}

/// The beginning of what comes.
fn answer(session: &mut Session) -> Result<String> {
    let mut answer = vec![0; 4_096];
    let read = session.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..read]).into_owned())
}

#[test]
fn a_client_takes_its_own_places_and_nobody_elses() -> Result<()> {
    let lab = Lab::new()?;
    let mut open = Vec::new();
    for _ in 0..API_CLIENT_CONNECTIONS_MAX {
        let mut session = session(&lab, "auditor")?;
        write!(session, "GET /v1/status HTTP/1.1\r\nHost: tap\r\n\r\n")?;
        ensure!(answer(&mut session)?.starts_with("HTTP/1.1 200 "));
        open.push(session);
    }
    let ninth = lab.outcome("auditor", "GET", "/v1/status", None, None);
    ensure!(ninth.contains("is it the tap's"), "{ninth}");
    ensure!(lab.outcome("operator", "POST", "/v1/stop", None, Some(r#"{"reason": "enough"}"#)) == "done");
    drop(open);
    wait_until("a free place", Duration::from_secs(20), || {
        lab.outcome("auditor", "GET", "/v1/status", None, None) == "done"
    })?;
    let leaves = lab.agent.leaves.lock().unwrap();
    let told = |leaf: &Leaf| matches!(leaf, Leaf::ApiTurnedAway { client: Some(client), kind, .. } if client == "auditor" && kind == "too-many");
    ensure!(leaves.iter().any(told), "{leaves:?}");
    Ok(())
}

#[test]
fn the_document_says_what_the_server_does() -> Result<()> {
    let document: Value = serde_json::from_str(DOCUMENT)?;
    let paths = document["paths"].as_object().context("paths")?;
    let said: usize = paths.values().filter_map(Value::as_object).map(serde_json::Map::len).sum();
    ensure!(said == RIGHTS.len(), "{said} operations, {} rights", RIGHTS.len());
    for right in RIGHTS {
        let place = format!("{} {}", right.method, right.path);
        let operation = &paths.get(right.path).with_context(|| place.clone())?[right.method.to_ascii_lowercase()];
        ensure!(operation["operationId"] == right.name, "{place}: {operation}");
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let refers = |name: &str| {
            parameters.iter().any(|parameter| parameter["$ref"] == format!("#/components/parameters/{name}"))
        };
        ensure!(refers("IfMatch") == right.conditional, "{place}: If-Match");
        let in_path = right.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        for name in in_path {
            ensure!(refers(name), "{place}: {name}");
        }
        ensure!(operation["requestBody"].is_null() == (right.body_bytes_max == 0), "{place}: body");
    }
    // Each kind of problem has its status in the document.
    for kind in Kind::ALL {
        let (name, _, status) = kind.parts();
        let said = &document["components"]["responses"][format!("P{status}")]["description"];
        ensure!(said.as_str().is_some_and(|said| said.contains(name)), "{name}: {said}");
    }
    Ok(())
}
