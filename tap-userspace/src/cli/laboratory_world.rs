//! The world that the laboratory verbs judge packets in, as their flags describe it.
//!
//! In: an order or a basis, a selector set, who is domestic. Out: compiled tables, and which stages are on.

use super::Refused;
use crate::config::transport::Transport;
use crate::laboratory::setup::{SAMPLING_SEED, Sample, Setup, SetupError};
use crate::load::{LaboratoryConfig, cap_policy};
use crate::order::{self, Basis, Order};
use crate::prefixes::country::CountryTable;
use crate::prefixes::special::Special;
use crate::selectors::CheckContext;
use anyhow::Context as _;
use clap::{ArgGroup, ValueEnum};
use ipnetwork::IpNetwork;
use jiff::Timestamp;
use std::path::{Path, PathBuf};
use tap_common::abi::policy::Lease;
use tap_common::limits::PPM;
use tap_common::path::direction::AddressClass;

/// Order or basis, selector set, country table, and which stages are on.
#[derive(Debug, clap::Args)]
#[command(
    group = ArgGroup::new("measure").required(true).args(["order", "basis"]),
    group = ArgGroup::new("classes").required(true).multiple(true).args(["domestic", "foreign", "rest", "country_table"]),
)]
pub(super) struct WorldArgs {
    /// Selector set; needs no activation here
    #[arg(long, value_name = "FILE")]
    selectors: PathBuf,
    /// Order, signed or not
    #[arg(long, value_name = "FILE")]
    order: Option<PathBuf>,
    /// Legal basis without an order: no approved list is asked for
    #[arg(long)]
    basis: Option<Basis>,
    /// Switch the sampling stage off
    #[arg(long)]
    no_sampling: bool,
    /// Switch the cap off
    #[arg(long)]
    no_cap: bool,
    /// Domestic prefix; repeatable. With --foreign and --rest it replaces the country table, special ranges included
    #[arg(long, value_name = "CIDR")]
    domestic: Vec<IpNetwork>,
    /// Foreign prefix; repeatable
    #[arg(long, value_name = "CIDR")]
    foreign: Vec<IpNetwork>,
    /// What an address is that no prefix holds; unlisted if not given
    #[arg(long)]
    rest: Option<Rest>,
    /// Country table, CSV or RIR delegated-extended; repeatable, files are joined in the order given
    #[arg(long, value_name = "FILE", conflicts_with_all = ["domestic", "foreign", "rest"])]
    country_table: Vec<PathBuf>,
    /// Let the country table list the documentation prefixes, as demo and tests do
    #[arg(long, requires = "country_table")]
    documentation_prefixes: bool,
    /// Mirror transport to remove: erspan, gre-teb or vxlan, then the keys of [mirror.transport] in gwtap.toml
    #[arg(long, value_name = "KIND,local=ADDRESS[,port=N][,key=N]")]
    transport: Option<Transport>,
    /// Hold the clock at this time (RFC 3339, or seconds since 1970)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    now: Option<Timestamp>,
}

impl WorldArgs {
    /// The compiled world and its stages.
    ///
    /// # Errors
    /// An input that cannot be read or is refused.
    pub(super) fn load(&self) -> anyhow::Result<(Setup, LaboratoryConfig)> {
        let order = self.order.as_deref().map(read_order).transpose()?;
        let country = country_table(self, order.as_ref())?;
        let setup = setup(self, order.as_ref(), country)?;
        Ok((setup, laboratory_config(self, order.as_ref())?))
    }

    /// The time at which the clock stands, if it does; nanoseconds since 1970.
    #[must_use]
    pub(super) fn now_ns(&self) -> Option<u64> {
        self.now.map(unix_ns)
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Rest {
    Foreign,
    Domestic,
    Unlisted,
}

fn read_order(path: &Path) -> anyhow::Result<Order> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    order::parse_unsigned(&text).map_err(|error| Refused::because(format!("{}: {error}", path.display())))
}

/// The table of the flags, or of the files; the order's excluded prefixes are taken out of either.
fn country_table(args: &WorldArgs, order: Option<&Order>) -> anyhow::Result<CountryTable> {
    let table = if args.country_table.is_empty() {
        let rest = args.rest.map_or(AddressClass::Unlisted, Rest::class);
        CountryTable::from_flags(&args.domestic, &args.foreign, rest)?
    } else {
        let mut bytes = Vec::new();
        for path in &args.country_table {
            bytes.extend(std::fs::read(path).with_context(|| path.display().to_string())?);
        }
        let special = if args.documentation_prefixes { Special::DocumentationAllowed } else { Special::TakenOut };
        let table = if is_delegated(&bytes) {
            CountryTable::from_delegated(&bytes)?
        } else {
            CountryTable::from_csv(&bytes, None, special)?
        };
        let named = order.map(|order| order.addresses.country_table_sha256);
        if named.is_some_and(|named| named != table.sha256) {
            let given = hex::encode(table.sha256);
            return Err(Refused::because(format!(
                "addresses.country_table_sha256: the order names another country table than this one ({given}); \
                 --domestic, --foreign and --rest replace it"
            )));
        }
        table
    };
    Ok(order.map_or_else(|| table.clone(), |order| table.without(order.prefixes_excluded())))
}

/// Delegated-extended files separate their columns by bars, the other format by commas.
fn is_delegated(bytes: &[u8]) -> bool {
    let lines = bytes.split(|byte| *byte == b'\n');
    lines
        .map(<[u8]>::trim_ascii)
        .find(|line| !line.is_empty() && !line.starts_with(b"#"))
        .is_some_and(|line| line.contains(&b'|'))
}

fn setup(args: &WorldArgs, order: Option<&Order>, country: CountryTable) -> anyhow::Result<Setup> {
    let path = args.selectors.display();
    let bytes = std::fs::read(&args.selectors).with_context(|| path.to_string())?;
    let context = match (order, args.basis) {
        (Some(order), _) => CheckContext::from_order(order).with_country_table(country.clone()),
        (None, Some(basis)) => CheckContext::laboratory(basis),
        (None, None) => anyhow::bail!("an order or a basis is needed"),
    };
    let ppm = order.map_or(PPM, |order| u64::from(order.facility.sampling_ppm));
    let sample = Sample { ppm: u32::try_from(ppm)?, seed: SAMPLING_SEED };
    Setup::new(&bytes, &context, sample, country).map_err(|error| match error {
        SetupError::Refused(_) | SetupError::Form(_) => Refused::because(format!("{path}: {error}")),
        SetupError::Load(error) => anyhow::Error::from(error).context(path.to_string()),
    })
}

/// The order's time, sampling and capacity; with a basis alone, always live and neither sampled nor capped.
fn laboratory_config(args: &WorldArgs, order: Option<&Order>) -> anyhow::Result<LaboratoryConfig> {
    let transport = args.transport.as_ref().map(Transport::constants).transpose();
    let transport = transport.map_err(|(key, reason)| anyhow::anyhow!("--transport: {key}: {reason}"))?;
    let base = LaboratoryConfig { transport, ..LaboratoryConfig::default() };
    let Some(order) = order else { return Ok(base) };
    let (facility, measure) = (&order.facility, &order.measure);
    let lease = Lease { not_before_ns: unix_ns(measure.not_before), deadline_ns: unix_ns(measure.not_after) };
    let cap_policy = cap_policy(facility.capacity_bits_per_second, facility.share_ppm)?;
    let (sampling, cap) = (!args.no_sampling, !args.no_cap);
    Ok(LaboratoryConfig { sampling, cap, cap_policy, measure_cap_policy: cap_policy, lease, ..base })
}

/// Nanoseconds since 1970; a time before is 1970, one after 2554 is the last that there is.
fn unix_ns(moment: Timestamp) -> u64 {
    let ns = moment.as_nanosecond();
    u64::try_from(ns).unwrap_or(if ns < 0 { 0 } else { u64::MAX })
}

fn moment(text: &str) -> Result<Timestamp, String> {
    let seconds = text.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    seconds.map_or_else(|| text.parse().map_err(|error: jiff::Error| error.to_string()), Ok)
}

impl Rest {
    fn class(self) -> AddressClass {
        match self {
            Self::Foreign => AddressClass::Foreign,
            Self::Domestic => AddressClass::Domestic,
            Self::Unlisted => AddressClass::Unlisted,
        }
    }
}
