import { connect, type AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { baseAnswer } from '../../harness/fake-engine.ts';
import { correction, LINEAGE } from '../../harness/corrections.ts';
import { heldEngine, until } from '../held-engine.ts';
import { bodyOf, completion, PROMPT, rawPost, replyOf, serveInTest } from '../served-lineage.ts';

test('completions come from the newest version, a pinned one or the base model', async () => {
  const { commit, start, post } = await serveInTest();
  await commit(correction('a', { target: 'Lyon' }));
  await commit(correction('a2', { subject: 'Subject a', target: 'Oslo', issuedAt: 2_000 }));
  await start();
  const texts = await Promise.all(
    [LINEAGE, `${LINEAGE}@2`, `${LINEAGE}@1`, `${LINEAGE}@base`, `${LINEAGE}@0`].map(
      async (model) => {
        const response = await post('/v1/completions', completion(model));
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

test("completions have the fields of OpenAI's form that clients read", async () => {
  const { commit, start, post } = await serveInTest();
  await commit(correction('a'));
  await start();
  const response = await post('/v1/completions', {
    ...completion(LINEAGE),
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

test('completions say whether they reached their length or a stop', async () => {
  const { commit, start, post } = await serveInTest();
  await commit(correction('a', { target: 'two words' }));
  await start();
  const finish = async (more: object) =>
    (await post('/v1/completions', completion(LINEAGE, more))).json.choices[0];
  expect(await finish({ max_tokens: 1 })).toMatchObject({
    text: ' two',
    finish_reason: 'length',
  });
  expect(await finish({ stop: ' words' })).toMatchObject({ text: ' two', finish_reason: 'stop' });
});

test('completions stream token by token and end with [DONE]', async () => {
  const { commit, start, post } = await serveInTest();
  await commit(correction('a', { target: 'two words' }));
  await start();
  const response = await post(
    '/v1/completions',
    completion(LINEAGE, { stream: true, stream_options: { include_usage: true } }),
  );
  expect(response.headers['content-type']).toMatch(/^text\/event-stream/);
  const events = response.body
    .split('\n\n')
    .filter((event) => event !== '')
    .map((event) => event.replace(/^data: /, ''));
  expect(events.at(-1)).toBe('[DONE]');
  const chunks = events.slice(0, -1).map(bodyOf);
  expect(chunks.map(({ choices }) => choices[0]?.text)).toEqual([' two', ' words.', '', undefined]);
  expect(chunks[2]).toMatchObject({
    choices: [{ finish_reason: 'stop' }],
    errata: { version: 1 },
  });
  expect(chunks[3]!.usage.completion_tokens).toBe(2);
});

test.each([
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
  const { start, post } = await serveInTest();
  await start();
  const response = await post('/v1/completions', completion(LINEAGE, fault));
  expect(response.statusCode).toBe(status);
  expect(response.json.error).toMatchObject({
    code,
    message: expect.stringMatching(/\w/) as string,
  });
});

test.each([
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
  const { server, start } = await serveInTest();
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

test('requests reach the model one at a time; those past the bound are refused', async () => {
  let gate!: ReturnType<typeof heldEngine>;
  const { start, post, get } = await serveInTest({
    limits: { waitingMax: 2 },
    serve: (inner) => (gate = heldEngine(inner)).engine,
  });
  await start();
  const answered = [post('/v1/completions', completion(LINEAGE))];
  await gate.busy();
  answered.push(
    post('/v1/completions', completion(LINEAGE)),
    post('/v1/completions', completion(LINEAGE)),
  );
  await until(async () => (await get('/readyz')).json.waiting === 2);
  expect(await post('/v1/completions', completion(LINEAGE))).toMatchObject({
    statusCode: 429,
    headers: { 'retry-after': '1' },
  });
  for (let i = 0; i < 3; i += 1) await gate.letGo();
  for (const response of await Promise.all(answered)) expect(response.statusCode).toBe(200);
  expect(gate.mostRunning()).toBe(1);
});

test('the model is not asked for a client that has left', async () => {
  let gate!: ReturnType<typeof heldEngine>;
  const { start, server, post, engine, get } = await serveInTest({
    serve: (inner) => (gate = heldEngine(inner)).engine,
  });
  await start();
  await server.listen({ port: 0, host: '127.0.0.1' });
  const first = post('/v1/completions', completion(LINEAGE));
  await gate.busy();
  const socket = connect((server.server.address() as AddressInfo).port, '127.0.0.1');
  const body = JSON.stringify(completion(LINEAGE));
  socket.write(
    rawPost(
      '/v1/completions',
      ['content-type: application/json', `content-length: ${body.length}`],
      body,
    ),
  );
  await until(async () => (await get('/readyz')).json.waiting === 1);
  socket.destroy();
  await until(async () => (await get('/readyz')).json.waiting === 0);
  await gate.letGo();
  await first;
  expect(engine.calls.filter((call) => call === 'generate')).toHaveLength(1);
});

test('a request ends on the version that it began with while another is swapped in', async () => {
  let gate!: ReturnType<typeof heldEngine>;
  const { start, post, commit, notify } = await serveInTest({
    serve: (inner) => (gate = heldEngine(inner)).engine,
  });
  await commit(correction('a', { target: 'Lyon' }));
  await start();
  const before = post('/v1/completions', completion(LINEAGE));
  await gate.busy();
  await commit(correction('a2', { subject: 'Subject a', target: 'Oslo', issuedAt: 2_000 }));
  const swapped = notify();
  await gate.letGo();
  expect((await before).json).toMatchObject({
    choices: [{ text: ' Lyon.' }],
    errata: { version: 1 },
  });
  await swapped;
  const after = post('/v1/completions', completion(LINEAGE));
  await gate.letGo();
  expect((await after).json).toMatchObject({
    choices: [{ text: ' Oslo.' }],
    errata: { version: 2 },
  });
});
