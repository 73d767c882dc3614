// A QR code as the path of one SVG shape.

export function qrPath(qr: { size: number; modules: string }): string {
  let d = '';
  for (let y = 0; y < qr.size; y++) {
    for (let x = 0; x < qr.size; x++) {
      if (qr.modules[y * qr.size + x] !== '1') continue;
      let run = 1;
      while (x + run < qr.size && qr.modules[y * qr.size + x + run] === '1') run++;
      d += `M${x} ${y}h${run}v1h-${run}z`;
      x += run - 1;
    }
  }
  return d;
}
