//! A pattern's tree as rules: OR is multiplied out, comparisons become conditions.

use super::parse::{Comparison, Node, Operator, Value, pattern};
use crate::limits::PATTERN_RULES_MAX;
use crate::selectors::field::{Field, Item};
use crate::selectors::set::Condition;
use ipnetwork::IpNetwork;

/// What a pattern asks for.
#[derive(Clone)]
pub struct Rules {
    /// Alternatives; each is a conjunction.
    pub rules: Vec<Vec<Condition>>,
    /// Comparisons of a payload in it, which are looked at from the payload's beginning.
    pub payload_beginnings: usize,
}

/// Reads a pattern. `field` is what an address is about that the pattern does not call source or destination.
///
/// # Errors
/// What in it is not of the subset, by name or by its byte; never a value.
pub fn read(text: &str, field: Field) -> Result<Rules, String> {
    let tree = pattern(text)?;
    let alternatives = alternatives(&tree)?;
    let mut rules = Vec::with_capacity(alternatives.len());
    for comparisons in alternatives {
        rules.push(conjunction(&comparisons, field)?);
    }
    let payload_beginnings = rules.iter().flatten().filter(|condition| condition.field == Field::Payload).count();
    Ok(Rules { rules, payload_beginnings })
}

/// OR before AND: every choice of one comparison from each alternative.
fn alternatives(node: &Node) -> Result<Vec<Vec<&Comparison>>, String> {
    match node {
        Node::Comparison(comparison) => Ok(vec![vec![comparison]]),
        Node::Or(nodes) => {
            let mut all = Vec::new();
            for node in nodes {
                all.extend(alternatives(node)?);
                bounded(all.len())?;
            }
            Ok(all)
        }
        Node::And(nodes) => {
            let mut all = vec![Vec::new()];
            for node in nodes {
                let next = alternatives(node)?;
                bounded(all.len() * next.len())?;
                all = all
                    .iter()
                    .flat_map(|before| next.iter().map(move |more| [before.as_slice(), more.as_slice()].concat()))
                    .collect();
            }
            Ok(all)
        }
    }
}

fn bounded(rules: usize) -> Result<(), String> {
    if rules > PATTERN_RULES_MAX {
        return Err(format!("becomes more than {PATTERN_RULES_MAX} rules"));
    }
    Ok(())
}

/// What a comparison says.
enum Meaning {
    Condition(Condition),
    /// The other side's address is of this family.
    Family {
        of: Field,
        is_ipv4: bool,
    },
}

fn conjunction(comparisons: &[&Comparison], either: Field) -> Result<Vec<Condition>, String> {
    let mut rule: Vec<Condition> = Vec::new();
    let mut families = Vec::new();
    for comparison in comparisons {
        match meaning(comparison, either)? {
            Meaning::Family { of, is_ipv4 } => families.push((of, is_ipv4)),
            Meaning::Condition(condition) => {
                if rule.iter().any(|other| other.field == condition.field) {
                    return Err(format!("{} is compared twice in one conjunction", condition.field));
                }
                rule.push(condition);
            }
        }
    }
    for (of, is_ipv4) in families {
        let addresses =
            rule.iter().find(|condition| condition.field == of).and_then(|condition| condition.any.as_ref());
        let fits = |addresses: &Vec<String>| {
            addresses.iter().all(|text| text.parse().is_ok_and(|prefix: IpNetwork| prefix.is_ipv4() == is_ipv4))
        };
        if !addresses.is_some_and(fits) {
            return Err("a type of address without an address of that type beside it".to_owned());
        }
    }
    Ok(rule)
}

fn meaning(comparison: &Comparison, either: Field) -> Result<Meaning, String> {
    let path = comparison.path.as_str();
    let condition = match path {
        "ipv4-addr:value" => addresses(comparison, either, Some(true))?,
        "ipv6-addr:value" => addresses(comparison, either, Some(false))?,
        "network-traffic:src_ref.value" => addresses(comparison, Field::SourceAddress, None)?,
        "network-traffic:dst_ref.value" => addresses(comparison, Field::DestinationAddress, None)?,
        "network-traffic:src_ref.type" => return family(comparison, Field::SourceAddress),
        "network-traffic:dst_ref.type" => return family(comparison, Field::DestinationAddress),
        "network-traffic:src_port" => ports(comparison, Field::SourcePort)?,
        "network-traffic:dst_port" => ports(comparison, Field::DestinationPort)?,
        "network-traffic:protocols[*]" => protocols(comparison)?,
        "network-traffic:src_payload_ref.payload_bin" | "network-traffic:dst_payload_ref.payload_bin" => {
            payload(comparison)?
        }
        _ => {
            let shown = path.len() <= 80 && path.bytes().all(|byte| byte.is_ascii_graphic());
            let name = if shown { path } else { "a property" };
            return Err(format!("{name} is nothing that a packet's header shows"));
        }
    };
    Ok(Meaning::Condition(condition))
}

fn addresses(comparison: &Comparison, field: Field, is_ipv4: Option<bool>) -> Result<Condition, String> {
    let mut any = Vec::with_capacity(comparison.values.len());
    for value in &comparison.values {
        let Value::Text(text) = value else { return Err(format!("{field} is compared with something else")) };
        let prefix: IpNetwork = text.parse().map_err(|_prefix| format!("{field}: is not an address or prefix"))?;
        if is_ipv4.is_some_and(|is_ipv4| prefix.is_ipv4() != is_ipv4) {
            return Err(format!("{field}: an address of the other family"));
        }
        any.push(text.clone());
    }
    Ok(Condition::any(Item::FacilityAddress, field, any))
}

fn equal(comparison: &Comparison) -> Result<&[Value], String> {
    match comparison.operator {
        Operator::Equal => Ok(&comparison.values),
        Operator::IsSubset => Err("ISSUBSET is for addresses".to_owned()),
    }
}

fn family(comparison: &Comparison, of: Field) -> Result<Meaning, String> {
    match equal(comparison)? {
        [Value::Text(text)] if text == "ipv4-addr" => Ok(Meaning::Family { of, is_ipv4: true }),
        [Value::Text(text)] if text == "ipv6-addr" => Ok(Meaning::Family { of, is_ipv4: false }),
        _ => Err("a type that is none of ipv4-addr and ipv6-addr".to_owned()),
    }
}

fn ports(comparison: &Comparison, field: Field) -> Result<Condition, String> {
    let mut any = Vec::with_capacity(comparison.values.len());
    for value in equal(comparison)? {
        match value {
            Value::Number(number) => any.push(number.to_string()),
            Value::Text(_) | Value::Bytes(_) => return Err(format!("{field} is compared with something else")),
        }
    }
    Ok(Condition::any(Item::Aid, field, any))
}

fn protocols(comparison: &Comparison) -> Result<Condition, String> {
    let mut any = Vec::with_capacity(comparison.values.len());
    for value in equal(comparison)? {
        match value {
            Value::Text(text) => any.push(text.to_ascii_lowercase()),
            Value::Number(_) | Value::Bytes(_) => return Err("protocol is compared with something else".to_owned()),
        }
    }
    Ok(Condition::any(Item::Aid, Field::Protocol, any))
}

fn payload(comparison: &Comparison) -> Result<Condition, String> {
    let bytes = match equal(comparison)? {
        [Value::Bytes(bytes)] => bytes.as_slice(),
        [Value::Text(text)] => text.as_bytes(),
        [_] => return Err("payload is compared with something else".to_owned()),
        _ => return Err("payload is compared with a list; write OR".to_owned()),
    };
    let mut condition = Condition::empty(Item::Command, Field::Payload);
    condition.offset = Some(0);
    condition.bytes = Some(hex::encode(bytes));
    Ok(condition)
}
