//! A cluster of three NATS servers with JetStream on one host of the laboratory, as a receiving facility would run it: TLS for clients
//! with both sides authenticated, a user for each certificate, and no more rights than the tap and the receiver need. In: a
//! deployment's certificates. Out: servers that can be killed and started again, and what they say of a stream.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::deployment::{Deployment, HOST_NAME, SERVER_NAME};
use crate::lab::{Host, Process, RECEIVING, wait_until};

/// Servers of the cluster: as many as the stream's replicas.
pub const SERVERS: u16 = 3;
/// The stream.
pub const STREAM: &str = "gwtap";
/// Clients' port of the first server; the order's receiving facility is there.
const PORT: u16 = 4740;
/// Ports among the servers, and of their monitoring pages.
const ROUTES: u16 = 6222;
const MONITOR: u16 = 8222;
/// How long an election and what follows it may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The running servers.
pub struct Cluster {
    program: PathBuf,
    host: Host,
    directory: PathBuf,
    servers: Vec<Option<Process>>,
}

impl Cluster {
    /// Starts the servers on `host`, with their files in `deployment`, and waits until they work together.
    ///
    /// # Errors
    /// A server that does not start.
    pub fn start(program: &Path, host: &Host, deployment: &Deployment) -> Result<Self> {
        let directory = deployment.file("nats");
        fs::create_dir(&directory)?;
        let host_key = deployment.host_key()?;
        let mut cluster = Self { program: program.to_owned(), host: host.clone(), directory, servers: Vec::new() };
        for index in 0..SERVERS {
            fs::write(cluster.file(index, "conf"), cluster.configuration(index, &host_key, deployment.path()))?;
            cluster.servers.push(None);
        }
        cluster.start_missing()?;
        let works = |page: Value| {
            page.pointer("/meta_cluster/leader").and_then(Value::as_str).is_some_and(|name| !name.is_empty())
        };
        wait_until("leader of the cluster", PATIENCE, || {
            (0..SERVERS).all(|index| cluster.page(index).is_ok_and(works))
        })?;
        Ok(cluster)
    }

    /// Where clients connect to: the first server is the one that every deployment's order names.
    #[must_use]
    pub fn endpoints() -> Vec<String> {
        (0..SERVERS).map(|index| format!("{RECEIVING}:{}", PORT + index)).collect()
    }

    /// Starts whoever is away, without waiting for it.
    ///
    /// # Errors
    /// The program does not start.
    pub fn start_missing(&mut self) -> Result<()> {
        for index in 0..SERVERS {
            if self.servers.get(usize::from(index)).is_some_and(Option::is_none) {
                let mut command = self.host.command(&self.program);
                command.arg("--config").arg(self.file(index, "conf"));
                let started = Process::start("nats-server", command, &self.file(index, "log"))?;
                if let Some(place) = self.servers.get_mut(usize::from(index)) {
                    *place = Some(started);
                }
            }
        }
        Ok(())
    }

    /// Kills the server that leads the stream, or one that follows it.
    ///
    /// # Errors
    /// The stream has no leader.
    pub fn kill(&mut self, leader: bool) -> Result<()> {
        // On a busy machine servers elect another leader without anybody's doing, and one at a time may be lost.
        self.settle()?;
        let leads = self.stream()?.leader;
        let index = (0..SERVERS).find(|index| (name(*index) == leads) == leader).context("a server to kill")?;
        let server = self.servers.get_mut(usize::from(index)).and_then(Option::take);
        server.context("a server that runs")?.kill()
    }

    /// Waits until the stream has a leader and every other server is level with it.
    ///
    /// # Errors
    /// It takes too long.
    pub fn settle(&self) -> Result<()> {
        let whole = || self.stream().is_ok_and(|stream| stream.level == usize::from(SERVERS) - 1);
        wait_until("stream with all its replicas", PATIENCE, whole).with_context(|| self.said())
    }

    /// Waits until nothing is in the stream any more.
    ///
    /// # Errors
    /// It takes too long.
    pub fn drained(&self) -> Result<()> {
        wait_until("empty stream", PATIENCE, || self.stream().is_ok_and(|stream| stream.messages == 0))
            .with_context(|| self.said())
    }

    /// What the stream's leader says of it.
    ///
    /// # Errors
    /// It has none, or it does not answer.
    pub fn stream(&self) -> Result<Stream> {
        for index in 0..SERVERS {
            let Ok(page) = self.page(index) else { continue };
            let streams = page.pointer("/account_details/0/stream_detail").and_then(Value::as_array);
            let named = |stream: &&Value| stream.get("name").and_then(Value::as_str) == Some(STREAM);
            let Some(stream) = streams.into_iter().flatten().find(named) else { continue };
            let leader = stream.pointer("/cluster/leader").and_then(Value::as_str).unwrap_or_default();
            // Another server's word of the others is old.
            if leader != name(index) {
                continue;
            }
            let replicas = stream.pointer("/cluster/replicas").and_then(Value::as_array);
            let level = |replica: &&Value| {
                let is = |field| replica.get(field).and_then(Value::as_bool);
                is("current") == Some(true) && is("offline") != Some(true)
            };
            return Ok(Stream {
                leader: leader.to_owned(),
                level: replicas.into_iter().flatten().filter(level).count(),
                messages: stream.pointer("/state/messages").and_then(Value::as_u64).context("messages")?,
            });
        }
        bail!("no server leads the stream")
    }

    fn page(&self, index: u16) -> Result<Value> {
        let answer = self.host.enter(|| -> Result<String> {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, MONITOR + index))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"GET /jsz?accounts=true&streams=true HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })??;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer")?;
        ensure!(head.contains(" 200 "), "{head}");
        Ok(serde_json::from_str(body)?)
    }

    fn said(&self) -> String {
        let tail = |index| {
            let log = fs::read_to_string(self.file(index, "log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().rev().take(15).collect();
            lines.into_iter().rev().collect::<Vec<_>>().join("\n")
        };
        (0..SERVERS).map(|index| format!("{}:\n{}\n", name(index), tail(index))).collect()
    }

    fn file(&self, index: u16, extension: &str) -> PathBuf {
        self.directory.join(format!("{}.{extension}", name(index)))
    }

    fn configuration(&self, index: u16, host_key: &str, deployment: &Path) -> String {
        let tls = deployment.join("tls");
        let routes: Vec<_> = (0..SERVERS).map(|other| format!("nats-route://127.0.0.1:{}", ROUTES + other)).collect();
        format!(
            r#"server_name: {name}
listen: {RECEIVING}:{port}
http: 127.0.0.1:{monitor}
jetstream {{ store_dir: "{store}", max_file_store: 1GB }}
tls {{ cert_file: "{tls}/{SERVER_NAME}.pem", key_file: "{tls}/{SERVER_NAME}.key", ca_file: "{tls}/ca.pem", verify_and_map: true, timeout: 5 }}
cluster {{ name: laboratory, listen: 127.0.0.1:{route}, routes: [{routes}] }}
authorization {{ users: [
  {{ user: "{HOST_NAME}", permissions: {{
    publish: ["{STREAM}.records.{host_key}", "$JS.API.STREAM.INFO.{STREAM}"], subscribe: ["_INBOX.{host_key}.>"] }} }}
  {{ user: "{SERVER_NAME}", permissions: {{
    publish: ["$JS.API.STREAM.INFO.{STREAM}", "$JS.API.STREAM.CREATE.{STREAM}", "$JS.API.CONSUMER.*.{STREAM}.>",
      "$JS.API.CONSUMER.MSG.NEXT.{STREAM}.>", "$JS.API.CONSUMER.DURABLE.CREATE.{STREAM}.>", "$JS.ACK.{STREAM}.>"],
    subscribe: ["_INBOX.receive.>"] }} }}
] }}
"#,
            name = name(index),
            port = PORT + index,
            monitor = MONITOR + index,
            store = self.file(index, "store").display(),
            tls = tls.display(),
            route = ROUTES + index,
            routes = routes.join(", "),
        )
    }
}

/// What a stream's leader says of it.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Its name.
    pub leader: String,
    /// Followers that are level with it.
    pub level: usize,
    /// Messages in the stream.
    pub messages: u64,
}

fn name(index: u16) -> String {
    format!("n{index}")
}
