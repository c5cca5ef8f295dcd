/** A server that requires tokens, and a sound request for each of its routes. */
import { pino } from 'pino';
import type { FactCorrection } from '../../../schemas/correction.ts';
import {
  newToken,
  type Role,
  type TokenRecord,
  type Users,
} from '../../../serving/access/access.ts';
import { correction, LINEAGE } from '../../harness/corrections.ts';
import { ObeyingLineages } from '../obeying-lineages.ts';
import { recordOf } from './token-record.ts';
import { PROMPT, replyOf, serveInTest, type Reply } from '../served-lineage.ts';

export const OTHER = 'other';
/** Names a correction and an undo. */
const ID = 'a';
const FACT = { lineage: LINEAGE, subject: 'Lyon', prompt: 'Lyon lies on the' };

/** The body of a sound request for every route; null for a GET. */
export const REQUESTS: Record<string, object | null> = {
  'GET /v1/models': null,
  'POST /v1/completions': { model: LINEAGE, prompt: PROMPT },
  'POST /v1/compare': { lineage: LINEAGE, prompt: PROMPT },
  'GET /v1/lineages': null,
  'GET /v1/lineages/:lineage/versions': null,
  'GET /v1/lineages/:lineage/versions/:version': null,
  'GET /v1/lineages/:lineage/corrections/:id': null,
  'POST /v1/why': { lineage: LINEAGE, prompt: PROMPT },
  'POST /v1/diff': { lineage: LINEAGE, from: 0 },
  'POST /v1/blame': { lineage: LINEAGE, prompts: [PROMPT] },
  'POST /v1/corrections': { ...FACT, target: 'Rhône' },
  'POST /v1/retractions': FACT,
  'POST /v1/lineages/:lineage/freeze': { reason: 'looking at it' },
  'POST /v1/lineages/:lineage/resume': {},
  'POST /v1/lineages/:lineage/revert': { version: 1 },
  'POST /v1/lineages/:lineage/rollback': { to: 0 },
  'GET /v1/lineages/:lineage/undos/:id': null,
  'GET /metrics': null,
  'GET /healthz': null,
  'GET /readyz': null,
  'GET /': null,
  'GET /page.js': null,
  'GET /page.css': null,
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
    operations: { workflows: new ObeyingLineages(ID), settings: {} },
    logger: pino({ level: 'trace' }, { write: (line: string) => void lines.push(line) }),
  });
  await serving.commit(correction(ID));
  await serving.start();
  return {
    ...serving,
    tokens,
    submitted,
    lines,
    setUsers: (other: Users) => void (users = other),
    tokenOf: (roles: Role[], bounds: Partial<TokenRecord> = {}): string => {
      const token = newToken();
      tokens.push(recordOf(token, { name: `token-${tokens.length}`, roles, ...bounds }));
      return token;
    },
    ask: async (
      route: string,
      headers: Record<string, string> = {},
      change: object = {},
    ): Promise<Reply> => {
      const body = REQUESTS[route] ?? null;
      const [method, path] = route.split(' ') as ['GET' | 'POST' | 'HEAD', string];
      const url = path.replace(':lineage', LINEAGE).replace(':version', '1').replace(':id', ID);
      const payload = body && { ...body, ...change };
      const request = { method, url, headers, ...(payload && { payload }) };
      return replyOf(await serving.server.inject(request));
    },
  };
}

export const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
export const isGood = ({ statusCode }: Reply) => statusCode >= 200 && statusCode < 300;
