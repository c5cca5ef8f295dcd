import { connect, type AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { baseAnswer } from '../../harness/fake-engine.ts';
import { correction, LINEAGE } from '../../harness/corrections.ts';
import { serveHeld, until } from '../held-engine.ts';
import {
  bodyOf,
  codeOf,
  completion,
  PROMPT,
  rawPost,
  replyOf,
  serveInTest,
} from '../served-lineage.ts';

test('completions come from the newest version, a pinned one or the base model', async () => {
  const { commit, start, complete } = await serveInTest();
  await commit(correction('a', { target: 'Lyon' }));
  await commit(correction('a2', { subject: 'Subject a', target: 'Oslo', issuedAt: 2_000 }));
  await start();
  const texts = await Promise.all(
    [LINEAGE, `${LINEAGE}@2`, `${LINEAGE}@1`, `${LINEAGE}@base`, `${LINEAGE}@0`].map(
      async (model) => {
        const { json, headers } = await complete(model);
        return [json.choices[0]!.text, headers['errata-version']];
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
  const { commit, start, complete } = await serveInTest();
  await commit(correction('a'));
  await start();
  const response = await complete(LINEAGE, { user: 'somebody', prompt: [PROMPT] });
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
  const { commit, start, complete } = await serveInTest();
  await commit(correction('a', { target: 'two words' }));
  await start();
  const finish = async (more: object) => (await complete(LINEAGE, more)).json.choices[0];
  expect(await finish({ max_tokens: 1 })).toMatchObject({ text: ' two', finish_reason: 'length' });
  expect(await finish({ stop: ' words' })).toMatchObject({ text: ' two', finish_reason: 'stop' });
});

test('completions stream token by token and end with [DONE]', async () => {
  const { commit, start, complete } = await serveInTest();
  await commit(correction('a', { target: 'two words' }));
  await start();
  const options = { stream: true, stream_options: { include_usage: true } };
  const response = await complete(LINEAGE, options);
  expect(response.headers['content-type']).toMatch(/^text\/event-stream/);
  const events = response.body
    .split('\n\n')
    .filter((event) => event !== '')
    .map((event) => event.replace(/^data: /, ''));
  expect(events.at(-1)).toBe('[DONE]');
  const chunks = events.slice(0, -1).map(bodyOf);
  expect(chunks.map(({ choices }) => choices[0]?.text)).toEqual([' two', ' words.', '', undefined]);
  expect(chunks[2]).toMatchObject({ choices: [{ finish_reason: 'stop' }], errata: { version: 1 } });
  expect(chunks[3]!.usage.completion_tokens).toBe(2);
});

test.each([
  ['an unknown lineage', { model: 'other' }, '404 unknown_lineage'],
  ['an unknown version', { model: `${LINEAGE}@7` }, '404 unknown_version'],
  ['a malformed name', { model: '../etc' }, '404 unknown_model'],
  ['an empty prompt', { prompt: '' }, '400 invalid_body'],
  ['two prompts', { prompt: ['a', 'b'] }, '400 invalid_body'],
  ['a prompt over the bound', { prompt: 'x'.repeat(8_001) }, '400 invalid_body'],
  ['too many tokens', { max_tokens: 1_025 }, '400 invalid_body'],
  ['a temperature below 0', { temperature: -1 }, '400 invalid_body'],
  ['several answers', { n: 2 }, '400 invalid_body'],
  ['log-probabilities', { logprobs: 5 }, '400 invalid_body'],
  ['an echo', { echo: true }, '400 invalid_body'],
  [
    'a stream of an unknown version',
    { model: `${LINEAGE}@7`, stream: true },
    '404 unknown_version',
  ],
])('completions refuse %s with a reason', async (_, fault, code) => {
  const { start, complete } = await serveInTest();
  await start();
  const response = await complete(LINEAGE, fault);
  expect(codeOf(response)).toBe(code);
  expect(response.json.error.message).toMatch(/\w/);
});

test.each([
  ['text that is not JSON', 'application/json', '{', 400],
  ['a form, which any web page could send', 'text/plain', '{}', 415],
  ['a body over the bound', 'application/json', `{"prompt":"${'x'.repeat(300_000)}"}`, 413],
  ['a body that is not an object', 'application/json', '[]', 400],
])('completions refuse %s', async (_, type, payload, status) => {
  const { server, start } = await serveInTest();
  await start();
  const headers = { 'content-type': type };
  const request = { method: 'POST', url: '/v1/completions', headers, payload } as const;
  const response = replyOf(await server.inject(request));
  expect(response.statusCode).toBe(status);
  expect(response.json.error.message).toBeTruthy();
});

test('requests reach the model one at a time; those past the bound are refused', async () => {
  const { start, complete, get, gate } = await serveHeld({ limits: { waitingMax: 2 } });
  await start();
  const answered = [complete()];
  await gate.busy();
  answered.push(complete(), complete());
  await until(async () => (await get('/readyz')).json.waiting === 2);
  expect(await complete()).toMatchObject({ statusCode: 429, headers: { 'retry-after': '1' } });
  for (let i = 0; i < 3; i += 1) await gate.letGo();
  for (const response of await Promise.all(answered)) expect(response.statusCode).toBe(200);
  expect(gate.mostRunning()).toBe(1);
});

test('the model is not asked for a client that has left', async () => {
  const { start, server, complete, engine, get, gate } = await serveHeld();
  await start();
  await server.listen({ port: 0, host: '127.0.0.1' });
  const first = complete();
  await gate.busy();
  const socket = connect((server.server.address() as AddressInfo).port, '127.0.0.1');
  const body = JSON.stringify(completion(LINEAGE));
  const headers = ['content-type: application/json', `content-length: ${body.length}`];
  socket.write(rawPost('/v1/completions', headers, body));
  await until(async () => (await get('/readyz')).json.waiting === 1);
  socket.destroy();
  await until(async () => (await get('/readyz')).json.waiting === 0);
  await gate.letGo();
  await first;
  expect(engine.calls.filter((call) => call === 'generate')).toHaveLength(1);
});

test('a request ends on the version that it began with while another is swapped in', async () => {
  const { start, complete, commit, notify, gate } = await serveHeld();
  await commit(correction('a', { target: 'Lyon' }));
  await start();
  const before = complete();
  await gate.busy();
  await commit(correction('a2', { subject: 'Subject a', target: 'Oslo', issuedAt: 2_000 }));
  const swapped = notify();
  await gate.letGo();
  const answerOf = async (reply: typeof before) => {
    const { choices, errata } = (await reply).json;
    return [choices[0]!.text, errata.version];
  };
  expect(await answerOf(before)).toEqual([' Lyon.', 1]);
  await swapped;
  const after = complete();
  await gate.letGo();
  expect(await answerOf(after)).toEqual([' Oslo.', 2]);
});
