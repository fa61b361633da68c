import { draw, embed, inWords, ready, similaritiesTo } from "./encoder.js";
export { embed };

const SHOWN = 12;
const status = document.getElementById("status");
const found = document.getElementById("found");
const drop = document.getElementById("drop");
const query = document.getElementById("query");

/** The rows of the gallery nearest to a unit vector, best first. */
function nearest(loaded, vector) {
  const rows = Array.from(similaritiesTo(loaded, vector), (similarity, row) => ({ row, similarity }));
  return rows.sort((a, b) => b.similarity - a.similarity).slice(0, SHOWN);
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
    say(inWords(error, name), true);
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
    const row = Math.floor((i * loaded.gallery.count) / Math.min(SHOWN, loaded.gallery.count));
    return { row, similarity: 1 };
  }));
  for (const number of found.querySelectorAll("small")) number.textContent = "from the gallery";
} catch (error) {
  say(`The model could not be loaded: ${error.message}`, true);
}
