// The control API as a test in Node.js uses it, with what Node.js brings along: the URL of the API
// goes in; a session, a retried span and what is said of it come out; "done" at the end.
import assert from 'node:assert/strict';

const control = process.argv[2];

async function ask(path, method = 'GET', body = undefined) {
  const answer = await fetch(control + path, {
    method,
    headers: { 'Content-Type': 'application/json' },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  return { status: answer.status, body: await answer.json() };
}

const made = await ask('/sessions', 'POST', { script: '503:retry-after=0*2,ok' });
assert.equal(made.status, 201);
const session = made.body;

const span = {
  traceId: '0af7651916cd43dd8448eb211c80319c',
  spanId: 'b7ad6b7169203331',
  name: 'pay',
  attributes: [{ key: 'cents', value: { intValue: '250' } }],
};
for (let tries = 1, status = 503; status === 503; tries += 1) {
  const answer = await fetch(session.endpoints.traces, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ resourceSpans: [{ scopeSpans: [{ spans: [span] }] }] }),
  });
  status = answer.status;
  await answer.arrayBuffer();
  assert.ok(tries <= 3);
}

const found = await ask(`${session.control}/wait`, 'POST', {
  span: { name: 'pay', attributes: { cents: 250 } },
  timeout: 10,
});
assert.equal(found.status, 200);
assert.equal(found.body.span.trace_id, span.traceId);
const missed = await ask(`${session.control}/assert`, 'POST', { name: 'buy' });
assert.equal(missed.status, 409);
assert.match(missed.body.error, /pay/);
const { body } = await ask(`${session.control}/requests`);
assert.deepEqual(body.requests.map((request) => request.status), [503, 503, 200]);
const gone = await ask(session.control, 'DELETE');
assert.deepEqual(gone.body, { sessions: [] });
console.log('done');
