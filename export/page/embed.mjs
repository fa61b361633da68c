// The same model under Node:
//
//     npm install onnxruntime-node sharp
//     node embed.mjs photo.jpg other.png
//
// prints one JSON line per picture: its name and its unit vector.

import ort from "onnxruntime-node";
import sharp from "sharp";

const session = await ort.InferenceSession.create(new URL("model.onnx", import.meta.url).pathname);

for (const name of process.argv.slice(2)) {
  const { data, info } = await sharp(name)
    .rotate() // as its EXIF data say
    .flatten({ background: "white" })
    .toColourspace("srgb")
    .removeAlpha()
    .raw()
    .toBuffer({ resolveWithObject: true });
  const image = new ort.Tensor("uint8", new Uint8Array(data), [1, info.height, info.width, 3]);
  const { embedding } = await session.run({ image });
  console.log(JSON.stringify({ image: name, embedding: Array.from(embedding.data) }));
}
