// The same model under Node:
//
//     npm install onnxruntime-node sharp
//     node embed.mjs photo.jpg other.png
//
// prints one JSON line per picture: its name and its unit vector.

import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import ort from "onnxruntime-node";
import sharp from "sharp";
import { trimmed } from "./trim.mjs";

const { trim } = JSON.parse(await readFile(new URL("gallery.json", import.meta.url), "utf8"));
const session = await ort.InferenceSession.create(fileURLToPath(new URL("model.onnx", import.meta.url)));

for (const name of process.argv.slice(2)) {
  const { data, info } = await sharp(name)
    .rotate() // as its EXIF data say
    .flatten({ background: "white" })
    .toColourspace("srgb")
    .removeAlpha()
    .raw()
    .toBuffer({ resolveWithObject: true });
  const whole = { rgb: new Uint8Array(data), height: info.height, width: info.width };
  const { rgb, height, width } = trim == null ? whole : trimmed(whole, trim);
  const image = new ort.Tensor("uint8", rgb, [1, height, width, 3]);
  const { embedding } = await session.run({ image });
  console.log(JSON.stringify({ image: name, embedding: Array.from(embedding.data) }));
}
