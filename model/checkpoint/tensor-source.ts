/**
 * Tensors of files under the files' own names, read by rows; gguf.ts and safetensors-files.ts
 * implement it.
 */
export interface TensorSource {
  /** Shape of a tensor, outermost dimension first; undefined where there is none of that name. */
  shape(name: string): number[] | undefined;
  /**
   * Elements of rows [from, to) of the outermost dimension, as float32. The event loop gets a turn
   * every few MiB.
   */
  readRows(name: string, from: number, to: number): Promise<Float32Array>;
  close(): Promise<void>;
}

/** Bytes read and decoded between two turns of the event loop. */
export const READ_CHUNK_BYTES = 8 * 2 ** 20;
/** Elements of the largest tensor that is read: what one Float32Array of 8 GiB holds. */
export const TENSOR_ELEMENTS_MAX = 2 ** 31;
