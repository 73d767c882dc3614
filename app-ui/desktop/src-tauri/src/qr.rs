//! QR codes: made for invites, and found in pictures.

use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::{ImageReader, Limits};
use serde::Serialize;

use crate::refusal::Refusal;

/// The largest picture in bytes.
const MAX_BYTES: usize = 20 * 1024 * 1024;
/// The largest side in pixels.
const MAX_SIDE: u32 = 8192;
/// Larger ones are made smaller before they are searched.
const SEARCHED: u32 = 1600;

/// A QR code as modules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Code {
    /// Modules a side.
    pub size: usize,
    /// Row after row; `1` is dark.
    pub modules: String,
}

/// Makes a code of a text.
///
/// # Errors
/// When the text is too long for one.
pub fn make(text: &str) -> Result<Code, Refusal> {
    let code = qrcode::QrCode::with_error_correction_level(text, qrcode::EcLevel::L)
        .map_err(|error| Refusal::new(format!("no QR code can hold this: {error}")))?;
    let modules =
        code.to_colors().into_iter().map(|c| if c == qrcode::Color::Dark { '1' } else { '0' }).collect();
    Ok(Code { size: code.width(), modules })
}

/// Finds the text of the code in a picture, PNG or JPEG, given in base64.
///
/// # Errors
/// When it is no such picture, too large, or has no code or several.
pub fn find(picture: &str) -> Result<String, Refusal> {
    let wrong = |message: &str| Refusal::of("picture", message.to_owned());
    // A data URL has its kind before a comma.
    let data = picture.rsplit_once(',').map_or(picture, |(_, data)| data);
    if data.len() / 4 * 3 > MAX_BYTES {
        return Err(wrong("The picture is larger than 20 MB. Take a smaller one, or cut the code out."));
    }
    let bytes = STANDARD.decode(data.trim()).map_err(|_| wrong("This is not a picture."))?;
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|_| wrong("This is not a picture in PNG or JPEG."))?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(400 * 1024 * 1024);
    reader.limits(limits);
    let picture = reader.decode().map_err(|error| match error {
        image::ImageError::Limits(_) => {
            wrong("The picture is larger than 8192 pixels a side. Take a smaller one.")
        }
        image::ImageError::Unsupported(_) => wrong("This is not a picture in PNG or JPEG."),
        _ => wrong("The picture is damaged, or not in PNG or JPEG."),
    })?;
    let large = picture.width().max(picture.height()) > SEARCHED;
    let picture = if large { picture.thumbnail(SEARCHED, SEARCHED) } else { picture };
    let mut prepared = rqrr::PreparedImage::prepare(picture.to_luma8());
    let mut found: Vec<String> =
        prepared.detect_grids().iter().filter_map(|grid| grid.decode().ok()).map(|(_, text)| text).collect();
    found.dedup();
    match found.as_slice() {
        [] => Err(wrong("No QR code was found in the picture. It must be whole, sharp and well lit.")),
        [text] => Ok(text.clone()),
        more => {
            Err(wrong(&format!("There are {} QR codes in the picture. Cut out the right one.", more.len())))
        }
    }
}

#[cfg(test)]
mod tests {
    use image::{DynamicImage, GrayImage, ImageFormat, Luma};

    use super::*;

    fn picture(codes: &[&str]) -> GrayImage {
        let scale = 4;
        let codes: Vec<_> = codes.iter().map(|text| make(text).unwrap()).collect();
        let side = codes.iter().map(|c| (c.size as u32 + 8) * scale).max().unwrap_or(100);
        let mut image = GrayImage::from_pixel(side * codes.len().max(1) as u32, side, Luma([255]));
        for (n, code) in codes.iter().enumerate() {
            for (at, module) in code.modules.bytes().enumerate() {
                let (x, y) = ((at % code.size) as u32 + 4, (at / code.size) as u32 + 4);
                for (dx, dy) in (0..scale * scale).map(|i| (i % scale, i / scale)) {
                    if module == b'1' {
                        image.put_pixel(n as u32 * side + x * scale + dx, y * scale + dy, Luma([0]));
                    }
                }
            }
        }
        image
    }

    fn encoded(image: GrayImage, format: ImageFormat) -> String {
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::ImageLuma8(image).write_to(&mut bytes, format).unwrap();
        STANDARD.encode(bytes.into_inner())
    }

    #[test]
    fn what_is_made_is_found() {
        let link = format!("mast://1/{}", "Az09_-".repeat(40));
        for format in [ImageFormat::Png, ImageFormat::Jpeg] {
            assert_eq!(find(&encoded(picture(&[&link]), format)).unwrap(), link);
        }
        let url = format!("data:image/png;base64,{}", encoded(picture(&[&link]), ImageFormat::Png));
        assert_eq!(find(&url).unwrap(), link);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let refused = |picture: &str| find(picture).unwrap_err().message;
        assert!(refused("%%%").contains("not a picture"));
        assert!(refused(&STANDARD.encode("GIF89a and so on")).contains("PNG or JPEG"));
        assert!(refused(&encoded(picture(&[]), ImageFormat::Png)).contains("No QR code"));
        assert!(refused(&encoded(picture(&["one", "two"]), ImageFormat::Png)).contains("2 QR codes"));
        let whole = encoded(picture(&["one"]), ImageFormat::Png);
        assert!(refused(&whole[..whole.len() / 8 * 4]).contains("damaged"));
        assert!(refused(&"A".repeat(30 * 1024 * 1024)).contains("20 MB"));
        assert!(make(&"x".repeat(5000)).is_err());
    }
}
