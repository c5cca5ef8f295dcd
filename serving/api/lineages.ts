/** Routes for the lineages, their versions, and an answer before and after editing. */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { LINEAGE_NAME } from '../../schemas/correction.ts';
import type { CorrectionProbe } from '../../schemas/editing.ts';
import type { StoredEntry } from '../../versions/log/history.ts';
import { mayUse } from '../access/access.ts';
import { callerOf, forRole } from '../access/admission.ts';
import { Refusal } from '../access/refusals.ts';
import type { Answers } from '../answers/answers.ts';
import { lineageState, type FollowedLineages } from '../answers/followed-lineages.ts';
import { COMPLETION_LIMITS } from './completions.ts';
import type { ServingMetrics } from './metrics.ts';
import { clientSignal, lineageInBody, lineageInPath, route } from './routes.ts';

const VERSIONS_PER_PAGE_MAX = 200;
const VERSIONS_PER_PAGE = 50;
const COMPARE_TOKENS_MAX = 256;
const COMPARE_TOKENS = 24;

const versionsQuery = z.strictObject({
  /** Only versions below this one, newest first. */
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
      .map((one) => ({ ...lineageState(one), corrections: one.served?.active.size ?? null })),
  }));

  route(server, 'GET', '/v1/lineages/:lineage/versions', {
    role: 'read',
    lineage: lineageInPath,
    input: versionsQuery,
    async handle({ before, limit }, request) {
      const lineage = lineageInPath(request);
      const found = await answers.historyOf(lineage, 'head');
      if (found instanceof Refusal) return found;
      const { head } = found.history;
      const end = Math.min(head.version, (before ?? head.version + 1) - 1);
      const begin = Math.max(0, end - limit);
      const entries = await found.followed.log.entries(begin + 1, end);
      const next = begin > 0 ? begin + 1 : null;
      return { lineage, head, versions: entries.reverse().map(summaryOf), next };
    },
  });

  server.get<{ Params: { lineage: string; version: string } }>(
    '/v1/lineages/:lineage/versions/:version',
    forRole('read', lineageInPath),
    ({ params: { lineage, version } }) => wholeVersion(answers, lineage, version),
  );

  route(server, 'POST', '/v1/compare', {
    role: 'read',
    lineage: lineageInBody,
    input: compareBody,
    async handle({ lineage, prompt, version, tokensMax }, _, reply) {
      const options = { tokensMax, temperature: 0 };
      const question = { lineage, prompt, options, signal: clientSignal(reply) };
      const after = await answers.answer({ ...question, version: version ?? 'served' });
      if (after instanceof Refusal) return after;
      metrics.answered(after);
      // If no gate opened, the answer is the base model's, bit for bit.
      const before =
        after.opened.length === 0 ? after : await answers.answer({ ...question, version: 'base' });
      if (before instanceof Refusal) return before;
      const { text, finish } = after.generation;
      return {
        lineage,
        version: after.version,
        prompt,
        base: { text: before.generation.text, finish: before.generation.finish },
        edited: { text, finish, opened: after.opened },
      };
    },
  });
}

async function wholeVersion(answers: Answers, lineage: string, version: string) {
  if (!/^\d{1,15}$/.test(version) || Number(version) === 0) {
    const message = `"${version.slice(0, 40)}" is not a version: versions are 1, 2, 3 and so on.`;
    return new Refusal('invalid_version', message, 'version');
  }
  const found = await answers.historyOf(lineage, Number(version));
  if (found instanceof Refusal) return found;
  const { entry, hash } = found.history.latest!;
  const details = await found.followed.log.blobs.get(entry.probes.details);
  const probes = JSON.parse(new TextDecoder().decode(details)) as CorrectionProbe[];
  return { hash, entry, probes };
}

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
