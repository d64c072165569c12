// Places an order by a client whose types are generated: node program.js URL TOKEN ORDER
import createClient from "openapi-fetch";
import type { paths } from "./schema.d.ts";

declare const process: { argv: string[] };

const [url = "", token = "", order = ""] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl: url, headers: { authorization: `Bearer ${token}` } });
const tea = { params: { path: { id: "TEA-001" } } };

const listed = await client.POST("/v1/product/{id}/list", {
  ...tea,
  body: { name: "Earl Grey, 50 bags", price: { minor: 420, currency: "GBP" } },
});
if (listed.error) throw new Error(listed.error.detail);
await client.POST("/v1/stock/{id}/receive", { ...tea, body: { quantity: 10 } });

const cart = {
  params: { path: { id: order }, header: { "Idempotency-Key": order } },
  body: { country: "United Kingdom", currency: "GBP" as const, card: "tok_approved", lines: [{ sku: "TEA-001", quantity: 2 }] },
};
const explained = await client.POST("/v1/order/{id}/place/explain", cart);
const placed = await client.POST("/v1/order/{id}/place", cart);
if (placed.error) throw new Error(placed.error.detail);
const again = await client.POST("/v1/order/{id}/place", cart);
const state = await client.GET("/v1/order/{id}", { params: { path: { id: order } } });
const history = await client.GET("/v1/order/{id}/events", { params: { path: { id: order }, query: { direction: "forwards" } } });
const page = history.data;
const first = typeof page === "object" ? page.events?.[0] : undefined;
const refused = await client.POST("/v1/stock/{id}/ship", { ...tea, body: { order } });

console.log(JSON.stringify({
  explained: explained.data?.outcome,
  placed: placed.data.events.map(event => event.type),
  again: again.data?.position === placed.data.position,
  total: state.data?.state?.total?.minor,
  first: first?.type === "OrderPlaced" ? first.data.total_minor : null,
  refused: refused.error?.type,
}));

// What is wrong does not compile.
// @ts-expect-error A quantity is a number.
void (() => client.POST("/v1/stock/{id}/receive", { ...tea, body: { quantity: "ten" } }));
// @ts-expect-error A product has a price.
void (() => client.POST("/v1/product/{id}/list", { ...tea, body: { name: "Earl Grey" } }));
// @ts-expect-error There is no such command.
void (() => client.POST("/v1/stock/{id}/steal", { ...tea, body: {} }));
