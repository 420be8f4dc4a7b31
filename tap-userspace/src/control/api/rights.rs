//! Rights: who may do what by the control API. One table, from which the server routes, and against which the OpenAPI document and
//! docs/control-api.md are tested.

use crate::limits::{API_BODY_BYTES_MAX, CONTROL_REQUEST_BYTES_MAX};
use serde::{Deserialize, Serialize};

/// What a client's certificate makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The carrier's: keeps the tap running, and may stop it.
    Operator,
    /// The government team's: writes selector sets.
    SelectorAuthor,
    /// The government team's second person.
    Approver,
    /// The Commission's: sees numbers and digests, and hands over directives.
    Auditor,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Operator, Self::SelectorAuthor, Self::Approver, Self::Auditor];

    /// As the configuration and the log write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::SelectorAuthor => "selector-author",
            Self::Approver => "approver",
            Self::Auditor => "auditor",
        }
    }
}

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// The OpenAPI document.
    Document,
    /// How the agent is.
    Status,
    /// Which sets a measure has: digests and counts.
    List,
    /// How many indicators two of them do not share.
    Diff,
    /// A set's text.
    Contents,
    /// Offers a set and the author's signature.
    Propose,
    /// Takes the proposal away.
    Discard,
    /// Adds the second person's signature.
    Approve,
    /// Makes the approved proposal decide.
    Activate,
    /// Proposes a set that the tap has kept.
    RollBack,
    /// Ends what a measure looks for.
    Withdraw,
    /// Hands over a directive of the Commission.
    Directive,
    /// The carrier's kill switch.
    Stop,
    /// Takes it back.
    Resume,
}

/// A verb's way in, and whose it is.
#[derive(Debug)]
pub struct Right {
    /// What.
    pub verb: Verb,
    /// As the log and the OpenAPI document's `operationId` write it.
    pub name: &'static str,
    /// HTTP method.
    pub method: &'static str,
    /// Path, with its parameters in braces.
    pub path: &'static str,
    /// Who may.
    pub roles: &'static [Role],
    /// The caller says by `If-Match` which state it has seen.
    pub conditional: bool,
    /// It only ever makes the tap select less: no rate keeps it waiting.
    pub narrows: bool,
    /// Bytes of the body; 0 for none.
    pub body_bytes_max: u64,
}

use Role::{Approver, Auditor, Operator, SelectorAuthor};
const EVERYBODY: &[Role] = &Role::ALL;
const AUTHOR: &[Role] = &[SelectorAuthor];
const APPROVER: &[Role] = &[Approver];
const TEAM: &[Role] = &[SelectorAuthor, Approver];
const CARRIER: &[Role] = &[Operator];
const OVERSIGHT: &[Role] = &[Operator, Auditor];

const READ: Right = Right {
    verb: Verb::Status,
    name: "",
    method: "GET",
    path: "",
    roles: EVERYBODY,
    conditional: false,
    narrows: false,
    body_bytes_max: 0,
};
const WRITE: Right = Right { method: "POST", conditional: true, body_bytes_max: API_BODY_BYTES_MAX, ..READ };
const NARROW: Right = Right { conditional: false, narrows: true, ..WRITE };

/// All rights.
pub const RIGHTS: &[Right] = &[
    Right { verb: Verb::Document, name: "document", path: "/v1/openapi.json", ..READ },
    Right { verb: Verb::Status, name: "status", path: "/v1/status", ..READ },
    Right { verb: Verb::List, name: "list", path: "/v1/measures/{measure}/selectors", ..READ },
    Right {
        verb: Verb::Contents,
        name: "contents",
        path: "/v1/measures/{measure}/selectors/{set_sha256}",
        roles: TEAM,
        ..READ
    },
    Right {
        verb: Verb::Diff,
        name: "diff",
        path: "/v1/measures/{measure}/selectors/{set_sha256}/difference/{other_sha256}",
        ..READ
    },
    Right {
        verb: Verb::Propose,
        name: "propose",
        method: "PUT",
        path: "/v1/measures/{measure}/proposal",
        roles: AUTHOR,
        body_bytes_max: CONTROL_REQUEST_BYTES_MAX,
        ..WRITE
    },
    Right {
        verb: Verb::Discard,
        name: "discard",
        method: "DELETE",
        path: "/v1/measures/{measure}/proposal",
        roles: TEAM,
        body_bytes_max: 0,
        ..WRITE
    },
    Right {
        verb: Verb::Approve,
        name: "approve",
        path: "/v1/measures/{measure}/proposal/approval",
        roles: APPROVER,
        ..WRITE
    },
    Right {
        verb: Verb::Activate,
        name: "activate",
        path: "/v1/measures/{measure}/proposal/activation",
        roles: TEAM,
        body_bytes_max: 0,
        ..WRITE
    },
    Right { verb: Verb::RollBack, name: "roll-back", path: "/v1/measures/{measure}/rollback", roles: AUTHOR, ..WRITE },
    Right { verb: Verb::Withdraw, name: "withdraw", path: "/v1/measures/{measure}/withdrawal", roles: TEAM, ..NARROW },
    Right { verb: Verb::Directive, name: "directive", path: "/v1/directives", roles: OVERSIGHT, ..NARROW },
    Right { verb: Verb::Stop, name: "stop", path: "/v1/stop", roles: CARRIER, ..NARROW },
    Right { verb: Verb::Resume, name: "resume", path: "/v1/resume", roles: CARRIER, narrows: false, ..NARROW },
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The table as the documentation shows it.
    fn table() -> String {
        let mark = |right: &Right, role| if right.roles.contains(&role) { "yes" } else { "" };
        let rows = RIGHTS.iter().map(|right| {
            let roles = Role::ALL.map(|role| mark(right, role)).join(" | ");
            format!("| `{}` | `{} {}` | {roles} |\n", right.name, right.method, right.path)
        });
        rows.collect()
    }

    #[test]
    fn the_documentation_has_the_table() {
        let document = include_str!("../../../../docs/control-api.md");
        assert!(document.contains(&table()), "docs/control-api.md must have these rows:\n{}", table());
    }

    #[test]
    fn contents_and_consent_are_the_teams_alone() {
        for right in RIGHTS {
            let of_set = matches!(
                right.verb,
                Verb::Contents
                    | Verb::Propose
                    | Verb::Discard
                    | Verb::Approve
                    | Verb::Activate
                    | Verb::RollBack
                    | Verb::Withdraw
            );
            if of_set {
                assert!(!right.roles.contains(&Operator) && !right.roles.contains(&Auditor), "{right:?}");
            }
            // Nobody proposes and approves.
            let both = |role| {
                let may = |verb| RIGHTS.iter().any(|right| right.verb == verb && right.roles.contains(&role));
                may(Verb::Propose) && may(Verb::Approve)
            };
            assert!(!Role::ALL.into_iter().any(both));
        }
    }
}
