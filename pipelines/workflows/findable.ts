/**
 * Shows workflows on Temporal's own page and lists, and makes them searchable there. Search
 * attributes and memo are written only if the settings say `findable`. The details of a workflow's
 * progress are not part of its history and are always shown.
 */
import { defineSearchAttributeKey, type SearchAttributePair } from '@temporalio/common';
import { upsertMemo, upsertSearchAttributes, workflowInfo } from '@temporalio/workflow';
import type { UndoRequest, UndoResult } from '../../schemas/undo.ts';
import type { OutcomeCounts } from '../batch/outcomes.ts';
import {
  SEARCH_ATTRIBUTES,
  jsonBytes,
  type EditBatchResult,
  type LineageStatus,
} from './contract.ts';

const CORRECTIONS_MAX = 100;
/** Bound of the ids in one attribute; Temporal allows 2,048 bytes. */
const CORRECTIONS_BYTES_MAX = 1_900;
/** The bound of Temporal's databases. */
const KEYWORD_CHARACTERS_MAX = 255;

const LINEAGE = defineSearchAttributeKey('ErrataLineage', SEARCH_ATTRIBUTES.ErrataLineage);
const VERSION = defineSearchAttributeKey('ErrataVersion', SEARCH_ATTRIBUTES.ErrataVersion);
const OUTCOMES = defineSearchAttributeKey('ErrataOutcomes', SEARCH_ATTRIBUTES.ErrataOutcomes);
const CORRECTIONS = defineSearchAttributeKey(
  'ErrataCorrections',
  SEARCH_ATTRIBUTES.ErrataCorrections,
);

/** Returns the search attributes with which a batch's or an undo's workflow is started. */
export function attributesAtStart(
  lineage: string,
  ids: readonly string[] = [],
): SearchAttributePair[] {
  const findable = findableIds(ids);
  return [
    { key: LINEAGE, value: lineage },
    ...(findable.length === 0 ? [] : [{ key: CORRECTIONS, value: findable }]),
  ];
}

/** Updates the lineage's search attributes if they changed. */
export function findLineage(lineage: string, version: number | null): void {
  const { typedSearchAttributes: present } = workflowInfo();
  const attributes: SearchAttributePair[] = [];
  if (present.get(LINEAGE) !== lineage) attributes.push({ key: LINEAGE, value: lineage });
  if (version !== null && present.get(VERSION) !== version)
    attributes.push({ key: VERSION, value: version });
  if (attributes.length > 0) upsertSearchAttributes(attributes);
}

export function findBatch({ versions, outcomes }: EditBatchResult): void {
  upsertSearchAttributes([
    { key: OUTCOMES, value: statusesIn(outcomes) },
    ...(versions.length === 0 ? [] : [{ key: VERSION, value: versions.at(-1)! }]),
  ]);
  upsertMemo({ outcomes, versions });
}

export function findUndo(result: UndoResult): void {
  upsertSearchAttributes([
    { key: OUTCOMES, value: [result.kind.toUpperCase()] },
    ...(result.kind === 'undone' ? [{ key: VERSION, value: result.version }] : []),
  ]);
}

/** Returns the first ids that fit into one attribute. */
function findableIds(ids: readonly string[]): string[] {
  const findable: string[] = [];
  let bytes = '[]'.length;
  for (const id of ids) {
    bytes += jsonBytes(id) + 1;
    if (findable.length === CORRECTIONS_MAX || bytes > CORRECTIONS_BYTES_MAX) break;
    if (id.length <= KEYWORD_CHARACTERS_MAX) findable.push(id);
  }
  return findable;
}

/** Returns for example "10 revisions: 9 committed in version 12, 1 quarantined". */
export function batchInWords({ versions, outcomes }: EditBatchResult): string {
  const parts = statusesIn(outcomes).map((status) => {
    const words = `${outcomes[status]} ${status.toLowerCase().replaceAll('_', ' ')}`;
    return status === 'COMMITTED' && versions.length > 0
      ? `${words} in version${versions.length === 1 ? '' : 's'} ${versions.join(', ')}`
      : words;
  });
  const count = Object.values(outcomes).reduce((sum, one) => sum + one, 0);
  const counted = `${count} outcome${count === 1 ? '' : 's'}`;
  return parts.length === 0 ? counted : `${counted}: ${parts.join(', ')}`;
}

export function undoInWords({
  target,
  requestedBy,
  reason,
}: Pick<UndoRequest, 'target' | 'requestedBy' | 'reason'>): string {
  const what =
    target.kind === 'correction'
      ? `revert of correction ${target.id}`
      : `${target.kind === 'version' ? 'revert of' : 'rollback to'} version ${target.version}`;
  return `${what}, asked for by ${requestedBy || 'somebody'}${reason === '' ? '' : `: ${reason}`}`;
}

export function resultInWords(result: UndoResult): string {
  switch (result.kind) {
    case 'undone':
      return [
        `done in version ${result.version}: ${result.removed} corrections removed`,
        `${result.restored} restored`,
        ...(result.kept.length === 0 ? [] : [`${result.kept.length} left as they are`]),
      ].join(', ');
    case 'nothing':
      return `nothing to do: ${result.reason}`;
    case 'refused':
      return `refused by its probes: ${result.reasons.join('; ')}`;
  }
}

export function lineageInWords({
  head,
  waiting,
  running,
  held,
  frozen,
  undos,
}: Pick<LineageStatus, 'head' | 'waiting' | 'running' | 'held' | 'frozen' | 'undos'>): string {
  const lines = [
    head === null ? 'No batch of this lineage has ended yet.' : `HEAD is version ${head.version}.`,
    running === null
      ? `${waiting} revisions wait.`
      : `Batch ${running.batchId} (${running.workflowId}) runs, ` +
        `${running.revisions} revisions; ${waiting} wait.`,
    held === null
      ? ''
      : `Batch ${held.batchId} (${held.workflowId}) failed ${held.attempts} times and is kept.`,
    undos.running === null
      ? ''
      : `An undo is under way (${undos.running.workflowId}): ${undoInWords(undos.running)}.`,
    frozen === null ? '' : `Frozen since ${new Date(frozen.since).toISOString()}: ${frozen.reason}`,
  ];
  return lines.filter((line) => line !== '').join('\n');
}

function statusesIn(outcomes: OutcomeCounts): (keyof OutcomeCounts)[] {
  return (Object.keys(outcomes) as (keyof OutcomeCounts)[]).filter(
    (status) => outcomes[status] > 0,
  );
}
