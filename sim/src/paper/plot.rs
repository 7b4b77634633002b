//! Line plots as SVG.
use plotters::prelude::*;

/// A line: its name, its points, and whether they are published ones (drawn as circles).
pub struct Line {
    /// For the legend.
    pub name: String,
    /// x and y.
    pub points: Vec<(f64, f64)>,
    /// Drawn as circles instead of a line.
    pub published: bool,
}

impl Line {
    /// Measured here.
    pub fn measured(name: &str, points: Vec<(f64, f64)>) -> Line {
        Line { name: name.to_owned(), points, published: false }
    }
    /// Told by a paper.
    pub fn published(name: &str, points: Vec<(f64, f64)>) -> Line {
        Line { name: name.to_owned(), points, published: true }
    }
}

/// Draws lines over axes that begin at 0 in y.
///
/// # Panics
/// When there is nothing to draw.
pub fn plot(title: &str, x: &str, y: &str, lines: &[Line]) -> String {
    let mut svg = String::new();
    draw(&mut svg, title, x, y, lines).expect("drawing into a string does not fail");
    svg
}

fn draw(svg: &mut String, title: &str, x: &str, y: &str, lines: &[Line]) -> Result<(), Box<dyn std::error::Error>> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let least = points().map(|(x, _)| *x).fold(f64::INFINITY, f64::min);
    let most = points().fold((f64::NEG_INFINITY, 0.0f64), |(x, y), point| (x.max(point.0), y.max(point.1)));
    let root = SVGBackend::with_string(svg, (720, 420)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(54)
        .build_cartesian_2d(least..most.0, 0.0..most.1 * 1.08)?;
    chart.configure_mesh().x_desc(x).y_desc(y).light_line_style(WHITE).draw()?;
    for (index, line) in lines.iter().enumerate() {
        let color = Palette99::pick(index).to_rgba();
        if line.published {
            let circles = line.points.iter().map(|point| Circle::new(*point, 4, color.stroke_width(2)));
            chart
                .draw_series(circles)?
                .label(&line.name)
                .legend(move |(x, y)| Circle::new((x + 10, y), 4, color.stroke_width(2)));
        } else {
            let series = LineSeries::new(line.points.iter().copied(), color.stroke_width(2));
            let key = move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2));
            chart.draw_series(series)?.label(&line.name).legend(key);
        }
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.85)).border_style(BLACK.mix(0.3)).draw()?;
    root.present()?;
    Ok(())
}
