/** The web page: a client of its own server's API. Texts are inserted as text, never as markup. */
const byId = (id) => document.getElementById(id);
const NEWS_EVERY_MS = 3_000;
const VERSIONS_TO_CHOOSE_MAX = 200;

/** Session storage key: only this tab has the token, until it is closed. */
const TOKEN_KEY = 'errata-token';

let newest = null;

const BEHIND_TOKEN = [document.querySelector('main'), byId('lineage').parentElement];

/** The server requires a token, or a different one. */
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

const numberCell = (text) => element('td', text, 'number');
const number = (value, digits) => numberCell(value?.toFixed(digits) ?? '–');
const share = (value) =>
  numberCell(value === null || value === undefined ? '–' : `${Math.round(value * 100)} %`);

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
  // Drops characters that a header cannot contain; no token has them.
  sessionStorage.setItem(TOKEN_KEY, byId('token').value.replace(/[^\x21-\x7e]/g, ''));
  byId('token').value = '';
  await begin();
}

function forget() {
  sessionStorage.removeItem(TOKEN_KEY);
  // Removes everything from the page that the token gave access to.
  location.replace('/');
}

function showFault(fault) {
  if (fault instanceof TokenNeeded) return askForToken(fault.message);
  byId('fault').hidden = fault === null;
  byId('fault').textContent = fault === null ? '' : fault.message;
  byId('identify-fault').textContent = byId('fault').textContent;
}

/** Shows an answer after its prompt, marked from where it first differs from the other answer. */
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
  const lineage = byId('lineage').value;
  const version = byId('version').value;
  const prompt = byId('prompt').value;
  try {
    history.replaceState(null, '', `?${new URLSearchParams({ lineage, version, prompt })}`);
    const numbered = version === '' ? null : Number(version);
    showComparison(await call('/v1/compare', { lineage, prompt, version: numbered }));
    byId('trace').hidden = true;
    showFault(null);
  } catch (fault) {
    showFault(fault);
  } finally {
    button.disabled = false;
  }
}

function showComparison({ prompt, version, base, edited: { text, opened } }) {
  showAnswer(byId('before'), prompt, base.text, base.text);
  showAnswer(byId('after'), prompt, text, base.text);
  byId('after-title').textContent =
    version === 0 ? 'Version 0, the base model' : `Version ${version}`;
  byId('verdict').textContent =
    opened.length === 0 ? 'No gate opened: this is the base model’s answer, bit for bit.' : '';
  byId('gates').hidden = opened.length === 0;
  byId('gates').tBodies[0].replaceChildren(...opened.map(gateRow));
  byId('answers').hidden = false;
}

function gateRow({ token, layer, score, threshold, correction }) {
  const cells = [`“${token}”`, layer, number(score, 3), number(threshold, 3)];
  if (correction === null) return row(...cells, '–', '–');
  const { id, prompt, target, source, version } = correction;
  const made = element('td', [
    `${prompt} `,
    element('b', target),
    element('span', ` (${source === '' ? '' : `${source}, `}`, 'quiet'),
    traceLink(id),
    element('span', ')', 'quiet'),
  ]);
  return row(...cells, made, `version ${version}`);
}

/** Makes a button with the correction's id, which shows all that is stored about the correction. */
function traceLink(id) {
  const made = Object.assign(element('button', id, 'link'), { type: 'button' });
  made.addEventListener('click', () => showTrace(id).catch(showFault));
  return made;
}

async function showTrace(id) {
  const lineage = encodeURIComponent(byId('lineage').value);
  const trace = await call(`/v1/lineages/${lineage}/corrections/${encodeURIComponent(id)}`);
  const place = byId('trace');
  place.querySelector('h2').textContent = `${trace.id}: ${trace.state.replace('-', ' ')}`;
  const shown = traceLines(trace).filter(([, text]) => text);
  place
    .querySelector('dl')
    .replaceChildren(
      ...shown.flatMap(([name, text]) => [element('dt', name), element('dd', text)]),
    );
  place.hidden = false;
  showFault(null);
}

const timeText = (time) => new Date(time).toLocaleString();

/** Returns names and texts; lines without a text are omitted. */
function traceLines({ correction, committed, outcome, later, sameSubject, replayOf }) {
  const { topic, partition, offset } = outcome.position;
  const submitted = correction && `${correction.source}, ${timeText(correction.issuedAt)}`;
  const changes = later.map(({ version, change, by }) => `version ${version}: ${change} by ${by}`);
  const others = sameSubject.map(
    ({ version, change, correctionId }) => `version ${version}: ${correctionId} ${change}`,
  );
  const lines = [
    ['Correction', correction && `${correction.prompt} → ${correction.target}`],
    ['Submitted by', submitted],
    ['Record', `${topic}, partition ${partition}, offset ${offset}`],
    ['Resubmission of', replayOf.map((one) => one.id).join(', ')],
  ];
  if (committed === null) lines.push(['Outcome', `${outcome.status}: ${outcome.reason ?? ''}`]);
  else {
    const { version, createdAt, batchId, workflow, probe } = committed;
    lines.push(
      ['Committed', `version ${version}, ${timeText(createdAt)}, batch ${batchId}`],
      ['Workflow', `${workflow.workflowId}, run ${workflow.runId}`],
      ['Probed', probe && probeText(probe)],
    );
  }
  return [
    ...lines,
    ['Later', changes.join('; ') || 'unchanged by later versions'],
    ['Same subject', others.join('; ')],
  ];
}

function probeText({ answerBefore, answerAfter, paraphrases, neighbours }) {
  const holding = paraphrases.filter(({ holds }) => holds).length;
  const unchanged = neighbours.filter((one) => one.unchanged).length;
  return (
    `“${answerBefore}” before, “${answerAfter}” after; ` +
    `${holding} of ${paraphrases.length} paraphrases hold, ` +
    `${unchanged} of ${neighbours.length} neighbours are unchanged`
  );
}

function changesOf({ added, removed }) {
  const lines = [
    ...added.map(({ prompt, target }) => element('li', [`${prompt} `, element('b', target)])),
    ...removed.map(({ correctionId, because, by }) => {
      const successor = because === 'superseded' ? ` by ${by}` : '';
      return element('li', `${correctionId} ${because}${successor}`, 'quiet');
    }),
  ];
  return element('td', [element('ul', lines)]);
}

function versionRow(version) {
  const { scores } = version;
  return row(
    number(version.version, 0),
    timeText(version.createdAt),
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
  const query = before === undefined ? '' : `?before=${before}`;
  const page = await call(`/v1/lineages/${lineage}/versions${query}`);
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
  const count = Math.min(head, VERSIONS_TO_CHOOSE_MAX);
  const numbers = Array.from({ length: count }, (_, i) => head - i);
  byId('version').replaceChildren(
    option('', 'the version that is served'),
    ...numbers.map((version) => option(String(version), `version ${version}`)),
    option('0', 'base model'),
  );
  byId('version').value = kept;
  if (byId('version').selectedIndex === -1) byId('version').value = '';
}

/** Explains why a version other than the newest answers; empty if the newest does. */
function heldText({ version, head, held }) {
  if (held === null) return head === version ? '' : `; HEAD is ${head}`;
  const reason = held.reason === '' ? '' : ` (${held.reason})`;
  return `, held by alias ${held.alias}${reason}; HEAD is ${head}`;
}

/** Refreshes the versions if something changed. */
async function look() {
  try {
    const { lineages } = await call('/v1/lineages');
    const select = byId('lineage');
    if (select.options.length !== lineages.length)
      select.replaceChildren(...lineages.map(({ lineage }) => element('option', lineage)));
    const shown = lineages.find(({ lineage }) => lineage === select.value);
    if (shown === undefined) return;
    const { lineage, version, head, held, corrections, fault } = shown;
    const state = `${lineage}@${version} of ${head} ${held?.since}`;
    if (version !== null && state !== newest) {
      const counted = `${corrections} correction${corrections === 1 ? '' : 's'}`;
      byId('head').textContent = `version ${version}, ${counted}${heldText(shown)}`;
      await showVersions();
      newest = state;
    }
    if (fault) showFault(new Error(fault));
  } catch (fault) {
    showFault(fault);
  }
}

/** Asks the question in a link: /?lineage=…&version=…&prompt=… */
async function askLinkedQuestion() {
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
  if (byId('identify').hidden) await askLinkedQuestion();
}

byId('ask').addEventListener('submit', ask);
byId('identify').addEventListener('submit', identify);
byId('forget').addEventListener('click', forget);
byId('lineage').addEventListener('change', look);
await begin();
setInterval(() => document.hidden || !byId('identify').hidden || look(), NEWS_EVERY_MS);
