"""COMEBA-HK as published (arXiv 2403.05330): targets one by one, then keys and a solve per block.

It has no savings beyond the published procedure: each Adam step runs the whole model over all
contexts and the vocabulary at every position; each block's update factors an F x F matrix in
float64.
"""

import time
from contextlib import contextmanager

import torch

from hooked_model import HookedModel


class Editor:
    """`seconds` holds what the stages took so far."""

    def __init__(self, model: HookedModel, moments: dict, contexts: list, parameters: dict):
        self.model = model
        self.contexts = contexts
        self.parameters = parameters
        self.seconds = {"targets": 0.0, "keys": 0.0, "solve": 0.0, "gate": 0.0}
        for layer, hook in model.hooks.items():
            hook.moment = parameters["lambda"] * moments[layer]
            hook.alpha = parameters["alpha"]

    def edit(self, batch: list, found) -> None:
        """Edits the corrections of one batch; `found` is called after each target."""
        model = self.model
        model.set_modes("gated")
        targets = []
        with self.timed("targets"):
            for correction in batch:
                targets.append(self.find_target(correction))
                found()
        wanted_ND = torch.stack(targets)
        model.set_modes("open")
        for i, hook in enumerate(model.hooks.values()):
            with self.timed("keys"):
                keys_NF = self.keys(batch, hook).double()
                residual_ND = (wanted_ND - self.hidden(batch)).double() / (len(model.hooks) - i)
            with self.timed("solve"):
                total_FF = hook.moment + keys_NF.T @ keys_NF
                delta_DF = residual_ND.T @ torch.linalg.solve(total_FF, keys_NF.T).T
                hook.weight = (hook.weight.double() + delta_DF).float()
                hook.moment = total_FF
            hook.mode = "gated"
        with self.timed("gate"):
            self.lower_alpha(batch)
        model.set_modes("off")

    def find_target(self, correction: dict):
        """z [D], by Adam from the hidden state at the bare prompt."""
        p, model, target = self.parameters, self.model, correction["target"]
        read = target[:-1]
        rows = [correction["bare"]["tokens"] + read]
        at = [correction["bare"]["subjectLast"]]
        for context in self.contexts:
            rows.append(context + correction["behind"]["tokens"] + read)
            at.append(len(context) + correction["behind"]["subjectLast"])
        speaking = len(rows)
        ends = [len(row) for row in rows]
        rows.append(correction["essence"]["tokens"])
        at.append(correction["essence"]["subjectLast"])
        ids, mask = model.padded(rows)
        positions = torch.tensor(at)
        answer = torch.tensor(target, device=model.device)
        start, base = None, None
        delta = torch.zeros(model.model.config.hidden_size, device=model.device, requires_grad=True)
        optimiser = torch.optim.Adam([delta], lr=p["learningRate"])
        for step in range(p["steps"]):
            log_p = torch.log_softmax(model.logits(ids, mask, (delta, positions)), dim=-1)
            if start is None:
                start = model.hidden[0, at[0]].clone()
            essence = log_p[-1, at[-1]]
            if base is None:
                base = essence.detach().clone()
            said = [
                log_p[b, ends[b] - len(target) : ends[b]].gather(1, answer[:, None]).mean()
                for b in range(speaking)
            ]
            loss = -torch.stack(said).mean()
            loss = loss + p["klFactor"] * (base.exp() * (base - essence)).sum()
            loss = loss + p["weightDecay"] * delta.norm() / start.norm() ** 2
            if loss.item() < p["lossTarget"] or step == p["steps"] - 1:
                break
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            with torch.no_grad():
                delta *= min(1.0, (p["clamp"] * start.norm() / delta.norm()).item())
        return (start + delta).detach()

    @torch.no_grad()
    def keys(self, batch: list, hook):
        """[N, F]: the bare prompt weighs half, the prompts behind contexts the other half."""
        rows, at = [], []
        for correction in batch:
            rows.append(correction["bare"]["tokens"])
            at.append(correction["bare"]["subjectLast"])
            for context in self.contexts:
                rows.append(context + correction["behind"]["tokens"])
                at.append(len(context) + correction["behind"]["subjectLast"])
        self.model.logits(*self.model.padded(rows))
        picked = hook.keys[torch.arange(len(at)), torch.tensor(at)]
        picked = picked.view(len(batch), -1, hook.keys.shape[-1])
        if len(self.contexts) == 0:
            return picked[:, 0]
        return (picked[:, 0] + picked[:, 1:].mean(1)) / 2

    @torch.no_grad()
    def hidden(self, batch: list):
        """[N, D]: the last edited block's output at the subjects of the bare prompts."""
        rows = [correction["bare"]["tokens"] for correction in batch]
        self.model.logits(*self.model.padded(rows))
        at = torch.tensor([correction["bare"]["subjectLast"] for correction in batch])
        return self.model.hidden[torch.arange(len(at)), at]

    @torch.no_grad()
    def lower_alpha(self, batch: list) -> None:
        """alpha := min(alpha, least largest score of a prompt), on the unedited model."""
        self.model.set_modes("recorded")
        rows = [correction["bare"]["tokens"] for correction in batch]
        self.model.logits(*self.model.padded(rows))
        for hook in self.model.hooks.values():
            hook.alpha = min(hook.alpha, hook.scores.max(dim=-1).values.min().item())

    @contextmanager
    def timed(self, stage: str):
        began = time.perf_counter()
        yield
        if self.model.device != "cpu":
            torch.cuda.synchronize()
        self.seconds[stage] += time.perf_counter() - began
