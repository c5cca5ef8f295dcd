/* The page: asks the API of its own server and shows what it says. Texts are set as text, never as markup. */
const byId = (id) => document.getElementById(id);
const NEWS_EVERY_MS = 3_000;
const VERSIONS_TO_CHOOSE_MAX = 200;

/** Kept for this tab alone, until it is closed. */
const TOKEN_KEY = 'errata-token';

let newest = null;

const BEHIND_TOKEN = [document.querySelector('main'), byId('lineage').parentElement];

/** The server asks for a token, or for another one than it was shown. */
class TokenNeeded extends Error {}

async function call(path, body) {
  const token = sessionStorage.getItem(TOKEN_KEY);
  const headers = {
    ...(token === null ? {} : { authorization: `Bearer ${token}` }),
    ...(body === undefined ? {} : { 'content-type': 'application/json' }),
  };
  const response = await fetch(path, {
    headers,
    ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
  });
  const content = await response.json().catch(() => null);
  if (response.status === 401) {
    sessionStorage.removeItem(TOKEN_KEY);
    throw new TokenNeeded(token === null ? '' : content?.error?.message);
  }
  showIdentified(token !== null);
  if (!response.ok)
    throw new Error(content?.error?.message ?? `The server answered ${response.status}.`);
  return content;
}

function element(tag, content, className) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...(Array.isArray(content) ? content : [String(content)]));
  return made;
}

function row(...cells) {
  const made = document.createElement('tr');
  made.append(...cells.map((cell) => (cell instanceof Node ? cell : element('td', cell))));
  return made;
}

const number = (value, digits) =>
  element('td', value === null || value === undefined ? '–' : value.toFixed(digits), 'number');
const share = (value) =>
  element(
    'td',
    value === null || value === undefined ? '–' : `${Math.round(value * 100)} %`,
    'number',
  );

function showIdentified(withToken) {
  byId('identify').hidden = true;
  for (const part of BEHIND_TOKEN) part.hidden = false;
  byId('forget').hidden = !withToken;
}

function askForToken(why) {
  for (const part of BEHIND_TOKEN) part.hidden = true;
  byId('forget').hidden = true;
  byId('head').textContent = '';
  byId('identify').hidden = false;
  byId('identify-fault').textContent = why;
  newest = null;
}

async function identify(event) {
  event.preventDefault();
  // What no header can hold is no token.
  sessionStorage.setItem(TOKEN_KEY, byId('token').value.replace(/[^\x21-\x7e]/g, ''));
  byId('token').value = '';
  await begin();
}

function forget() {
  sessionStorage.removeItem(TOKEN_KEY);
  // What the token let see goes with it.
  location.replace('/');
}

function showFault(fault) {
  if (fault instanceof TokenNeeded) return askForToken(fault.message);
  byId('fault').hidden = fault === null;
  byId('fault').textContent = fault === null ? '' : fault.message;
  byId('identify-fault').textContent = byId('fault').textContent;
}

/**
 * The answer behind its prompt; from the first character on that differs from the other answer it
 * is marked.
 */
function showAnswer(place, prompt, text, other) {
  let same = 0;
  while (same < text.length && text[same] === other[same]) same += 1;
  place.replaceChildren(
    element('span', prompt, 'prompt'),
    text.slice(0, same),
    ...(text === other ? [] : [element('span', text.slice(same), 'changed')]),
  );
}

async function ask(event) {
  event.preventDefault();
  const button = byId('ask').querySelector('button');
  button.disabled = true;
  try {
    const chosen = byId('version').value;
    history.replaceState(
      null,
      '',
      `?${new URLSearchParams({ lineage: byId('lineage').value, version: chosen, prompt: byId('prompt').value })}`,
    );
    const answer = await call('/v1/compare', {
      lineage: byId('lineage').value,
      prompt: byId('prompt').value,
      version: chosen === '' ? null : Number(chosen),
    });
    showAnswer(byId('before'), answer.prompt, answer.base.text, answer.base.text);
    showAnswer(byId('after'), answer.prompt, answer.edited.text, answer.base.text);
    byId('after-title').textContent =
      answer.version === 0 ? 'Version 0, the base model' : `Version ${answer.version}`;
    const { opened } = answer.edited;
    byId('verdict').textContent =
      opened.length === 0 ? 'No gate opened: this is the base model’s answer, bit for bit.' : '';
    byId('gates').hidden = opened.length === 0;
    byId('gates').tBodies[0].replaceChildren(
      ...opened.map(({ token, layer, score, threshold, correction }) =>
        row(
          `“${token}”`,
          layer,
          number(score, 3),
          number(threshold, 3),
          correction === null
            ? '–'
            : element('td', [
                `${correction.prompt} `,
                element('b', correction.target),
                element(
                  'span',
                  ` (${correction.source === '' ? '' : `${correction.source}, `}`,
                  'quiet',
                ),
                traceLink(correction.id),
                element('span', ')', 'quiet'),
              ]),
          correction === null ? '–' : `version ${correction.version}`,
        ),
      ),
    );
    byId('answers').hidden = false;
    byId('trace').hidden = true;
    showFault(null);
  } catch (fault) {
    showFault(fault);
  } finally {
    button.disabled = false;
  }
}

/** The correction's id, which opens all that is stored of it. */
function traceLink(id) {
  const made = Object.assign(element('button', id, 'link'), { type: 'button' });
  made.addEventListener('click', () => showTrace(id).catch(showFault));
  return made;
}

async function showTrace(id) {
  const trace = await call(
    `/v1/lineages/${encodeURIComponent(byId('lineage').value)}/corrections/${encodeURIComponent(id)}`,
  );
  const { correction, committed, outcome, later, sameSubject, replayOf } = trace;
  const { topic, partition, offset } = outcome.position;
  const kept = (ones, holds) => `${ones.filter(holds).length} of ${ones.length}`;
  const probe = committed?.probe;
  const lines = [
    ['Says', correction === null ? null : `${correction.prompt} → ${correction.target}`],
    [
      'Asked for by',
      correction === null
        ? null
        : `${correction.source}, ${new Date(correction.issuedAt).toLocaleString()}`,
    ],
    ['Record', `${topic}, partition ${partition}, offset ${offset}`],
    ['Sent again for', replayOf.length === 0 ? null : replayOf.map((one) => one.id).join(', ')],
    [
      'Committed',
      committed === null
        ? `${outcome.status}: ${outcome.reason ?? ''}`
        : `version ${committed.version}, ${new Date(committed.createdAt).toLocaleString()}, batch ${committed.batchId}`,
    ],
    [
      'Workflow',
      committed === null
        ? null
        : `${committed.workflow.workflowId}, run ${committed.workflow.runId}`,
    ],
    [
      'Checked',
      probe === null || probe === undefined
        ? null
        : `“${probe.answerBefore}” before, “${probe.answerAfter}” after; ${kept(probe.paraphrases, ({ holds }) => holds)} paraphrases hold, ${kept(probe.neighbours, ({ unchanged }) => unchanged)} neighbours stayed`,
    ],
    [
      'Later',
      later.length === 0
        ? 'no later version touched it'
        : later
            .map(({ version, change, by }) => `version ${version}: ${change} by ${by}`)
            .join('; '),
    ],
    [
      'Same subject',
      sameSubject.length === 0
        ? null
        : sameSubject
            .map(
              ({ version, change, correctionId }) =>
                `version ${version}: ${correctionId} ${change}`,
            )
            .join('; '),
    ],
  ];
  byId('trace').querySelector('h2').textContent = `${trace.id}: ${trace.state.replace('-', ' ')}`;
  byId('trace')
    .querySelector('dl')
    .replaceChildren(
      ...lines
        .filter(([, text]) => text !== null)
        .flatMap(([name, text]) => [element('dt', name), element('dd', text)]),
    );
  byId('trace').hidden = false;
  showFault(null);
}

function changesOf(version) {
  const lines = version.added.map(({ prompt, target }) =>
    element('li', [`${prompt} `, element('b', target)]),
  );
  lines.push(
    ...version.removed.map(({ correctionId, because, by }) =>
      element(
        'li',
        `${correctionId} ${because}${because === 'superseded' ? ` by ${by}` : ''}`,
        'quiet',
      ),
    ),
  );
  return element('td', [element('ul', lines)]);
}

function versionRow(version) {
  const { scores } = version;
  return row(
    number(version.version, 0),
    new Date(version.createdAt).toLocaleString(),
    changesOf(version),
    number(version.corrections, 0),
    share(scores.efficacy),
    share(scores.generalisation),
    share(scores.locality),
    share(scores.retention),
    number(scores.canaryRatio, 4),
  );
}

async function showVersions(before) {
  const lineage = encodeURIComponent(byId('lineage').value);
  const page = await call(
    `/v1/lineages/${lineage}/versions${before === undefined ? '' : `?before=${before}`}`,
  );
  const rows = page.versions.map(versionRow);
  const body = byId('versions').tBodies[0];
  if (before === undefined) body.replaceChildren(...rows);
  else body.append(...rows);
  byId('versions').hidden = page.head.version === 0;
  byId('none').hidden = page.head.version !== 0;
  byId('older').hidden = page.next === null;
  byId('older').onclick = () => showVersions(page.next).catch(showFault);
  if (before === undefined) chooseFrom(page.head.version);
}

function chooseFrom(head) {
  const kept = byId('version').value;
  const option = (value, text) => Object.assign(element('option', text), { value });
  const numbers = Array.from(
    { length: Math.min(head, VERSIONS_TO_CHOOSE_MAX) },
    (_, i) => head - i,
  );
  byId('version').replaceChildren(
    option('', 'the version that is served'),
    ...numbers.map((version) => option(String(version), `version ${version}`)),
    option('0', 'base model'),
  );
  byId('version').value = kept;
  if (byId('version').selectedIndex === -1) byId('version').value = '';
}

/** Where not the newest version answers, it says why. */
function heldInWords({ version, head, held }) {
  if (held !== null)
    return `, held by alias ${held.alias}${held.reason === '' ? '' : ` (${held.reason})`}; HEAD is ${head}`;
  return head === version ? '' : `; HEAD is ${head}`;
}

/** Looks whether a version was committed since, and shows the list again if so. */
async function look() {
  try {
    const { lineages } = await call('/v1/lineages');
    const select = byId('lineage');
    if (select.options.length !== lineages.length)
      select.replaceChildren(...lineages.map(({ lineage }) => element('option', lineage)));
    const shown = lineages.find(({ lineage }) => lineage === select.value);
    const news =
      shown === undefined
        ? null
        : `${shown.lineage}@${shown.version} of ${shown.head} ${shown.held?.since}`;
    if (shown !== undefined && shown.version !== null && news !== newest) {
      byId('head').textContent =
        `version ${shown.version}, ${shown.corrections} correction${shown.corrections === 1 ? '' : 's'}${heldInWords(shown)}`;
      await showVersions();
      newest = news;
    }
    if (shown?.fault) showFault(new Error(shown.fault));
  } catch (fault) {
    showFault(fault);
  }
}

/** A question can be linked to: /?lineage=…&version=…&prompt=… */
async function askAsLinked() {
  const linked = new URLSearchParams(location.search);
  for (const name of ['lineage', 'version']) {
    const options = [...byId(name).options].map(({ value }) => value);
    if (options.includes(linked.get(name))) byId(name).value = linked.get(name);
    if (name === 'lineage') await look();
  }
  byId('prompt').value = linked.get('prompt') ?? '';
  if (byId('prompt').value !== '') byId('ask').requestSubmit();
}

async function begin() {
  await look();
  if (byId('identify').hidden) await askAsLinked();
}

byId('ask').addEventListener('submit', ask);
byId('identify').addEventListener('submit', identify);
byId('forget').addEventListener('click', forget);
byId('lineage').addEventListener('change', look);
await begin();
setInterval(() => document.hidden || !byId('identify').hidden || look(), NEWS_EVERY_MS);
