//! The plan: what the machine loads and runs. In: lines of a text, `KIND VALUE…`. Out: a [`Plan`]. What bounds it: words
//! hold no white space; whoever writes a plan is told when they do.

use anyhow::{Context as _, Result, bail};

/// Where the plan lies in the machine.
pub const FILE: &str = "/vm/plan";
/// Where a test program notes what could not run.
pub const NOT_RUN: &str = "/tmp/not-run";
/// Set to `1` for every test program: it runs inside such a machine.
pub const INSIDE: &str = "GWTAP_VM";

/// A test program of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its name in the report.
    pub name: String,
    /// Where it lies in the machine.
    pub file: String,
    /// Its arguments.
    pub words: Vec<String>,
}

/// What the machine does, in this order: modules, then programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Kernel modules, each after those that it needs.
    pub modules: Vec<String>,
    /// Environment of the programs.
    pub environment: Vec<(String, String)>,
    /// Test programs, one after another.
    pub programs: Vec<Program>,
}

impl Plan {
    /// The text that [`Plan::parse`] reads.
    ///
    /// # Errors
    /// A word is empty or has white space in it.
    pub fn text(&self) -> Result<String> {
        let mut text = String::new();
        for module in &self.modules {
            line(&mut text, "module", &[module])?;
        }
        for (name, value) in &self.environment {
            line(&mut text, "environment", &[name, value])?;
        }
        for program in &self.programs {
            let mut words = vec![program.name.as_str(), program.file.as_str()];
            words.extend(program.words.iter().map(String::as_str));
            line(&mut text, "program", &words)?;
        }
        Ok(text)
    }

    /// Reads a plan.
    ///
    /// # Errors
    /// A line of no known kind; it is named by its number.
    pub fn parse(text: &str) -> Result<Self> {
        let mut plan = Self::default();
        for (number, line) in text.lines().enumerate() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["module", file] => plan.modules.push((*file).to_owned()),
                ["environment", name, value] => plan.environment.push(((*name).to_owned(), (*value).to_owned())),
                ["program", name, file, words @ ..] => plan.programs.push(Program {
                    name: (*name).to_owned(),
                    file: (*file).to_owned(),
                    words: words.iter().map(|word| (*word).to_owned()).collect(),
                }),
                _ => bail!("plan, line {}: `{line}` is neither module, environment nor program", number + 1),
            }
        }
        Ok(plan)
    }
}

fn line(text: &mut String, kind: &str, words: &[&str]) -> Result<()> {
    text.push_str(kind);
    for word in words {
        let plain = !word.is_empty() && !word.contains(char::is_whitespace);
        plain.then_some(()).with_context(|| format!("`{word}` cannot be a word of a plan"))?;
        text.push(' ');
        text.push_str(word);
    }
    text.push('\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_as_it_was_written() {
        let plan = Plan {
            modules: vec!["/vm/a.ko".into(), "/vm/b.ko".into()],
            environment: vec![("A".into(), "1".into())],
            programs: vec![Program {
                name: "p".into(),
                file: "/vm/p".into(),
                words: vec!["--exact".into(), "t".into()],
            }],
        };
        assert_eq!(Plan::parse(&plan.text().unwrap()).unwrap(), plan);
    }

    #[test]
    fn what_is_no_plan_is_refused() {
        assert!(Plan::parse("module\n").unwrap_err().to_string().contains("line 1"));
        let spaced = Plan { modules: vec!["a b".into()], ..Plan::default() };
        assert!(spaced.text().unwrap_err().to_string().contains("a b"));
    }
}
