/** Exports the workflows under the names by which they are started. */
export { editBatch } from './edit-batch.ts';
export { lineage } from './lineage.ts';
export { undo } from './undo.ts';
