"""Runs the published procedure on the task of run-reference.ts.

`python main.py task.json result.json` prints lines `progress <label>: <done> of <all>`.
"""

import json
import math
import platform
import resource
import sys
import time

import torch
import transformers
from safetensors import safe_open

from hooked_model import HookedModel
from measures import ask, read_text, says_greedily, share
from procedure import Editor

# Maximum relative difference between one model's perplexities in two programs.
PERPLEXITY_TOLERANCE = 1e-3


def main(task_file: str, result_file: str) -> None:
    with open(task_file, encoding="utf-8") as file:
        task = json.load(file)
    parameters, records = task["parameters"], task["records"]
    torch.set_num_threads(task["threads"])
    if task["device"] == "cuda" and not torch.cuda.is_available():
        raise SystemExit("PyTorch finds no GPU; set ERRATA_DEVICE=cpu to compare on the processor")
    model = HookedModel(task["modelFolder"], parameters["layers"], task["device"])
    moments, contexts, canary, base_expected = read_statistics(
        task["statistics"], parameters["layers"], task["device"]
    )

    base_perplexity, _ = read_text(model, "off", canary)
    if abs(base_perplexity / base_expected - 1) > PERPLEXITY_TOLERANCE:
        raise SystemExit(
            f"the unedited model has perplexity {base_perplexity:.4f} here "
            f"and {base_expected:.4f} in Errata: the weights differ"
        )
    measured = [record for record in records if record["measured"]]
    paraphrases = [question for record in measured for question in record["paraphrases"]]
    neighbours = unique(question for record in measured for question in record["neighbours"])
    questions = [record["own"] for record in measured], paraphrases, neighbours
    own_before, paraphrases_before, neighbours_before = measure(
        model, "off", questions, "asking the unedited model"
    )

    editor = Editor(model, moments, contexts, parameters)
    seconds_by_batch = []
    done = Counter("reference: editing", len(records))
    for begin in range(0, len(records), task["batchSize"]):
        began = time.perf_counter()
        editor.edit(records[begin : begin + task["batchSize"]], done)
        seconds_by_batch.append(time.perf_counter() - began)
    rss_unit = 1 if platform.system() == "Darwin" else 1024
    peak_rss_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * rss_unit

    own, paraphrases_after, neighbours_after = measure(
        model, "gated", questions, "asking the edited model"
    )
    greedy = Counter("reference: decoding", 2 * len(measured))
    says = {}
    for token_by_token in (False, True):
        says[token_by_token] = []
        for record in measured:
            own_question = record["own"]["prompt"], record["own"]["target"]
            says[token_by_token].append(
                says_greedily(model, "gated", *own_question, token_by_token)
            )
            greedy()
    perplexity, open_share = read_text(model, "gated", canary)
    result = {
        "corrections": len(records),
        "batches": len(seconds_by_batch),
        "batchSize": task["batchSize"],
        "efficacy": share([answer["argmax"] for answer in own]),
        "efficacyGreedy": share(says[False]),
        "efficacyTokenByToken": share(says[True]),
        "preference": share([answer["target"] > answer["old"] for answer in own]),
        "paraphrase": share([answer["target"] > answer["old"] for answer in paraphrases_after]),
        "paraphraseArgmax": share([answer["argmax"] for answer in paraphrases_after]),
        "neighboursUnchanged": share(
            [a["next"] == b["next"] for a, b in zip(neighbours_after, neighbours_before)]
        ),
        "perplexityRatio": perplexity / base_perplexity,
        "ordinaryOpenShare": open_share,
        "before": {
            "efficacy": share([answer["argmax"] for answer in own_before]),
            "preference": share([answer["target"] > answer["old"] for answer in own_before]),
            "paraphrase": share(
                [answer["target"] > answer["old"] for answer in paraphrases_before]
            ),
        },
        "secondsPerCorrection": sum(seconds_by_batch) / len(records),
        "stages": editor.seconds,
        "secondsByBatch": seconds_by_batch,
        "peakRssBytes": peak_rss_bytes,
        "alphas": [hook.alpha for hook in model.hooks.values()],
        "parameters": parameters,
        "software": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "device": task["device"],
            "threads": torch.get_num_threads(),
        },
    }
    with open(result_file, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=2)


def read_statistics(kept: dict, layers: list, device: str) -> tuple:
    """Errata's C0 [F, F] per block, contexts, canary texts, and base perplexity on them."""
    with open(kept["text"], encoding="utf-8") as file:
        text = json.load(file)
    moments = {}
    for layer, path in zip(layers, kept["moments"]):
        with safe_open(path, framework="pt", device=device) as file:
            moments[layer] = file.get_tensor("moment")
    canary = text["canary"]
    expected = math.exp(sum(text["canaryLoss"]) / sum(len(sequence) - 1 for sequence in canary))
    return moments, text["contexts"], canary, expected


def measure(model, mode: str, questions: tuple, label: str) -> list:
    counter = Counter(f"reference: {label}", sum(len(part) for part in questions))
    return [ask(model, mode, part, counter) for part in questions]


def unique(questions) -> list:
    return list({tuple(question["prompt"]): question for question in questions}.values())


class Counter:
    def __init__(self, label: str, total: int):
        self.label, self.total, self.done = label, total, 0
        self.tell()

    def __call__(self) -> None:
        self.done += 1
        self.tell()

    def tell(self) -> None:
        print(f"progress {self.label}: {self.done} of {self.total}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
