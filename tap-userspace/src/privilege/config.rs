//! `[privilege]`: what somebody answers for in writing.

use serde::Deserialize;

/// `[privilege]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Privilege {
    /// Active swap is accepted: `"allowed: REASON"`. Without it the program refuses to run beside active swap.
    #[serde(default)]
    pub swap: Option<Written>,
    /// A core pattern that pipes into a program is accepted: `"allowed: REASON"`.
    #[serde(default)]
    pub core_pattern: Option<Written>,
    /// A kernel without Landlock is accepted: `"allowed: REASON"`.
    #[serde(default)]
    pub landlock: Option<Written>,
}

/// An exception and its reason, as somebody wrote it down.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Written(String);

impl Written {
    /// The reason.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Written {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.strip_prefix("allowed:").map(str::trim) {
            Some(reason) if !reason.is_empty() => Ok(Self(reason.to_owned())),
            _ => Err("an exception is written \"allowed: REASON\", with a reason that an inspector may read".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_has_a_reason() {
        let read = |text: &str| toml::from_str::<Privilege>(text);
        assert_eq!(
            read("swap = \"allowed: swap is encrypted with a key of the boot\"").unwrap().swap.unwrap().reason(),
            "swap is encrypted with a key of the boot"
        );
        for refused in ["swap = true", "swap = \"yes\"", "swap = \"allowed:\"", "swap = \"allowed:  \"", "swop = \"\""]
        {
            read(refused).unwrap_err();
        }
    }
}
