/**
 * What an auditor and an editor ask: the versions there are, one of them whole, and an answer
 * before and after.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { LINEAGE_NAME } from '../../schemas/correction.ts';
import type { CorrectionProbe } from '../../schemas/editing.ts';
import type { StoredEntry } from '../../versions/log/history.ts';
import { mayUse } from '../access/access.ts';
import { callerOf, forRole } from '../access/admission.ts';
import type { Answers } from '../answers/answers.ts';
import { COMPLETION_LIMITS } from './completions.ts';
import { standingOf, type FollowedLineages } from '../answers/followed-lineages.ts';
import type { ServingMetrics } from './metrics.ts';
import { clientSignal } from './client-signal.ts';
import { refuse, refuseBody, refuseUnanswered } from './refusals.ts';

const VERSIONS_PER_PAGE_MAX = 200;
const VERSIONS_PER_PAGE = 50;
const COMPARE_TOKENS_MAX = 256;
const COMPARE_TOKENS = 24;

const versionsQuery = z.strictObject({
  /** Versions below this one, the newest first. */
  before: z.coerce.number().int().min(1).optional(),
  limit: z.coerce.number().int().min(1).max(VERSIONS_PER_PAGE_MAX).default(VERSIONS_PER_PAGE),
});

const compareBody = z.strictObject({
  lineage: z.string().regex(LINEAGE_NAME),
  prompt: z.string().min(1).max(COMPLETION_LIMITS.promptCharactersMax),
  version: z.number().int().nonnegative().nullish(),
  tokensMax: z.number().int().min(1).max(COMPARE_TOKENS_MAX).default(COMPARE_TOKENS),
});

export function lineageRoutes(
  server: FastifyInstance,
  answers: Answers,
  followed: FollowedLineages,
  metrics: ServingMetrics,
): void {
  server.get('/v1/lineages', forRole('read', 'own'), async (request) => ({
    lineages: followed
      .all()
      .filter(({ lineage }) => mayUse(callerOf(request), lineage))
      .map((one) => ({ ...standingOf(one), corrections: one.served?.active.size ?? null })),
  }));

  server.get<{ Params: { lineage: string } }>(
    '/v1/lineages/:lineage/versions',
    forRole('read', lineageInPath),
    async (request, reply) => {
      const query = versionsQuery.safeParse(request.query);
      if (!query.success) return refuseBody(reply, query.error);
      const found = await answers.historyOf(request.params.lineage, 'head');
      if (found.kind !== 'history') return refuseUnanswered(reply, found);
      const { head } = found.history;
      const end = Math.min(head.version, (query.data.before ?? head.version + 1) - 1);
      const begin = Math.max(0, end - query.data.limit);
      return {
        lineage: request.params.lineage,
        head,
        versions: (await found.followed.log.entries(begin + 1, end)).reverse().map(summaryOf),
        next: begin > 0 ? begin + 1 : null,
      };
    },
  );

  server.get<{ Params: { lineage: string; version: string } }>(
    '/v1/lineages/:lineage/versions/:version',
    forRole('read', lineageInPath),
    async (request, reply) => {
      const { lineage, version } = request.params;
      if (!/^\d{1,15}$/.test(version) || Number(version) === 0)
        return refuse(
          reply,
          400,
          'invalid_version',
          `"${version.slice(0, 40)}" is no version: versions are 1, 2, 3 and so on.`,
          'version',
        );
      const found = await answers.historyOf(lineage, Number(version));
      if (found.kind !== 'history') return refuseUnanswered(reply, found);
      const { entry, hash } = found.history.latest!;
      const details = new TextDecoder().decode(
        await found.followed.log.blobs.get(entry.probes.details),
      );
      return { hash, entry, probes: JSON.parse(details) as CorrectionProbe[] };
    },
  );

  server.post(
    '/v1/compare',
    forRole('read', ({ body }) => (body as { lineage?: unknown } | null)?.lineage),
    async (request, reply) => {
      const checked = compareBody.safeParse(request.body);
      if (!checked.success) return refuseBody(reply, checked.error);
      const { lineage, prompt, version, tokensMax } = checked.data;
      const asked = {
        lineage,
        prompt,
        options: { tokensMax, temperature: 0 },
        signal: clientSignal(reply),
      };
      const after = await answers.answer({ ...asked, version: version ?? 'served' });
      if (after.kind !== 'answer') return refuseUnanswered(reply, after);
      metrics.answered(after);
      // Where no gate opened the answer is the base model's, bit for bit, and need not be asked for
      // again.
      const before =
        after.generation.opened.length === 0
          ? after
          : await answers.answer({ ...asked, version: 'base' });
      if (before.kind !== 'answer') return refuseUnanswered(reply, before);
      return {
        lineage,
        version: after.version,
        prompt,
        base: { text: before.generation.text, finish: before.generation.finish },
        edited: {
          text: after.generation.text,
          finish: after.generation.finish,
          opened: after.opened,
        },
      };
    },
  );
}

const lineageInPath = ({ params }: FastifyRequest): unknown =>
  (params as { lineage: string }).lineage;

function summaryOf({ entry, hash }: StoredEntry) {
  const { version, parent, createdAt, batchId, added, removed, corrections, probes, workflow } =
    entry;
  return {
    version,
    hash,
    parent,
    createdAt,
    batchId,
    corrections,
    added: added.map(({ correctionId, subject, prompt, target }) => ({
      correctionId,
      subject,
      prompt,
      target,
    })),
    removed: removed.map(({ correctionId, because, by }) => ({ correctionId, because, by })),
    scores: probes.after,
    workflow,
  };
}
