"""Preprocessing as part of the graph: any uint8 picture in, a unit vector out, with nothing left to reimplement.

Resizing is two products with matrices of filter weights, made in the graph from the picture's size. They hold only what
the centre crop shows, so that a picture of 1 × 4000 px costs no more than another, and consist of operators that every
execution provider has, which resizing with antialiasing is not. Values are rounded between the two as Pillow does.
"""

from __future__ import annotations

import onnx
from onnx import compose, parser

from memssl_keras.images.preprocess import Preprocessing

# One axis: `n` pixels become `m`, of which `size` from `left` on are kept. Row j weighs the pixels around
# (left + j + 0.5) · n / m, over a filter that is wider where the picture shrinks.
_AXIS = """
    {a}_scaled = Mul({a}_length, resize)
    {a}_all = Div({a}_scaled, {shortest})
    {a}_all_float = Cast<to=1>({a}_all)
    {a}_length_float = Cast<to=1>({a}_length)
    {a}_scale = Div({a}_length_float, {a}_all_float)
    {a}_over = Sub({a}_all_float, size_float)
    {a}_half = Mul({a}_over, half)
    {a}_left = Round({a}_half)
    {a}_places = Add({a}_left, centres)
    {a}_at = Mul({a}_places, {a}_scale)
    {a}_at_column = Unsqueeze({a}_at, one)
    {a}_length_scalar = Squeeze({a}_length)
    {a}_pixels = Range(zero_scalar, {a}_length_scalar, one_scalar)
    {a}_pixels_float = Cast<to=1>({a}_pixels)
    {a}_pixel_centres = Add({a}_pixels_float, half)
    {a}_offset = Sub({a}_pixel_centres, {a}_at_column)
    {a}_distance = Abs({a}_offset)
    {a}_filter = Max({a}_scale, one_float)
    {a}_x = Div({a}_distance, {a}_filter)
{kernel}
    {a}_sum = ReduceSum<keepdims=1>({a}_weight, one)
    {a}_matrix = Div({a}_weight, {a}_sum)
"""

# Keys' cubic filter with a = -0.5, as Pillow has it: 1.5x³ - 2.5x² + 1 up to 1, -0.5x³ + 2.5x² - 4x + 2 up to 2.
_BICUBIC_CONSTANTS = " float[1] c15 = {1.5}, float[1] c2 = {2.0}, float[1] c25 = {2.5}, float[1] c4 = {4.0},"
_BICUBIC = """
    {a}_n1 = Mul({a}_x, c15)
    {a}_n2 = Sub({a}_n1, c25)
    {a}_n3 = Mul({a}_n2, {a}_x)
    {a}_n4 = Mul({a}_n3, {a}_x)
    {a}_near = Add({a}_n4, one_float)
    {a}_f1 = Mul({a}_x, half)
    {a}_f2 = Sub(c25, {a}_f1)
    {a}_f3 = Mul({a}_f2, {a}_x)
    {a}_f4 = Sub({a}_f3, c4)
    {a}_f5 = Mul({a}_f4, {a}_x)
    {a}_far = Add({a}_f5, c2)
    {a}_is_near = Less({a}_x, one_float)
    {a}_is_far = Less({a}_x, c2)
    {a}_outer = Where({a}_is_far, {a}_far, zero_float)
    {a}_weight = Where({a}_is_near, {a}_near, {a}_outer)
"""
_BILINEAR = """
    {a}_slope = Sub(one_float, {a}_x)
    {a}_weight = Max({a}_slope, zero_float)
"""

_GRAPH = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
preprocess (uint8[batch, height, width, 3] image) => (float[batch, 3, {size}, {size}] pixel_values)
<int64[1] one = {{1}}, int64[1] two = {{2}}, int64[1] three = {{3}},
 int64 zero_scalar = {{0}}, int64 one_scalar = {{1}}, int64[1] resize = {{{resize}}},
 float[1] size_float = {{{size}.0}}, float[{size}] centres = {{{centres}}},
 float[1] zero_float = {{0.0}}, float[1] half = {{0.5}}, float[1] one_float = {{1.0}},
{constants}
 float brightest = {{255.0}}, float darkest = {{0.0}},
 float[1,3,1,1] mean = {{{mean}}}, float[1,3,1,1] std = {{{std}}}>
{{
    shape = Shape(image)
    h_length = Slice(shape, one, two)
    w_length = Slice(shape, two, three)
    shortest = Min(h_length, w_length)
{axes}
    values = Cast<to=1>(image)
    planes = Transpose<perm=[0, 3, 1, 2]>(values)
    w_columns = Transpose<perm=[1, 0]>(w_matrix)
    narrow = MatMul(planes, w_columns)
    narrow_raised = Add(narrow, half)
    narrow_rounded = Floor(narrow_raised)
    narrow_clipped = Clip(narrow_rounded, darkest, brightest)
    square = MatMul(h_matrix, narrow_clipped)
    square_raised = Add(square, half)
    square_rounded = Floor(square_raised)
    square_clipped = Clip(square_rounded, darkest, brightest)
    shares = Div(square_clipped, brightest)
    centred = Sub(shares, mean)
    pixel_values = Div(centred, std)
}}
"""

_UNIT = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
unit (float[batch, {width}] pooler_output) => (float[batch, {width}] embedding)
<int64[1] axis = {{1}}, float[1] least = {{0.000000000001}}>
{{
    length = ReduceL2<keepdims=1>(pooler_output, axis)
    positive = Max(length, least)
    embedding = Div(pooler_output, positive)
}}
"""


def check_raw_pixels(preprocessing: Preprocessing) -> None:
    """Raise ValueError for a `Preprocessing` that cannot be put into a graph."""
    if preprocessing.trim is not None:
        raise ValueError(
            f"trim={preprocessing.trim}: cutting margins away cannot be put into the graph; expected a model without "
            "it, or pictures preprocessed outside (no raw pixels)"
        )


def preprocessing_graph(preprocessing: Preprocessing, opset: int = 18, ir: int = 10) -> onnx.ModelProto:
    """The graph of a `Preprocessing`: `image` `(N, H, W, 3)` uint8 → `pixel_values` `(N, 3, S, S)` float32."""
    check_raw_pixels(preprocessing)
    kernel = {"bicubic": _BICUBIC, "bilinear": _BILINEAR}[preprocessing.interpolation]
    size = preprocessing.image_size

    def numbers(values):
        return ", ".join(f"{float(v):.9f}" for v in values)

    return parser.parse_model(
        _GRAPH.format(
            ir=ir,
            opset=opset,
            size=size,
            resize=preprocessing.resize_size,
            centres=numbers(i + 0.5 for i in range(size)),
            mean=numbers(preprocessing.mean),
            std=numbers(preprocessing.std),
            constants=_BICUBIC_CONSTANTS if kernel is _BICUBIC else "",
            axes="".join(
                _AXIS.format(
                    a=a,
                    kernel=kernel.format(a=a),
                    # Squashed, each axis becomes `resize` by itself.
                    shortest=f"{a}_length" if preprocessing.squash else "shortest",
                )
                for a in "hw"
            ),
        )
    )


def with_raw_pixels(model: onnx.ModelProto, preprocessing: Preprocessing) -> onnx.ModelProto:
    """An encoder's graph with its preprocessing in front and normalisation behind.

    Args:
        model: A graph `pixel_values` `(N, 3, S, S)` → `pooler_output` `(N, D)`, of any variant.
        preprocessing: The encoder's `Preprocessing`, of side S.

    Returns:
        A graph `image` `(N, H, W, 3)` uint8 → `embedding` `(N, D)` float32 of unit length. All images of a call are
        of one size, which may be any.
    """
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    front = compose.add_prefix(preprocessing_graph(preprocessing, opset, model.ir_version), "preprocess/")
    front = _renamed(front, {"preprocess/image": "image", "preprocess/pixel_values": "pixel_values"})
    width = (
        next(o for o in model.graph.output if o.name == "pooler_output")
        .type.tensor_type.shape.dim[1]
        .dim_value
    )
    back = compose.add_prefix(
        parser.parse_model(_UNIT.format(ir=model.ir_version, opset=opset, width=width)), "unit/"
    )
    back = _renamed(back, {"unit/embedding": "embedding", "unit/pooler_output": "unit/input"})
    joined = compose.merge_models(front, model, [("pixel_values", "pixel_values")])
    joined = compose.merge_models(joined, back, [("pooler_output", "unit/input")], outputs=["embedding"])
    onnx.checker.check_model(joined, full_check=True)
    return joined


def _renamed(model, names):
    values = [*model.graph.input, *model.graph.output]
    for value in values:
        value.name = names.get(value.name, value.name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    return model
