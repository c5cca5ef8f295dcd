/**
 * Parses JSON from outside within bounds. A byte of `[{},{},…]` takes about fifty bytes of memory,
 * and deeply nested JSON exhausts the stack of recursive functions.
 */

export interface JsonLimits {
  /** Values of all kinds at all levels. */
  valuesMax: number;
  /** Levels of nested arrays and objects. */
  depthMax: number;
}

/** Invalid or too large JSON. The reason does not quote the text, which may hold a secret. */
export class UnsoundJson extends Error {
  override readonly name = 'UnsoundJson';
  constructor(readonly reason: string) {
    super(`JSON refused: ${reason}`);
  }
}

/** Parses a UTF-8 text, with or without a byte-order mark. Throws UnsoundJson. */
export function boundedJson(text: Uint8Array | string, limits: JsonLimits): unknown {
  checkExtent(typeof text === 'string' ? new TextEncoder().encode(text) : text, limits);
  try {
    return JSON.parse(typeof text === 'string' ? text : decoded(text)) as unknown;
  } catch (error) {
    if (error instanceof UnsoundJson) throw error;
    throw new UnsoundJson(`it is not JSON (${withoutQuotation((error as Error).message)})`);
  }
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const [ARRAY_OPENS, ARRAY_CLOSES] = [0x5b, 0x5d];
const [OBJECT_OPENS, OBJECT_CLOSES] = [0x7b, 0x7d];

/** Every value except the first follows a comma or an opening bracket. */
function checkExtent(bytes: Uint8Array, { valuesMax, depthMax }: JsonLimits): void {
  let values = 1;
  let depth = 0;
  let inText = false;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i];
    if (inText) {
      if (byte === BACKSLASH) i++;
      else if (byte === QUOTE) inText = false;
    } else if (byte === QUOTE) inText = true;
    else if (byte === COMMA) values++;
    else if (byte === ARRAY_OPENS || byte === OBJECT_OPENS) {
      values++;
      if (++depth > depthMax) throw new UnsoundJson(`it is nested deeper than ${depthMax} levels`);
    } else if (byte === ARRAY_CLOSES || byte === OBJECT_CLOSES) depth--;
    if (values > valuesMax) throw new UnsoundJson(`it holds more than ${valuesMax} values`);
  }
}

function decoded(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new UnsoundJson('it is not UTF-8');
  }
}

/** Drops all but the first part of V8's message, because the rest quotes the text. */
function withoutQuotation(message: string): string {
  return message
    .replace(/, (\.\.\.)?".*"(\.\.\.)? is not valid JSON$/s, '')
    .replace(/^".*" is not valid JSON$/s, 'Unexpected text');
}
