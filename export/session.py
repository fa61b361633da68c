"""Sessions of ONNX Runtime: what runs a graph, on which threads."""

from __future__ import annotations

from collections.abc import Sequence

import onnxruntime

from memssl_keras.annotations import PathLike

# Short name → ONNX Runtime's; it takes what a provider cannot run back to the processor.
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
}


def providers_of(names: str | Sequence[str]) -> list[str]:
    """ONNX Runtime's names of providers, the processor's last where it is not among them.

    Raises:
        ValueError: one is not installed, or there is none.
    """
    names = [names] if isinstance(names, str) else list(names)
    there = onnxruntime.get_available_providers()
    chosen = [PROVIDERS.get(str(name).lower(), name) for name in names]
    for name, provider in zip(names, chosen, strict=True):
        if provider not in there:
            short = {full: short for short, full in PROVIDERS.items()}
            raise ValueError(
                f"providers: {name!r} is not installed; this onnxruntime {onnxruntime.__version__} has "
                f"{', '.join(repr(short.get(one, one)) for one in there)}"
            )
    if not chosen:
        raise ValueError(f"providers: got none; expected some of {', '.join(PROVIDERS)}")
    return chosen if PROVIDERS["cpu"] in chosen else [*chosen, PROVIDERS["cpu"]]


def open_session(
    path: PathLike, threads: int | None = None, providers: Sequence[str] = (PROVIDERS["cpu"],)
) -> onnxruntime.InferenceSession:
    """A session without ONNX Runtime's warnings.

    Args:
        path: an ONNX file.
        threads: processor threads of one call; all by default.
        providers: by ONNX Runtime's names, the first choice first.

    Raises:
        ValueError: the file cannot be read.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # its warnings are about optimisations, not about what a user can change
    # Threads that wait sleep: beside the threads that read pictures, and beside other programs, spinning ones take
    # the cores that the others need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=list(providers))
    except Exception as error:  # ONNX Runtime's exception classes share no public base
        raise ValueError(f"{path}: not a readable ONNX model, perhaps truncated ({error})") from error
