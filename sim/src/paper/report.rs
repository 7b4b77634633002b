//! Tables with the published numbers and bands beside the measured ones, as Markdown.
use std::{fmt::Write as _, ops::RangeInclusive};

/// A figure or table of the papers, regenerated.
#[derive(Default)]
pub struct Figure {
    /// For people.
    pub title: &'static str,
    /// Setup, and what is compared with what.
    pub text: &'static str,
    columns: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    /// Plots: file name without folder, and SVG.
    pub plots: Vec<(&'static str, String)>,
    /// What lies outside of its band.
    pub outside: Vec<String>,
}

impl Figure {
    /// Without rows yet.
    pub fn new(title: &'static str, text: &'static str, columns: &[&'static str]) -> Figure {
        Figure { title, text, columns: columns.to_vec(), ..Figure::default() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.columns.len(), "{}: as many cells as columns", self.title);
        self.rows.push(cells);
    }

    /// A measured value as a cell, with its band; notes it when it is outside.
    pub fn check(&mut self, what: String, value: f64, band: RangeInclusive<f64>) -> String {
        let (low, high) = (number(*band.start()), number(*band.end()));
        let mut cell = if low == high {
            format!("{} ({low})", number(value))
        } else {
            format!("{} ({low}..{high})", number(value))
        };
        if !band.contains(&value) {
            cell = format!("**{cell} outside**");
            self.outside.push(format!("{}: {what} is {}, outside of {low}..{high}", self.title, number(value)));
        }
        cell
    }

    /// As a section; plots are in `folder`.
    pub fn markdown(&self, folder: &str) -> String {
        let mut text = format!("## {}\n\n{}\n\n", self.title, self.text);
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let columns: Vec<String> = self.columns.iter().map(|column| (*column).to_owned()).collect();
        text += &line(&columns);
        text += &line(&vec!["---".to_owned(); columns.len()]);
        self.rows.iter().for_each(|row| text += &line(row));
        for (file, _) in &self.plots {
            let _ = write!(text, "\n![{}]({folder}/{file})\n", self.title);
        }
        text
    }
}

/// Up to three significant decimals, none of them idle.
pub fn number(value: f64) -> String {
    let text = if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Values of which mean and percentiles are wanted.
#[derive(Default)]
pub struct Distribution {
    values: Vec<u32>,
}

impl Distribution {
    /// Of these.
    pub fn of(mut values: Vec<u32>) -> Distribution {
        values.sort_unstable();
        Distribution { values }
    }
    /// How many.
    pub fn len(&self) -> usize {
        self.values.len()
    }
    /// 0 when there are none.
    pub fn mean(&self) -> f64 {
        self.values.iter().map(|value| f64::from(*value)).sum::<f64>() / self.values.len().max(1) as f64
    }
    /// The value at `share` (0..=1) of them, by rank; 0 when there are none.
    pub fn percentile(&self, share: f64) -> f64 {
        let rank = (self.values.len().saturating_sub(1) as f64 * share).round() as usize;
        self.values.get(rank).map_or(0.0, |value| f64::from(*value))
    }
    /// Share of each value from 0 on.
    pub fn shares(&self) -> Vec<(f64, f64)> {
        let most = self.values.last().copied().unwrap_or(0);
        let share =
            |value| self.values.iter().filter(|known| **known == value).count() as f64 / self.values.len() as f64;
        (0..=most).map(|value| (f64::from(value), share(value))).collect()
    }
}

/// `middle`, give or take a share of it.
pub fn around(middle: f64, share: f64) -> RangeInclusive<f64> {
    middle * (1.0 - share)..=middle * (1.0 + share)
}

/// `middle`, give or take `most`.
pub fn within(middle: f64, most: f64) -> RangeInclusive<f64> {
    middle - most..=middle + most
}
