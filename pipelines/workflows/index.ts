/** The workflows, under the names they are started by. */
export { editBatch } from './edit-batch.ts';
export { lineage } from './lineage.ts';
export { undo } from './undo.ts';
