"""Blocks of every GGML storage type that is read, and their values by the `gguf` package.

Types that the package can quantise are made from numbers of a wide range, the K types from random
bytes with plausible scales, so that every bit of a block has an effect.
"""

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type
from gguf.quants import dequantize, quantize

from files import HERE, save_tensors

QUANTISED = [Type.F16, Type.BF16, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0]
# Byte offsets of the half-precision scales in a block.
SCALES = {Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208]}


def main():
    generator = np.random.default_rng(7)
    tensors = {}
    for kind in QUANTISED:
        values = generator.standard_normal((8, 64)).astype(np.float32) * np.float32(10.0) ** generator.integers(-3, 3, (8, 1)).astype(np.float32)
        values[3, :32] = 0
        stored = quantize(values, kind)
        tensors[f"{kind.name}.bytes"] = np.frombuffer(stored.tobytes(), np.uint8)
        tensors[f"{kind.name}.values"] = dequantize(stored, kind).astype(np.float32).reshape(-1)
    for kind, scales in SCALES.items():
        _, block_bytes = GGML_QUANT_SIZES[kind]
        stored = generator.integers(0, 256, (4, block_bytes), dtype=np.uint8)
        for at in scales:
            stored[:, at : at + 2] = generator.standard_normal((4, 1)).astype(np.float16).view(np.uint8)
        tensors[f"{kind.name}.bytes"] = stored.reshape(-1)
        tensors[f"{kind.name}.values"] = dequantize(stored, kind).astype(np.float32).reshape(-1)
    save_tensors(HERE / "quantisation.safetensors", tensors)


if __name__ == "__main__":
    main()
