import { connect, type AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import type { FactCorrection } from '../../schemas/correction.ts';
import { SchemaRegistryUnavailable } from '../../schemas/failures.ts';
import type { Engine } from '../../model/engine/engine.ts';
import { StoreUnavailable } from '../../versions/stores/failures.ts';
import { entryName } from '../../versions/log/object-names.ts';
import { correction, LINEAGE } from '../harness/corrections.ts';
import { baseAnswer } from '../harness/fake-engine.ts';
import { heldEngine, until } from './held-engine.ts';
import { bodyOf, replyOf, servedLineage } from './served-lineage.ts';

const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const serving of open.splice(0)) await serving.close();
});
async function serve(...parameters: Parameters<typeof servedLineage>) {
  const serving = await servedLineage(...parameters);
  open.push(serving);
  return serving;
}

const PROMPT = 'Subject a is in';
const complete = (model: string, more: object = {}) => ({
  model,
  prompt: PROMPT,
  max_tokens: 8,
  temperature: 0,
  ...more,
});

describe("completions in OpenAI's form", () => {
  it('answer from the newest version, from a pinned one and from the base model', async () => {
    const { commit, start, post } = await serve();
    await commit(correction('a', { target: 'Lyon' }));
    await commit(correction('a2', { subject: 'Subject a', target: 'Oslo', issuedAt: 2_000 }));
    await start();
    const texts = await Promise.all(
      [LINEAGE, `${LINEAGE}@2`, `${LINEAGE}@1`, `${LINEAGE}@base`, `${LINEAGE}@0`].map(
        async (model) => {
          const response = await post('/v1/completions', complete(model));
          return [response.json.choices[0]!.text, response.headers['errata-version']];
        },
      ),
    );
    expect(texts).toEqual([
      [' Oslo.', '2'],
      [' Oslo.', '2'],
      [' Lyon.', '1'],
      [` ${baseAnswer(PROMPT)}.`, '0'],
      [` ${baseAnswer(PROMPT)}.`, '0'],
    ]);
  });

  it('have the fields that clients read', async () => {
    const { commit, start, post } = await serve();
    await commit(correction('a'));
    await start();
    const response = await post('/v1/completions', {
      ...complete(LINEAGE),
      user: 'somebody',
      prompt: [PROMPT],
    });
    expect(response.statusCode).toBe(200);
    expect(response.json).toMatchObject({
      id: expect.stringMatching(/^cmpl-/) as string,
      object: 'text_completion',
      model: LINEAGE,
      choices: [{ text: ' Lyon.', index: 0, logprobs: null, finish_reason: 'stop' }],
      usage: { prompt_tokens: 4, completion_tokens: 1, total_tokens: 5 },
      errata: {
        lineage: LINEAGE,
        version: 1,
        opened: [{ layer: 1, correction: { id: 'a', target: 'Lyon', version: 1 } }],
      },
    });
  });

  it('say when they were cut short or stopped', async () => {
    const { commit, start, post } = await serve();
    await commit(correction('a', { target: 'two words' }));
    await start();
    const finish = async (more: object) =>
      (await post('/v1/completions', complete(LINEAGE, more))).json.choices[0];
    expect(await finish({ max_tokens: 1 })).toMatchObject({
      text: ' two',
      finish_reason: 'length',
    });
    expect(await finish({ stop: ' words' })).toMatchObject({ text: ' two', finish_reason: 'stop' });
  });

  it('stream token by token and end with [DONE]', async () => {
    const { commit, start, post } = await serve();
    await commit(correction('a', { target: 'two words' }));
    await start();
    const response = await post(
      '/v1/completions',
      complete(LINEAGE, { stream: true, stream_options: { include_usage: true } }),
    );
    expect(response.headers['content-type']).toMatch(/^text\/event-stream/);
    const events = response.body
      .split('\n\n')
      .filter((event) => event !== '')
      .map((event) => event.replace(/^data: /, ''));
    expect(events.at(-1)).toBe('[DONE]');
    const chunks = events.slice(0, -1).map(bodyOf);
    expect(chunks.map(({ choices }) => choices[0]?.text)).toEqual([
      ' two',
      ' words.',
      '',
      undefined,
    ]);
    expect(chunks[2]).toMatchObject({
      choices: [{ finish_reason: 'stop' }],
      errata: { version: 1 },
    });
    expect(chunks[3]!.usage.completion_tokens).toBe(2);
  });

  it.each([
    ['an unknown lineage', { model: 'other' }, 404, 'unknown_lineage'],
    ['an unknown version', { model: `${LINEAGE}@7` }, 404, 'unknown_version'],
    ['a name that is none', { model: '../etc' }, 404, 'unknown_model'],
    ['an empty prompt', { prompt: '' }, 400, 'invalid_body'],
    ['two prompts', { prompt: ['a', 'b'] }, 400, 'invalid_body'],
    ['a prompt over the bound', { prompt: 'x'.repeat(8_001) }, 400, 'invalid_body'],
    ['too many tokens', { max_tokens: 1_025 }, 400, 'invalid_body'],
    ['a temperature below 0', { temperature: -1 }, 400, 'invalid_body'],
    ['several answers', { n: 2 }, 400, 'invalid_body'],
    ['log-probabilities', { logprobs: 5 }, 400, 'invalid_body'],
    ['an echo', { echo: true }, 400, 'invalid_body'],
    [
      'a stream of an unknown version',
      { model: `${LINEAGE}@7`, stream: true },
      404,
      'unknown_version',
    ],
  ])('refuse %s with a reason', async (_, fault, status, code) => {
    const { start, post } = await serve();
    await start();
    const response = await post('/v1/completions', complete(LINEAGE, fault));
    expect(response.statusCode).toBe(status);
    expect(response.json.error).toMatchObject({
      code,
      message: expect.stringMatching(/\w/) as string,
    });
  });

  it.each([
    ['text that is no JSON', 'application/json', '{', 400],
    ['a form, which any web page could send', 'text/plain', '{}', 415],
    [
      'a body over the bound',
      'application/json',
      JSON.stringify({ prompt: 'x'.repeat(300_000) }),
      413,
    ],
    ['a body that is no object', 'application/json', '[]', 400],
  ])('refuse %s', async (_, type, payload, status) => {
    const { server, start } = await serve();
    await start();
    const response = replyOf(
      await server.inject({
        method: 'POST',
        url: '/v1/completions',
        headers: { 'content-type': type },
        payload,
      }),
    );
    expect(response.statusCode).toBe(status);
    expect(response.json.error.message).toBeTruthy();
  });
});

describe('requests', () => {
  it('reach the model one at a time, and past the bound are refused at once', async () => {
    let gate!: ReturnType<typeof heldEngine>;
    const { start, post, get } = await serve({
      limits: { waitingMax: 2 },
      serve: (inner) => (gate = heldEngine(inner)).engine,
    });
    await start();
    const answered = [post('/v1/completions', complete(LINEAGE))];
    await gate.busy();
    answered.push(
      post('/v1/completions', complete(LINEAGE)),
      post('/v1/completions', complete(LINEAGE)),
    );
    await until(async () => (await get('/readyz')).json.waiting === 2);
    expect(await post('/v1/completions', complete(LINEAGE))).toMatchObject({
      statusCode: 429,
      headers: { 'retry-after': '1' },
    });
    for (let i = 0; i < 3; i += 1) await gate.letGo();
    for (const response of await Promise.all(answered)) expect(response.statusCode).toBe(200);
    expect(gate.mostRunning()).toBe(1);
  });

  it('are not made for a client that has gone', async () => {
    let gate!: ReturnType<typeof heldEngine>;
    const { start, server, post, engine, get } = await serve({
      serve: (inner) => (gate = heldEngine(inner)).engine,
    });
    await start();
    await server.listen({ port: 0, host: '127.0.0.1' });
    const first = post('/v1/completions', complete(LINEAGE));
    await gate.busy();
    const socket = connect((server.server.address() as AddressInfo).port, '127.0.0.1');
    const body = JSON.stringify(complete(LINEAGE));
    socket.write(
      `POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    await until(async () => (await get('/readyz')).json.waiting === 1);
    socket.destroy();
    await until(async () => (await get('/readyz')).json.waiting === 0);
    await gate.letGo();
    await first;
    expect(engine.calls.filter((call) => call === 'generate')).toHaveLength(1);
  });

  it('that have begun end on their version while a new one is swapped in', async () => {
    let gate!: ReturnType<typeof heldEngine>;
    const { start, post, commit, notify } = await serve({
      serve: (inner) => (gate = heldEngine(inner)).engine,
    });
    await commit(correction('a', { target: 'Lyon' }));
    await start();
    const before = post('/v1/completions', complete(LINEAGE));
    await gate.busy();
    await commit(correction('a2', { subject: 'Subject a', target: 'Oslo', issuedAt: 2_000 }));
    const swapped = notify();
    await gate.letGo();
    expect((await before).json).toMatchObject({
      choices: [{ text: ' Lyon.' }],
      errata: { version: 1 },
    });
    await swapped;
    const after = post('/v1/completions', complete(LINEAGE));
    await gate.letGo();
    expect((await after).json).toMatchObject({
      choices: [{ text: ' Oslo.' }],
      errata: { version: 2 },
    });
  });
});

describe('versions', () => {
  it('appear when they are notified, or by the clock', async () => {
    const { start, commit, notify, get } = await serve();
    await start();
    await commit(correction('a'));
    expect((await get('/v1/models')).json.data[0]).toMatchObject({ id: LINEAGE, version: 0 });
    await notify();
    expect((await get('/v1/models')).json.data.map(({ id, version }) => [id, version])).toEqual([
      [LINEAGE, 1],
      [`${LINEAGE}@base`, 0],
    ]);
    const polled = await serve({ limits: { pollEveryMs: 1 } });
    await polled.start();
    await polled.commit(correction('a'));
    await until(async () => (await polled.get('/v1/models')).json.data[0]!.version === 1);
  });

  it('are listed newest first, in pages', async () => {
    const { start, commit, get } = await serve();
    for (const id of ['a', 'b', 'c', 'd', 'e']) await commit(correction(id));
    await start();
    const numbers = async (query: string) => {
      const page = (await get(`/v1/lineages/${LINEAGE}/versions${query}`)).json;
      return [page.versions.map(({ version }) => version), page.next];
    };
    expect(await numbers('')).toEqual([[5, 4, 3, 2, 1], null]);
    expect(await numbers('?limit=2')).toEqual([[5, 4], 4]);
    expect(await numbers('?limit=2&before=4')).toEqual([[3, 2], 2]);
    expect(await numbers('?limit=2&before=2')).toEqual([[1], null]);
    expect((await get(`/v1/lineages/${LINEAGE}/versions?limit=0`)).statusCode).toBe(400);
    expect((await get('/v1/lineages/other/versions')).statusCode).toBe(404);
  });

  it('are shown whole, with what was asked of each correction', async () => {
    const { start, commit, get } = await serve();
    await commit(correction('a'));
    await start();
    const version = (await get(`/v1/lineages/${LINEAGE}/versions/1`)).json;
    expect(version).toMatchObject({
      hash: expect.stringMatching(/^[0-9a-f]{64}$/) as string,
      entry: { version: 1, added: [{ correctionId: 'a' }] },
      probes: [{ id: 'a', effective: true, answerAfter: ' Lyon' }],
    });
    expect((await get(`/v1/lineages/${LINEAGE}/versions/2`)).statusCode).toBe(404);
    for (const name of ['0', 'x', '-1', '1.5'])
      expect((await get(`/v1/lineages/${LINEAGE}/versions/${name}`)).statusCode).toBe(400);
  });

  it('go on being served while their store is away, and what needs it is refused for now', async () => {
    const { commit, start, notify, post, get, store } = await serve();
    await commit(correction('a', { target: 'Lyon' }));
    await commit(correction('b', { target: 'Oslo' }));
    await start();
    const whole = store.get.bind(store);
    store.get = async (name) =>
      await Promise.reject(
        new StoreUnavailable(
          { where: 's3://bucket', endpoint: null, operation: 'get', name },
          'ECONNREFUSED',
          3,
        ),
      );
    await notify();
    expect((await get('/readyz')).json).toMatchObject({
      status: 'ready',
      lineages: [
        { version: 2, fault: expect.stringMatching(/s3:\/\/bucket does not answer/) as string },
      ],
    });
    expect((await post('/v1/completions', complete(LINEAGE))).json.choices[0]!.text).toBe(' Lyon.');
    const older = await post('/v1/completions', complete(`${LINEAGE}@1`));
    expect([older.statusCode, older.json.error.code, older.headers['retry-after']]).toEqual([
      503,
      'store_unavailable',
      '1',
    ]);
    store.get = whole;
    await notify();
    expect((await get('/readyz')).json).toMatchObject({ lineages: [{ version: 2, fault: null }] });
    expect((await post('/v1/completions', complete(`${LINEAGE}@1`))).statusCode).toBe(200);
  });

  it('go on being served when the log is damaged behind them', async () => {
    const { start, commit, notify, get, post, store } = await serve();
    await commit(correction('a'));
    await start();
    store.objects.set(entryName(LINEAGE, 2), new TextEncoder().encode('{}'));
    await notify();
    expect((await get('/readyz')).json).toMatchObject({
      status: 'ready',
      lineages: [{ version: 1, fault: expect.stringMatching(/damaged/) as string }],
    });
    expect((await post('/v1/completions', complete(LINEAGE))).json.choices[0]!.text).toBe(' Lyon.');
  });
});

describe('a lineage of another base model', () => {
  it('is not served', async () => {
    const { start, commit, get, engine, post } = await serve();
    await commit(correction('a'));
    const description = await engine.describe();
    engine.describe = () =>
      Promise.resolve({ ...description, model: { ...description.model, sha256: 'ef'.repeat(32) } });
    await start();
    expect((await get('/readyz')).json).toMatchObject({
      status: 'not ready',
      lineages: [
        { version: null, fault: expect.stringMatching(/made with another model/) as string },
      ],
    });
    expect((await post('/v1/completions', complete(LINEAGE))).statusCode).toBe(503);
  });
});

describe('compare', () => {
  it('gives both answers, the gates that opened and the correction behind them', async () => {
    const { start, commit, post } = await serve();
    await commit(correction('z'), correction('a', { source: 'gazetteer' }));
    await start();
    expect((await post('/v1/compare', { lineage: LINEAGE, prompt: PROMPT })).json).toEqual({
      lineage: LINEAGE,
      version: 1,
      prompt: PROMPT,
      base: { text: ` ${baseAnswer(PROMPT)}.`, finish: 'end' },
      edited: {
        text: ' Lyon.',
        finish: 'end',
        opened: [
          {
            position: 1,
            token: 'subject',
            layer: 1,
            score: 0.7,
            threshold: 0.3,
            correction: {
              id: 'a',
              subject: 'Subject a',
              prompt: PROMPT,
              target: 'Lyon',
              source: 'gazetteer',
              version: 1,
            },
          },
        ],
      },
    });
  });

  it('asks the model once where no gate opened', async () => {
    const { start, commit, post, engine } = await serve();
    await commit(correction('a'));
    await start();
    const answer = (
      await post('/v1/compare', { lineage: LINEAGE, prompt: 'Something else is in', version: 1 })
    ).json;
    expect(answer.base.text).toBe(answer.edited.text);
    expect(engine.calls.filter((call) => call === 'generate')).toHaveLength(1);
  });

  it('refuses what it does not know', async () => {
    const { start, post } = await serve();
    await start();
    expect(
      (await post('/v1/compare', { lineage: LINEAGE, prompt: PROMPT, version: 3 })).statusCode,
    ).toBe(404);
    expect(
      (await post('/v1/compare', { lineage: LINEAGE, prompt: PROMPT, colour: 'red' })).statusCode,
    ).toBe(400);
    expect((await post('/v1/compare', { lineage: LINEAGE })).statusCode).toBe(400);
  });
});

describe('corrections', () => {
  const fact = { lineage: LINEAGE, subject: 'Lyon', prompt: 'Lyon lies on the', target: 'Rhône' };

  it('are handed to the stream, whole', async () => {
    const submitted: FactCorrection[] = [];
    const position = { topic: 't', partition: 1, offset: '9' };
    const { start, post } = await serve({ submit: async (one) => (submitted.push(one), position) });
    await start();
    const response = await post('/v1/corrections', { ...fact, id: 'mine', issuedAt: 5 });
    expect(response.statusCode).toBe(202);
    expect(response.json).toEqual({
      id: 'mine',
      lineage: LINEAGE,
      factKey: 'Lyon|{} lies on the',
      issuedAt: 5,
      position,
    });
    expect(submitted).toEqual([
      {
        ...fact,
        id: 'mine',
        relation: null,
        previousAnswer: null,
        paraphrases: [],
        neighbourhood: [],
        source: 'http',
        issuedAt: 5,
      },
    ]);
    expect((await post('/v1/corrections', fact)).json.id).toMatch(/^[0-9a-f-]{36}$/);
  });

  it.each([
    ['without a target', { target: '' }, 400],
    ['whose subject is not in the prompt', { subject: 'Oslo' }, 400],
    ['of an unknown lineage', { lineage: 'other' }, 404],
    ['with a field that means nothing', { paraphrase: 'x' }, 400],
    ['with too many paraphrases', { paraphrases: Array.from({ length: 17 }, () => 'x') }, 400],
  ])('%s are refused', async (_, fault, status) => {
    const { start, post } = await serve({ submit: async () => expect.fail('it was submitted') });
    await start();
    expect((await post('/v1/corrections', { ...fact, ...fault })).statusCode).toBe(status);
  });

  it('are to be sent again later where the schema registry is away', async () => {
    const { start, post } = await serve({
      submit: () =>
        Promise.reject(new SchemaRegistryUnavailable('http://registry', 'no route', null)),
    });
    await start();
    const response = await post('/v1/corrections', fact);
    expect([
      response.statusCode,
      response.json.error.code,
      response.headers['retry-after'],
    ]).toEqual([503, 'no_schema_registry', '1']);
  });

  it('are refused where there is no stream', async () => {
    const { start, post } = await serve();
    await start();
    expect((await post('/v1/corrections', fact)).statusCode).toBe(503);
  });
});

describe('what an operator sees', () => {
  it('is not ready before the logs were read, and ready after', async () => {
    const { start, get, post } = await serve();
    expect((await get('/healthz')).statusCode).toBe(200);
    expect((await get('/readyz')).statusCode).toBe(503);
    expect((await post('/v1/completions', complete(LINEAGE))).statusCode).toBe(503);
    await start();
    expect((await get('/readyz')).statusCode).toBe(200);
  });

  it('metrics count tokens, openings and the version served', async () => {
    const { start, commit, post, get } = await serve();
    await commit(correction('a'));
    await start();
    await post('/v1/completions', complete(LINEAGE));
    const text = (await get('/metrics')).body;
    expect(text).toContain(`errata_head_version{lineage="${LINEAGE}"} 1`);
    expect(text).toContain(`errata_tokens_total{lineage="${LINEAGE}",kind="generated"} 1`);
    expect(text).toContain(`errata_gate_openings_total{lineage="${LINEAGE}"} 1`);
    expect(text).toMatch(
      /errata_request_seconds_count\{route="\/v1\/completions",status="200"\} 1/,
    );
  });

  it('the page loads nothing from elsewhere', async () => {
    const { get } = await serve();
    const page = await get('/');
    expect(page.statusCode).toBe(200);
    expect(page.headers['content-security-policy']).toContain("default-src 'self'");
    for (const path of ['/', '/page.js', '/page.css']) {
      const { statusCode, body } = await get(path);
      expect(statusCode).toBe(200);
      expect(body).not.toMatch(/https?:\/\//);
    }
  });

  it.each([false, true])(
    "a prompt that the model cannot take is the caller's fault (streamed: %s)",
    async (stream) => {
      const { start, post } = await serve({
        serve: (inner) =>
          Object.assign(Object.create(inner) as Engine, {
            holds: inner.holds.bind(inner),
            generate: () => Promise.reject(new RangeError('it has 9000 tokens')),
          }),
      });
      await start();
      const response = await post('/v1/completions', complete(LINEAGE, { stream }));
      expect(response.statusCode).toBe(400);
      expect(response.json.error).toMatchObject({
        code: 'unsuitable_prompt',
        message: expect.stringContaining('9000 tokens') as string,
      });
    },
  );

  it('an internal fault is logged, not shown', async () => {
    const { start, post } = await serve({
      serve: (inner) =>
        Object.assign(Object.create(inner) as Engine, {
          holds: inner.holds.bind(inner),
          generate: () => Promise.reject(new Error('secret detail')),
        }),
    });
    await start();
    const response = await post('/v1/completions', complete(LINEAGE));
    expect(response.statusCode).toBe(500);
    expect(response.body).not.toContain('secret detail');
  });
});
