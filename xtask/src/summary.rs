//! What ran, what passed, and the one line that says so at the end.
use anyhow::Result;
use std::time::Instant;

/// Stages of a run.
#[derive(Default)]
pub struct Summary {
    stages: Vec<Stage>,
}

struct Stage {
    name: String,
    passed: u64,
    failed: u64,
    seconds: f64,
}

/// Tests counted from the output of their runner.
#[derive(Default, Debug, PartialEq, Clone, Copy)]
pub struct Count {
    pub passed: u64,
    pub failed: u64,
}

impl Count {
    /// Takes in a line of cargo's, vitest's or Playwright's output.
    pub fn line(&mut self, line: &str) {
        let line = line.trim();
        // cargo: `test result: ok. 3 passed; 0 failed; …`; vitest: `Tests  1 failed | 11 passed (12)`;
        // Playwright, alone on a line: `5 passed (3.2s)`, `1 failed`.
        let counts = line.strip_prefix("test result:").or_else(|| line.strip_prefix("Tests "));
        let alone = || line.split(' ').nth(1).is_some_and(|word| word == "passed" || word == "failed");
        let Some(text) = counts.or_else(|| (alone() && !line.contains(';')).then_some(line)) else { return };
        let words: Vec<&str> = text.split_whitespace().collect();
        for pair in words.windows(2) {
            let Ok(number) = pair[0].parse::<u64>() else { continue };
            match pair[1].trim_end_matches(';') {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                _ => {}
            }
        }
    }
}

impl Summary {
    /// Runs a stage; the next ones run even if it fails. Without tests of its own a stage counts as one.
    pub fn stage(&mut self, name: &str, work: impl FnOnce(&mut Count) -> Result<bool>) -> bool {
        println!("\n==> {name}");
        let (begun, mut count) = (Instant::now(), Count::default());
        let good = work(&mut count).unwrap_or_else(|error| {
            println!("{error:#}");
            false
        });
        if good && count.passed == 0 {
            count.passed = 1;
        }
        if !good && count.failed == 0 {
            count.failed = 1;
        }
        let Count { passed, failed } = count;
        self.stages.push(Stage { name: name.to_owned(), passed, failed, seconds: begun.elapsed().as_secs_f64() });
        failed == 0
    }

    /// Prints all stages and, last, the sum. An error if anything failed.
    pub fn close(self) -> Result<()> {
        println!("\n{:<44} {:>7} {:>7} {:>9}", "stage", "passed", "failed", "seconds");
        for Stage { name, passed, failed, seconds } in &self.stages {
            println!("{name:<44} {passed:>7} {failed:>7} {seconds:>9.1}");
        }
        let sum = |part: fn(&Stage) -> u64| self.stages.iter().map(part).sum::<u64>();
        let (passed, failed) = (sum(|stage| stage.passed), sum(|stage| stage.failed));
        println!("{passed} passed, {failed} failed");
        if failed > 0 {
            // The line above is the last word.
            std::process::exit(1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> Count {
        let mut count = Count::default();
        text.lines().for_each(|line| count.line(line));
        count
    }

    #[test]
    fn cargo_vitest_and_playwright_are_counted() {
        let cargo = "running 4 tests\ntest result: ok. 3 passed; 1 failed; 0 ignored; finished in 0.1s";
        assert_eq!(count(cargo), Count { passed: 3, failed: 1 });
        assert_eq!(
            count(" Test Files  2 passed (2)\n      Tests  1 failed | 11 passed (12)"),
            Count { passed: 11, failed: 1 }
        );
        assert_eq!(count("  1 failed\n    [chromium] x.spec.ts\n  5 passed (3.2s)"), Count { passed: 5, failed: 1 });
        assert_eq!(count("load: 7 failed tries"), Count::default());
    }

    #[test]
    fn a_stage_that_fails_without_tests_counts_as_failed() {
        let mut summary = Summary::default();
        assert!(summary.stage("good", |_| Ok(true)));
        assert!(!summary.stage("bad", |_| anyhow::bail!("no")));
        assert_eq!((summary.stages[0].passed, summary.stages[1].failed), (1, 1));
    }
}
