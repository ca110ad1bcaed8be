//! One set of strokes, two surfaces.
//!
//! A picture draws in logical pixels (`f64`, origin top left) and never learns whether plotters'
//! bitmap or SVG backend is underneath. On a bitmap every shape is filled here by scan lines at
//! three times the size and averaged down at the end: plotters' own thick lines are
//! self-overlapping polygons that come out with holes where a series is dense, and its glyphs
//! sit on whole pixels without their side bearings.

use std::{fs, io, path::Path};

use plotters::{
    prelude::{
        BitMapBackend, DrawingBackend, IntoFont, RGBAColor, SVGBackend, ShapeStyle, TextStyle,
    },
    style::{
        FontStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};

use crate::report::{ReportError, fonts, palette::Ink, palette::PAPER};

/// A point in logical pixels.
pub type Point = (f64, f64);
/// What every stroke returns.
pub type Drawn = Result<(), DrawError>;

/// The backend's own words.
#[derive(Debug)]
pub struct DrawError(String);

/// Something that can be drawn at one fixed size.
pub trait Picture: Sync {
    /// Names the picture in errors.
    fn name(&self) -> String;
    /// Width and height in logical pixels.
    fn size(&self) -> (u32, u32);
    /// # Errors
    /// When the backend refuses.
    fn draw(&self, canvas: &mut Canvas<'_>) -> Drawn;
}

/// Where text is fixed to its `x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// Size, weight and colour of a piece of text.
#[derive(Clone, Copy, Debug)]
pub struct Type {
    /// Pixels per em.
    pub em: f64,
    pub bold: bool,
    pub ink: Ink,
}

impl Type {
    pub fn new(em: f64, ink: Ink) -> Self {
        Self { em, bold: false, ink }
    }
    pub fn bold(em: f64, ink: Ink) -> Self {
        Self { em, bold: true, ink }
    }
    pub fn width(&self, text: &str) -> f64 {
        fonts::width(text, self.em, self.bold)
    }
    /// `text` shortened to `max` pixels.
    pub fn fit(&self, text: &str, max: f64) -> String {
        fonts::fit(text, self.em, self.bold, max)
    }
}

enum Surface<'a> {
    Bitmap(BitMapBackend<'a>),
    Vector(SVGBackend<'a>),
}

/// A surface and the size of a logical pixel on it.
pub struct Canvas<'a> {
    surface: Surface<'a>,
    unit: f64,
}

/// Bitmap pixels per logical pixel and axis, before averaging.
const OVERSAMPLING: u32 = 3;
/// SVG units per logical pixel: coordinates are integers, so this is their precision.
const VECTOR_UNITS: u32 = 4;
/// What a browser without Roboto takes instead.
const FAMILY: &str = "Roboto, Helvetica Neue, Segoe UI, Arial, sans-serif";

/// The picture as one `<svg>` element.
///
/// # Errors
/// [`ReportError::Draw`] when the backend refuses.
pub fn to_svg(picture: &dyn Picture) -> Result<String, ReportError> {
    let (width, height) = picture.size();
    let mut svg = String::new();
    let scaled = (width * VECTOR_UNITS, height * VECTOR_UNITS);
    let mut canvas = Canvas {
        surface: Surface::Vector(SVGBackend::with_string(&mut svg, scaled)),
        unit: f64::from(VECTOR_UNITS),
    };
    picture.draw(&mut canvas).and_then(|()| canvas.finish()).map_err(|e| e.of(picture))?;
    drop(canvas);
    // The backend writes its own units as the size; the reader wants logical pixels.
    let body = svg.split_once('>').map_or("", |(_, body)| body);
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {} {}\" stroke-linejoin=\"round\" stroke-linecap=\"round\">{body}",
        scaled.0, scaled.1
    ))
}

/// Writes the picture as a PNG file of its logical size.
///
/// # Errors
/// [`ReportError::Draw`] when the backend refuses, [`ReportError::Write`] when the disk does.
pub fn to_png(picture: &dyn Picture, path: &Path) -> Result<(), ReportError> {
    let (width, height) = picture.size();
    let scaled = (width * OVERSAMPLING, height * OVERSAMPLING);
    let mut large = vec![255; scaled.0 as usize * scaled.1 as usize * 3];
    {
        let mut canvas = Canvas {
            surface: Surface::Bitmap(BitMapBackend::with_buffer(&mut large, scaled)),
            unit: f64::from(OVERSAMPLING),
        };
        picture.draw(&mut canvas).and_then(|()| canvas.finish()).map_err(|e| e.of(picture))?;
    }
    let pixels = average(&large, width as usize);
    encode_png((width, height), &pixels)
        .and_then(|bytes| fs::write(path, bytes))
        .map_err(|source| ReportError::Write { path: path.to_path_buf(), source })
}

/// The file of `pixels`, three bytes each. Lines are compressed as they are: a chart is mostly runs of
/// one colour, which the filters for photographs only break up.
fn encode_png((width, height): (u32, u32), pixels: &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_filter(png::FilterType::NoFilter);
    encoder.set_compression(png::Compression::Default);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(bytes)
}

/// Averages squares of `OVERSAMPLING` pixels; `width` is that of the result.
fn average(large: &[u8], width: usize) -> Vec<u8> {
    let n = OVERSAMPLING as usize;
    let row_bytes = width * n * 3;
    let mut small = Vec::with_capacity(large.len() / (n * n));
    let mut sums = vec![0_u16; width * 3];
    for rows in large.chunks_exact(row_bytes * n) {
        sums.fill(0);
        for row in rows.chunks_exact(row_bytes) {
            for (sum, block) in sums.chunks_exact_mut(3).zip(row.chunks_exact(3 * n)) {
                for pixel in block.chunks_exact(3) {
                    for (sum, channel) in sum.iter_mut().zip(pixel) {
                        *sum += u16::from(*channel);
                    }
                }
            }
        }
        let samples = (n * n) as u16;
        // At most 255, as a mean of bytes.
        small.extend(sums.iter().map(|sum| ((sum + samples / 2) / samples) as u8));
    }
    small
}

impl DrawError {
    fn of(self, picture: &dyn Picture) -> ReportError {
        ReportError::Draw { picture: picture.name(), reason: self.0 }
    }
}

fn refused(error: impl std::fmt::Display) -> DrawError {
    DrawError(error.to_string())
}

fn colour(ink: Ink, alpha: f64) -> RGBAColor {
    let (r, g, b) = ink.light;
    RGBAColor(r, g, b, alpha)
}

impl Canvas<'_> {
    fn finish(&mut self) -> Drawn {
        match &mut self.surface {
            Surface::Bitmap(backend) => backend.present().map_err(refused),
            Surface::Vector(backend) => backend.present().map_err(refused),
        }
    }

    fn grid(&self, value: f64) -> i32 {
        // Far outside every surface, and far from an overflow in the backend's arithmetic.
        (value * self.unit).round().clamp(-100_000.0, 100_000.0) as i32
    }

    fn grid_point(&self, (x, y): Point) -> (i32, i32) {
        (self.grid(x), self.grid(y))
    }

    /// Fills the whole surface.
    pub fn paper(&mut self, (width, height): (u32, u32)) -> Drawn {
        self.rect((0.0, 0.0), (f64::from(width), f64::from(height)), PAPER, 1.0)
    }

    /// A filled rectangle between two corners.
    pub fn rect(&mut self, from: Point, to: Point, ink: Ink, alpha: f64) -> Drawn {
        let (from, to) = (self.grid_point(from), self.grid_point(to));
        if from.0 >= to.0 || from.1 >= to.1 {
            return Ok(());
        }
        let style = colour(ink, alpha);
        match &mut self.surface {
            Surface::Bitmap(backend) => backend.draw_rect(from, to, &style, true).map_err(refused),
            Surface::Vector(backend) => backend.draw_rect(from, to, &style, true).map_err(refused),
        }
    }

    /// A filled polygon that does not cross itself.
    pub fn polygon(&mut self, points: &[Point], ink: Ink, alpha: f64) -> Drawn {
        if points.len() < 3 {
            return Ok(());
        }
        if matches!(self.surface, Surface::Bitmap(_)) {
            return self.fill(points, colour(ink, alpha));
        }
        let points: Vec<(i32, i32)> = points.iter().map(|&p| self.grid_point(p)).collect();
        match &mut self.surface {
            Surface::Vector(backend) => {
                backend.fill_polygon(points, &colour(ink, alpha)).map_err(refused)
            }
            Surface::Bitmap(_) => Ok(()),
        }
    }

    /// An opaque line through `points`; a single point becomes a dot.
    pub fn line(&mut self, points: &[Point], width: f64, ink: Ink) -> Drawn {
        match points {
            [] => return Ok(()),
            [dot] => return self.disc(*dot, width * 0.9, ink),
            _ => {}
        }
        if matches!(self.surface, Surface::Bitmap(_)) {
            return self.stroke(points, width, colour(ink, 1.0));
        }
        let stroke = (width * self.unit).round().max(1.0) as u32;
        let points: Vec<(i32, i32)> = points.iter().map(|&p| self.grid_point(p)).collect();
        let style = ShapeStyle { color: colour(ink, 1.0), filled: false, stroke_width: stroke };
        match &mut self.surface {
            Surface::Vector(backend) => match points[..] {
                [from, to] => backend.draw_line(from, to, &style).map_err(refused),
                _ => backend.draw_path(points, &style).map_err(refused),
            },
            Surface::Bitmap(_) => Ok(()),
        }
    }

    /// A straight dashed line.
    pub fn dashes(&mut self, from: Point, to: Point, width: f64, ink: Ink) -> Drawn {
        const DASH: f64 = 6.0;
        const PERIOD: f64 = 10.0;
        let length = (to.0 - from.0).hypot(to.1 - from.1);
        let at = |distance: f64| {
            let share = distance.min(length) / length;
            (from.0 + (to.0 - from.0) * share, from.1 + (to.1 - from.1) * share)
        };
        let mut start = 0.0;
        while start < length {
            self.line(&[at(start), at(start + DASH)], width, ink)?;
            start += PERIOD;
        }
        Ok(())
    }

    /// A filled circle.
    pub fn disc(&mut self, centre: Point, radius: f64, ink: Ink) -> Drawn {
        if matches!(self.surface, Surface::Bitmap(_)) {
            return self.fill(&circle(centre, radius), colour(ink, 1.0));
        }
        let (centre, radius) = (self.grid_point(centre), self.grid(radius).max(1) as u32);
        match &mut self.surface {
            Surface::Vector(backend) => {
                backend.draw_circle(centre, radius, &colour(ink, 1.0), true).map_err(refused)
            }
            Surface::Bitmap(_) => Ok(()),
        }
    }

    /// One line of text with its baseline at `y`. Control characters must be gone: see
    /// [`Type::fit`].
    pub fn text(&mut self, text: &str, (x, y): Point, look: Type, anchor: Anchor) -> Drawn {
        let unit = self.unit;
        let at = self.grid_point((x, y));
        match &mut self.surface {
            Surface::Bitmap(backend) => {
                let shift = match anchor {
                    Anchor::Start => 0.0,
                    Anchor::Middle => look.width(text) / 2.0,
                    Anchor::End => look.width(text),
                };
                let start = ((x - shift) * unit, y * unit);
                let mut drawn = Ok(());
                fonts::rasterise(text, look.em * unit, look.bold, start, |px, py, coverage| {
                    let pixel = plotters_pixel(look.ink, f64::from(coverage));
                    let result = backend.draw_rect((px, py), (px + 1, py + 1), &pixel, true);
                    if let (Ok(()), Err(e)) = (&drawn, result) {
                        drawn = Err(refused(e));
                    }
                });
                drawn
            }
            Surface::Vector(backend) => {
                let h_pos = match anchor {
                    Anchor::Start => HPos::Left,
                    Anchor::Middle => HPos::Center,
                    Anchor::End => HPos::Right,
                };
                let style = if look.bold { FontStyle::Bold } else { FontStyle::Normal };
                // The backend divides the size by 1.24 and lowers "top" text by 0.76 em.
                let size = look.em * unit;
                let ink = colour(look.ink, 1.0);
                let font = TextStyle::from((FAMILY, size * 1.24).into_font().style(style))
                    .color(&ink)
                    .pos(Pos::new(h_pos, VPos::Top));
                let top = (at.0, at.1 - (0.76 * size).round() as i32);
                backend.draw_text(text, &font, top).map_err(refused)
            }
        }
    }

    /// Bitmap only: fills by the even-odd rule, a pixel being inside if its centre is.
    fn fill(&mut self, points: &[Point], style: RGBAColor) -> Drawn {
        let unit = self.unit;
        let Surface::Bitmap(backend) = &mut self.surface else { return Ok(()) };
        let height = f64::from(backend.get_size().1);
        let points: Vec<Point> = points.iter().map(|p| (p.0 * unit, p.1 * unit)).collect();
        let top = points.iter().fold(f64::INFINITY, |low, p| low.min(p.1)).max(0.0);
        let bottom = points.iter().fold(f64::NEG_INFINITY, |high, p| high.max(p.1)).min(height);
        let mut crossings = Vec::new();
        for row in (top.floor() as i32)..(bottom.ceil() as i32) {
            let y = f64::from(row) + 0.5;
            crossings.clear();
            for (i, from) in points.iter().enumerate() {
                let to = points[(i + 1) % points.len()];
                if (from.1 <= y) != (to.1 <= y) {
                    crossings.push(from.0 + (to.0 - from.0) * (y - from.1) / (to.1 - from.1));
                }
            }
            crossings.sort_by(f64::total_cmp);
            for pair in crossings.chunks_exact(2) {
                let (start, end) = ((pair[0] - 0.5).ceil() as i32, (pair[1] - 0.5).ceil() as i32);
                if start < end {
                    backend
                        .draw_rect((start, row), (end, row + 1), &style, true)
                        .map_err(refused)?;
                }
            }
        }
        Ok(())
    }

    /// Bitmap only: one quadrilateral per segment and a disc at each joint.
    fn stroke(&mut self, points: &[Point], width: f64, style: RGBAColor) -> Drawn {
        let half = width / 2.0;
        for pair in points.windows(2) {
            let (from, to) = (pair[0], pair[1]);
            let length = (to.0 - from.0).hypot(to.1 - from.1);
            if length > 1e-9 {
                let (nx, ny) = ((from.1 - to.1) / length * half, (to.0 - from.0) / length * half);
                let corners = [
                    (from.0 + nx, from.1 + ny),
                    (to.0 + nx, to.1 + ny),
                    (to.0 - nx, to.1 - ny),
                    (from.0 - nx, from.1 - ny),
                ];
                self.fill(&corners, style)?;
            }
            if points.len() > 2 {
                self.fill(&circle(to, half), style)?;
            }
        }
        Ok(())
    }
}

fn plotters_pixel(ink: Ink, coverage: f64) -> RGBAColor {
    colour(ink, coverage.clamp(0.0, 1.0))
}

/// A circle as a polygon, fine enough for marks.
fn circle((x, y): Point, radius: f64) -> Vec<Point> {
    let corners = if radius < 2.0 { 12 } else { 32 };
    (0..corners)
        .map(|i| {
            let angle = std::f64::consts::TAU * f64::from(i) / f64::from(corners);
            (x + angle.cos() * radius, y + angle.sin() * radius)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::palette::TEXT;

    struct Stroke;

    impl Picture for Stroke {
        fn name(&self) -> String {
            "stroke".into()
        }
        fn size(&self) -> (u32, u32) {
            (40, 20)
        }
        fn draw(&self, canvas: &mut Canvas<'_>) -> Drawn {
            canvas.paper(self.size())?;
            canvas.rect((10.0, 5.0), (30.0, 15.0), TEXT, 1.0)?;
            canvas.text("a & <b>", (2.0, 12.0), Type::new(10.0, TEXT), Anchor::Start)
        }
    }

    #[test]
    fn averaging_keeps_a_flat_colour_and_blends_an_edge() {
        let n = OVERSAMPLING as usize;
        let flat = vec![200; n * n * 3];
        assert_eq!(average(&flat, 1), [200, 200, 200]);
        let mut edge = vec![0; n * n * 3];
        edge[..n * 3].fill(255);
        assert_eq!(average(&edge, 1), [85, 85, 85]);
    }

    #[test]
    fn an_svg_has_its_logical_size_and_escaped_text() {
        let svg = to_svg(&Stroke).unwrap();
        assert!(svg.contains("width=\"40\" height=\"20\" viewBox=\"0 0 160 80\""), "{svg}");
        assert!(svg.contains("a &amp; &lt;b&gt;"), "{svg}");
        assert!(svg.trim_end().ends_with("</svg>"), "{svg}");
    }

    #[test]
    fn a_file_in_a_missing_folder_is_an_error_with_its_path() {
        let message = to_png(&Stroke, Path::new("/no/such/folder/a.png")).unwrap_err().to_string();
        assert!(message.contains("/no/such/folder/a.png"), "{message}");
    }
}
