// The model, the gallery and what both need: pixels of a picture, its vector, similarities, tiles of the gallery.
import * as ort from "./ort/ort.wasm.min.mjs";
import { round, trimmed } from "./trim.mjs";

const MOST_PIXELS = 50e6;
ort.env.wasm.wasmPaths = new URL("./ort/", location.href).href;

/** Fetch a file of this folder, or say which one is missing. */
async function load(name) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`${name} is missing beside this page (${answer.status})`);
  return answer;
}

/** The gallery, its vectors row by row, the model, and the sheets of its pictures. */
export const ready = (async () => {
  const [gallery, vectors, session] = await Promise.all([
    load("gallery.json").then((r) => r.json()),
    load("gallery.bin").then((r) => r.arrayBuffer()).then((b) => new Float32Array(b)),
    load("model.onnx").then((r) => r.arrayBuffer()).then((b) => ort.InferenceSession.create(b)),
  ]);
  const sheets = await Promise.all(gallery.sheets.map((name) => load(name).then((r) => r.blob()).then((b) => createImageBitmap(b))));
  return { gallery, vectors, session, sheets };
})();

/** A picture as it is drawn, with no colour changed. */
export async function open(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS) throw new Error(`${width} × ${height} px are too many; up to ${MOST_PIXELS / 1e6} megapixels`);
  return bitmap;
}

/** Pixels of a part of a picture, which is left, top, right and bottom as fractions; transparency is laid on white. */
export function pixelsOf(bitmap, part = [0, 0, 1, 1]) {
  const left = Math.min(Math.floor(part[0] * bitmap.width), bitmap.width - 1);
  const top = Math.min(Math.floor(part[1] * bitmap.height), bitmap.height - 1);
  const width = Math.max(left + 1, round(part[2] * bitmap.width)) - left;
  const height = Math.max(top + 1, round(part[3] * bitmap.height)) - top;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, -left, -top);
  const rgba = context.getImageData(0, 0, width, height).data;
  const rgb = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    rgb[to++] = rgba[from];
    rgb[to++] = rgba[from + 1];
    rgb[to++] = rgba[from + 2];
  }
  return { rgb, height, width };
}

let running = Promise.resolve(); // a session runs one picture at a time

/** Unit vector of pixels, trimmed where the model was trained so. */
export async function vectorOf(pixels) {
  const { gallery, session } = await ready;
  const { rgb, height, width } = gallery.trim == null ? pixels : trimmed(pixels, gallery.trim);
  const image = new ort.Tensor("uint8", rgb, [1, height, width, 3]);
  const answer = running.then(() => session.run({ image }));
  running = answer.catch(() => {});
  return (await answer).embedding.data;
}

/** Unit vector of a picture. */
export const embed = async (blob) => vectorOf(pixelsOf(await open(blob)));

/** Cosine similarity of every row of the gallery to a unit vector. */
export function similaritiesTo({ gallery: { count, dim }, vectors }, vector) {
  const similarities = new Float32Array(count);
  for (let row = 0, at = 0; row < count; row++) {
    let similarity = 0;
    for (let i = 0; i < dim; i++) similarity += vectors[at++] * vector[i];
    similarities[row] = similarity;
  }
  return similarities;
}

/** Draw a picture of the gallery. */
export function draw(canvas, { gallery, sheets }, row) {
  const { thumb, columns, rows } = gallery;
  const place = row % (columns * rows);
  canvas.width = canvas.height = thumb;
  canvas.getContext("2d").drawImage(
    sheets[Math.floor(row / (columns * rows))],
    (place % columns) * thumb, Math.floor(place / columns) * thumb, thumb, thumb, 0, 0, thumb, thumb);
}

/** What went wrong with a picture, in words. */
export const inWords = (error, name) => error.name === "InvalidStateError" || error.name === "EncodingError"
  ? `${name} is not a picture that this browser can read` : error.message;
