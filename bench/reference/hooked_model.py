"""A causal language model of transformers with hook layers and the published gate.

Shapes: B sequences, T tokens (padded on the right), D residual width, F MLP width, V vocabulary.
"""

import torch
from transformers import AutoModelForCausalLM

PLACES = {
    "llama": ("model.layers", "mlp.down_proj"),
    "qwen2": ("model.layers", "mlp.down_proj"),
    "mistral": ("model.layers", "mlp.down_proj"),
    "gpt2": ("transformer.h", "mlp.c_proj"),
    "gptj": ("transformer.h", "mlp.fc_out"),
}


class HookedModel:
    """The frozen model and its hook layers by block number, which are off until a mode is set."""

    def __init__(self, folder: str, layers: list, device: str):
        loaded = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32)
        self.model = loaded.to(device).eval()
        self.model.requires_grad_(False)
        family = self.model.config.model_type
        if family not in PLACES:
            raise SystemExit(f"the reference knows {', '.join(PLACES)}; this model is a {family}")
        blocks_at, down_at = PLACES[family]
        blocks = self.model.get_submodule(blocks_at)
        self.device = device
        self.hooks = {}
        for layer in layers:
            down = blocks[layer].get_submodule(down_at)
            self.hooks[layer] = HookLayer(down)
            down.register_forward_hook(self.hooks[layer])
        blocks[layers[-1]].register_forward_hook(self._at_last_edited)
        self.delta = None
        self.hidden = None

    def set_modes(self, mode: str) -> None:
        for hook in self.hooks.values():
            hook.mode = mode

    def padded(self, rows: list) -> tuple:
        """Token ids and attention mask [B, T], padded on the right."""
        longest = max(len(row) for row in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long, device=self.device)
        mask = torch.zeros_like(ids)
        for b, row in enumerate(rows):
            ids[b, : len(row)] = torch.tensor(row)
            mask[b, : len(row)] = 1
        return ids, mask

    def logits(self, ids, mask, delta=None):
        """[B, T, V]. `delta` ([D], positions) is added to the last edited block's output."""
        self.delta = delta
        try:
            return self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        finally:
            self.delta = None

    def _at_last_edited(self, _, __, output):
        hidden = output[0] if isinstance(output, tuple) else output
        if self.delta is not None:
            value, positions = self.delta
            hidden = hidden.clone()
            hidden[torch.arange(len(positions)), positions] += value
        self.hidden = hidden.detach()
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


class HookLayer:
    """W_h [D, F] beside W_0. Modes: off; open; gated (z-score gate); recorded (scores only)."""

    def __init__(self, down):
        conv = type(down).__name__ == "Conv1D"
        self.base = (down.weight.T if conv else down.weight).detach().contiguous()
        self.weight = self.base.clone()
        self.moment = None
        self.alpha = None
        self.mode = "off"
        self.keys = None
        self.scores = None
        self.opened = None

    def __call__(self, down, inputs, output):
        self.keys = inputs[0].detach()
        self.opened = None
        if self.mode == "off":
            return None
        edited = torch.nn.functional.linear(inputs[0], self.weight, down.bias)
        if self.mode == "open":
            return edited
        self.scores = z_scores((edited - output).norm(dim=-1))
        if self.mode == "recorded":
            return None
        # As published: padding takes part in the scores, and a lone token has none (NaN).
        self.opened = self.scores >= self.alpha
        return torch.where(self.opened[..., None], edited, output)


def z_scores(sizes):
    """[B, T] -> [B, T], along each sequence, padding included."""
    if sizes.shape[-1] < 2:
        return torch.full_like(sizes, float("nan"))
    return (sizes - sizes.mean(dim=-1, keepdim=True)) / sizes.std(dim=-1, keepdim=True)
