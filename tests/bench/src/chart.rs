//! Pictures of figures as SVG, for README files: bars in groups, and lines over time.
//!
//! Text is dark on a light ground of its own, so that a page of either colour can show them.

use std::fmt::Write as _;

const WIDTH: f64 = 840.0;
const HEIGHT: f64 = 330.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 54.0;
const BOTTOM: f64 = 28.0;
/// One entry of the legend, below the plot.
const LEGEND_LINE: f64 = 20.0;
const LEGEND_COLUMNS: usize = 4;
/// Distinct for the colour-blind, too (Okabe and Ito).
const COLOURS: [&str; 9] =
    ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999", "#b8a800", "#222222"];

/// Bars: one group for each label, in it one bar for each series.
#[derive(Debug, Clone, Default)]
pub struct Bars {
    /// Above the picture.
    pub title: String,
    /// Beside the axis.
    pub unit: String,
    /// The groups.
    pub groups: Vec<String>,
    /// A name, and a value for each group.
    pub series: Vec<(String, Vec<Option<f64>>)>,
}

/// Lines over time.
#[derive(Debug, Clone, Default)]
pub struct Lines {
    /// Above the picture.
    pub title: String,
    /// Beside the axis.
    pub unit: String,
    /// A name, and points: seconds and a value.
    pub series: Vec<(String, Vec<(f64, f64)>)>,
}

/// The round number at which an axis ends that has to show `most`, and the step of its grid.
fn scale(most: f64) -> (f64, f64) {
    let most = if most.is_finite() && most > 0.0 { most } else { 1.0 };
    let raw = most / 5.0;
    let unit = 10_f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].iter().map(|f| f * unit).find(|s| *s >= raw).unwrap_or(unit * 10.0);
    ((most / step).ceil() * step, step)
}

fn colour(at: usize) -> &'static str {
    COLOURS.get(at % COLOURS.len()).copied().unwrap_or("#000000")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A value with as many digits as it needs.
fn number(value: f64) -> String {
    let digits = if value.abs() >= 100.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else {
        2
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A picture that is being drawn.
struct Canvas {
    out: String,
    end: f64,
}

impl Canvas {
    /// Draws the ground, the title, the axis up to `most`, and the legend.
    fn new(title: &str, unit: &str, most: f64, names: &[&str]) -> Self {
        let legend = names.len().div_ceil(LEGEND_COLUMNS) as f64 * LEGEND_LINE;
        let whole = HEIGHT + legend;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{whole}\" \
             viewBox=\"0 0 {WIDTH} {whole}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#222222\">\n\
             <rect width=\"{WIDTH}\" height=\"{whole}\" fill=\"#ffffff\"/>\n\
             <text x=\"{LEFT}\" y=\"18\" font-size=\"15\" font-weight=\"bold\">{}</text>\n\
             <text x=\"{LEFT}\" y=\"36\" fill=\"#666666\">{}</text>\n",
            escape(title),
            escape(unit)
        );
        let (end, step) = scale(most);
        let mut canvas = Self { out: String::new(), end };
        let mut mark = 0.0;
        while mark <= end + step / 2.0 {
            let y = canvas.y(mark);
            let _ = writeln!(
                out,
                "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0,
                number(mark)
            );
            mark += step;
        }
        let column = (WIDTH - LEFT - RIGHT) / LEGEND_COLUMNS as f64;
        for (at, name) in names.iter().enumerate() {
            let x = LEFT + (at % LEGEND_COLUMNS) as f64 * column;
            let y = HEIGHT + (at / LEGEND_COLUMNS) as f64 * LEGEND_LINE;
            let _ = writeln!(
                out,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"12\" height=\"12\" fill=\"{}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                colour(at),
                x + 18.0,
                y + 10.0,
                escape(name)
            );
        }
        canvas.out = out;
        canvas
    }

    /// How far down a value is.
    fn y(&self, value: f64) -> f64 {
        let plot = HEIGHT - TOP - BOTTOM;
        HEIGHT - BOTTOM - plot * (value / self.end).clamp(0.0, 1.0)
    }

    /// Words below the plot.
    fn label(&mut self, x: f64, text: &str) {
        let _ = writeln!(
            self.out,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - BOTTOM + 18.0,
            escape(text)
        );
    }

    fn finish(mut self) -> String {
        self.out.push_str("</svg>\n");
        self.out
    }
}

impl Bars {
    /// The picture.
    pub fn svg(&self) -> String {
        let most = self.series.iter().flat_map(|(_, values)| values).flatten().copied().fold(0.0, f64::max);
        let names: Vec<&str> = self.series.iter().map(|(name, _)| name.as_str()).collect();
        let mut canvas = Canvas::new(&self.title, &self.unit, most, &names);
        let group = (WIDTH - LEFT - RIGHT) / self.groups.len().max(1) as f64;
        let bar = group * 0.86 / self.series.len().max(1) as f64;
        for (at, label) in self.groups.iter().enumerate() {
            let left = LEFT + group * at as f64;
            canvas.label(left + group / 2.0, label);
            for (which, (name, values)) in self.series.iter().enumerate() {
                let Some(value) = values.get(at).copied().flatten() else { continue };
                let (x, y) = (left + group * 0.07 + bar * which as f64, canvas.y(value));
                let _ = writeln!(
                    canvas.out,
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\">\
                     <title>{}: {}</title></rect>\
                     <text x=\"{:.1}\" y=\"{:.1}\" font-size=\"9\" text-anchor=\"middle\">{}</text>",
                    (bar - 1.0).max(1.0),
                    HEIGHT - BOTTOM - y,
                    colour(which),
                    escape(name),
                    number(value),
                    x + bar / 2.0,
                    y - 3.0,
                    number(value)
                );
            }
        }
        canvas.finish()
    }
}

impl Lines {
    /// The picture.
    pub fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|(_, points)| points);
        let most = points().map(|(_, value)| *value).fold(0.0, f64::max);
        let last = points().map(|(time, _)| *time).fold(0.0, f64::max);
        let (_, step) = scale(last);
        let last = if last > 0.0 { last } else { 1.0 };
        let names: Vec<&str> = self.series.iter().map(|(name, _)| name.as_str()).collect();
        let mut canvas = Canvas::new(&self.title, &self.unit, most, &names);
        let across = |time: f64| LEFT + (WIDTH - LEFT - RIGHT) * (time / last).clamp(0.0, 1.0);
        let mut mark = 0.0;
        while mark <= last {
            canvas.label(across(mark), &format!("{} s", number(mark)));
            mark += step;
        }
        for (at, (_, points)) in self.series.iter().enumerate() {
            let path = points.iter().fold(String::new(), |mut path, (time, value)| {
                let _ = write!(path, "{:.1},{:.1} ", across(*time), canvas.y(*value));
                path
            });
            let _ = writeln!(
                canvas.out,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>",
                path.trim_end(),
                colour(at)
            );
        }
        canvas.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_at_a_round_number() {
        assert_eq!(scale(7.3), (8.0, 2.0));
        assert_eq!(scale(100.0), (100.0, 20.0));
        assert_eq!(scale(0.0), scale(1.0));
        assert_eq!(scale(f64::NAN), scale(1.0));
    }

    #[test]
    fn bars_are_as_high_as_their_values() {
        let bars = Bars {
            title: "a < b".into(),
            groups: vec!["one".into(), "two".into()],
            series: vec![("x".into(), vec![Some(10.0), Some(5.0)]), ("y".into(), vec![None, Some(0.0)])],
            ..Bars::default()
        };
        let svg = bars.svg();
        assert!(svg.contains("a &lt; b"), "{svg}");
        let plot = HEIGHT - TOP - BOTTOM;
        for height in [plot, plot / 2.0, 0.0] {
            assert!(svg.contains(&format!("height=\"{height:.1}\" fill")), "{height} in {svg}");
        }
        assert_eq!(svg.matches("<title>").count(), 3, "what was not measured has no bar");
    }

    #[test]
    fn lines_go_from_edge_to_edge() {
        let series = vec![("x".into(), vec![(0.0, 0.0), (4.0, 10.0)])];
        let svg = Lines { series, ..Lines::default() }.svg();
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        assert!(svg.contains(&format!("points=\"{LEFT:.1},{bottom:.1} {right:.1},{TOP:.1}\"")), "{svg}");
    }
}
