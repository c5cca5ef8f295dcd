/** Waits for what becomes of revisions: their outcome, or their record in the dead-letter topic. */
import type { Outcome } from '../../schemas/editing.ts';
import { endsOfAnnouncements, tail, type LineageEvent } from '../../pipelines/kafka/tail.ts';
import type { Clients } from './clients.ts';

export type Fate =
  | { kind: 'outcome'; outcome: Outcome }
  | { kind: 'dead-letter'; className: string; message: string };

/** What a revision is known by: its id where it has one, and its place in Kafka. */
export interface Awaited {
  id: string | null;
  position: { topic: string; partition: number; offset: string };
}

export interface OutcomeWatch {
  /** Resolves with the first fate of the revision; never rejects. */
  fateOf(revision: Awaited): Promise<Fate>;
  /** Settles with the reason when nothing more will be heard. */
  readonly ended: Promise<Error>;
  stop(): Promise<void>;
}

/**
 * Starts to listen: what is announced from now on is not missed. `heard` is called with everything,
 * in order.
 */
export async function watchOutcomes(
  clients: Clients,
  lineages: readonly string[],
  heard: (announcement: LineageEvent) => void = () => {},
): Promise<OutcomeWatch> {
  const byId = new Map<string, Fate>();
  const byPosition = new Map<string, Fate>();
  const waiting: { revision: Awaited; resolve: (fate: Fate) => void }[] = [];
  const known = (revision: Awaited): Fate | undefined =>
    byPosition.get(keyOf(revision.position)) ??
    (revision.id === null ? undefined : byId.get(revision.id));
  const from = await endsOfAnnouncements(clients.cluster, lineages);
  const reader = await tail(
    clients.cluster,
    lineages,
    { from, deadLetters: true, format: clients.format },
    (announcement) => {
      if (announcement.kind === 'outcome') {
        const fate: Fate = { kind: 'outcome', outcome: announcement.outcome };
        keep(byId, announcement.outcome.revisionId, fate);
        keep(byPosition, keyOf(announcement.outcome.position), fate);
      } else if (announcement.kind === 'dead-letter') {
        keep(byPosition, keyOf(announcement.origin), {
          kind: 'dead-letter',
          className: announcement.className,
          message: announcement.message,
        });
      }
      heard(announcement);
      for (let i = waiting.length - 1; i >= 0; i -= 1) {
        const fate = known(waiting[i]!.revision);
        if (fate !== undefined) waiting.splice(i, 1)[0]!.resolve(fate);
      }
    },
  );
  return {
    fateOf: (revision) =>
      new Promise((resolve) => {
        const fate = known(revision);
        if (fate !== undefined) resolve(fate);
        else waiting.push({ revision, resolve });
      }),
    ended: reader.ended,
    stop: () => reader.stop(),
  };
}

/** A revision's first fate counts: a later one (superseded) is of a later revision's making. */
function keep(fates: Map<string, Fate>, key: string, fate: Fate): void {
  if (!fates.has(key)) fates.set(key, fate);
}

function keyOf(position: { topic: string; partition: number; offset: string }): string {
  return `${position.topic}-${position.partition}@${position.offset}`;
}
