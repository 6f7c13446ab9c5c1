//! The sizes as a picture: a square for each, whose area is its bytes.

use crate::build::IMAGE_BYTES_MAX;
use crate::tcb::others::Others;

/// Side of the largest square, in pixels.
const SIDE_MAX: f64 = 200.0;
/// Between two columns, in pixels.
const GAP: f64 = 30.0;
/// Width of a column at least, as text needs it.
const COLUMN_MIN: f64 = 150.0;
const MARGIN: f64 = 20.0;
const LINE: f64 = 17.0;

/// One square.
struct Part {
    name: &'static str,
    bytes: u64,
    color: &'static str,
}

/// The picture as SVG; nothing if there is nothing to compare with.
#[must_use]
pub fn svg(others: &Others) -> Option<String> {
    let (kernel, qemu) = (others.kernel.as_ref()?, others.qemu.as_ref()?);
    let modules = kernel.modules.values().sum();
    let parts = [
        Part { name: "the stub's image, whole", bytes: IMAGE_BYTES_MAX, color: "#1b7f5c" },
        Part { name: "Linux kernel", bytes: kernel.image_bytes, color: "#8a8f98" },
        Part { name: "its modules", bytes: modules, color: "#8a8f98" },
        Part { name: "QEMU", bytes: qemu.bytes, color: "#8a8f98" },
        Part { name: "QEMU's libraries", bytes: qemu.libraries.1, color: "#8a8f98" },
    ];
    Some(draw(&parts))
}

#[expect(clippy::cast_precision_loss, reason = "pixels need no more")]
fn draw(parts: &[Part]) -> String {
    let largest = parts.iter().map(|part| part.bytes).max().unwrap_or(1) as f64;
    let bottom = MARGIN + SIDE_MAX;
    let height = 2.0f64.mul_add(LINE, bottom) + MARGIN;
    let (mut squares, mut x) = (String::new(), MARGIN);
    for part in parts {
        let side = (part.bytes as f64 / largest).sqrt() * SIDE_MAX;
        let (top, color) = (bottom - side, part.color);
        squares += &format!(
            "<rect x=\"{x:.0}\" y=\"{top:.1}\" width=\"{side:.1}\" height=\"{side:.1}\" fill=\"{color}\"/>\n"
        );
        let mib = part.bytes as f64 / f64::from(1 << 20);
        for (line, text) in [(1.0, part.name.to_owned()), (2.0, format!("{mib:.2} MiB"))] {
            let y = LINE.mul_add(line, bottom);
            squares += &format!("<text x=\"{x:.0}\" y=\"{y:.0}\">{text}</text>\n");
        }
        x += side.max(COLUMN_MIN) + GAP;
    }
    let width = x - GAP + MARGIN;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<title>Bytes of code to trust for a guest's disk; areas are to scale</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{squares}</svg>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcb::others::{Kernel, Program};

    #[test]
    fn areas_are_to_scale() {
        let part = |bytes| Part { name: "a", bytes, color: "#000" };
        let drawn = draw(&[part(4 << 20), part(1 << 20)]);
        assert!(drawn.contains("width=\"200.0\" height=\"200.0\""), "{drawn}");
        assert!(drawn.contains("width=\"100.0\" height=\"100.0\""), "{drawn}");
        assert!(drawn.contains("4.00 MiB") && drawn.contains("1.00 MiB"), "{drawn}");
    }

    #[test]
    fn without_anything_to_compare_with_there_is_no_picture() {
        let qemu = Program { path: "/q".into(), bytes: 1, libraries: (1, 1) };
        assert!(svg(&Others { kernel: None, qemu: Some(qemu.clone()) }).is_none());
        assert!(svg(&Others { kernel: Some(Kernel::default()), qemu: Some(qemu) }).is_some());
    }
}
