"""Compares the procedure with the twin's goldens (test/golden/comeba): `python check.py`.

It takes seconds, and exits with 1 on a deviation. The twin is float64 and runs sequence by sequence
without padding. So padding is kept out of the scores here, and the comparison ends with a family's
second batch: alpha is the score of some prompt, and at such a tie float32 may open a gate that
float64 keeps shut.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors import safe_open

import hooked_model
from hooked_model import HookedModel
from procedure import Editor

GOLDEN = Path(__file__).resolve().parents[2] / "test" / "golden"
BATCHES_COMPARED = 2
# The measured difference between float32 and float64 is 3e-6.
TOLERANCE = 1e-4


class UnpaddedModel(HookedModel):
    """Scores are taken over each sequence's own tokens."""

    def logits(self, ids, mask, delta=None):
        lengths = mask.sum(dim=1).tolist()

        def scores(sizes):
            out = torch.full_like(sizes, float("-inf"))
            for b, length in enumerate(lengths):
                own = sizes[b, :length]
                out[b, :length] = (own - own.mean()) / own.std()
            return out

        hooked_model.z_scores = scores
        return super().logits(ids, mask, delta)


def main() -> int:
    # Tiny matrices gain nothing from a second thread.
    torch.set_num_threads(1)
    with open(GOLDEN / "comeba" / "input.json", encoding="utf-8") as file:
        given = json.load(file)
    names = "layers lambda alpha learningRate klFactor weightDecay clamp lossTarget".split()
    parameters = {name: given["parameters"][name] for name in names}
    parameters["steps"] = given["parameters"]["updatesMax"] + 1
    worst = 0.0
    for family in ("llama", "gpt2", "gptj"):
        golden = safe_open(GOLDEN / "comeba" / f"{family}-paper.safetensors", "pt")
        model = UnpaddedModel(str(GOLDEN / "tiny" / family), parameters["layers"], "cpu")
        moments = {
            layer: golden.get_tensor(f"moment0.{layer}").double() for layer in parameters["layers"]
        }
        contexts = [given["front"] + context for context in given["contexts"]]
        editor = Editor(model, moments, contexts, parameters)
        for b, batch in enumerate(given["batches"][:BATCHES_COMPARED]):
            before = {layer: hook.weight.double() for layer, hook in model.hooks.items()}
            editor.edit([correction_of(one, given["front"]) for one in batch], lambda: None)
            for layer, hook in model.hooks.items():
                seen = {
                    "delta": hook.weight.double() - before[layer],
                    "moment": hook.moment,
                    "alpha": torch.tensor([hook.alpha]),
                }
                for name, value in seen.items():
                    expected = golden.get_tensor(f"batch.{b}.layer.{layer}.{name}").double()
                    deviation = ((value.double() - expected).norm() / expected.norm()).item()
                    print(f"{family} batch {b} block {layer} {name}: {deviation:.1e}")
                    worst = max(worst, deviation)
    print(f"largest relative deviation {worst:.1e}, allowed {TOLERANCE:.0e}")
    return 0 if worst <= TOLERANCE else 1


def correction_of(one: dict, front: list) -> dict:
    """Adds the front token to texts without a context; a context has its own."""

    def fronted(place):
        return {"tokens": front + place["tokens"], "subjectLast": len(front) + place["subjectLast"]}

    return {
        "bare": fronted(one["bare"]),
        "behind": one["behind"],
        "essence": fronted(one["essence"]),
        "target": one["targetTokens"],
    }


if __name__ == "__main__":
    sys.exit(main())
