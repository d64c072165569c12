// Runs the audits of GraphQL over HTTP against a server, and prints one JSON object: how many there are by outcome, and those
// that are not met. node audit.mjs URL TOKEN
import { auditServer } from 'graphql-http';

const [url, token] = process.argv.slice(2);
const fetchFn = (target, init) => {
  const headers = new Headers(init?.headers);
  headers.set('authorization', `Bearer ${token}`);
  return fetch(target, { ...init, headers });
};
const results = await auditServer({ url, fetchFn });
const told = { ok: 0, notice: 0, warn: 0, error: 0, notMet: [] };
for (const { status, id, name, reason } of results) {
  told[status] += 1;
  if (status !== 'ok') told.notMet.push({ status, id, name, reason });
}
console.log(JSON.stringify(told));
