//! PromQL as text: which series an expression names, and the same rules at another speed. In: expressions, a rules file. Out:
//! names, selectors, the changed file. Prometheus itself judges whether an expression is one.

use anyhow::{Context as _, Result, ensure};

/// Every series that `expression` names: what begins with `gwtap`, and `up`.
#[must_use]
pub fn series_names(expression: &str) -> Vec<String> {
    selectors(expression).into_iter().filter_map(|(name, _)| Some(name).filter(|name| !name.is_empty())).collect()
}

/// Every selector of `expression`: the series' name, and the whole with its matchers.
#[must_use]
pub fn selectors(expression: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '"' || c == '\'') {
        let (_, from) = rest.split_at(start);
        if let Some(quote) = from.chars().next().filter(|c| matches!(c, '"' | '\'')) {
            rest = from.get(1..).and_then(|text| text.split_once(quote)).map_or("", |(_, after)| after);
            continue;
        }
        let end = from.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':').unwrap_or(from.len());
        let (name, after) = from.split_at(end);
        rest = after;
        if !(name.starts_with("gwtap") || name == "up") {
            continue;
        }
        let matchers = after.starts_with('{').then(|| after.find('}').and_then(|end| after.get(..=end))).flatten();
        if let Some(matchers) = matchers {
            rest = after.get(matchers.len()..).unwrap_or_default();
        }
        found.push((name.to_owned(), format!("{name}{}", matchers.unwrap_or_default())));
    }
    found
}

/// The rules with every `for:`, every range in square brackets and every offset divided by `speed`.
///
/// # Errors
/// A duration that is not a number of seconds, minutes or hours.
pub fn faster(rules: &str, speed: u64) -> Result<String> {
    let mut out = String::with_capacity(rules.len());
    for line in rules.lines() {
        match line.split_once("for: ").filter(|(before, _)| before.trim().is_empty()) {
            Some((before, duration)) => out.push_str(&format!("{before}for: {}", divided(duration.trim(), speed)?)),
            None => out.push_str(&ranges_divided(line, speed)?),
        }
        out.push('\n');
    }
    Ok(out)
}

fn ranges_divided(line: &str, speed: u64) -> Result<String> {
    // In an expression alone is a bracket a range.
    if !line.trim_start().starts_with("expr:") {
        return Ok(line.to_owned());
    }
    let mut offsets = line.split(" offset ");
    let mut line = offsets.next().unwrap_or_default().to_owned();
    for after in offsets {
        let end = after.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(after.len());
        let (duration, rest) = after.split_at(end);
        line.push_str(&format!(" offset {}{rest}", divided(duration, speed)?));
    }
    let mut out = String::new();
    let mut rest = line.as_str();
    while let Some((before, after)) = rest.split_once('[') {
        let (range, behind) = after.split_once(']').with_context(|| format!("an open bracket: {line}"))?;
        let parts: Vec<String> = range.split(':').map(|part| divided(part, speed)).collect::<Result<_>>()?;
        out.push_str(&format!("{before}[{}]", parts.join(":")));
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

fn divided(duration: &str, speed: u64) -> Result<String> {
    let digits = duration.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let (number, unit) = (digits.parse::<u64>(), duration.get(digits.len()..).unwrap_or_default());
    let unit_ms = match unit {
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    let number = number.with_context(|| format!("{duration} is no duration"))?;
    ensure!(unit_ms > 0, "{duration}: seconds, minutes or hours are understood");
    Ok(format!("{}ms", (number * unit_ms / speed).max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_found_and_nothing_else_is_one() {
        let expression =
            r#"sum by (measure) (rate(gwtap_a_total{reason="gwtap_no"}[5m])) / on (job) up{job="gwtap"} > gwtap:b"#;
        let found = selectors(expression);
        let whole: Vec<&str> = found.iter().map(|(_, whole)| whole.as_str()).collect();
        assert_eq!(whole, [r#"gwtap_a_total{reason="gwtap_no"}"#, r#"up{job="gwtap"}"#, "gwtap:b"]);
        assert_eq!(series_names("label_replace(x, \"gwtap_q\", '$1', \"gwtap\", 'gwtap')"), Vec::<String>::new());
    }

    #[test]
    fn every_duration_is_divided_and_nothing_else() {
        let rules = "    expr: rate(x[5m]) > 5 * 60 and y[1h:30s] - (z offset 1m)\n    for: 15m\n    summary: \"[5m] for: 5m\"\n";
        let expected =
            "    expr: rate(x[5000ms]) > 5 * 60 and y[60000ms:500ms] - (z offset 1000ms)\n    for: 15000ms\n";
        assert_eq!(faster(rules, 60).unwrap(), format!("{expected}    summary: \"[5m] for: 5m\"\n"));
        assert!(faster("    for: 5 minutes", 60).is_err());
    }
}
