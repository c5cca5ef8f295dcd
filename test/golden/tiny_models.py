"""Tiny random checkpoints of every architecture, and their results in PyTorch transformers.

Each is saved like a published model: config.json, tokenizer.json, safetensors in float32, float16
or bfloat16, whole or in shards; three of them also as GGUF, with llama.cpp's names, permutation and
quantisation. The expected results are computed in float32 from the saved weights. The initial
weights are larger than usual, so that logits differ by units and any wrong sign, order or constant
shows.
"""

import json
import shutil
import sys

import gguf
import numpy as np
import torch
from gguf.quants import quantize
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, GPT2Config, GPTJConfig, LlamaConfig, Qwen2Config

from files import HERE, save_json, save_tensors

VOCABULARY = 128
LENGTHS = [13, 1, 6]
CORPUS = [
    "the capital of the old country is the town on the river",
    "her mother tongue is french and his mother tongue is english",
    "the author of the book was born in the town of berlin and works in london",
    "anna plays the piano, the headquarters of the company is in rome, tom speaks greek",
] * 2

MODELS = {
    "llama": (
        LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=True,
        ),
        torch.float32,
    ),
    "llama3": (
        LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, head_dim=24,
            num_key_value_heads=1, max_position_embeddings=256, rms_norm_eps=1e-6, rope_theta=500.0, tie_word_embeddings=False,
            rope_scaling={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32},
        ),
        torch.float16,
    ),
    "qwen2": (
        Qwen2Config(
            vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=1, max_position_embeddings=64, rms_norm_eps=1e-6, rope_theta=1000000.0, tie_word_embeddings=False,
        ),
        torch.bfloat16,
    ),
    "gpt2": (
        GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_inner=64, n_layer=4, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=0),
        torch.float32,
    ),
    "gptj": (
        GPTJConfig(vocab_size=VOCABULARY, n_embd=32, n_inner=64, n_layer=4, n_head=2, rotary_dim=8, n_positions=64, bos_token_id=0, eos_token_id=0),
        torch.float32,
    ),
    # Like the small Qwen2.5: tied, an odd number of heads per key-value head, an unused window.
    "qwen2-tied": (
        Qwen2Config(
            vocab_size=VOCABULARY, hidden_size=28, intermediate_size=48, num_hidden_layers=2, num_attention_heads=7,
            num_key_value_heads=1, max_position_embeddings=64, rms_norm_eps=1e-6, rope_theta=1000000.0, tie_word_embeddings=True,
            use_sliding_window=False, sliding_window=32, max_window_layers=2,
        ),
        torch.bfloat16,
    ),
}


def tokenizer() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=120, show_progress=False, special_tokens=["<|endoftext|>"]))
    return made


def randomise(model, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name or "ln_" in name:
            gain = name.endswith("weight")
            parameter.data = (1.0 if gain else 0.0) + 0.3 * noise
        elif parameter.dim() == 1:
            parameter.data = 0.3 * noise
        elif "embed" in name or "wte" in name or "wpe" in name or "lm_head" in name:
            parameter.data = 0.6 * noise
        else:
            # 1.2 / sqrt(32): slightly above what keeps the variance, for [in, out] and [out, in].
            parameter.data = 0.21 * noise


def blocks_of(model):
    return model.model.layers if hasattr(model, "model") else model.transformer.h


def down_of(block):
    for name in ("down_proj", "c_proj", "fc_out"):
        if hasattr(block.mlp, name):
            return getattr(block.mlp, name)
    raise AttributeError("no down-projection")


def traced(model, ids):
    """Logits [T, V]; input of each block's down-projection [T, F]; output of each block [T, D]."""
    keys, outputs, handles = {}, {}, []
    for layer, block in enumerate(blocks_of(model)):
        handles.append(down_of(block).register_forward_pre_hook(lambda _, inputs, layer=layer: keys.__setitem__(layer, inputs[0][0].detach())))
        handles.append(block.register_forward_hook(lambda _, __, output, layer=layer: outputs.__setitem__(layer, (output[0] if isinstance(output, tuple) else output)[0].detach())))
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0]
    for handle in handles:
        handle.remove()
    return logits, keys, outputs


def shard(folder) -> None:
    whole = folder / "model.safetensors"
    tensors = load_file(whole)
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[: len(names) // 2], "model-00002-of-00002.safetensors": names[len(names) // 2 :]}
    for part, members in parts.items():
        save_file({name: tensors[name] for name in members}, folder / part, metadata={"format": "pt"})
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    save_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": {name: part for part, members in parts.items() for name in members}})
    whole.unlink()


def write_gguf(name: str, model, made: Tokenizer) -> None:
    """As llama.cpp's conversion does, with a storage type that varies from tensor to tensor."""
    config = model.config
    family = {"llama": "llama", "qwen2": "qwen2", "gpt2": "gpt2"}[name]
    writer = gguf.GGUFWriter(HERE / "tiny" / f"{name}.gguf", family)
    state = {key: value.float().numpy() for key, value in model.state_dict().items()}
    gpt2 = family == "gpt2"
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.n_inner if gpt2 else config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    if gpt2:
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    else:
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_rope_freq_base(config.rope_theta)
    vocabulary = made.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.get)
    tokens += [f"[PAD{i}]" for i in range(len(tokens), VOCABULARY)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token == "<|endoftext|>" else 5 if token.startswith("[PAD") else 1 for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in json.loads(made.to_str())["model"]["merges"]])
    writer.add_eos_token_id(0)
    renamed = {
        "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "transformer.wte": "token_embd",
        "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "ln_1": "attn_norm", "ln_2": "ffn_norm",
        "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
    }
    types = [gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.BF16]
    for position, (key, value) in enumerate(sorted(state.items())):
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        parts = key.split(".")
        suffix = parts.pop()
        if "layers" in parts or "h" in parts:
            at = parts.index("layers" if "layers" in parts else "h")
            target = f"blk.{parts[at + 1]}.{renamed['.'.join(parts[at + 2 :])]}.{suffix}"
        else:
            target = f"{renamed['.'.join(parts)]}.{suffix}"
        if gpt2 and value.ndim == 2 and "blk" in target:
            value = value.T
        if family == "llama" and ("q_proj" in key or "k_proj" in key):
            heads = config.num_attention_heads if "q_proj" in key else config.num_key_value_heads
            value = value.reshape(heads, 2, value.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(value.shape)
        kind = types[position % 4] if value.ndim == 2 and value.shape[1] % 32 == 0 else gguf.GGMLQuantizationType.F32
        value = np.ascontiguousarray(value)
        if kind == gguf.GGMLQuantizationType.F32:
            writer.add_tensor(target, value)
        else:
            writer.add_tensor(target, quantize(value, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main(names):
    # One thread: the same sums in the same order, and tiny matrices gain nothing from a second.
    torch.set_num_threads(1)
    made = tokenizer()
    for seed, (name, (config, dtype)) in enumerate(MODELS.items()):
        if names and name not in names:
            continue
        folder = HERE / "tiny" / name
        shutil.rmtree(folder, ignore_errors=True)
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
        randomise(model, seed)
        model.tie_weights()
        model.to(dtype).save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        made.save(str(folder / "tokenizer.json"), pretty=False)
        save_json(folder / "tokenizer_config.json", {"eos_token": "<|endoftext|>", "bos_token": None})
        model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32, attn_implementation="eager").eval()
        if name in ("llama", "qwen2", "gpt2"):
            write_gguf(name, model, made)
        if name == "qwen2":
            shard(folder)
        generator = np.random.default_rng(seed)
        expected = {}
        for index, length in enumerate(LENGTHS):
            ids = generator.integers(0, VOCABULARY, length)
            logits, keys, outputs = traced(model, ids.tolist())
            expected[f"ids.{index}"] = ids.astype(np.int32)
            expected[f"logits.{index}"] = logits.numpy()
            if index == 0:
                expected |= {f"keys.{layer}": value.numpy() for layer, value in keys.items()}
                expected |= {f"blockOutput.{layer}": value.numpy() for layer, value in outputs.items()}
        save_tensors(HERE / "tiny" / f"{name}-expected.safetensors", expected)
        for written in folder.iterdir():
            written.chmod(0o644)
        spread = expected["logits.0"].std(axis=1).mean()
        top = torch.softmax(torch.tensor(expected["logits.0"]), dim=1).max(dim=1).values
        print(f"{name}: logits spread {spread:.2f}, top probability {top.min():.2f} to {top.max():.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
