"""The measures of bench/edit-stream.ts, by single sequences: the published gate counts padding."""

import math

import torch

from hooked_model import HookedModel


@torch.no_grad()
def ask(model: HookedModel, mode: str, questions: list, answered=lambda: None) -> list:
    """The model's answers to questions {prompt, target, old} (token ids; target, old optional)."""
    model.set_modes(mode)
    answers = []
    for question in questions:
        answer = {}
        if "target" not in question:
            logits = model.logits(*model.padded([question["prompt"]]))
            answer["next"] = logits[0, -1].argmax().item()
        for name in ("target", "old"):
            if name in question:
                answer[name], argmax = score(model, question["prompt"], question[name])
                if name == "target":
                    answer["argmax"] = argmax
        answers.append(answer)
        answered()
    model.set_modes("off")
    return answers


def score(model: HookedModel, prompt: list, target: list) -> tuple:
    """Mean log-probability per token of the answer, and whether all tokens are the argmax."""
    logits = model.logits(*model.padded([prompt + target[:-1]]))[0, -len(target) :]
    wanted = torch.tensor(target, device=logits.device)
    mean = torch.log_softmax(logits, -1).gather(1, wanted[:, None]).mean().item()
    return mean, bool((logits.argmax(-1) == wanted).all())


@torch.no_grad()
def says_greedily(
    model: HookedModel, mode: str, prompt: list, target: list, token_by_token: bool
) -> bool:
    """Greedy decoding with a key-value cache, after a prompt at once or token by token."""
    model.set_modes(mode)
    past, logits = None, None
    for piece in [[token] for token in prompt] if token_by_token else [prompt]:
        logits, past = step(model, piece, past)
    right = True
    for i, wanted in enumerate(target):
        said = logits.argmax().item()
        right = right and said == wanted
        if not right or i == len(target) - 1:
            break
        logits, past = step(model, [said], past)
    model.set_modes("off")
    return right


def step(model: HookedModel, tokens: list, past) -> tuple:
    ids = torch.tensor([tokens], device=model.device)
    ran = model.model(input_ids=ids, past_key_values=past, use_cache=True)
    return ran.logits[0, -1], ran.past_key_values


@torch.no_grad()
def read_text(model: HookedModel, mode: str, sequences: list) -> tuple:
    """Perplexity over all tokens but each first, and their largest share behind a block's gate."""
    model.set_modes(mode)
    loss, tokens = 0.0, 0
    opened = dict.fromkeys(model.hooks, 0)
    for sequence in sequences:
        logits = model.logits(*model.padded([sequence]))[0, :-1]
        wanted = torch.tensor(sequence[1:], device=logits.device)
        loss += torch.nn.functional.cross_entropy(logits, wanted, reduction="sum").item()
        tokens += len(wanted)
        for layer, hook in model.hooks.items():
            opened[layer] += 0 if hook.opened is None else int(hook.opened[0, 1:].sum())
    model.set_modes("off")
    return math.exp(loss / tokens), max(opened.values()) / tokens


def share(items: list):
    return sum(items) / len(items) if items else None
