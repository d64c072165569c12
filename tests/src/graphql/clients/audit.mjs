// Runs the audits of GraphQL over HTTP against a server, and prints one JSON object: how many there are by outcome, and those
// that are not met. node audit.mjs URL
import { auditServer } from 'graphql-http';

const results = await auditServer({ url: process.argv[2] });
const told = { ok: 0, notice: 0, warn: 0, error: 0, notMet: [] };
for (const { status, id, name, reason } of results) {
  told[status] += 1;
  if (status !== 'ok') told.notMet.push({ status, id, name, reason });
}
console.log(JSON.stringify(told));
