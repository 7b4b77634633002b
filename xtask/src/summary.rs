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
    reasons: Vec<String>,
}

/// Lines that are kept of what a runner says of one failure, and of all failures of a stage.
const LINES: (usize, usize) = (8, 40);

/// Tests counted from the output of their runner.
#[derive(Default, Debug)]
pub struct Count {
    passed: u64,
    failed: u64,
    /// Which tests failed and how, in the runner's words.
    reasons: Vec<String>,
    /// Lines that still belong to the last failure.
    more: usize,
}

impl Count {
    /// Takes in a line of cargo's, vitest's or Playwright's output.
    pub fn line(&mut self, line: &str) {
        self.reason(line);
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

    fn reason(&mut self, line: &str) {
        // cargo: `---- name stdout ----`, and the names after `failures:`; vitest: ` FAIL  file > name`;
        // Playwright: `  1) [page] › file › name`.
        let begins = line.starts_with("---- ")
            || line == "failures:"
            || line.starts_with(" FAIL ")
            || line.trim_start().split_once(") [").is_some_and(|(number, _)| number.parse::<u32>().is_ok());
        if begins {
            self.more = LINES.0;
        }
        if line.starts_with("test result:") {
            self.more = 0;
        }
        if self.more > 0 && !line.trim().is_empty() && self.reasons.len() < LINES.1 {
            self.more -= 1;
            self.reasons.push(line.trim_end().to_owned());
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
            count.reasons.extend(format!("{error:#}").lines().take(LINES.0).map(str::to_owned));
            false
        });
        if good && count.passed == 0 {
            count.passed = 1;
        }
        if !good && count.failed == 0 {
            count.failed = 1;
        }
        let Count { passed, failed, reasons, .. } = count;
        let seconds = begun.elapsed().as_secs_f64();
        self.stages.push(Stage { name: name.to_owned(), passed, failed, seconds, reasons });
        failed == 0
    }

    /// Prints all stages, what failed in them and, last, the sum: whoever sees only the end of a long log sees why. An
    /// error if anything failed.
    pub fn close(self) -> Result<()> {
        println!("\n{:<44} {:>7} {:>7} {:>9}", "stage", "passed", "failed", "seconds");
        for Stage { name, passed, failed, seconds, .. } in &self.stages {
            println!("{name:<44} {passed:>7} {failed:>7} {seconds:>9.1}");
        }
        for Stage { name, reasons, .. } in self.stages.iter().filter(|stage| stage.failed > 0) {
            println!("\nfailed: {name}\n{}", reasons.join("\n"));
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

    fn read(text: &str) -> Count {
        let mut count = Count::default();
        text.lines().for_each(|line| count.line(line));
        count
    }

    /// Passed and failed.
    fn count(text: &str) -> (u64, u64) {
        let Count { passed, failed, .. } = read(text);
        (passed, failed)
    }

    #[test]
    fn cargo_vitest_and_playwright_are_counted() {
        let cargo = "running 4 tests\ntest result: ok. 3 passed; 1 failed; 0 ignored; finished in 0.1s";
        assert_eq!(count(cargo), (3, 1));
        assert_eq!(count(" Test Files  2 passed (2)\n      Tests  1 failed | 11 passed (12)"), (11, 1));
        assert_eq!(count("  1 failed\n    [chromium] x.spec.ts\n  5 passed (3.2s)"), (5, 1));
        assert_eq!(count("load: 7 failed tries"), (0, 0));
    }

    #[test]
    fn what_failed_is_kept_in_the_runners_words() {
        let cargo = "test a ... ok\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\n\nthread 'b' panicked at x.rs:1:1:\n\
                     left is right\n\ntest result: FAILED. 1 passed; 1 failed;\nnot this";
        let said = ["failures:", "---- b stdout ----", "thread 'b' panicked at x.rs:1:1:", "left is right"];
        assert_eq!(read(cargo).reasons, said);
        let playwright =
            "  ✓  1 [page] › a.spec.ts:1:1 › fine (1s)\n\n  1) [page] › a.spec.ts:9:1 › name ──\n\n    Error: no";
        assert_eq!(read(playwright).reasons, ["  1) [page] › a.spec.ts:9:1 › name ──", "    Error: no"]);
        let vitest = " ✓ a.test.ts (3 tests) 4ms\n FAIL  b.test.ts > it is so\nAssertionError: expected 1 to be 2";
        assert_eq!(read(vitest).reasons, [" FAIL  b.test.ts > it is so", "AssertionError: expected 1 to be 2"]);
        let long = format!("---- b stdout ----\n{}", "line\n".repeat(100));
        assert_eq!(read(&long).reasons.len(), LINES.0);
    }

    #[test]
    fn a_stage_that_fails_without_tests_counts_as_failed() {
        let mut summary = Summary::default();
        assert!(summary.stage("good", |_| Ok(true)));
        assert!(!summary.stage("bad", |_| anyhow::bail!("no")));
        assert_eq!((summary.stages[0].passed, summary.stages[1].failed), (1, 1));
    }
}
