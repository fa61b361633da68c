import copies from "./copy.mjs";
import boxes from "./part.mjs";
import { draw, embed, inWords, open, pixelsOf, ready, similaritiesTo, vectorOf } from "./encoder.js";
import { named, same } from "./naming.mjs";
export { embed };

const LARGE = 128; // pixels of a side from which on a picture may hold more than one icon
const THINGS = 4, FURTHER = 8; // shown, and drawings of one that is not the likeliest
const $ = (name) => document.querySelector(name);
const image = $("#query img"), part = $("#part"), boxed = $("#boxed"), set = $("#set");
let asked = null; // what is asked about: a picture, its name, and the part in the box
let asking = 0; // number of the last question: only its answer is shown

function element(kind, className, ...inside) {
  const made = Object.assign(document.createElement(kind), { className });
  made.append(...inside);
  return made;
}

/** A name that a narrow card breaks behind a colon. */
const breakable = (text) => text.split(/(?<=[:_])/).flatMap((one) => [one, document.createElement("wbr")]);

function copyButton(id) {
  const button = element("button", "copy", "Copy");
  Object.assign(button, { type: "button" }).dataset.copy = id;
  return button;
}

function card(loaded, row) {
  const { ids, sets, licences } = loaded.gallery.about, about = `${sets[row]} · ${licences[row]}`;
  const canvas = document.createElement("canvas");
  draw(canvas, loaded, row);
  const button = element("button", "card", canvas, element("span", "name", ...breakable(ids[row])), element("span", "about", about));
  Object.assign(button, { type: "button", title: `Copy ${ids[row]} (${about})` });
  Object.assign(button.dataset, { copy: ids[row], icon: row });
  return button;
}

function say(title, ...about) {
  $("#status h2").textContent = title;
  $("#status p").replaceChildren(...about);
  $("#status").classList.remove("error");
}

function sections(loaded, things, first) {
  return things.flatMap((thing, place) => {
    const leading = first && place === 0;
    const title = leading ? element("h3", "", first)
      : element("h3", "", `${loaded.gallery.names[thing.named]} `, element("span", "", thing.similarity.toFixed(2)));
    const rows = leading ? thing.rows : thing.rows.slice(0, FURTHER);
    const cards = element("div", "cards", ...rows.map((row) => card(loaded, row)));
    const between = first && place === 1 ? [element("p", "lead", "Or one of these?")] : [];
    return [...between, element("section", leading ? "thing first" : "thing", title, cards)];
  });
}

function show(loaded, found, milliseconds) {
  const { names, about: { ids, sets, licences }, threshold } = loaded.gallery, { best, similarity, things } = found;
  const measure = `similarity ${similarity.toFixed(2)} · in ${milliseconds.toFixed(0)} ms`;
  if (threshold != null && similarity < threshold) {
    const hint = !asked.part && Math.max(asked.bitmap.width, asked.bitmap.height) >= LARGE ? "Drag a box around one icon of the picture. " : "";
    say("I do not know this icon", `${hint}The nearest has similarity ${similarity.toFixed(2)}; below ${threshold.toFixed(2)}, wrong names outnumber right ones on the benchmark. These are guesses.`);
    $("#results").replaceChildren(...sections(loaded, things, ""));
    return;
  }
  const drawn = things.length > 0 && same(loaded.gallery, things[0], best);
  const notes = [` ${sets[best]} · ${licences[best]} · ${measure}`];
  if (!drawn) notes.push(". The set that is chosen does not draw it; the nearest things that it draws:");
  if (threshold == null) notes.push(" (at which similarity names become wrong was not measured for this model)");
  say(names[best], element("code", "", ids[best]), " ", copyButton(ids[best]), ...notes);
  $("#results").replaceChildren(...sections(loaded, things, drawn ? "The same thing, set by set" : ""));
}

/** Ask about a part of the picture, or about the whole of it. */
async function ask(box = asked?.part) {
  if (!asked) return;
  const number = ++asking;
  asked.part = box;
  const loaded = await ready, started = performance.now(), pixels = pixelsOf(asked.bitmap, box ?? undefined);
  boxed.hidden = !box;
  $("#hint").hidden = Boolean(box);
  if (box) drawPart(pixels);
  const vector = await vectorOf(pixels);
  if (number !== asking) return;
  const found = named(loaded.gallery, similaritiesTo(loaded, vector), THINGS, set.value);
  show(loaded, found, performance.now() - started);
}

/** The part in the box, and the way back. */
function drawPart({ rgb, height, width }) {
  const data = new ImageData(width, height).data.fill(255);
  for (let from = 0, to = 0; from < rgb.length; from += 3, to += 4) data.set(rgb.subarray(from, from + 3), to);
  const canvas = Object.assign(document.createElement("canvas"), { height, width });
  canvas.getContext("2d").putImageData(new ImageData(data, width), 0, 0);
  const back = Object.assign(document.createElement("button"), { type: "button", textContent: "The whole picture again" });
  boxed.replaceChildren(canvas, "Searching for this part.", back);
}

/** Take a picture as the query. */
async function bring(blob, name, box = null) {
  try {
    const bitmap = await open(blob);
    asked = { bitmap, name, part: box };
    if (image.src) URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(blob);
    $("#query").hidden = false;
    $("#drop").classList.add("small");
    await ask(box);
  } catch (error) {
    say("This picture cannot be read", inWords(error, name));
    $("#status").classList.add("error");
    $("#results").replaceChildren();
  }
}

function listen() {
  const file = $("#file"), drop = $("#drop");
  const first = (files) => files.length && bring(files[0], files[0].name);
  file.addEventListener("change", () => { first(file.files); file.value = ""; });
  drop.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); file.click(); }
  });
  for (const kind of ["dragenter", "dragover"]) document.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
  document.addEventListener("dragleave", () => drop.classList.remove("over"));
  document.addEventListener("drop", (event) => { event.preventDefault(); drop.classList.remove("over"); first(event.dataTransfer.files); });
  document.addEventListener("paste", (event) => first(event.clipboardData.files));
  set.addEventListener("change", () => ask());
  boxes(part, (kind, given) => ask(kind === "select" ? given.part : null));
  copies();
}

function offer({ gallery }) {
  const sets = [...new Set(gallery.about.sets)];
  set.append(...sets.map((name) => new Option(name)));
  $("#model").textContent = gallery.title;
  $("#lead").textContent = `Paste a screenshot and drag a box around the icon. You get its name in ${sets.length} sets, with licence and an id to copy, out of ${gallery.count.toLocaleString("en")} icons.`;
  $("#credits").append(`Icons: ${sets.join(", ")}, scaled. `, Object.assign(element("a", "", "Authors and licences"), { href: "LICENSES.md" }));
  $("#examples").append(...gallery.examples.map(({ file, title, box }) => {
    const button = element("button", "example", Object.assign(new Image(), { src: file, alt: "" }), title);
    button.type = "button";
    button.addEventListener("click", async () => bring(await (await fetch(file)).blob(), title, box));
    return button;
  }));
}

try {
  listen();
  offer(await ready);
  if (!asked) say("Ready", "Ask about an icon, and its name stands here, as each of the sets calls it, ready to copy.");
} catch (error) {
  say("The model could not be loaded", error.message);
  $("#status").classList.add("error");
}
