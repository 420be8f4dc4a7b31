//! Names of what a condition may be about, and of the Act's items.

use serde::{Deserialize, Serialize};
use std::fmt;
use tap_common::abi::rule::ConditionKind;

/// What a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Field {
    /// Source address.
    SourceAddress,
    /// Destination address.
    DestinationAddress,
    /// Source or destination address.
    Address,
    /// Source port.
    SourcePort,
    /// Destination port.
    DestinationPort,
    /// Source or destination port.
    Port,
    /// Protocol number.
    Protocol,
    /// TCP flags.
    TcpFlags,
    /// IP length.
    IpLength,
    /// Fragment state.
    Fragment,
    /// Payload bytes.
    Payload,
}

impl Field {
    /// The field's name in selector sets and orders.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SourceAddress => "source-address",
            Self::DestinationAddress => "destination-address",
            Self::Address => "address",
            Self::SourcePort => "source-port",
            Self::DestinationPort => "destination-port",
            Self::Port => "port",
            Self::Protocol => "protocol",
            Self::TcpFlags => "tcp-flags",
            Self::IpLength => "ip-length",
            Self::Fragment => "fragment",
            Self::Payload => "payload",
        }
    }

    /// The kind that Art. 22(2) counts it as: either side of addresses and of ports is one kind.
    #[must_use]
    pub fn kind(self) -> ConditionKind {
        match self {
            Self::SourceAddress | Self::DestinationAddress | Self::Address => ConditionKind::Address,
            Self::SourcePort | Self::DestinationPort | Self::Port => ConditionKind::Port,
            Self::Protocol => ConditionKind::Protocol,
            Self::TcpFlags => ConditionKind::TcpFlags,
            Self::IpLength => ConditionKind::IpLength,
            Self::Fragment => ConditionKind::Fragment,
            Self::Payload => ConditionKind::Payload,
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name of a kind of condition.
#[must_use]
pub fn kind_name(kind: ConditionKind) -> &'static str {
    match kind {
        ConditionKind::Address => "address",
        ConditionKind::Port => "port",
        ConditionKind::Protocol => "protocol",
        ConditionKind::TcpFlags => "tcp-flags",
        ConditionKind::IpLength => "ip-length",
        ConditionKind::Fragment => "fragment",
        ConditionKind::Payload => "payload",
    }
}

/// What a condition is under Art. 22(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Item {
    /// (i) Address of a facility.
    FacilityAddress,
    /// (ii) Command information.
    Command,
    /// (iii) Other aid.
    Aid,
}

impl Item {
    /// The item's name in selector sets.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::FacilityAddress => "facility-address",
            Self::Command => "command",
            Self::Aid => "aid",
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
