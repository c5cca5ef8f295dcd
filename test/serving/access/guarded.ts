/** A server that requires tokens, and a sound request for each of its routes. */
import { pino } from 'pino';
import type { FactCorrection } from '../../../schemas/correction.ts';
import {
  digestOf,
  newToken,
  type Role,
  type TokenRecord,
  type Users,
} from '../../../serving/access/access.ts';
import { correction, LINEAGE } from '../../harness/corrections.ts';
import { ObeyingLineages } from '../obeying-lineages.ts';
import { PROMPT, replyOf, serveInTest, type Reply } from '../served-lineage.ts';

export const OTHER = 'other';
export const fact = {
  lineage: LINEAGE,
  subject: 'Lyon',
  prompt: 'Lyon lies on the',
  target: 'Rhône',
};

/** A sound request for every route. */
export const REQUESTS: Record<string, { url: string; body?: object }> = {
  'GET /v1/models': { url: '/v1/models' },
  'POST /v1/completions': { url: '/v1/completions', body: { model: LINEAGE, prompt: PROMPT } },
  'POST /v1/compare': { url: '/v1/compare', body: { lineage: LINEAGE, prompt: PROMPT } },
  'GET /v1/lineages': { url: '/v1/lineages' },
  'GET /v1/lineages/:lineage/versions': { url: `/v1/lineages/${LINEAGE}/versions` },
  'GET /v1/lineages/:lineage/versions/:version': { url: `/v1/lineages/${LINEAGE}/versions/1` },
  'GET /v1/lineages/:lineage/corrections/:id': { url: `/v1/lineages/${LINEAGE}/corrections/a` },
  'POST /v1/why': { url: '/v1/why', body: { lineage: LINEAGE, prompt: PROMPT } },
  'POST /v1/diff': { url: '/v1/diff', body: { lineage: LINEAGE, from: 0 } },
  'POST /v1/blame': { url: '/v1/blame', body: { lineage: LINEAGE, prompts: [PROMPT] } },
  'POST /v1/corrections': { url: '/v1/corrections', body: fact },
  'POST /v1/retractions': {
    url: '/v1/retractions',
    body: { lineage: LINEAGE, subject: fact.subject, prompt: fact.prompt },
  },
  'POST /v1/lineages/:lineage/freeze': {
    url: `/v1/lineages/${LINEAGE}/freeze`,
    body: { reason: 'looking at it' },
  },
  'POST /v1/lineages/:lineage/resume': { url: `/v1/lineages/${LINEAGE}/resume`, body: {} },
  'POST /v1/lineages/:lineage/revert': {
    url: `/v1/lineages/${LINEAGE}/revert`,
    body: { version: 1 },
  },
  'POST /v1/lineages/:lineage/rollback': {
    url: `/v1/lineages/${LINEAGE}/rollback`,
    body: { to: 0 },
  },
  'GET /v1/lineages/:lineage/undos/:id': { url: `/v1/lineages/${LINEAGE}/undos/u1` },
  'GET /metrics': { url: '/metrics' },
  'GET /healthz': { url: '/healthz' },
  'GET /readyz': { url: '/readyz' },
  'GET /': { url: '/' },
  'GET /page.js': { url: '/page.js' },
  'GET /page.css': { url: '/page.css' },
};

/** A server of two lineages that requires tokens; `tokenOf` makes one, `lines` are the log's. */
export async function guarded(more: { limits?: { bodyBytesMax: number } } = {}) {
  const tokens: TokenRecord[] = [];
  const submitted: FactCorrection[] = [];
  const lines: string[] = [];
  let users: Users = { kind: 'tokens', tokens };
  const serving = await serveInTest({
    ...more,
    lineages: [LINEAGE, OTHER],
    users: () => users,
    submit: async (one) => (submitted.push(one), { topic: 't', partition: 0, offset: '0' }),
    retract: async () => ({ topic: 't', partition: 0, offset: '1' }),
    operations: { workflows: new ObeyingLineages('u1'), settings: {} },
    logger: pino({ level: 'trace' }, { write: (line: string) => void lines.push(line) }),
  });
  await serving.commit(correction('a'));
  await serving.start();
  return {
    ...serving,
    tokens,
    submitted,
    lines,
    setUsers: (other: Users) => void (users = other),
    tokenOf: (roles: Role[], bounds: Partial<TokenRecord> = {}): string => {
      const token = newToken();
      tokens.push({
        name: `token-${tokens.length}`,
        sha256: digestOf(token),
        roles,
        createdAt: '2026-01-01T00:00:00Z',
        ...bounds,
      });
      return token;
    },
    ask: async (
      route: string,
      headers: Record<string, string> = {},
      change: object = {},
    ): Promise<Reply> => {
      const { url, body } = REQUESTS[route] ?? { url: route.split(' ')[1]! };
      return replyOf(
        await serving.server.inject({
          method: route.split(' ')[0] as 'GET' | 'POST',
          url,
          headers,
          ...(body === undefined ? {} : { payload: { ...body, ...change } }),
        }),
      );
    },
  };
}

export const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
export const isGood = ({ statusCode }: Reply) => statusCode >= 200 && statusCode < 300;
