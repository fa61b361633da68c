"""One side of `python zoo/benchmarks peers`, in the environment that has it: told `go`, it embeds all files once.

Started as `python peer_side.py SIDE MODEL FILES THREADS`; it prints a line of JSON for each `go`: seconds, processor
time, peak memory and the first vectors. It imports nothing of memssl-keras but for the side `memssl`.
"""

import json
import pathlib
import sys
import time

import numpy as np

BATCH = 32


def memssl(model, threads):
    from memssl_keras import OnnxEncoder

    encoder = OnnxEncoder.from_pretrained(model, variant="fp32", threads=threads)
    return lambda files: encoder.embed(files, BATCH)


def model_alone(model, threads):
    """The model on pixels that are there already: what reading and preprocessing would cost nothing for."""
    from memssl_keras import OnnxEncoder

    encoder, kept = OnnxEncoder.from_pretrained(model, variant="fp32", threads=threads), {}

    def embed(files):
        for file in files[len(kept) :]:
            kept[file] = encoder.preprocessing(file)
        batches = [files[i : i + BATCH] for i in range(0, len(files), BATCH)]
        return np.concatenate([encoder.embed_pixels(np.stack([kept[f] for f in batch])) for batch in batches])

    return embed


def fastembed(model, threads):
    from fastembed import ImageEmbedding
    from fastembed.common.model_description import DenseModelDescription, ModelSource
    from fastembed.image import onnx_embedding

    about = DenseModelDescription(
        model="memssl/benchmark",
        sources=ModelSource(hf="memssl/benchmark"),
        model_file="onnx/pooled.onnx",
        description="",
        license="apache-2.0",
        size_in_GB=0.1,
        dim=384,
    )
    onnx_embedding.supported_onnx_models.append(about)
    encoder = ImageEmbedding(about.model, specific_model_path=model, threads=threads)
    return lambda files: np.stack(list(encoder.embed(files, batch_size=BATCH)))


def transformers(model, threads):
    import onnxruntime
    from PIL import Image
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(f"{model}/onnx/model.onnx", options)

    def embed(files):
        parts = []
        for start in range(0, len(files), BATCH):
            pictures = [Image.open(file).convert("RGB") for file in files[start : start + BATCH]]
            pixels = np.asarray(processor(images=pictures, return_tensors="np")["pixel_values"])
            parts.append(session.run(["pooler_output"], {"pixel_values": pixels})[0])
        return np.concatenate(parts)

    return embed


def timm(model, threads):
    import timm as library
    import torch
    from PIL import Image

    torch.set_num_threads(threads)
    encoder = library.create_model(f"local-dir:{model}", pretrained=True, num_classes=0).eval()
    transform = library.data.create_transform(
        **library.data.resolve_model_data_config(encoder), is_training=False
    )

    def embed(files):
        parts = []
        for start in range(0, len(files), BATCH):
            chunk = files[start : start + BATCH]
            pixels = torch.stack([transform(Image.open(file).convert("RGB")) for file in chunk])
            with torch.inference_mode():
                parts.append(encoder(pixels).numpy())
        return np.concatenate(parts)

    return embed


def declare_torchvision_operators():
    """Beside a processor build of torch, torchvision's wheel lacks operators that it names; none is used here."""
    import importlib.util
    import re

    import torch

    found = importlib.util.find_spec("torchvision")
    text = (pathlib.Path(found.origin).parent / "_meta_registrations.py").read_text() if found else ""
    library = torch.library.Library("torchvision", "DEF")
    for name in dict.fromkeys(re.findall(r'register_(?:meta|fake)\("(?:torchvision::)?(\w+)"', text)):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor x) -> Tensor")
    return library  # its declarations go with it


def main(side, model, folder, threads):
    kept = declare_torchvision_operators() if side in ("timm", "transformers") else None
    embed = globals()[side](model, int(threads))
    files = sorted(str(path) for path in pathlib.Path(folder).glob("*.jpg"))
    embed(files[:BATCH])
    for line in sys.stdin:
        if line.strip() != "go":
            break
        begin, used = time.perf_counter(), time.process_time()
        vectors = embed(files)
        seconds, used = time.perf_counter() - begin, time.process_time() - used
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        status = dict(
            line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines()
        )
        peak = int(status["VmHWM"].split()[0]) / 1024
        said = {"seconds": seconds / len(files), "processor": used / len(files), "peak": peak}
        print(json.dumps({**said, "vectors": vectors[:8].tolist()}), flush=True)
    del kept


if __name__ == "__main__":
    main(*sys.argv[1:5])
