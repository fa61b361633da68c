// node transformers_js.mjs <node_modules> <folder of models> <model> <dtype> <image>...: embeddings as JSON.
import path from "node:path";
import { pathToFileURL } from "node:url";

const [modules, root, name, dtype, ...images] = process.argv.slice(2);
const library = path.join(modules, "@huggingface/transformers/dist/transformers.node.mjs");
const { env, pipeline } = await import(pathToFileURL(library).href);
env.allowRemoteModels = false;
env.localModelPath = root;

const embed = await pipeline("image-feature-extraction", name, { dtype });
const rows = [];
for (const image of images) {
  const pooled = await embed(image, { pool: true });
  const tokens = await embed(image);
  rows.push({ pooled: Array.from(pooled.data), shape: tokens.dims, cls: Array.from(tokens.data).slice(0, pooled.dims[1]) });
}
process.stdout.write(JSON.stringify(rows));
