//! A draft of an order with a comment at every key: what is known stands in it, the rest is left for people to fill in.

use std::fmt::Write;

/// What is known of an order. Whatever is missing is left empty in the text, and [`super::parse_unsigned`] then says so.
/// Texts hold values as TOML holds them between quotes.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// `measure.id`
    pub measure: String,
    /// `measure.basis`
    pub basis: Option<super::Basis>,
    /// `measure.acts`
    pub acts: Vec<String>,
    /// `measure.not_before`
    pub not_before: String,
    /// `measure.not_after`
    pub not_after: String,
    /// `measure.previous`
    pub previous: Option<String>,
    /// `approval.id` or `notification.id`
    pub authority: String,
    /// Lines of `[approval.conditions]`
    pub conditions: Vec<String>,
    /// `facility.id`
    pub facility: String,
    /// `facility.capacity_bits_per_second`
    pub capacity_bits_per_second: u64,
    /// `facility.share_ppm`
    pub share_ppm: u32,
    /// `facility.sampling_ppm`
    pub sampling_ppm: u32,
    /// `[[facility.tap]]`: host key id, interface, share
    pub taps: Vec<(String, String, u32)>,
    /// `selection.standard`
    pub standard: String,
    /// `selection.approved_facilities`
    pub approved_facilities: Vec<String>,
    /// `selection.party_prefixes`
    pub party_prefixes: Vec<String>,
    /// `addresses.country_table_sha256`
    pub country_table_sha256: String,
    /// `addresses.country_table_oldest_date`
    pub country_table_oldest_date: String,
    /// `addresses.clear_addresses`
    pub clear_addresses: bool,
    /// `addresses.prefix_preserving`
    pub prefix_preserving: bool,
    /// `addresses.domestic_conditions`
    pub domestic_conditions: bool,
    /// `addresses.key_epoch_days`
    pub key_epoch_days: u32,
    /// `receiving_facility.endpoint`
    pub endpoint: String,
    /// `receiving_facility.further_endpoints`
    pub further_endpoints: Vec<String>,
    /// `receiving_facility.names`
    pub names: Vec<String>,
    /// `receiving_facility.sealing_key`
    pub sealing_key: String,
}

impl Draft {
    /// The draft as TOML with comments.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        if self.write(&mut text).is_err() {
            // Writing into a String cannot fail; half a draft would be worse than none.
            text.clear();
        }
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let basis = self.basis.unwrap_or(super::Basis::ForeignToForeign);
        writeln!(out, "[measure]")?;
        writeln!(out, "id = {:?}  # letters, digits, '.', '_', '-'", self.measure)?;
        writeln!(out, "# agreement, foreign-to-foreign (Art. 17), foreign-to-domestic (32), domestic-to-foreign (33)")?;
        writeln!(out, "basis = \"{basis}\"")?;
        writeln!(out, "acts = {:?}  # target acts; every rule names one", self.acts)?;
        writeln!(out, "# In force from not_before until just before not_after. Art. 17: at most 6 calendar months,")?;
        writeln!(out, "# Arts 32 and 33: 3, to the same clock time in Japan.")?;
        writeln!(out, "not_before = {:?}\nnot_after = {:?}", self.not_before, self.not_after)?;
        match &self.previous {
            Some(previous) => writeln!(out, "previous = {previous:?}  # the order that this one extends")?,
            None => writeln!(out, "# previous = \"…\"  # SHA-256 of the order that this one extends")?,
        }
        if basis == super::Basis::Agreement {
            writeln!(out, "\n[notification]\nid = {:?}  # of the Commission", self.authority)?;
        } else {
            writeln!(out, "\n[approval]\nid = {:?}  # by the Commission", self.authority)?;
            writeln!(
                out,
                "\n# Known conditions; any other refuses the order: share_at_most, sampling_at_most (parts per"
            )?;
            writeln!(out, "# million), ends_by, conditions_at_least, prefixes_excluded, fields_excluded,")?;
            writeln!(out, "# no_clear_address, retention_at_most (days), rules_at_most")?;
            writeln!(out, "[approval.conditions]")?;
            for condition in &self.conditions {
                writeln!(out, "{condition}")?;
            }
        }
        writeln!(out, "\n[facility]\nid = {:?}", self.facility)?;
        writeln!(out, "capacity_bits_per_second = {}", self.capacity_bits_per_second)?;
        writeln!(out, "share_ppm = {}  # of the capacity, parts per million; Art. 17: at most 300000", self.share_ppm)?;
        writeln!(out, "sampling_ppm = {}  # of the flows; 1000000 looks at all", self.sampling_ppm)?;
        writeln!(out, "\n# One for each mirror host; their shares add up to the facility's at most.")?;
        let empty = [(String::new(), String::new(), 0)];
        for (host_key, interface, share) in if self.taps.is_empty() { &empty[..] } else { &self.taps } {
            writeln!(out, "[[facility.tap]]")?;
            writeln!(out, "host_key = {host_key:?}\ninterface = {interface:?}\nshare_ppm = {share}")?;
        }
        self.write_policies(out, basis)
    }

    fn write_policies(&self, out: &mut String, basis: super::Basis) -> std::fmt::Result {
        writeln!(out, "\n[selection]\nstandard = {:?}  # the selection standard that sets name", self.standard)?;
        if basis.has_approved_list() {
            writeln!(out, "approved_facilities = {:?}  # only these count (Art. 35(2))", self.approved_facilities)?;
            writeln!(
                out,
                "# [[selection.approved_machine_information]]\n# field = \"destination-port\"\n# any = [\"443\"]"
            )?;
        }
        if basis == super::Basis::Agreement {
            writeln!(out, "party_prefixes = {:?}  # the party's own addresses", self.party_prefixes)?;
        }
        writeln!(out, "\n[addresses]")?;
        writeln!(out, "country_table_sha256 = {:?}", self.country_table_sha256)?;
        writeln!(out, "country_table_oldest_date = {:?}", self.country_table_oldest_date)?;
        writeln!(
            out,
            "# Foreign addresses that an entry of at least /24 or /48 matched, in clear; all others are pseudonyms."
        )?;
        writeln!(out, "clear_addresses = {}", self.clear_addresses)?;
        writeln!(out, "prefix_preserving = {}  # pseudonyms keep common prefixes", self.prefix_preserving)?;
        writeln!(
            out,
            "domestic_conditions = {}  # whether conditions may name domestic addresses",
            self.domestic_conditions
        )?;
        writeln!(out, "key_epoch_days = {}  # how long one pseudonym key is used", self.key_epoch_days)?;
        writeln!(out, "\n[receiving_facility]\nendpoint = {:?}  # host:port", self.endpoint)?;
        writeln!(out, "further_endpoints = {:?}  # that take over while it cannot be reached", self.further_endpoints)?;
        writeln!(out, "names = {:?}  # in its certificate", self.names)?;
        writeln!(out, "sealing_key = {:?}  # its X25519 public key, 64 hex digits", self.sealing_key)
    }
}
