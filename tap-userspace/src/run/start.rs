//! Start: from the configuration to a program that selects.
//!
//! Order: state and clock, order, selector set, spool, sockets; only then the kernel. A refusal on the way leaves nothing
//! attached.

use super::admit::{self, Admitted, Candidate};
use super::agent::{Active, Agent, ClockView, LeaseView, RecordCounts};
use super::error::RunError;
use super::state::State;
use super::{sealed, swap};
use crate::clock::{self, Reading, Watch};
use crate::config::{self, Config, Mode};
use crate::control::server::Server;
use crate::ipfix::encode::Anonymisation;
use crate::limits::SPOOL_SEGMENT_BYTES;
use crate::load::tap::cap_policy;
use crate::load::{Attach, Tap, TapConfig};
use crate::metrics::share::SlidingShare;
use crate::path::export::{self, ExportConfig, ExportError, ExportStatus};
use crate::path::pseudonymise::{PseudonymMode, Pseudonymiser};
use crate::path::ring::RingConsumer;
use crate::path::spool::{Spool, SpoolKey, SpoolLimits};
use crate::transport::tls::{self, TlsFiles};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use tap_common::limits::RING_BYTES;
use tap_common::path::transport::MirrorTransport;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// An agent whose program selects, and what its loops need beside it.
pub(super) struct Prepared {
    pub(super) agent: Arc<Agent>,
    pub(super) rings: Vec<RingConsumer>,
    pub(super) control: Server,
    pub(super) metrics: TcpListener,
}

/// Everything up to the first lease.
pub(super) fn prepare(runtime: &Runtime, config: Config) -> Result<Prepared, RunError> {
    let state = State::open(&config.state.directory).map_err(|error| RunError::Refused(error.to_string()))?;
    let reading = clock::read().map_err(|error| RunError::failed("clock", error))?;
    let (admitted, watch) = admit::admit(&config, &state, &reading)?;
    let candidate = choose(&config, &admitted, &state, &reading)?;
    tell_exceptions(&config);
    tls::client(&tls_files(&config)).map_err(|error| RunError::failed("export", error))?;
    let spool = spool(&config)?;
    let (control, metrics) = {
        let _inside = runtime.enter();
        let control =
            Server::bind(&config.control.socket).map_err(|error| RunError::failed("control.socket", error))?;
        let metrics = runtime.block_on(TcpListener::bind(config.metrics.listen));
        (
            control,
            metrics.map_err(|error| RunError::failed(format!("metrics.listen {}", config.metrics.listen), error))?,
        )
    };
    let tap = Tap::open(tap_config(&config, &admitted)?).map_err(|error| RunError::failed("kernel", error))?;
    let agent = Arc::new(assemble(config, admitted, (watch, &reading), tap, spool, state)?);
    let started = swap::activate(&agent, candidate).and_then(|loaded| {
        tracing::info!(generation = loaded.generation, set = loaded.set_sha256, "selector set loaded");
        rings(&agent)
    });
    match started {
        Ok(rings) => Ok(Prepared { agent, rings, control, metrics }),
        Err(error) => {
            if let Err(second) = agent.detach() {
                tracing::error!(error = %second, "the program could not be detached");
            }
            Err(error)
        }
    }
}

/// The configuration's set, or the one that was loaded last at run time, whichever has the higher number.
///
/// The configuration's must be in order either way: a file that is refused is never passed over in silence.
fn choose(config: &Config, admitted: &Admitted, state: &State, reading: &Reading) -> Result<Candidate, RunError> {
    let now = jiff::Timestamp::from_nanosecond(i128::from(reading.unix_ns))
        .map_err(|error| RunError::refused("clock", error))?;
    let texts = sealed::Texts {
        set: admit::text(&config.selectors.set_file)?,
        activation: admit::text(&config.selectors.activation_file)?,
    };
    let mut chosen = admit::candidate(admitted, texts, now)?;
    if let Some(texts) = sealed::read(&config.state.directory, &admitted.sealing)? {
        match admit::candidate(admitted, texts, now) {
            Ok(kept) if kept.activation.number > chosen.activation.number => {
                tracing::info!(
                    number = kept.activation.number,
                    "continuing with the set loaded at run time; bring the configuration's files up to date"
                );
                chosen = kept;
            }
            Ok(_) => {}
            // Of another order, or expired: the configuration's own set counts, and the state below guards its number.
            Err(error) => tracing::info!(%error, "the set of the last run is not used"),
        }
    }
    state
        .admit_start(&chosen.set.measure, chosen.activation.number, &chosen.set.sha256)
        .map_err(|error| RunError::Refused(error.to_string()))?;
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

fn spool(config: &Config) -> Result<Spool, RunError> {
    let key = SpoolKey::read(&config.spool.key_file).map_err(|error| RunError::Refused(error.to_string()))?;
    let limits = SpoolLimits { bytes_max: config.spool.bytes_max, segment_bytes: SPOOL_SEGMENT_BYTES };
    Spool::open(&config.spool.directory, &key, limits).map_err(|error| RunError::failed("spool", error))
}

fn tap_config(config: &Config, admitted: &Admitted) -> Result<TapConfig, RunError> {
    let capacity = admitted.order.facility.capacity_bits_per_second;
    Ok(TapConfig {
        interface: config.mirror.interface.clone(),
        pin_directory: config.mirror.pin_directory.clone(),
        inline: config.mirror.mode == Mode::Inline,
        attach: match config.mirror.attach {
            config::Attach::Native => Attach::Native,
            config::Attach::Generic => Attach::Generic,
        },
        cap_policy: cap_policy(capacity, admitted.share_ppm).map_err(|error| RunError::refused("order", error))?,
        log_reasons: config.mirror.log_reasons,
        transport: transport(config)?,
    })
}

/// What the router puts around the frames, said aloud: frames without it are refused.
fn transport(config: &Config) -> Result<Option<MirrorTransport>, RunError> {
    let Some(transport) = &config.mirror.transport else { return Ok(None) };
    tracing::info!(%transport, "mirror transport is removed; other frames are counted as unsupported");
    let constants = transport.constants();
    constants.map(Some).map_err(|(key, reason)| RunError::Refused(format!("mirror.transport.{key}: {reason}")))
}

fn assemble(
    config: Config,
    admitted: Admitted,
    (watch, reading): (Watch, &Reading),
    tap: Tap,
    spool: Spool,
    state: State,
) -> Result<Agent, RunError> {
    let mut seed = [0_u8; 8];
    getrandom::fill(&mut seed).map_err(|error| RunError::failed("random numbers", error))?;
    let mode = if admitted.order.addresses.prefix_preserving {
        PseudonymMode::PrefixPreserving
    } else {
        PseudonymMode::Deterministic
    };
    let offset = i64::try_from(i128::from(reading.unix_ns) - i128::from(reading.boot_ns))
        .map_err(|error| RunError::failed("clock", error))?;
    let pseudonymiser = Pseudonymiser::new(std::slice::from_ref(&admitted.pseudonym_key), mode, offset);
    Ok(Agent {
        instance: tap.instance().id,
        sampling_seed: u64::from_le_bytes(seed),
        loading: Mutex::default(),
        lease: Mutex::new(LeaseView::default()),
        clock: Mutex::new(ClockView {
            watch,
            synchronised: reading.synchronised,
            set_back: false,
            steps_back_total: 0,
            steps_forward_total: 0,
            kept_unix_ns: 0,
        }),
        active: Mutex::new(Active::default()),
        tap: Mutex::new(Some(tap)),
        state: Mutex::new(state),
        share: Mutex::new(SlidingShare::default()),
        pseudonymiser: Mutex::new(pseudonymiser),
        spool,
        export: Arc::new(ExportStatus::default()),
        records: RecordCounts::default(),
        stopping: AtomicBool::new(false),
        config,
        admitted,
    })
}

fn rings(agent: &Agent) -> Result<Vec<RingConsumer>, RunError> {
    agent
        .with_tap(|tap| tap.rings())?
        .into_iter()
        .map(|ring| RingConsumer::new(ring, RING_BYTES as usize).map_err(|error| RunError::failed("rings", error)))
        .collect()
}

fn tls_files(config: &Config) -> TlsFiles {
    TlsFiles {
        ca: config.export.ca_file.clone(),
        certificate: config.export.certificate_file.clone(),
        key: config.export.key_file.clone(),
    }
}

/// The export task.
pub(super) fn export(
    runtime: &Runtime,
    agent: &Arc<Agent>,
    shutdown: watch::Receiver<bool>,
) -> JoinHandle<Result<(), ExportError>> {
    let export = &agent.config.export;
    let config = ExportConfig {
        endpoint: export.endpoint.clone(),
        server_name: export.server_name.clone(),
        tls: tls_files(&agent.config),
        acknowledgement: match export.acknowledgement {
            config::Acknowledgement::Required => export::Acknowledgement::Required,
            config::Acknowledgement::None => export::Acknowledgement::None,
        },
        anonymisation: if agent.admitted.order.addresses.prefix_preserving {
            Anonymisation::PrefixPreserving
        } else {
            Anonymisation::Deterministic
        },
    };
    let (host, spool, status) = (agent.admitted.host_key, agent.spool.clone(), Arc::clone(&agent.export));
    runtime.spawn(export::run(config, host, spool, status, shutdown))
}
