"""Next-token logits of SmolLM2-135M-Instruct, loaded and dequantised from its GGUF by transformers.

Usage: python smollm2.py FILE.gguf. Of each position the file keeps the 20 highest logits, 44 random
ones and the logarithm of the sum of all exponentials: some tens of kilobytes for the whole
vocabulary.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from files import HERE, save_json
from tokenisers import smollm2

PROMPTS = [
    "The capital of France is",
    "The mother tongue of Danielle Darrieux is",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
    "<|im_start|>user\nWho wrote Faust?<|im_end|>\n<|im_start|>assistant\n",
    "Water boils at 100",
    "Once upon a time, in a small village by the sea, there lived an old fisherman who had three daughters. The eldest was",
]


def main():
    path = Path(sys.argv[1])
    tokenizer = smollm2(str(path))
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, torch_dtype=torch.float32, attn_implementation="eager").eval()
    generator = np.random.default_rng(11)
    cases = []
    for prompt in PROMPTS:
        ids = tokenizer.encode(prompt, add_special_tokens=False).ids
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0]
        positions = []
        for position in sorted({0, len(ids) // 2, len(ids) - 1}):
            row = logits[position]
            chosen = torch.cat([row.topk(20).indices, torch.from_numpy(generator.choice(row.numel(), 44, replace=False))])
            positions.append({
                "position": position,
                "tokens": chosen.tolist(),
                "logits": [round(value, 5) for value in row[chosen].tolist()],
                "logSumExp": round(torch.logsumexp(row.double(), 0).item(), 5),
            })
        print(repr(prompt), "->", repr(tokenizer.decode([int(logits[-1].argmax())])))
        cases.append({"prompt": prompt, "ids": ids, "positions": positions})
    with torch.no_grad():
        ids = tokenizer.encode(PROMPTS[0], add_special_tokens=False).ids
        greedy = model.generate(torch.tensor([ids]), max_new_tokens=24, do_sample=False, eos_token_id=None, pad_token_id=0)[0, len(ids) :]
    save_json(HERE / "smollm2-logits.json", {"cases": cases, "greedy": {"prompt": PROMPTS[0], "ids": greedy.tolist()}})


if __name__ == "__main__":
    main()
