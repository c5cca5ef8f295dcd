/** Names of the tensors in the Hugging Face layout, by architecture. */
import { splitName, type Layout } from './canonical.ts';

export const llamaLayout: Layout = layoutOf({
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

/** GPT-2's linear layers are Conv1D, [in, out], with query, key and value in one. */
export function gpt2Layout(prefix: string): Layout {
  const fused = ['query', 'key', 'value'];
  const [embedding, position, finalNorm] = [`${prefix}wte`, `${prefix}wpe`, `${prefix}ln_f`];
  const plain = layoutOf({
    outer: { embedding, position, finalNorm, head: 'lm_head' },
    blocks: `${prefix}h`,
    inner: {
      norm1: 'ln_1',
      norm2: 'ln_2',
      ...Object.fromEntries(fused.map((part) => [part, 'attn.c_attn'])),
      output: 'attn.c_proj',
      up: 'mlp.c_fc',
      down: 'mlp.c_proj',
    },
  });
  return (canonical) => {
    const { layer, part, isLinear } = splitName(canonical);
    const index = fused.indexOf(part);
    return {
      ...plain(canonical),
      ...(index < 0 ? {} : { part: { index, parts: 3 } }),
      transposed: layer !== null && isLinear,
    };
  };
}

function layoutOf(names: {
  outer: Record<string, string>;
  blocks: string;
  inner: Record<string, string>;
}): Layout {
  return (canonical) => {
    const { layer, part, suffix } = splitName(canonical);
    const { outer, blocks, inner } = names;
    const module = layer === null ? outer[part] : `${blocks}.${layer}.${inner[part]}`;
    return { source: `${module}.${suffix}` };
  };
}
