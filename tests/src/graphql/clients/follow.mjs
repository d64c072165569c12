// Follows the stock of a SKU, prints a line of JSON for each message, and ends when so many units are available.
// The token goes with the introduction on a WebSocket, as in a browser. node follow.mjs ws|sse URL TOKEN SKU AVAILABLE
import { createClient as overEvents } from 'graphql-sse';
import { createClient as overSocket } from 'graphql-ws';
import WebSocket from 'ws';

const [transport, url, token, sku, wanted] = process.argv.slice(2);
const headers = { Authorization: `Bearer ${token}` };
const client =
  transport === 'ws'
    ? overSocket({
        url: url.replace('http://', 'ws://'),
        webSocketImpl: WebSocket,
        retryAttempts: 0,
        connectionParams: headers,
      })
    : overEvents({ url, retryAttempts: 0, headers });
const query = 'subscription ($sku: Sku!) { stockChanged(sku: $sku) { asOf product { available } } }';
for await (const answer of client.iterate({ query, variables: { sku } })) {
  if (answer.errors) throw new Error(JSON.stringify(answer.errors));
  console.log(JSON.stringify(answer.data.stockChanged));
  if (answer.data.stockChanged.product?.available === Number(wanted)) break;
}
client.dispose();
