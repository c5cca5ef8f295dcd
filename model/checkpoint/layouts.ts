/** The source of each canonical tensor in the files, by format and architecture. */
import type { ModelConfig } from './model-config.ts';

export interface Recipe {
  source: string;
  /** Selects part `index` of `parts` equal parts along the output dimension. */
  part?: { index: number; parts: number } | undefined;
  /** True if the file stores [in, out]. */
  transposed?: boolean;
  /** Number of heads whose rows are interleaved (2 j + half) and must be restored to (half, j). */
  interleavedHeads?: number | undefined;
}

/** Returns the recipe for a canonical name. */
export type Layout = (canonical: string) => Recipe;

export const llamaLayout = layoutOf({
  outer: { embedding: 'model.embed_tokens', finalNorm: 'model.norm', head: 'lm_head' },
  blocks: 'model.layers',
  inner: {
    norm1: 'input_layernorm',
    norm2: 'post_attention_layernorm',
    query: 'self_attn.q_proj',
    key: 'self_attn.k_proj',
    value: 'self_attn.v_proj',
    output: 'self_attn.o_proj',
    gate: 'mlp.gate_proj',
    up: 'mlp.up_proj',
    down: 'mlp.down_proj',
  },
});

export function gptjLayout(prefix: string): Layout {
  return layoutOf({
    outer: { embedding: `${prefix}wte`, finalNorm: `${prefix}ln_f`, head: 'lm_head' },
    blocks: `${prefix}h`,
    inner: {
      norm1: 'ln_1',
      query: 'attn.q_proj',
      key: 'attn.k_proj',
      value: 'attn.v_proj',
      output: 'attn.out_proj',
      up: 'mlp.fc_in',
      down: 'mlp.fc_out',
    },
  });
}

/** GPT-2's linear layers are Conv1D, [in, out]. */
export function gpt2Layout(prefix: string): Layout {
  const [embedding, position, finalNorm] = [`${prefix}wte`, `${prefix}wpe`, `${prefix}ln_f`];
  return layoutOf({
    outer: { embedding, position, finalNorm, head: 'lm_head' },
    blocks: `${prefix}h`,
    fused: 'attn.c_attn',
    inner: {
      norm1: 'ln_1',
      norm2: 'ln_2',
      output: 'attn.c_proj',
      up: 'mlp.c_fc',
      down: 'mlp.c_proj',
    },
    isConv1d: true,
  });
}

export function ggufLayout(family: string, { heads, keyValueHeads }: ModelConfig): Layout {
  return layoutOf({
    outer: {
      embedding: 'token_embd',
      position: 'position_embd',
      finalNorm: 'output_norm',
      head: 'output',
    },
    blocks: 'blk',
    fused: family === 'gpt2' ? 'attn_qkv' : null,
    inner: {
      norm1: 'attn_norm',
      norm2: 'ffn_norm',
      query: 'attn_q',
      key: 'attn_k',
      value: 'attn_v',
      output: 'attn_output',
      gate: 'ffn_gate',
      up: 'ffn_up',
      down: 'ffn_down',
    },
    // llama.cpp's conversion interleaves the halves of each head, but only for Llama.
    interleaved: family === 'llama' ? { query: heads, key: keyValueHeads } : {},
  });
}

/** `fused` holds query, key and value in one tensor. */
function layoutOf(names: {
  outer: Record<string, string>;
  blocks: string;
  inner: Record<string, string>;
  fused?: string | null;
  isConv1d?: boolean;
  interleaved?: Record<string, number>;
}): Layout {
  const { outer, blocks, inner, fused = null, isConv1d = false, interleaved = {} } = names;
  return (canonical) => {
    // `blocks.3.query.weight` is layer 3, part query. Files also call gains and embeddings weight.
    const [, layer, part = '', kind] =
      /^(?:blocks\.(\d+)\.)?(\w+)(?:\.(weight|gain|bias))?$/.exec(canonical) ?? [];
    const index = fused === null ? -1 : ['query', 'key', 'value'].indexOf(part);
    const inBlock = index < 0 ? inner[part] : fused;
    const module = layer === undefined ? outer[part] : `${blocks}.${layer}.${inBlock}`;
    return {
      source: `${module}.${kind === 'bias' ? 'bias' : 'weight'}`,
      part: index < 0 ? undefined : { index, parts: 3 },
      transposed: isConv1d && layer !== undefined && kind === 'weight',
      interleavedHeads: interleaved[part],
    };
  };
}
