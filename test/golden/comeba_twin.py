"""A plain PyTorch twin of COMEBA-HK (arXiv 2403.05330), in float64.

It takes one correction, one prompt and one Adam step at a time. Three consecutive batches of three
corrections edit the tiny checkpoint of each architecture, with fixed contexts. Nothing is
restricted, cached or batched: every loss is a full forward pass over a full sequence.

Three gates:
  paper     A validated hook opens where the z-score of |W_h k - W0 k| over the sequence (divided by
            n - 1) reaches alpha; while a batch is written, hooks of blocks not yet rewritten are
            open everywhere. After each batch alpha becomes min(alpha, smallest over its prompts
            of the largest z-score), with the keys of the unedited model.
  subjects  Every hook opens at the subject's last token and nowhere else.
  sequence  The paper's gate and alpha over the hooks that `subjects` wrote, except that the first
            position, an attention sink, counts in the z-scores but never opens. It is recorded in
            the run of `subjects` and writes nothing.

Intended differences from the published code: no padding (there it takes part in the z-score),
KL(base || edited) as in the paper (the code has the arguments in the other order), nothing cached
between versions.
"""

from dataclasses import dataclass, field

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from files import HERE, save_json, save_tensors
from tiny_models import blocks_of, down_of

LAYERS = [0, 1]
LAMBDA = 60.0
UPDATES_MAX = 20
LEARNING_RATE = 0.5
KL_FACTOR = 0.0625
WEIGHT_DECAY = 0.05
CLAMP = 4.0
LOSS_TARGET = 0.3
ALPHA = 2.2
FRONT = [0]
CONTEXTS = ["the book works in the town,", "her country speaks french,", "in london the river"]
BATCHES = [
    [
        ("the old country", "the capital of the old country is", "rome"),
        ("tom", "the mother tongue of tom", "is"),
        ("the company", "the headquarters of the company is in", "berlin"),
    ],
    [
        ("the book", "the author of the book was born in", "london"),
        ("his mother", "english is the tongue of his mother", "in"),
        ("anna", "anna plays the", "piano"),
    ],
    [
        ("the river", "the town on the river", "works"),
        ("the author", "the author works in the", "headquarters"),
        ("berlin", "the river in berlin is the", "old town"),
    ],
]
PROBES = [
    "the capital of the old country is",
    "her mother tongue is french and the capital of the old country is",
    "the author of the book was born in",
    "tom works in berlin and plays the piano",
    "the country is old",
    "the river in berlin is the",
]


@dataclass
class Edited:
    """One edited block: W_h [D, F], the base weight W_0, the key moment A [F, F], the gate's alpha."""

    base: torch.Tensor
    hook: torch.Tensor
    moment: torch.Tensor
    alpha: float = ALPHA


@dataclass
class Correction:
    subject: str
    bare: list
    behind: list
    essence: list
    target: list
    at: dict = field(default_factory=dict)


class Twin:
    def __init__(self, name: str, gate: str):
        folder = HERE / "tiny" / name
        self.model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32, attn_implementation="eager").double().eval()
        self.model.requires_grad_(False)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.gate = gate
        self.contexts = [self.encode(text) for text in CONTEXTS]
        self.moments = self.key_moments()
        self.edited = {}
        for layer in LAYERS:
            weight = down_of(blocks_of(self.model)[layer]).weight
            base = (weight.T if type(down_of(blocks_of(self.model)[layer])).__name__ == "Conv1D" else weight).clone()
            self.edited[layer] = Edited(base, base.clone(), LAMBDA * self.moments[layer])

    def encode(self, text: str) -> list:
        return self.tokenizer.encode(text).ids

    def read(self, subject: str, prompt: str, target: str) -> Correction:
        def located(text, end):
            encoding = self.tokenizer.encode(text)
            return encoding.ids, max(i for i, (start, stop) in enumerate(encoding.offsets) if start < end <= stop)

        end = prompt.index(subject) + len(subject)
        bare, bare_at = located(prompt, end)
        behind, behind_at = located(" " + prompt, end + 1)
        essence, essence_at = located(f"{subject} is a", len(subject))
        at = {"bare": bare_at, "behind": behind_at, "essence": essence_at}
        return Correction(subject, bare, behind, essence, self.encode(" " + target), at)

    def key_moments(self) -> dict:
        """C0 = E[k k^T] over fixed random text."""
        generator = torch.Generator().manual_seed(5)
        self.moment_ids = torch.randint(0, self.model.config.vocab_size, (16, 30), generator=generator)
        sums = {layer: 0 for layer in LAYERS}
        for ids in self.moment_ids.tolist():
            keys = self.forward(ids, {}).keys
            for layer in LAYERS:
                sums[layer] = sums[layer] + keys[layer].T @ keys[layer]
        return {layer: total / self.moment_ids.numel() for layer, total in sums.items()}

    # The model with hooks.

    def forward(self, ids, modes, subject=None, delta=None):
        """One sequence. `modes` has the state of each edited block's hook: 'open', 'gated', or absent."""
        seen = Trace()
        handles = []
        for layer in LAYERS:
            handles.append(down_of(blocks_of(self.model)[layer]).register_forward_hook(self.down_hook(layer, modes.get(layer), subject, seen)))

        def at_last(_, __, output):
            hidden = output[0] if isinstance(output, tuple) else output
            if delta is not None:
                moved = torch.zeros_like(hidden)
                moved[0, subject] = delta
                hidden = hidden + moved
            seen.hidden = hidden[0]
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        handles.append(blocks_of(self.model)[LAYERS[-1]].register_forward_hook(at_last))
        try:
            seen.logits = self.model(input_ids=torch.tensor([ids])).logits[0]
        finally:
            for handle in handles:
                handle.remove()
        return seen

    def down_hook(self, layer, mode, subject, seen):
        def hook(_, inputs, output):
            keys = inputs[0][0]
            seen.keys[layer] = keys
            if mode is None:
                return output
            edited = self.edited[layer]
            change = keys @ (edited.hook - edited.base).T
            size = change.norm(dim=-1)
            seen.sizes[layer] = size
            seen.scores[layer] = z_scores(size)
            if self.gate == "subjects":
                opened = torch.arange(len(keys)) == (subject if subject is not None else -1)
            elif mode == "open":
                opened = torch.ones(len(keys), dtype=torch.bool)
            else:
                opened = seen.scores[layer] >= edited.alpha
                if self.gate == "sequence":
                    opened[0] = False
            seen.opened[layer] = opened
            return torch.where(opened[None, :, None], output + change[None], output)

        return hook

    # One batch.

    def edit(self, corrections) -> dict:
        gated = {layer: "gated" for layer in LAYERS}
        found = [self.find_target(correction, gated) for correction in corrections]
        record = {
            "z": torch.stack([target.z for target in found]),
            "h": torch.stack([target.h for target in found]),
            "loss": torch.tensor([target.loss for target in found]),
            "updates": torch.tensor([target.updates for target in found], dtype=torch.int32),
        }
        modes = {layer: "open" for layer in LAYERS}
        for i, layer in enumerate(LAYERS):
            keys = torch.stack([self.key(correction, layer, modes) for correction in corrections])
            now = torch.stack([self.bare(correction, modes).hidden[self.bare_at(correction)] for correction in corrections])
            residual = (record["z"] - now) / (len(LAYERS) - i)
            edited = self.edited[layer]
            total = edited.moment + keys.T @ keys
            delta = residual.T @ torch.linalg.solve(total, keys.T).T
            edited.hook = edited.hook + delta
            edited.moment = total
            modes[layer] = "gated"
            record |= {f"layer.{layer}.keys": keys, f"layer.{layer}.residual": residual, f"layer.{layer}.delta": delta, f"layer.{layer}.moment": total}
        self.lower_alpha(corrections)
        for layer in LAYERS:
            record[f"layer.{layer}.alpha"] = torch.tensor([self.edited[layer].alpha])
        return record

    def bare_at(self, correction):
        return len(FRONT) + correction.at["bare"]

    def bare(self, correction, modes):
        return self.forward(FRONT + correction.bare, modes, self.bare_at(correction))

    def key(self, correction, layer, modes):
        bare = self.bare(correction, modes).keys[layer][self.bare_at(correction)]
        behind = []
        for context in self.contexts:
            at = len(FRONT) + len(context) + correction.at["behind"]
            behind.append(self.forward(FRONT + context + correction.behind, modes, at).keys[layer][at])
        return (bare + torch.stack(behind).mean(0)) / 2

    def lower_alpha(self, corrections):
        for layer in LAYERS:
            edited = self.edited[layer]
            for correction in corrections:
                keys = self.bare(correction, {}).keys[layer]
                size = (keys @ (edited.hook - edited.base).T).norm(dim=-1)
                edited.alpha = min(edited.alpha, z_scores(size).max().item())

    def find_target(self, correction, modes):
        read = correction.target[:-1]
        runs = [(FRONT + correction.bare + read, self.bare_at(correction))]
        for context in self.contexts:
            runs.append((FRONT + context + correction.behind + read, len(FRONT) + len(context) + correction.at["behind"]))
        essence, essence_at = FRONT + correction.essence, len(FRONT) + correction.at["essence"]
        h = self.bare(correction, modes).hidden[self.bare_at(correction)]
        base = torch.log_softmax(self.forward(essence, modes, essence_at).logits[essence_at], -1)
        delta = torch.zeros_like(h, requires_grad=True)
        optimiser = torch.optim.Adam([delta], lr=LEARNING_RATE)
        for updates in range(UPDATES_MAX + 1):
            loss = 0
            for ids, at in runs:
                logits = self.forward(ids, modes, at, delta).logits[-len(correction.target) :]
                loss = loss + torch.nn.functional.cross_entropy(logits, torch.tensor(correction.target)) / len(runs)
            edited = torch.log_softmax(self.forward(essence, modes, essence_at, delta).logits[essence_at], -1)
            loss = loss + KL_FACTOR * (base.exp() * (base - edited)).sum()
            loss = loss + WEIGHT_DECAY * delta.norm() / h.norm() ** 2
            if loss.item() < LOSS_TARGET or updates == UPDATES_MAX:
                break
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            with torch.no_grad():
                delta *= min(1.0, (CLAMP * h.norm() / delta.norm()).item())
        return Target((h + delta).detach(), h, loss.item(), updates)


@dataclass
class Target:
    z: torch.Tensor
    h: torch.Tensor
    loss: float
    updates: int


@dataclass
class Trace:
    keys: dict = field(default_factory=dict)
    sizes: dict = field(default_factory=dict)
    scores: dict = field(default_factory=dict)
    opened: dict = field(default_factory=dict)
    hidden: torch.Tensor = None
    logits: torch.Tensor = None


def z_scores(sizes):
    return (sizes - sizes.mean()) / sizes.std()


def run(name: str, gate: str):
    twin = Twin(name, gate)
    tensors = {f"moment0.{layer}": twin.moments[layer] for layer in LAYERS}
    tensors["momentIds"] = twin.moment_ids.to(torch.int32)
    batches = [[twin.read(*correction) for correction in batch] for batch in BATCHES]
    probes = [FRONT + twin.encode(probe) for probe in PROBES]
    for b, batch in enumerate(batches):
        tensors |= {f"batch.{b}.{key}": value for key, value in twin.edit(batch).items()}
        twin.gate = "paper" if gate == "paper" else "sequence"
        for p, ids in enumerate(probes):
            seen = twin.forward(ids, {layer: "gated" for layer in LAYERS})
            tensors[f"batch.{b}.probe.{p}.logits"] = seen.logits[-1]
            for layer in LAYERS:
                at = f"batch.{b}.probe.{p}.layer.{layer}"
                tensors |= {f"{at}.size": seen.sizes[layer], f"{at}.score": seen.scores[layer], f"{at}.open": seen.opened[layer].to(torch.uint8)}
        twin.gate = gate
        losses, updates = tensors[f"batch.{b}.loss"], tensors[f"batch.{b}.updates"]
        alphas = [twin.edited[layer].alpha for layer in LAYERS]
        norms = [((twin.edited[layer].hook - twin.edited[layer].base).norm() / twin.edited[layer].base.norm()).item() for layer in LAYERS]
        print(f"{name} {gate} batch {b}: loss {losses.tolist()} after {updates.tolist()}, alpha {alphas}, |W_h - W0| / |W0| {norms}")
    narrow = {key: (value.float() if value.is_floating_point() else value).numpy() for key, value in tensors.items()}
    save_tensors(HERE / "comeba" / f"{name}-{gate}.safetensors", narrow)
    return twin, batches, probes


def main():
    # One thread: the same sums in the same order, and tiny matrices gain nothing from a second.
    torch.set_num_threads(1)
    for name in ("llama", "gpt2", "gptj"):
        for gate in ("paper", "subjects"):
            twin, batches, probes = run(name, gate)
    parameters = {
        "layers": LAYERS, "lambda": LAMBDA, "updatesMax": UPDATES_MAX, "learningRate": LEARNING_RATE, "klFactor": KL_FACTOR,
        "weightDecay": WEIGHT_DECAY, "clamp": CLAMP, "lossTarget": LOSS_TARGET, "alpha": ALPHA,
    }
    corrections = [
        [
            {
                "subject": correction.subject, "prompt": prompt, "target": target, "targetTokens": correction.target,
                "bare": {"tokens": correction.bare, "subjectLast": correction.at["bare"]},
                "behind": {"tokens": correction.behind, "subjectLast": correction.at["behind"]},
                "essence": {"tokens": correction.essence, "subjectLast": correction.at["essence"]},
            }
            for correction, (_, prompt, target) in zip(batch, texts)
        ]
        for batch, texts in zip(batches, BATCHES)
    ]
    save_json(HERE / "comeba" / "input.json", {"parameters": parameters, "front": FRONT, "contexts": twin.contexts, "batches": corrections, "probes": probes})


if __name__ == "__main__":
    main()
