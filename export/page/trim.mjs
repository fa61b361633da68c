// The margin around a drawing, cut away, as memssl_keras/images/trim.py does it: one pixel off, and the vector is another.
// Pixels are {rgb: Uint8Array, height, width}, row by row.

const FAINT = 24; // of 255: what differs less from the ground is the ground
const SHARE = 0.25; // of the strongest difference: what differs less is taken for the traces of JPEG

/** A half goes to the even side, as Python rounds. */
export function round(value) {
  const low = Math.floor(value), rest = value - low;
  return rest > 0.5 || (rest === 0.5 && low % 2) ? low + 1 : low;
}

/** The median of the four corners' values, in whole numbers. */
function groundOf({ rgb, height, width }) {
  const corners = [0, width - 1, (height - 1) * width, height * width - 1];
  return [0, 1, 2].map((channel) => {
    const values = corners.map((corner) => rgb[3 * corner + channel]).sort((a, b) => a - b);
    return Math.floor((values[1] + values[2]) / 2);
  });
}

/** Left, top, right and bottom of what differs from the ground; null where nothing does. */
function boundsOf({ rgb, height, width }, ground) {
  const apart = new Uint8Array(height * width);
  let most = 0;
  for (let pixel = 0, at = 0; pixel < apart.length; pixel++, at += 3) {
    const differs = Math.max(
      Math.abs(rgb[at] - ground[0]), Math.abs(rgb[at + 1] - ground[1]), Math.abs(rgb[at + 2] - ground[2]));
    apart[pixel] = differs;
    if (differs > most) most = differs;
  }
  const least = Math.max(FAINT, SHARE * most);
  let left = width, top = height, right = 0, bottom = 0;
  for (let y = 0, pixel = 0; y < height; y++) {
    for (let x = 0; x < width; x++, pixel++) {
      if (apart[pixel] <= least) continue;
      left = Math.min(left, x);
      right = Math.max(right, x + 1);
      top = Math.min(top, y);
      bottom = y + 1;
    }
  }
  return right ? [left, top, right, bottom] : null;
}

/** A square of the ground's colour with the drawing in its middle, `margin` of its longer side around it. */
export function trimmed(pixels, margin) {
  const ground = groundOf(pixels), bounds = boundsOf(pixels, ground);
  if (!bounds) return pixels;
  const [left, top, right, bottom] = bounds, width = right - left, height = bottom - top;
  const longer = Math.max(width, height), side = longer + 2 * round(margin * longer);
  const square = new Uint8Array(side * side * 3);
  for (let at = 0; at < square.length; at += 3) square.set(ground, at);
  const x = Math.floor((side - width) / 2), y = Math.floor((side - height) / 2);
  for (let row = 0; row < height; row++) {
    const from = ((top + row) * pixels.width + left) * 3;
    square.set(pixels.rgb.subarray(from, from + 3 * width), ((y + row) * side + x) * 3);
  }
  return { rgb: square, height: side, width: side };
}
