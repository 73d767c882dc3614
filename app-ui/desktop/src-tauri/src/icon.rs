//! The tray icon, drawn: a mast with its pennant. The state is told by shape, for panels of any colour.
//!
//! Well: the mast with its pennant flying. In part: the pennant in outline. Working: the pennant is a row of dots.
//! Failing: no pennant, and a mark of exclamation beside the mast. Paused: two bars beside the mast in outline. Off: the
//! mast alone, in outline.

use mast_control::words::Light;
use tiny_skia::{Color, FillRule, Paint, Path, PathBuilder, Pixmap, Rect, Stroke, Transform};

/// Pixels a side: panels make it smaller.
const SIDE: u32 = 64;

/// Draws the icon as RGBA. `dark` is for a dark panel: the icon is light then.
pub fn draw(light: Light, dark: bool) -> Option<(Vec<u8>, u32)> {
    let mut picture = Pixmap::new(SIDE, SIDE)?;
    let mut paint = Paint::default();
    paint.set_color(if dark {
        Color::from_rgba8(242, 244, 244, 255)
    } else {
        Color::from_rgba8(28, 34, 36, 255)
    });
    paint.anti_alias = true;
    let mut fill =
        |path: &Path| picture.fill_path(path, &paint, FillRule::Winding, Transform::identity(), None);
    let mast = PathBuilder::from_rect(Rect::from_xywh(16.0, 4.0, 7.0, 56.0)?);
    match light {
        Light::Good => {
            fill(&mast);
            fill(&triangle([(23.0, 7.0), (58.0, 22.0), (23.0, 37.0)])?);
        }
        Light::Partial => {
            fill(&mast);
            let stroke = Stroke { width: 5.0, ..Stroke::default() };
            let flag = triangle([(25.5, 10.0), (55.0, 22.0), (25.5, 34.0)])?;
            picture.stroke_path(&flag, &paint, &stroke, Transform::identity(), None);
        }
        Light::Working => {
            fill(&mast);
            for x in [33.0, 45.0, 57.0] {
                fill(&PathBuilder::from_circle(x, 22.0, 4.5)?);
            }
        }
        Light::Bad => {
            fill(&mast);
            fill(&PathBuilder::from_rect(Rect::from_xywh(40.0, 6.0, 9.0, 30.0)?));
            fill(&PathBuilder::from_circle(44.5, 48.0, 5.5)?);
        }
        Light::Paused | Light::Off => {
            if light == Light::Paused {
                for x in [36.0, 50.0] {
                    fill(&PathBuilder::from_rect(Rect::from_xywh(x, 8.0, 8.0, 28.0)?));
                }
            }
            let stroke = Stroke { width: 4.0, ..Stroke::default() };
            let outline = PathBuilder::from_rect(Rect::from_xywh(16.0, 6.0, 8.0, 52.0)?);
            picture.stroke_path(&outline, &paint, &stroke, Transform::identity(), None);
        }
    }
    let pixels = picture.pixels().iter().map(|p| p.demultiply());
    Some((pixels.flat_map(|p| [p.red(), p.green(), p.blue(), p.alpha()]).collect(), SIDE))
}

fn triangle(corners: [(f32, f32); 3]) -> Option<Path> {
    let mut path = PathBuilder::new();
    let [(x, y), rest @ ..] = corners;
    path.move_to(x, y);
    for (x, y) in rest {
        path.line_to(x, y);
    }
    path.close();
    path.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the icon is opaque: its shape.
    fn shape(light: Light, dark: bool) -> Vec<bool> {
        draw(light, dark).unwrap().0.chunks(4).map(|p| p[3] > 127).collect()
    }

    #[test]
    fn states_differ_by_shape_on_every_panel() {
        let lights = [Light::Good, Light::Partial, Light::Working, Light::Bad, Light::Paused, Light::Off];
        for (n, a) in lights.iter().enumerate() {
            assert_eq!(shape(*a, false), shape(*a, true));
            for b in &lights[n + 1..] {
                let differs = shape(*a, true).iter().zip(shape(*b, true)).filter(|(x, y)| **x != *y).count();
                assert!(differs > 200, "{a:?} and {b:?} differ in {differs} pixels");
            }
        }
    }
}
