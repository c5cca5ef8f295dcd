import { expect, test } from 'vitest';
import { INPUT_LIMITS } from '../../cli/input/correction-input.ts';
import { CONFIGURATION_LIMITS } from '../../infra/config/configuration.ts';
import { SMALL_FILE_BYTES_MAX } from '../../infra/config/secret.ts';
import { LAYERS_MAX, WIDTH_MAX } from '../../model/checkpoint/checkpoint.ts';
import {
  GGUF_ALIGNMENT_MAX,
  GGUF_HEADER_BYTES_MAX,
  GGUF_LIST_ITEMS_MAX,
  GGUF_METADATA_KEYS_MAX,
  GGUF_NAME_BYTES_MAX,
  GGUF_RANK_MAX,
  GGUF_STRING_BYTES_MAX,
  GGUF_TENSORS_MAX,
} from '../../model/format/gguf-header.ts';
import {
  JSON_BYTES_MAX,
  JSON_DEPTH_MAX,
  JSON_VALUES_MAX,
} from '../../model/checkpoint/huggingface-folder.ts';
import { HEAD_WIDTH_MAX } from '../../model/checkpoint/model-config.ts';
import { INDEX_BYTES_MAX, SHARDS_MAX } from '../../model/format/safetensors-files.ts';
import { TENSOR_ELEMENTS_MAX } from '../../model/format/tensor-source.ts';
import { TEXT_FILE_BYTES_MAX } from '../../model/statistics/ordinary-text.ts';
import { TOKEN_ID_MAX } from '../../model/tokenizer/description.ts';
import { KEY_CHARACTERS_MAX } from '../../pipelines/ingest/ingest-record.ts';
import { CORRECTION_LIMITS } from '../../schemas/correction.ts';
import {
  HEADER_BYTES_MAX,
  HEADER_VALUES_MAX,
  RANK_MAX,
  TENSORS_MAX,
} from '../../schemas/encoding/safetensors.ts';
import { PROBE_LIMITS } from '../../cli/input/probe-prompts.ts';
import { AUDIT_LIMITS } from '../../serving/api/audit.ts';
import { COMPLETION_LIMITS } from '../../serving/api/completions.ts';
import { AUDIT_LINE_BYTES_MAX } from '../../versions/audit/audit-check.ts';
import { REFUSAL_LIMITS } from '../../serving/access/refusals.ts';
import { DEFAULT_SERVING_LIMITS } from '../../serving/server.ts';
import { HISTORY_CHARACTERS_MAX } from '../../versions/audit/history-archive.ts';
import { OBJECT_BYTES_MAX, OBJECT_NAME_LIMITS } from '../../versions/stores/object-store.ts';
import { ENTRY_BYTES_MAX, ENTRY_JSON_LIMITS } from '../../versions/log/entry-reader.ts';

type Row = [what: string, value: number, constant: string];

const of = (name: string, limits: object, words: Record<string, string>): Row[] =>
  Object.entries(words).map(([key, what]) => [
    what,
    (limits as Record<string, number>)[key]!,
    `${name}.${key}`,
  ]);

const SECTIONS: [title: string, file: string, effect: string, rows: Row[]][] = [
  [
    'A correction',
    'schemas/correction.ts, pipelines/',
    'Beyond it a correction is refused at submission, and a record goes to the dead-letter topic.',
    [
      ...of('CORRECTION_LIMITS', CORRECTION_LIMITS, {
        recordBytesMax: 'bytes of a record',
        idCharactersMax: 'characters of an id',
        subjectCharactersMax: 'characters of a subject',
        relationCharactersMax: 'characters of a relation',
        promptCharactersMax: 'characters of a prompt, a paraphrase or a neighbour',
        targetCharactersMax: 'characters of a target',
        sourceCharactersMax: 'characters of a source',
        replayOfCharactersMax: 'characters of the id that a correction resubmits',
        paraphrasesMax: 'paraphrases',
        neighbourhoodMax: 'neighbours',
        issuedAtMax: "milliseconds since 1970 of an issue, or of a retraction's timestamp",
      }),
      ['characters of the key of a retraction', KEY_CHARACTERS_MAX, 'KEY_CHARACTERS_MAX'],
    ],
  ],
  [
    'A file of corrections',
    'cli/input/correction-input.ts',
    'Beyond it `errata submit` names the line and sends nothing.',
    of('INPUT_LIMITS', INPUT_LIMITS, {
      bytesMax: 'bytes',
      lineCharactersMax: 'characters of a line, or of a row of CSV',
      correctionsMax: 'corrections',
      faultsMax: 'faults that are collected',
      faultsPerCorrectionMax: 'faults that are reported of one correction',
      reasonCharactersMax: 'characters of a reason',
    }),
  ],
  [
    'A request',
    'serving/',
    'Beyond it the response is a 4xx with the reason.',
    [
      ...of('DEFAULT_SERVING_LIMITS', DEFAULT_SERVING_LIMITS, {
        bodyBytesMax: 'bytes of a body',
        requestWaitMs: 'milliseconds until a request has arrived',
        waitingMax: 'requests that wait for the model',
      }),
      ...of('COMPLETION_LIMITS', COMPLETION_LIMITS, {
        promptCharactersMax: 'characters of a prompt',
        tokensMax: 'tokens of an answer',
        stopsMax: 'texts that stop it',
        stopCharactersMax: 'characters of such a text',
      }),
      ...of('AUDIT_LIMITS', AUDIT_LIMITS, {
        promptsMax: 'prompts of a diff or a blame',
        tokensMax: 'tokens of an answer to one of them',
        blamesAtOnceMax: 'blames at once',
      }),
      ...of('REFUSAL_LIMITS', REFUSAL_LIMITS, { messageCharactersMax: 'characters of a refusal' }),
    ],
  ],
  [
    'Prompts and audit files',
    'cli/input/probe-prompts.ts, versions/audit/audit-check.ts',
    'Beyond it `errata diff`, `blame` and `verify --audit` exit with the reason.',
    [
      ...of('PROBE_LIMITS', PROBE_LIMITS, {
        fileBytesMax: 'bytes of a file of prompts',
        promptsMax: 'prompts',
        promptCharactersMax: 'characters of a prompt',
      }),
      ['bytes of a line of an audit file', AUDIT_LINE_BYTES_MAX, 'AUDIT_LINE_BYTES_MAX'],
    ],
  ],
  [
    'A GGUF file',
    'model/format/gguf-header.ts',
    'Beyond it the file is refused by its header, before anything is allocated for it.',
    [
      ['bytes of the header', GGUF_HEADER_BYTES_MAX, 'GGUF_HEADER_BYTES_MAX'],
      ['tensors', GGUF_TENSORS_MAX, 'GGUF_TENSORS_MAX'],
      ['dimensions of a tensor', GGUF_RANK_MAX, 'GGUF_RANK_MAX'],
      ['metadata keys', GGUF_METADATA_KEYS_MAX, 'GGUF_METADATA_KEYS_MAX'],
      ['items of all lists in the metadata', GGUF_LIST_ITEMS_MAX, 'GGUF_LIST_ITEMS_MAX'],
      ['bytes of a text', GGUF_STRING_BYTES_MAX, 'GGUF_STRING_BYTES_MAX'],
      ['bytes of a name', GGUF_NAME_BYTES_MAX, 'GGUF_NAME_BYTES_MAX'],
      ['alignment', GGUF_ALIGNMENT_MAX, 'GGUF_ALIGNMENT_MAX'],
    ],
  ],
  [
    'A safetensors file',
    'schemas/encoding/safetensors.ts',
    'Beyond it the file, or a blob of pairs or targets, is refused by its header.',
    [
      ['bytes of the header', HEADER_BYTES_MAX, 'HEADER_BYTES_MAX'],
      ['JSON values in the header', HEADER_VALUES_MAX, 'HEADER_VALUES_MAX'],
      ['tensors', TENSORS_MAX, 'TENSORS_MAX'],
      ['dimensions of a tensor', RANK_MAX, 'RANK_MAX'],
    ],
  ],
  [
    'A model',
    'model/checkpoint/checkpoint.ts, model/checkpoint/, model/tokenizer/',
    'Beyond it the model is refused before its weights are read.',
    [
      ['bytes of config.json or tokenizer.json', JSON_BYTES_MAX, 'JSON_BYTES_MAX'],
      ['JSON values in one of them', JSON_VALUES_MAX, 'JSON_VALUES_MAX'],
      ['levels of nesting in one of them', JSON_DEPTH_MAX, 'JSON_DEPTH_MAX'],
      ['bytes of the index of the shards', INDEX_BYTES_MAX, 'INDEX_BYTES_MAX'],
      ['shards', SHARDS_MAX, 'SHARDS_MAX'],
      ['layers', LAYERS_MAX, 'LAYERS_MAX'],
      ['residual width, MLP width, query width and vocabulary', WIDTH_MAX, 'WIDTH_MAX'],
      ['channels of a head', HEAD_WIDTH_MAX, 'HEAD_WIDTH_MAX'],
      ['elements of a tensor', TENSOR_ELEMENTS_MAX, 'TENSOR_ELEMENTS_MAX'],
      ['highest id of a token', TOKEN_ID_MAX, 'TOKEN_ID_MAX'],
      ['bytes of a text for the key statistics', TEXT_FILE_BYTES_MAX, 'TEXT_FILE_BYTES_MAX'],
    ],
  ],
  [
    'The version log',
    'versions/',
    'Beyond it an entry is not written, or is damaged if it exists; earlier versions stay valid.',
    [
      ['bytes of an entry', ENTRY_BYTES_MAX, 'ENTRY_BYTES_MAX'],
      ...of('ENTRY_JSON_LIMITS', ENTRY_JSON_LIMITS, {
        valuesMax: 'JSON values in an entry',
        depthMax: 'levels of nesting in an entry',
      }),
      ['bytes of an object', OBJECT_BYTES_MAX, 'OBJECT_BYTES_MAX'],
      [
        'characters of an archived workflow history; of a longer one only the fact is archived',
        HISTORY_CHARACTERS_MAX,
        'HISTORY_CHARACTERS_MAX',
      ],
      ...of('OBJECT_NAME_LIMITS', OBJECT_NAME_LIMITS, {
        charactersMax: "characters of an object's name",
        segmentsMax: 'segments of a name',
        segmentCharactersMax: 'characters of a segment',
      }),
    ],
  ],
  [
    'The configuration',
    'infra/config/setting-reader.ts, infra/config/secret.ts',
    'Beyond it nothing starts, and the fault is reported with the others.',
    [
      [
        'bytes of a configuration, a parameter set or a secret in a file',
        SMALL_FILE_BYTES_MAX,
        'SMALL_FILE_BYTES_MAX',
      ],
      ...of('CONFIGURATION_LIMITS.json', CONFIGURATION_LIMITS.json, {
        valuesMax: 'JSON values in a configuration',
        depthMax: 'levels of nesting in it',
      }),
      ...of('CONFIGURATION_LIMITS', CONFIGURATION_LIMITS, {
        lineagesMax: 'lineages',
        noticesMax: 'notices of unknown settings',
      }),
    ],
  ],
];

function reference(): string {
  const sections = SECTIONS.map(([title, file, effect, rows]) => {
    const files = `\`${file.split(', ').join('`, `')}\``;
    const table = rows.map(
      ([what, value, constant]) => `| ${what} | ${value.toLocaleString('en')} | \`${constant}\` |`,
    );
    const head = '| At most | | Constant |\n| --- | ---: | --- |';
    return `## ${title}\n\n${effect} (${files})\n\n${head}\n${table.join('\n')}\n`;
  });
  return `# Limits

Input is bounded before it is processed, so that none takes more memory or time than these limits
allow; \`test/fuzz/\` tests it. Settings are in [configuration.md](configuration.md); the limits
here are constants, with their values.

${sections.join('\n')}`;
}

test('docs/limits.md describes every limit (update with `vitest -u`)', async () => {
  for (const [, , , rows] of SECTIONS)
    for (const [what, value] of rows) expect(Number.isSafeInteger(value), what).toBe(true);
  await expect(reference()).toMatchFileSnapshot('../../docs/limits.md');
});
