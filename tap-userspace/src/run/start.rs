//! Start: from the configuration to a program that selects.
//!
//! Order: state and clock, orders, selector sets, spools, sockets; only then the kernel. A refusal on the way leaves nothing
//! attached.

use super::admit::{self, Admitted, Candidate, Host};
use super::agent::{Agent, ClockView, Permission, Seed, lock};
use super::audit::{self, Audit};
use super::error::RunError;
use super::measure::{self, Measure};
use super::sampling::{self, ChangeLog};
use super::state::State;
use super::{facility, orders, oversight, receipts, renew, sealed, swap, totals};
use crate::audit::Leaf;
use crate::audit::leaf::SwapReason;
use crate::clock::{self, Reading, Watch};
use crate::config::{self, Config};
use crate::control::api::{self, server::Credentials};
use crate::control::server::Server;
use crate::ipfix::encode::Anonymisation;
use crate::load::CapSlot;
use crate::loader::{Compiler, Loader, LoaderError, Tap};
use crate::path::export::{self, ExportConfig, ExportError};
use crate::path::ring::RingConsumer;
use crate::transport::tls;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// An agent whose program selects, and what its loops need beside it.
pub(super) struct Prepared {
    pub(super) agent: Arc<Agent>,
    pub(super) rings: Vec<RingConsumer>,
    pub(super) listening: Listening,
}

/// Where questions come in.
pub(super) struct Listening {
    pub(super) control: Server,
    pub(super) metrics: TcpListener,
    pub(super) api: Option<(TcpListener, Credentials)>,
}

/// Everything up to the first lease.
pub(super) fn prepare(runtime: &Runtime, config: Config, loader: Loader) -> Result<Prepared, RunError> {
    let mut state = State::open(&config.state.directory).map_err(|error| RunError::Refused(error.to_string()))?;
    let audit = Arc::new(Audit::open(&config, &audit::host_key(&config)?, &mut state)?);
    // The state keeps trusted times only; where it is gone, the log's last time is the one to be earlier than.
    if let Some(last_unix_ns) = audit.last_time().filter(|_| state.last_unix_ns() == 0) {
        state.keep_time(last_unix_ns).map_err(|error| RunError::Refused(error.to_string()))?;
    }
    prepare_logged(runtime, config, loader, state, &audit).inspect_err(|_| audit.tell(&Leaf::StartRefused))
}

fn prepare_logged(
    runtime: &Runtime,
    config: Config,
    loader: Loader,
    state: State,
    audit: &Arc<Audit>,
) -> Result<Prepared, RunError> {
    let reading = clock::read().map_err(|error| RunError::failed("clock", error))?;
    let last_unix_ns = state.last_unix_ns().max(audit.last_time().unwrap_or_default());
    let (host, admitted, watch) = admit::admit(&config, last_unix_ns, &reading)?;
    let now = jiff::Timestamp::from_nanosecond(i128::from(reading.unix_ns))
        .map_err(|error| RunError::refused("clock", error))?;
    admitted.iter().try_for_each(|admitted| orders::known(&state, &admitted.chain))?;
    let mut candidates = Vec::with_capacity(admitted.len());
    for (slot, admitted) in admitted.iter().enumerate() {
        candidates.push((slot, choose(&config, slot, &host, admitted, &state, now)?));
    }
    tell_exceptions(&config);
    admitted.iter().try_for_each(|admitted| audit.admitted(admitted))?;
    let measures = measures(&config, admitted, &reading)?;
    let listening = listen(runtime, &config)?;
    tell_transport(&config);
    let orders = measures.iter().map(|measure| orders::notes(&measure.admitted.chain)).collect();
    let (tap, compiler) = loader.open(&host.host_key, orders).map_err(|error| match error {
        LoaderError::Refused(reason) => RunError::Refused(reason),
        LoaderError::Failed(reason) => RunError::failed("kernel", reason),
    })?;
    let mut state = state;
    let ids: Vec<String> = measures.iter().map(|measure| measure.id().to_owned()).collect();
    // A refusal leaves the tap as it was found: maps made now hold nothing, others are their own measures'.
    state.take_slots(&tap.instance().id, &ids).map_err(|error| RunError::Refused(error.to_string()))?;
    let shared = (state, Arc::clone(audit));
    let agent = Arc::new(assemble(config, host, measures, (watch, &reading), (tap, compiler), shared)?);
    match begin(&agent, candidates, now) {
        Ok(rings) => Ok(Prepared { agent, rings, listening }),
        Err(error) => {
            if let Err(second) = agent.detach() {
                tracing::error!(error = %second, "the program could not be detached");
            }
            Err(error)
        }
    }
}

fn listen(runtime: &Runtime, config: &Config) -> Result<Listening, RunError> {
    let _inside = runtime.enter();
    let bind = |key: &str, address: SocketAddr| {
        let listener = runtime.block_on(TcpListener::bind(address));
        listener.map_err(|error| RunError::failed(format!("{key} {address}"), error))
    };
    let control = Server::bind(&config.control.socket).map_err(|error| RunError::failed("control.socket", error))?;
    let metrics = bind("metrics.listen", config.metrics.listen)?;
    let api = match &config.control.api {
        Some(api) => {
            let credentials = api::server::credentials(api.files());
            let credentials = credentials.map_err(|error| RunError::failed("control.api", error))?;
            Some((bind("control.api.listen", api.listen)?, credentials))
        }
        None => None,
    };
    Ok(Listening { control, metrics, api })
}

/// Caps, samples, then the first generation. A slot may have a lease that a killed agent gave: it is void before the slot
/// becomes anything else.
fn begin(
    agent: &Agent,
    candidates: Vec<(usize, Candidate)>,
    now: jiff::Timestamp,
) -> Result<Vec<RingConsumer>, RunError> {
    agent.with_tap(|tap| {
        renew::void_leases(tap);
        Ok(())
    })?;
    oversight::begin(agent, now)?;
    for measure in &agent.measures {
        lock(&agent.state)
            .keep_orders(measure.id(), &orders::hashes(&lock(&measure.chain)))
            .map_err(|error| RunError::Failed(error.to_string()))?;
        // A share that a directive left too small for a bucket gets no lease: see `renew`.
        let cap = measure.cap_policy();
        let lowered = lock(&measure.restriction).share_ppm.is_some();
        agent.with_tap(|tap| match cap {
            Ok(cap) => {
                tap.set_cap(CapSlot::Measure(u32::from(measure.slot)), cap);
                Ok(())
            }
            Err(_) if lowered => Ok(()),
            Err(error) => Err(error),
        })?;
    }
    sampling::begin(agent, now)?;
    swap::activate(agent, candidates, &lock(&agent.loading), SwapReason::Start)?;
    let counters = agent.with_tap(|tap| tap.counters())?;
    for (measure, counted) in agent.measures.iter().zip(&counters.measures) {
        let threshold = lock(&measure.sample).threshold();
        totals::announce(agent, measure, counted, threshold);
    }
    rings(agent)
}

/// The configuration's set of a measure, or the one that was loaded last at run time, whichever has the higher number.
///
/// The configuration's must be in order either way: a file that is refused is never passed over in silence.
fn choose(
    config: &Config,
    slot: usize,
    host: &Host,
    admitted: &Admitted,
    state: &State,
    now: jiff::Timestamp,
) -> Result<Candidate, RunError> {
    let Some(files) = config.measures.get(slot) else {
        return Err(RunError::Failed(format!("measure[{slot}] is gone")));
    };
    let set = admit::text(&files.set_file)?;
    if !crate::selectors::sealed::is_sealed(&set) {
        tracing::warn!(
            "set_file is in clear: whoever reads it knows what is looked for; seal it (gwtap selectors seal)"
        );
    }
    let set = crate::selectors::sealed::open(set, &host.sealing)
        .map_err(|error| RunError::refused(files.set_file.display(), error))?;
    let texts = sealed::Texts { set, activation: admit::text(&files.activation_file)? };
    let mut chosen = admit::candidate(host, &admitted.chain, texts, now)?;
    let id = &admitted.order.measure.id;
    if let Some(texts) = sealed::read(&measure::directory(&config.state.directory, id), &host.sealing)? {
        match admit::kept(host, &admitted.chain, texts, now) {
            Ok(kept) if kept.number > chosen.number => {
                tracing::info!(
                    measure = id,
                    number = kept.number,
                    withdrawn = kept.content.is_none(),
                    "continuing with what was loaded at run time; bring the configuration's files up to date"
                );
                chosen = kept;
            }
            Ok(_) => {}
            // Of another order, or expired: the configuration's own set counts, and the state below guards its number.
            Err(error) => tracing::info!(measure = id, %error, "the set of the last run is not used"),
        }
    }
    state.admit_start(id, chosen.number, &chosen.set_sha256()).map_err(|error| RunError::Refused(error.to_string()))?;
    Ok(chosen)
}

/// A laboratory's exceptions are said aloud, logged, and shown in a metric.
fn tell_exceptions(config: &Config) {
    if config.clock_not_required() {
        eprintln!("gwtap: [clock] synchronised = \"not-required\": windows are judged by a clock nobody vouches for");
        tracing::warn!("the clock need not be synchronised: laboratory only");
    }
    if config.country_table.documentation_prefixes {
        eprintln!("gwtap: [country_table] documentation_prefixes: documentation ranges count as countries' addresses");
        tracing::warn!("documentation prefixes are taken from the country table: laboratory only");
    }
}

/// Opens what each measure has of its own.
fn measures(config: &Config, admitted: Vec<Admitted>, reading: &Reading) -> Result<Vec<Measure>, RunError> {
    let offset = i64::try_from(i128::from(reading.unix_ns) - i128::from(reading.boot_ns))
        .map_err(|error| RunError::failed("clock", error))?;
    let mut measures = Vec::with_capacity(admitted.len());
    for ((slot, files), admitted) in (0..).zip(&config.measures).zip(admitted) {
        let id = &admitted.order.measure.id;
        tls::client(&files.export.tls_files())
            .map_err(|error| RunError::Failed(format!("measure {id}: export: {error}")))?;
        measures.push(Measure::open(slot, files.clone(), admitted, &config.state.directory, offset)?);
    }
    Ok(measures)
}

/// The facility's share if all measures were live.
fn facility_share_ppm(measures: &[Measure]) -> u32 {
    facility::share_ppm(
        measures.iter().map(|measure| (measure.admitted.order.measure.basis, measure.admitted.share_ppm)),
    )
}

/// What the router puts around the frames, said aloud: frames without it are refused.
fn tell_transport(config: &Config) {
    if let Some(transport) = &config.mirror.transport {
        tracing::info!(%transport, "mirror transport is removed; other frames are counted as unsupported");
    }
}

fn assemble(
    config: Config,
    host: Host,
    measures: Vec<Measure>,
    (watch, reading): (Watch, &Reading),
    (tap, compiler): (Tap, Compiler),
    (state, audit): (State, Arc<Audit>),
) -> Result<Agent, RunError> {
    Ok(Agent {
        instance: tap.instance().id,
        loading: Mutex::new(Seed::random()?),
        permission: Mutex::new(Permission { facility_share_ppm: facility_share_ppm(&measures), revoked: false }),
        clock: Mutex::new(ClockView {
            watch,
            synchronised: reading.synchronised,
            error_ns: reading.error_ns,
            doubt: None,
            steps_back_total: 0,
            steps_forward_total: 0,
            kept_unix_ns: 0,
        }),
        tap: Mutex::new(Some(tap)),
        compiler,
        generations: Mutex::new(state.generations().clone()),
        staged: Mutex::default(),
        api: Mutex::default(),
        versions: Mutex::default(),
        state: Mutex::new(state),
        share: Mutex::default(),
        changes: Mutex::new(ChangeLog::new(&config.state.directory)),
        audit,
        receipt_key: receipts::key(&config)?,
        seeds_total: AtomicU64::new(0),
        invalid: AtomicU64::new(0),
        entries: AtomicU64::new(0),
        stopping: AtomicBool::new(false),
        config,
        host,
        measures,
    })
}

fn rings(agent: &Agent) -> Result<Vec<RingConsumer>, RunError> {
    RingConsumer::of_cpus(agent.with_tap(|tap| tap.rings())?).map_err(|error| RunError::failed("rings", error))
}

/// The export task of each measure.
pub(super) fn export(
    runtime: &Runtime,
    agent: &Agent,
    shutdown: &watch::Receiver<bool>,
) -> Vec<JoinHandle<Result<(), ExportError>>> {
    let task = |measure: &Measure| {
        let export = &measure.config.export;
        let config = ExportConfig {
            receivers: export
                .receivers()
                .map(|(endpoint, server_name)| export::Receiver {
                    endpoint: endpoint.to_owned(),
                    server_name: server_name.to_owned(),
                })
                .collect(),
            tls: export.tls_files(),
            acknowledgement: match export.acknowledgement {
                config::Acknowledgement::Required => export::Acknowledgement::Required,
                config::Acknowledgement::None => export::Acknowledgement::None,
            },
            anonymisation: if measure.admitted.order.addresses.prefix_preserving {
                Anonymisation::PrefixPreserving
            } else {
                Anonymisation::Deterministic
            },
            stream: export.stream().map(str::to_owned),
        };
        let (spool, status) = (measure.spool.clone(), Arc::clone(&measure.export));
        runtime.spawn(export::run(config, agent.host.host_key, spool, status, shutdown.clone()))
    };
    agent.measures.iter().map(task).collect()
}
