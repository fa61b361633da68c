import * as ort from "./ort/ort.wasm.min.mjs";

const SHOWN = 12, MOST_PIXELS = 50e6;
const status = document.getElementById("status");
const found = document.getElementById("found");
const drop = document.getElementById("drop");
const query = document.getElementById("query");

ort.env.wasm.wasmPaths = new URL("./ort/", location.href).href;

/** Fetch a file of this folder, or say which one is missing. */
async function load(name) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`${name} is missing beside this page (${answer.status})`);
  return answer;
}

const ready = (async () => {
  const [gallery, vectors, session] = await Promise.all([
    load("gallery.json").then((r) => r.json()),
    load("gallery.bin").then((r) => r.arrayBuffer()).then((b) => new Float32Array(b)),
    load("model.onnx").then((r) => r.arrayBuffer()).then((b) => ort.InferenceSession.create(b)),
  ]);
  const sheets = await Promise.all(gallery.sheets.map((name) => load(name).then((r) => r.blob()).then((b) => createImageBitmap(b))));
  return { gallery, vectors, session, sheets };
})();

/** A picture's pixels as (1, height, width, 3) uint8, transparency laid on white. */
async function pixelsOf(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS) throw new Error(`${width} × ${height} px are too many; up to ${MOST_PIXELS / 1e6} megapixels`);
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  const rgba = context.getImageData(0, 0, width, height).data;
  const rgb = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    rgb[to++] = rgba[from];
    rgb[to++] = rgba[from + 1];
    rgb[to++] = rgba[from + 2];
  }
  return new ort.Tensor("uint8", rgb, [1, height, width, 3]);
}

/** Unit vector of a picture. */
export async function embed(blob) {
  const { session } = await ready;
  const { embedding } = await session.run({ image: await pixelsOf(blob) });
  return embedding.data;
}

/** The rows of the gallery nearest to a unit vector, best first. */
function nearest({ gallery: { count, dim }, vectors }, vector) {
  const rows = [];
  for (let row = 0; row < count; row++) {
    let similarity = 0;
    for (let i = 0, at = row * dim; i < dim; i++) similarity += vectors[at + i] * vector[i];
    rows.push({ row, similarity });
  }
  return rows.sort((a, b) => b.similarity - a.similarity).slice(0, SHOWN);
}

function draw(canvas, { gallery, sheets }, row) {
  const { thumb, columns, rows } = gallery;
  const place = row % (columns * rows);
  canvas.width = canvas.height = thumb;
  canvas.getContext("2d").drawImage(
    sheets[Math.floor(row / (columns * rows))],
    (place % columns) * thumb, Math.floor(place / columns) * thumb, thumb, thumb, 0, 0, thumb, thumb);
}

function show(loaded, rows) {
  found.replaceChildren(...rows.map(({ row, similarity }) => {
    const item = document.createElement("li"), button = document.createElement("button");
    const canvas = document.createElement("canvas"), name = document.createElement("span"), number = document.createElement("small");
    draw(canvas, loaded, row);
    name.textContent = button.title = loaded.gallery.names[row];
    number.textContent = similarity.toFixed(3);
    button.append(canvas, name, number);
    button.addEventListener("click", () => {
      query.src = canvas.toDataURL();
      query.alt = loaded.gallery.names[row];
      query.hidden = false;
      const { dim } = loaded.gallery;
      show(loaded, nearest(loaded, loaded.vectors.subarray(row * dim, (row + 1) * dim)));
      say(`Nearest to ${loaded.gallery.names[row]}`);
    });
    item.append(button);
    return item;
  }));
}

function say(text, isError = false) {
  status.textContent = text;
  status.classList.toggle("error", isError);
}

async function search(blob, name) {
  try {
    const loaded = await ready, started = performance.now();
    const vector = await embed(blob), seen = performance.now();
    show(loaded, nearest(loaded, vector));
    say(`${(seen - started).toFixed(0)} ms to see it, ${(performance.now() - seen).toFixed(0)} ms to compare it with ${loaded.gallery.count.toLocaleString("en")} pictures`);
    if (query.src.startsWith("blob:")) URL.revokeObjectURL(query.src);
    query.src = URL.createObjectURL(blob);
    query.alt = name;
    query.hidden = false;
  } catch (error) {
    say(error.name === "InvalidStateError" || error.name === "EncodingError" ? `${name} is not a picture that this browser can read` : error.message, true);
  }
}

const searchAll = async (files) => { for (const file of files) await search(file, file.name); };
document.getElementById("file").addEventListener("change", (event) => searchAll(event.target.files));
drop.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") document.getElementById("file").click(); });
for (const kind of ["dragenter", "dragover"]) document.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
document.addEventListener("dragleave", () => drop.classList.remove("over"));
document.addEventListener("drop", (event) => { event.preventDefault(); drop.classList.remove("over"); searchAll(event.dataTransfer.files); });
document.addEventListener("paste", (event) => searchAll(event.clipboardData.files));

try {
  const loaded = await ready;
  document.title = `Search by picture · ${loaded.gallery.title}`;
  document.getElementById("title").textContent = loaded.gallery.title;
  say(`Ready: ${loaded.gallery.count.toLocaleString("en")} pictures to search. Press one to see what is near it.`);
  show(loaded, Array.from({ length: Math.min(SHOWN, loaded.gallery.count) }, (_, i) => {
    const row = Math.floor((i * loaded.gallery.count) / SHOWN);
    return { row, similarity: 1 };
  }));
  for (const number of found.querySelectorAll("small")) number.textContent = "from the gallery";
} catch (error) {
  say(`The model could not be loaded: ${error.message}`, true);
}
